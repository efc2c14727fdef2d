package native

import (
	"fmt"
	"slices"
	"strings"

	"github.com/mlxdyno/mlxdyno/mlxbind"
	"github.com/mlxdyno/mlxdyno/trainer/native/decoder"
	"github.com/mlxdyno/mlxdyno/trainer/native/profile"
	"github.com/mlxdyno/mlxdyno/trainer/native/tape"
)

// watched is a blockwise whose steps are profiled: it tells the recorder when a
// piece begins and ends, and what it does. Every method of a nil one does
// nothing. The pieces are those that an ordinary step has, so it computes the same.
type watched struct {
	b   *blockwise
	rec *profile.Recorder

	place profile.Place       // of the piece that is computed
	ops   *profile.Operations // of it
	seen  map[*tape.Piece]*profile.Operations
	other map[string]*profile.Operations // of what is no tape
	grown int64                          // bytes of gradients that it makes
}

func newWatched(b *blockwise, rec *profile.Recorder) *watched {
	return &watched{b: b, rec: rec, seen: map[*tape.Piece]*profile.Operations{}, other: map[string]*profile.Operations{}}
}

func (w *watched) recording() bool { return w != nil && w.rec.Recording() }

// forget is told that all tapes were freed.
func (w *watched) forget() {
	if w != nil {
		clear(w.seen)
	}
}

// begin is told that a piece is about to be computed.
func (w *watched) begin(ops *profile.Operations, place ...string) {
	w.place, w.ops, w.grown = place, ops, 0
}

// end is told that it is done.
func (w *watched) end() {
	w.rec.Lap(w.place, w.ops, w.grown)
	w.ops, w.grown = nil, 0
}

func (w *watched) done() {
	if w.recording() {
		w.end()
	}
}

// measures reports whether operations are computed one by one. Where kernels are
// fused, or waiting for one takes as long as the kernel, that would tell nothing.
func (w *watched) measures() bool { return !w.b.l.options.compile && !w.b.l.options.async }

// look counts, when it is seen first, what a piece does.
func (w *watched) look(c *mlxbind.Scope, p *tape.Piece, names profile.Names, kept []int, in []mlxbind.Array) *profile.Operations {
	ops, ok := w.seen[p]
	if !ok {
		ops = w.count(c, p, names, kept, in)
		w.seen[p] = ops
	}
	return ops
}

func (w *watched) count(c *mlxbind.Scope, p *tape.Piece, names profile.Names, kept []int, in []mlxbind.Array) (ops *profile.Operations) {
	w.rec.Aside(func() {
		ops = profile.Count(p, profile.Layers(p.Graph, names), kept)
		if w.measures() {
			c.Fail(ops.Measure(c, p, in))
		}
	})
	return ops
}

// function counts what a function does that is no tape.
func (w *watched) function(c *mlxbind.Scope, name string, f mlxbind.Func, in []mlxbind.Array) *profile.Operations {
	ops, ok := w.other[name]
	if ok {
		return ops
	}
	w.rec.Aside(func() {
		g := c.TakeApart(f, in, nil, nil)
		defer g.Free(c)
		if c.Err() != nil {
			return
		}
		ops = w.count(c, &tape.Piece{Graph: g, In: g.In, Out: g.Out}, profile.Names{}, nil, in)
	})
	w.other[name] = ops
	return ops
}

func (w *watched) embedding(c *mlxbind.Scope, tokens mlxbind.Array) {
	if w.recording() {
		f := func(s *mlxbind.Scope, in []mlxbind.Array) []mlxbind.Array {
			return []mlxbind.Array{w.b.l.model.Embed(s, in[0])}
		}
		w.begin(w.function(c, "embedding "+w.b.layout, f, []mlxbind.Array{tokens}), profile.Forward, profile.Embedding)
	}
}

func (w *watched) embedded() { w.done() }

// traced is told that a block's function was taken apart.
func (w *watched) traced(block int) {
	if w.recording() {
		w.begin(nil, profile.Forward, blockName(block), "", "tracing")
		w.end()
	}
}

func (w *watched) forward(c *mlxbind.Scope, block int, d passed) {
	if w.recording() {
		w.begin(w.look(c, d.t.Forward, w.names(block, d), d.t.KeptNodes(), d.in), profile.Forward, blockName(block))
	}
}

func (w *watched) backward(c *mlxbind.Scope, block int, d passed, hat mlxbind.Array) {
	if !w.recording() {
		return
	}
	given := d.t.Given(d.in, d.kept, []mlxbind.Array{hat})
	w.begin(w.look(c, d.t.Backward, w.names(block, d), nil, given), profile.Backward, blockName(block))
	first, end := w.b.l.model.AdaptersOf(block)
	for _, a := range w.b.l.adapters[first:end] {
		w.grown += int64(c.Info(a).Bytes)
	}
}

// names are those of a block's inputs, and of its gradients if it has any.
func (w *watched) names(block int, d passed) profile.Names {
	m := w.b.l.model
	n := profile.Names{Inputs: []string{""}}
	for _, name := range d.block.Names {
		n.Inputs = append(n.Inputs, layerOf(name))
	}
	if block > w.b.first {
		n.Gradients = []string{""}
	}
	first, end := m.AdaptersOf(block)
	adapters := m.AdapterNames()[first:end]
	for _, name := range adapters {
		n.Inputs, n.Gradients = append(n.Inputs, layerOf(decoder.Within(name))), append(n.Gradients, layerOf(decoder.Within(name)))
	}
	for i := range len(d.in) - len(n.Inputs) { // keys of dropout
		n.Inputs = append(n.Inputs, layerOf(decoder.Within(adapters[2*i])))
	}
	return n
}

// layerOf is the layer that an array is of.
func layerOf(name string) string {
	for _, kind := range []string{".weight", ".scales", ".biases", ".bias", ".lora_a", ".lora_b"} {
		if layer, ok := strings.CutSuffix(name, kind); ok {
			return layer
		}
	}
	return name
}

func blockName(i int) string { return fmt.Sprintf("block %d", i) }

// picking and picked are about taking hidden states that count out of all.
func (w *watched) picking(c *mlxbind.Scope, d passed) {
	if w.recording() {
		w.tracedHead()
		w.begin(w.look(c, d.t.Forward, profile.Names{}, nil, d.in), profile.Loss, profile.Head)
	}
}

func (w *watched) picked(c *mlxbind.Scope, states mlxbind.Array) {
	if w.recording() {
		c.Fail(c.Eval(states))
		w.end()
	}
}

// putting is about handing their gradient back to where they were taken from.
func (w *watched) putting(c *mlxbind.Scope, d passed, hat mlxbind.Array) {
	if w.recording() && d.t.Backward != nil {
		w.begin(w.look(c, d.t.Backward, profile.Names{}, nil, d.t.Given(d.in, nil, []mlxbind.Array{hat})), profile.Loss, profile.Head)
	}
}

// unpacked is told that a packed matrix was made dense.
func (w *watched) unpacked(phase, part, name string) {
	if w.recording() {
		w.begin(nil, phase, part, layerOf(name), "Dequantize")
		w.end()
	}
}

func (w *watched) tracedHead() {
	if w.recording() {
		w.begin(nil, profile.Loss, profile.Head, "", "tracing")
		w.end()
	}
}

func (w *watched) scoring(c *mlxbind.Scope, j *tape.Joint, head decoder.Head, in, cotangents []mlxbind.Array) {
	if w.recording() {
		names := profile.Names{Inputs: []string{""}, Gradients: []string{""}}
		for _, name := range head.Names {
			names.Inputs = append(names.Inputs, layerOf(name))
		}
		w.begin(w.look(c, j.Piece, names, nil, slices.Concat(in, cotangents)), profile.Loss, profile.Head)
	}
}

func (w *watched) scored() {
	if w.recording() {
		w.end()
		w.place = profile.Place{profile.Loss, profile.Head}
	}
}

func (w *watched) updating(c *mlxbind.Scope, v variant, args []mlxbind.Array) {
	if w.recording() {
		w.begin(w.function(c, fmt.Sprint("update ", v), w.b.end(v), args), profile.Optimizer)
	}
}

func (w *watched) updated() { w.done() }
