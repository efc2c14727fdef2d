package tape

import (
	"math"
	"slices"
	"testing"

	"github.com/mlxdyno/mlxdyno/mlxbind"
	"pgregory.net/rapid"
)

// What the algorithm finds weighs as much as the lightest cut of all.
func TestMinimalCut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, 7).Draw(t, "nodes")
		type edge struct {
			from, to int
			capacity int64
		}
		var edges []edge
		f := newFlow(n)
		for range rapid.IntRange(0, 14).Draw(t, "edges") {
			e := edge{rapid.IntRange(0, n-1).Draw(t, "from"), rapid.IntRange(0, n-1).Draw(t, "to"), rapid.Int64Range(0, 9).Draw(t, "capacity")}
			if e.from != e.to {
				edges = append(edges, e)
				f.edge(e.from, e.to, e.capacity)
			}
		}
		source, sink := 0, n-1
		weight := func(inside func(int) bool) (w int64) {
			for _, e := range edges {
				if inside(e.from) && !inside(e.to) {
					w += e.capacity
				}
			}
			return w
		}
		reached := f.minimize(source, sink)
		if !reached[source] || reached[sink] {
			t.Fatalf("no cut: %v", reached)
		}
		least := int64(math.MaxInt64)
		for set := range 1 << n {
			if set>>source&1 == 1 && set>>sink&1 == 0 {
				least = min(least, weight(func(i int) bool { return set>>i&1 == 1 }))
			}
		}
		if got := weight(func(i int) bool { return reached[i] }); got != least {
			t.Fatalf("weighs %d, and the lightest %d", got, least)
		}
	})
}

// drawn is a graph of y = tanh(x·W(p)) with the operations that training has: W
// is made of a packed p, and the gradient reads W, x and tanh's result.
func drawn() *mlxbind.Graph {
	node := func(op string, size int, in ...int) mlxbind.Node {
		return mlxbind.Node{Op: op, Inputs: in, DType: mlxbind.Float32, Shape: []int{size}}
	}
	return &mlxbind.Graph{
		Nodes: []mlxbind.Node{
			node("", 10),                // 0 x
			node("", 5),                 // 1 p
			node("Dequantize", 1000, 1), // 2
			node("Transpose", 1000, 2),  // 3
			node("Matmul", 100, 0, 3),   // 4
			node("Tanh", 100, 4),        // 5 y
			node("", 100),               // 6 cotangent
			node("Square", 100, 5),      // 7
			node("Multiply", 100, 7, 6), // 8
			node("Matmul", 10, 8, 2),    // 9 gradient of x
		},
		In: []int{0, 1}, Cotangents: []int{6}, Out: []int{5}, Gradients: []int{9},
	}
}

func TestCut(t *testing.T) {
	for name, tt := range map[string]struct {
		keep         Keep
		parameters   []int
		kept, inputs []int
	}{
		// The packed matrix is there anyway, so the dense one is made again.
		"results":  {Results, []int{1}, []int{7}, []int{1}},
		"products": {Products, []int{1}, []int{4}, []int{1}},
		"nothing":  {Nothing, []int{1}, nil, []int{0, 1}},
		// Without knowing that, what is dense is a result like others.
		"no parameters": {Results, nil, []int{2, 7}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			c := cutOf(drawn(), Options{Keep: tt.keep, Parameters: tt.parameters})
			if !slices.Equal(c.kept, tt.kept) || !slices.Equal(c.inputs, tt.inputs) {
				t.Errorf("keeps %v and reads inputs %v; wanted %v and %v", c.kept, c.inputs, tt.kept, tt.inputs)
			}
		})
	}
}

// Whatever is kept, the backward pass can be computed from it.
func TestCutSuffices(t *testing.T) {
	ops := append(append([]string{"Tanh", "Multiply", "Add"}, views[:3]...), products[:2]...)
	rapid.Check(t, func(t *rapid.T) {
		g := &mlxbind.Graph{}
		add := func(op string, in ...int) int {
			size := rapid.IntRange(1, 50).Draw(t, "size")
			if slices.Contains(views, op) {
				size = g.Nodes[in[0]].Size()
			}
			g.Nodes = append(g.Nodes, mlxbind.Node{Op: op, Inputs: in, DType: mlxbind.Float32, Shape: []int{size}})
			return len(g.Nodes) - 1
		}
		for range rapid.IntRange(1, 3).Draw(t, "inputs") {
			g.In = append(g.In, add(""))
		}
		grow := func(label string, least int) {
			for range rapid.IntRange(least, 8).Draw(t, label) {
				op := rapid.SampledFrom(ops).Draw(t, "op")
				in := []int{rapid.IntRange(0, len(g.Nodes)-1).Draw(t, "of")}
				if !slices.Contains(views, op) && rapid.Bool().Draw(t, "two") {
					in = append(in, rapid.IntRange(0, len(g.Nodes)-1).Draw(t, "and"))
				}
				add(op, in...)
			}
		}
		grow("forward", 1)
		g.Out = []int{len(g.Nodes) - 1}
		g.Cotangents = []int{add("")}
		grow("backward", 1)
		g.Gradients = []int{len(g.Nodes) - 1}
		o := Options{Keep: Keep(rapid.IntRange(0, 3).Draw(t, "keep"))}
		if rapid.Bool().Draw(t, "parameters") {
			o.Parameters = []int{0}
		}
		c := cutOf(g, o)
		have := map[int]bool{}
		for _, i := range slices.Concat(c.kept, g.Cotangents) {
			have[i] = true
		}
		for _, i := range c.inputs {
			have[g.In[i]] = true
		}
		var can func(int) bool
		can = func(i int) bool {
			n := g.Nodes[i]
			return have[i] || n.Op != "" && len(n.Inputs) > 0 && !slices.ContainsFunc(n.Inputs, func(k int) bool { return !can(k) })
		}
		if !can(g.Gradients[0]) {
			t.Fatalf("%+v does not suffice for %+v", c, g)
		}
	})
}
