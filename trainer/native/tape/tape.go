// Package tape trains a piece of a model in two halves: a forward pass that says
// what it keeps, and a backward pass that is given that again.
//
// Automatic differentiation keeps whatever the backward pass reads, of every
// layer at once, and leaves the order of the work to a scheduler. A Tape takes
// the function and its gradient apart (mlxbind.Graph) and cuts between them where
// the fewest bytes cross. What is cheap to compute, views and matrices made of
// packed ones above all, is then computed again instead of kept. One Tape serves all
// layers of one form: what differs between them are inputs.
//
// The package knows nothing of models.
package tape

import (
	"fmt"
	"slices"

	"github.com/mlxdyno/mlxdyno/mlxbind"
)

// Keep says how much of the forward pass is kept for the backward pass.
type Keep int

const (
	// Results keeps every result that the backward pass reads, except what
	// costs nothing to make again: views, and what depends on parameters alone.
	Results Keep = iota
	// Costly computes again what is cheap: all but matrix products, attention, and
	// powers, one of which takes a CPU as long as hundreds of products.
	Costly
	// Products computes everything again but matrix products and attention.
	Products
	// Nothing keeps only inputs and computes all again.
	Nothing
)

// Options of New.
type Options struct {
	Keep     Keep
	Compiled bool
	// Parameters are the inputs that are in memory anyway: what depends on them
	// alone is made again rather than kept.
	Parameters []int
	// Open keeps what the halves are made of, to be looked into. It costs no
	// time and the memory of constants.
	Open bool
}

// Tape is a function taken apart.
type Tape struct {
	forward, backward *mlxbind.Function
	reads             []int // inputs that the backward pass is given
	values            int   // results of the function

	// KeptBytes is the memory that one forward pass keeps, inputs not counted.
	KeptBytes int64
	// Kept is how many arrays that is.
	Kept int

	// Forward and Backward are the halves, of a Tape that is open; else nil.
	// What the forward pass returns last, after the function's results, is kept.
	Forward, Backward *Piece
}

// New takes f apart, and its gradient with respect to the inputs wrt. Of in and
// cotangents only shapes and types matter; there is one cotangent for each
// result of f. With no wrt there is no backward pass and nothing is kept. The
// Tape belongs to s.
func New(s *mlxbind.Scope, f mlxbind.Func, in []mlxbind.Array, wrt []int, cotangents []mlxbind.Array, o Options) (*Tape, error) {
	if len(wrt) == 0 {
		cotangents = nil
	}
	g := s.TakeApart(f, in, wrt, cotangents)
	if !o.Open {
		defer g.Free(s)
	}
	if err := s.Err(); err != nil {
		return nil, fmt.Errorf("take apart: %w", err)
	}
	c := cutOf(g, o)
	t := &Tape{values: len(g.Out), Kept: len(c.kept)}
	for _, n := range c.kept {
		t.KeptBytes += int64(g.Nodes[n].Bytes())
	}
	kept := slices.Concat(g.Out, c.kept)
	t.forward = g.Part(s, g.In, kept, o.Compiled)
	if o.Open {
		t.Forward = &Piece{Graph: g, In: g.In, Out: kept}
	}
	if len(wrt) == 0 {
		return t, s.Err()
	}
	t.reads = c.inputs
	given := slices.Clone(c.kept)
	for _, i := range c.inputs {
		given = append(given, g.In[i])
	}
	given = append(given, g.Cotangents...)
	t.backward = g.Part(s, given, g.Gradients, o.Compiled)
	if o.Open {
		t.Backward = &Piece{Graph: g, In: given, Out: g.Gradients}
	}
	return t, s.Err()
}

// Run is the forward pass: the results of the function, and what is kept for
// Back.
func (t *Tape) Run(s *mlxbind.Scope, in ...mlxbind.Array) (out, kept []mlxbind.Array) {
	all := t.forward.Call(s, in...)
	if len(all) < t.values {
		return nil, nil
	}
	return all[:t.values:t.values], all[t.values:]
}

// Back is the backward pass: the gradients, from the same inputs, what Run kept
// of them, and the gradients with respect to the results.
func (t *Tape) Back(s *mlxbind.Scope, in, kept, cotangents []mlxbind.Array) []mlxbind.Array {
	return t.backward.Call(s, t.Given(in, kept, cotangents)...)
}

// Given is what the backward pass gets, in its order.
func (t *Tape) Given(in, kept, cotangents []mlxbind.Array) []mlxbind.Array {
	given := slices.Clone(kept)
	for _, i := range t.reads {
		given = append(given, in[i])
	}
	return append(given, cotangents...)
}

// Reads reports whether the backward pass reads an input.
func (t *Tape) Reads(input int) bool { return slices.Contains(t.reads, input) }

// KeptNodes are the nodes that an open Tape's forward pass keeps.
func (t *Tape) KeptNodes() []int { return t.Forward.Out[t.values:] }

// Free frees the functions before their Scope ends.
func (t *Tape) Free(s *mlxbind.Scope) {
	for _, f := range []*mlxbind.Function{t.forward, t.backward} {
		if f != nil {
			f.Free(s)
		}
	}
	if t.Forward != nil {
		t.Forward.Graph.Free(s)
	}
}

// Joint is a function together with its gradient, for a piece whose backward
// pass follows at once.
type Joint struct {
	f *mlxbind.Function

	Piece *Piece // of a Joint that is open
}

// NewJoint is New for a piece whose backward pass follows its forward pass at
// once.
func NewJoint(s *mlxbind.Scope, f mlxbind.Func, in []mlxbind.Array, wrt []int, cotangents []mlxbind.Array, o Options) (*Joint, error) {
	g := s.TakeApart(f, in, wrt, cotangents)
	if !o.Open {
		defer g.Free(s)
	}
	if err := s.Err(); err != nil {
		return nil, fmt.Errorf("take apart: %w", err)
	}
	from, to := slices.Concat(g.In, g.Cotangents), slices.Concat(g.Out, g.Gradients)
	j := &Joint{f: g.Part(s, from, to, o.Compiled)}
	if o.Open {
		j.Piece = &Piece{Graph: g, In: from, Out: to}
	}
	return j, s.Err()
}

// Call returns the function's results and then its gradients.
func (j *Joint) Call(s *mlxbind.Scope, in, cotangents []mlxbind.Array) []mlxbind.Array {
	return j.f.Call(s, slices.Concat(in, cotangents)...)
}

// Free frees the function before its Scope ends.
func (j *Joint) Free(s *mlxbind.Scope) {
	j.f.Free(s)
	if j.Piece != nil {
		j.Piece.Graph.Free(s)
	}
}
