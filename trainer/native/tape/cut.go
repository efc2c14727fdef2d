package tape

import (
	"math"
	"slices"

	"github.com/mlxdyno/mlxdyno/mlxbind"
)

// cut is what crosses from the forward to the backward pass.
type cut struct {
	kept   []int // nodes that the forward pass makes and keeps
	inputs []int // positions among the graph's inputs that the backward pass reads
}

// views share their input's memory, and cost nothing to make again.
var views = []string{"Transpose", "Reshape", "ExpandDims", "Squeeze", "Flatten", "Unflatten", "Slice", "Broadcast", "BroadcastAxes", "View", "AsStrided"}

// products are what nobody computes twice who need not.
var products = []string{"Matmul", "AddMM", "QuantizedMatmul", "BlockMaskedMM", "GatherMM", "GatherQMM", "ScaledDotProductAttention", "Gather", "GatherAxis"}

// powers are costly on a CPU.
var powers = []string{"Power", "Exp"}

// cutOf finds the cheapest cut: of all sets of values from which the backward
// pass can be computed, given what may be computed again, the one with the fewest
// bytes. That is a minimal cut of a network in which a value's capacity is its
// size (Ford and Fulkerson 1956).
func cutOf(g *mlxbind.Graph, o Options) cut {
	n := len(g.Nodes)
	backward, fixed := make([]bool, n), make([]bool, n) // hangs on a cotangent; on parameters and constants alone
	input := make([]int, n)
	for i := range input {
		input[i] = -1
	}
	for i, at := range g.In {
		input[at] = i
	}
	for _, at := range g.Cotangents {
		backward[at] = true
	}
	for i, node := range g.Nodes {
		switch {
		case input[i] >= 0:
			fixed[i] = slices.Contains(o.Parameters, input[i])
		case !backward[i]:
			fixed[i] = true
			for _, k := range node.Inputs {
				backward[i] = backward[i] || backward[k]
				fixed[i] = fixed[i] && fixed[k]
			}
		}
	}
	// What the backward pass reads of the forward pass. All results of an
	// operation are made at once.
	reads := make([]bool, n)
	use := func(i int) {
		if !backward[i] {
			reads[i] = true
		}
	}
	for i, node := range g.Nodes {
		if backward[i] {
			for _, k := range node.Inputs {
				use(k)
			}
		}
	}
	for _, i := range g.Gradients {
		use(i)
	}
	again := func(i int) bool {
		node := g.Nodes[i]
		switch {
		case node.Op == "" || fixed[i] || slices.Contains(views, node.Op):
			return true
		case o.Keep == Results:
			return false
		case o.Keep == Products:
			return !slices.Contains(products, node.Op)
		case o.Keep == Costly:
			return !slices.Contains(products, node.Op) && !slices.Contains(powers, node.Op)
		}
		return true
	}
	// Every node is two of the network, 2i in and 2i+1 out.
	f := newFlow(2*n + 2)
	source, sink := 2*n, 2*n+1
	for i, node := range g.Nodes {
		if backward[i] {
			continue
		}
		f.edge(2*i, 2*i+1, capacity(g, i))
		if reads[i] {
			f.edge(2*i+1, sink, math.MaxInt64)
		}
		if len(node.Inputs) == 0 || !again(i) {
			f.edge(source, 2*i, math.MaxInt64)
			continue
		}
		for _, k := range node.Inputs {
			f.edge(2*k+1, 2*i, math.MaxInt64)
		}
	}
	reached := f.minimize(source, sink)
	// What costs nothing may be in the cut and of no use: only what the backward
	// pass comes upon counts.
	var c cut
	seen := make([]bool, n)
	var need func(i int)
	need = func(i int) {
		if seen[i] {
			return
		}
		seen[i] = true
		node := g.Nodes[i]
		switch {
		case input[i] >= 0:
			c.inputs = append(c.inputs, input[i])
		case len(node.Inputs) > 0 && reached[2*i] && !reached[2*i+1]:
			c.kept = append(c.kept, i)
		default:
			for _, k := range node.Inputs {
				need(k)
			}
		}
	}
	for i, read := range reads {
		if read {
			need(i)
		}
	}
	slices.Sort(c.inputs)
	slices.Sort(c.kept)
	return c
}

// capacity is what it costs to keep a node: its bytes, nothing for what is there
// anyway. A view keeps all that it is a view of, and the same bytes are rather
// kept as what was computed.
func capacity(g *mlxbind.Graph, i int) int64 {
	if len(g.Nodes[i].Inputs) == 0 {
		return 0
	}
	bytes := int64(g.Nodes[i].Bytes())
	for at := i; slices.Contains(views, g.Nodes[at].Op); {
		at = g.Nodes[at].Inputs[0]
		bytes = max(bytes, int64(g.Nodes[at].Bytes()))
	}
	return 2*bytes + b2i(slices.Contains(views, g.Nodes[i].Op))
}

func b2i(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// flow is a network for the maximal flow from a source to a sink.
type flow struct {
	head []int // first edge of a node, -1 for none
	next []int
	to   []int
	left []int64 // capacity that is left; edge e ^ 1 runs the other way
}

func newFlow(nodes int) *flow {
	f := &flow{head: make([]int, nodes)}
	for i := range f.head {
		f.head[i] = -1
	}
	return f
}

func (f *flow) edge(from, to int, capacity int64) {
	for _, e := range [][3]int64{{int64(from), int64(to), capacity}, {int64(to), int64(from), 0}} {
		f.next = append(f.next, f.head[e[0]])
		f.head[e[0]] = len(f.to)
		f.to = append(f.to, int(e[1]))
		f.left = append(f.left, e[2])
	}
}

// minimize sends as much as it can and returns what can still be reached from the
// source: the edges that lead out of that are a minimal cut (Edmonds and Karp 1972).
func (f *flow) minimize(source, sink int) (reached []bool) {
	by := make([]int, len(f.head)) // edge by which a node was reached
	for {
		for i := range by {
			by[i] = -1
		}
		queue := []int{source}
		by[source] = len(f.to)
		for len(queue) > 0 && by[sink] < 0 {
			at := queue[0]
			queue = queue[1:]
			for e := f.head[at]; e >= 0; e = f.next[e] {
				if f.left[e] > 0 && by[f.to[e]] < 0 {
					by[f.to[e]] = e
					queue = append(queue, f.to[e])
				}
			}
		}
		if by[sink] < 0 {
			reached = make([]bool, len(by))
			for i, e := range by {
				reached[i] = e >= 0
			}
			return reached
		}
		amount := int64(math.MaxInt64)
		for at := sink; at != source; at = f.to[by[at]^1] {
			amount = min(amount, f.left[by[at]])
		}
		for at := sink; at != source; at = f.to[by[at]^1] {
			if f.left[by[at]] != math.MaxInt64 {
				f.left[by[at]] -= amount
			}
			if f.left[by[at]^1] != math.MaxInt64 {
				f.left[by[at]^1] += amount
			}
		}
	}
}
