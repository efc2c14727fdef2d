package profile

import (
	"slices"

	"github.com/mlxdyno/mlxdyno/mlxbind"
	"github.com/mlxdyno/mlxdyno/trainer/native/tape"
)

// Operation is what a piece does of one kind in one layer.
type Operation struct {
	Layer, Op string
	Calls     int64
	FLOP      float64 // counted from shapes; of products alone
	Product   bool    // a matrix product or attention
	Written   int64   // bytes
	Moved     int64   // bytes read and written

	seconds float64 // when computed one by one; of all its calls
}

// Operations are those of a piece, in the order in which they come first.
type Operations struct {
	All  []Operation
	Kept []Share // what a forward pass keeps, by layer

	measured bool
	of       []int // of the piece's operations, which of All
}

// Count counts what a piece does, and what of its nodes it keeps. Views are left
// out: they cost nothing.
func Count(p *tape.Piece, layers []string, kept []int) *Operations {
	o := &Operations{}
	for _, i := range kept {
		k := slices.IndexFunc(o.Kept, func(s Share) bool { return s.Layer == layers[i] })
		if k < 0 {
			k = len(o.Kept)
			o.Kept = append(o.Kept, Share{Layer: layers[i]})
		}
		o.Kept[k].Bytes += int64(p.Graph.Nodes[i].Bytes())
	}
	at := map[[2]string]int{}
	for _, i := range p.Operations() {
		node := p.Graph.Nodes[i]
		written, moved := traffic(p, i)
		if moved == 0 {
			o.of = append(o.of, -1)
			continue
		}
		key := [2]string{layers[i], node.Op}
		k, ok := at[key]
		if !ok {
			k = len(o.All)
			at[key] = k
			o.All = append(o.All, Operation{Layer: layers[i], Op: node.Op})
		}
		o.of = append(o.of, k)
		each := &o.All[k]
		each.Calls++
		each.Written += written
		each.Moved += moved
		if flop, ok := FLOP(p.Graph, i); ok {
			each.FLOP += flop
			each.Product = true
		}
	}
	return o
}

// Measure computes the piece one by one, twice, since the first time also
// fetches memory.
func (o *Operations) Measure(s *mlxbind.Scope, p *tape.Piece, in []mlxbind.Array) error {
	least := make([]float64, len(o.of))
	for try := range 2 {
		seconds, err := p.OneByOne(s, in)
		if err != nil {
			return err
		}
		for i, v := range seconds {
			if try == 0 || v < least[i] {
				least[i] = v
			}
		}
	}
	for i, v := range least {
		if k := o.of[i]; k >= 0 {
			o.All[k].seconds += v
		}
	}
	o.measured = true
	return nil
}

// FLOP is the work of a product, two for every multiplication and addition; ok
// is false for other operations. Attention is counted over all pairs of
// positions, seen or not.
func FLOP(g *mlxbind.Graph, i int) (flop float64, ok bool) {
	n := g.Nodes[i]
	size := func(k int) float64 { return float64(g.Nodes[n.Inputs[k]].Size()) }
	last := func(k int) float64 {
		shape := g.Nodes[n.Inputs[k]].Shape
		if len(shape) == 0 {
			return 1
		}
		return float64(shape[len(shape)-1])
	}
	switch n.Op {
	case "Matmul", "AddMM", "QuantizedMatmul", "BlockMaskedMM", "GatherMM", "GatherQMM":
		// out (…, M, N) of x (…, M, K): K for each element.
		return 2 * float64(n.Size()) * last(0), true
	case "ScaledDotProductAttention", "ScaledDotProductAttentionVJP":
		if len(n.Inputs) < 3 {
			return 0, false
		}
		k := g.Nodes[n.Inputs[1]].Shape
		if len(k) < 2 {
			return 0, false
		}
		// Scores and the sum of values; backward, each twice and scores again.
		pairs := size(0) / last(0) * float64(k[len(k)-2])
		if n.Op == "ScaledDotProductAttentionVJP" {
			return 2 * pairs * (3*last(0) + 2*last(2)), true
		}
		return 2 * pairs * (last(0) + last(2)), true
	}
	return 0, false
}

// traffic is how many bytes an operation writes, and how many it moves in all.
func traffic(p *tape.Piece, i int) (written, moved int64) {
	nodes := p.Graph.Nodes
	n := nodes[i]
	if tape.IsView(n.Op) && !copies(p.Graph, i) {
		return 0, 0
	}
	for _, r := range p.Results(i) {
		written += int64(nodes[r].Bytes())
	}
	moved = written
	if n.Op == "Gather" || n.Op == "GatherAxis" { // of what it looks into, it reads what it writes
		return written, 2 * written
	}
	for _, k := range n.Inputs {
		moved += int64(nodes[source(p.Graph, k)].Bytes())
	}
	return written, moved
}

// source is what a view looks at, where it repeats it: that is read once.
func source(g *mlxbind.Graph, i int) int {
	for g.Nodes[i].Op == "Broadcast" || g.Nodes[i].Op == "BroadcastAxes" || g.Nodes[i].Op == "ExpandDims" {
		i = g.Nodes[i].Inputs[0]
	}
	return i
}

// copies reports whether a change of shape must copy, because its elements do
// not lie one after the other.
func copies(g *mlxbind.Graph, i int) bool {
	if op := g.Nodes[i].Op; op != "Reshape" && op != "Flatten" {
		return false
	}
	for at := i; tape.IsView(g.Nodes[at].Op); {
		switch at = g.Nodes[at].Inputs[0]; g.Nodes[at].Op {
		case "Transpose", "Broadcast", "BroadcastAxes", "Slice":
			return true
		}
	}
	return false
}
