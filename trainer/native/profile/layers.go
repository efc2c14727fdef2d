package profile

import (
	"slices"
	"strings"

	"github.com/mlxdyno/mlxdyno/mlxbind"
	"github.com/mlxdyno/mlxdyno/trainer/native/tape"
)

// Names say what the inputs of a Graph are: the layer that each is a parameter
// of ("self_attn.q_proj"), or nothing for what goes through the model; and for
// each gradient the layer of the parameter that it is of.
type Names struct{ Inputs, Gradients []string }

// regions are halves of a block: what lies between the layers that they begin
// and end with, and is none of these, has the name of the half.
var regions = []struct {
	name  string
	enter []string
	leave string
}{
	{"self_attn", []string{"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.qkv_proj"}, "self_attn.o_proj"},
	{"mlp", []string{"mlp.gate_proj", "mlp.up_proj", "mlp.gate_up_proj"}, "mlp.down_proj"},
}

// set is a set of layers, by their place among all.
type set uint64

// labels finds the layer of every node. A graph does not know layers, but it
// tells them by the parameters that operations read:
//
//   - what reads a parameter belongs to its layer, and so does what the gradient
//     of an adapter is made of, back to the first product;
//   - a sum of two products of one layer, and what lies between two operations of
//     a layer, belongs to it: factors and conversions of the low-rank path;
//   - what only feeds a norm's last operation, or in the backward pass only comes
//     from it, belongs to that norm, which MLX takes apart where it has no kernel;
//   - the rest lies between layers: in attention if the queries' product is
//     behind it and the output's ahead, backward the other way round.
//
// What is left, such as sums with the residual, has no layer.
type labels struct {
	g         *mlxbind.Graph
	layers    []string
	of        []int // layer of a node, or -1
	parameter []set // of nodes that hang on parameters and constants alone: which
	fixed     []bool
	backward  []bool
	late      []bool // of the forward pass, but only the backward pass reads it
	readers   [][]int
}

// Layers returns the layer of every node, "" where it has none.
func Layers(g *mlxbind.Graph, names Names) []string {
	l := newLabels(g, names)
	l.direct()
	l.gradients(names.Gradients)
	l.sums()
	l.between()
	l.norms()
	l.regions()
	l.constants()
	out := make([]string, len(g.Nodes))
	for i, k := range l.of {
		if k >= 0 {
			out[i] = l.layers[k]
		}
	}
	return out
}

func newLabels(g *mlxbind.Graph, names Names) *labels {
	n := len(g.Nodes)
	l := &labels{g: g, of: make([]int, n), parameter: make([]set, n), fixed: make([]bool, n), backward: make([]bool, n), late: make([]bool, n), readers: make([][]int, n)}
	input := map[int]string{}
	for i, at := range g.In {
		input[at] = ""
		if i < len(names.Inputs) {
			input[at] = names.Inputs[i]
		}
	}
	for _, at := range g.Cotangents {
		l.backward[at] = true
	}
	for i, node := range g.Nodes {
		l.of[i] = -1
		if name, ok := input[i]; ok {
			l.fixed[i] = name != ""
			if name != "" {
				l.of[i] = l.layer(name)
				l.parameter[i] = 1 << l.of[i]
			}
			continue
		}
		l.fixed[i] = !l.backward[i]
		for _, k := range node.Inputs {
			l.backward[i] = l.backward[i] || l.backward[k]
			l.fixed[i] = l.fixed[i] && l.fixed[k]
			l.parameter[i] |= l.parameter[k]
			l.readers[k] = append(l.readers[k], i)
		}
		if !l.fixed[i] {
			l.parameter[i] = 0
		}
	}
	for i := range slices.Backward(g.Nodes) {
		l.late[i] = !l.backward[i] && !slices.Contains(g.Out, i) &&
			!slices.ContainsFunc(l.readers[i], func(k int) bool { return !l.backward[k] && !l.late[k] })
	}
	return l
}

// layer is the place of a layer's name. Those beyond the set's room share the last.
func (l *labels) layer(name string) int {
	at := slices.Index(l.layers, name)
	if at < 0 {
		at = len(l.layers)
		l.layers = append(l.layers, name)
	}
	return min(at, 62)
}

func (l *labels) direct() {
	for i, node := range l.g.Nodes {
		var read set
		if l.fixed[i] {
			read = l.parameter[i]
		}
		for _, k := range node.Inputs {
			if l.fixed[k] {
				read |= l.parameter[k]
			}
		}
		for k := range l.layers {
			if l.of[i] < 0 && read&(1<<k) != 0 {
				l.of[i] = k
			}
		}
	}
}

// flows are the inputs of a node that are no parameters or constants.
func (l *labels) flows(i int) []int {
	return slices.DeleteFunc(slices.Clone(l.g.Nodes[i].Inputs), func(k int) bool { return l.fixed[k] })
}

func (l *labels) gradients(names []string) {
	for i, at := range l.g.Gradients {
		if i >= len(names) || names[i] == "" {
			continue
		}
		k := l.layer(names[i])
		for l.of[at] < 0 && !l.fixed[at] {
			l.of[at] = k
			from := l.flows(at)
			if tape.IsProduct(l.g.Nodes[at].Op) || len(from) != 1 {
				break
			}
			at = from[0]
		}
	}
}

// passes reports whether an operation hands on what it gets in another form.
func (l *labels) passes(i int) bool {
	op := l.g.Nodes[i].Op
	return tape.IsView(op) || op == "AsType" || l.scales(i)
}

// scales reports whether a node multiplies by one number.
func (l *labels) scales(i int) bool {
	return l.g.Nodes[i].Op == "Multiply" && slices.ContainsFunc(l.g.Nodes[i].Inputs, func(k int) bool {
		return l.fixed[k] && l.g.Nodes[source(l.g, k)].Size() == 1
	})
}

// origin is where a value comes from, past what only hands it on.
func (l *labels) origin(i int) int {
	for l.of[i] < 0 && l.passes(i) {
		from := l.flows(i)
		if len(from) != 1 {
			break
		}
		i = from[0]
	}
	return i
}

func (l *labels) sums() {
	for i, node := range l.g.Nodes {
		if l.of[i] >= 0 || node.Op != "Add" {
			continue
		}
		if from := l.flows(i); len(from) == 2 {
			a, b := l.of[l.origin(from[0])], l.of[l.origin(from[1])]
			if a >= 0 && a == b {
				l.of[i] = a
			}
		}
	}
}

// readBy is the layer of all that read a node, or -1 when they differ. Only
// readers of the same pass count.
func (l *labels) readBy(i int) int {
	layer := -1
	for _, k := range l.readers[i] {
		if l.backward[k] != l.backward[i] || l.late[k] != l.late[i] {
			continue
		}
		if l.of[k] < 0 || layer >= 0 && l.of[k] != layer {
			return -1
		}
		layer = l.of[k]
	}
	return layer
}

func (l *labels) between() {
	for i := range slices.Backward(l.g.Nodes) {
		if l.of[i] >= 0 || l.fixed[i] || !l.passes(i) {
			continue
		}
		from := l.flows(i)
		if len(from) != 1 {
			continue
		}
		// A factor in front of the low-rank path belongs to it too.
		k := l.readBy(i)
		if k >= 0 && (l.of[l.origin(from[0])] == k || l.scales(i)) {
			l.of[i] = k
		}
	}
}

func (l *labels) norms() {
	isNorm := func(k int) bool { return k >= 0 && strings.Contains(l.layers[k], "norm") }
	for i := range slices.Backward(l.g.Nodes) {
		if l.of[i] < 0 && !l.fixed[i] && !l.backward[i] && l.g.Nodes[i].Op != "" {
			if k := l.readBy(i); isNorm(k) {
				l.of[i] = k
			}
		}
	}
	for i := range l.g.Nodes {
		from := l.flows(i)
		if l.backward[i] { // with what it reads of the forward pass it has nothing to do
			from = slices.DeleteFunc(from, func(k int) bool { return !l.backward[k] })
		}
		if l.of[i] >= 0 || l.fixed[i] || len(from) == 0 || l.g.Nodes[i].Op == "" {
			continue
		}
		k := l.of[from[0]]
		if isNorm(k) && !slices.ContainsFunc(from, func(other int) bool { return l.of[other] != k }) && (l.backward[i] || l.late[i]) {
			l.of[i] = k
		}
	}
}

func (l *labels) regions() {
	passed := make([]set, len(l.g.Nodes)) // layers behind a node on its way
	for i := range l.g.Nodes {
		for _, k := range l.flows(i) {
			if !l.backward[i] || l.backward[k] {
				passed[i] |= passed[k]
				if l.of[k] >= 0 {
					passed[i] |= 1 << l.of[k]
				}
			}
		}
	}
	for _, r := range regions {
		var enter, leave set
		for k, name := range l.layers {
			switch {
			case slices.Contains(r.enter, name):
				enter |= 1 << k
			case name == r.leave:
				leave |= 1 << k
			}
		}
		if enter == 0 || leave == 0 {
			continue
		}
		layer := -1
		for i, node := range l.g.Nodes {
			if l.of[i] >= 0 || l.fixed[i] || node.Op == "" {
				continue
			}
			behind, ahead := enter, leave
			if l.backward[i] {
				behind, ahead = leave, enter
			}
			if passed[i]&behind != 0 && passed[i]&ahead == 0 {
				if layer < 0 {
					layer = l.layer(r.name)
				}
				l.of[i] = layer
			}
		}
	}
}

// constants belong to what reads them, first of all to what reads them first.
func (l *labels) constants() {
	for i := range slices.Backward(l.g.Nodes) {
		for _, r := range l.readers[i] {
			if l.of[i] < 0 && l.fixed[i] {
				l.of[i] = l.of[r]
			}
		}
	}
}
