package mlxbind

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// half is a function with everything that a graph has: a value used twice, a
// view, a constant, several results of one operation, a function with a gradient
// of its own.
func half(s *Scope, in []Array) []Array {
	x, w := in[0], in[1]
	own := s.CustomVJP(
		func(s *Scope, in []Array) []Array { return []Array{s.MatMul(in[0], in[1])} },
		func(s *Scope, in, cotangents, _ []Array) []Array {
			return []Array{s.MatMul(cotangents[0], s.Transpose(in[1])), s.ZerosLike(in[1])}
		}, 2, 1)
	y := own.Call1(s, s.Tanh(x), w)
	q := s.Quantize(s.StopGradient(s.Reshape(s.Square(y), 4, 32)), 32, 8)
	return []Array{s.Add(y, s.MulN(s.Square(x), 0.25)), s.Dequantize(q)}
}

func equal(t *testing.T, s *Scope, what string, got, want []Array) {
	t.Helper()
	if len(got) != len(want) || len(want) == 0 {
		t.Fatalf("%s: %d arrays instead of %d: %v", what, len(got), len(want), s.Err())
	}
	for i := range want {
		a, err := s.ReadFloat32s(s.AsType(got[i], Float32))
		b, err2 := s.ReadFloat32s(s.AsType(want[i], Float32))
		if err := errors.Join(err, err2); err != nil {
			t.Fatal(what, err)
		}
		if !slices.Equal(a, b) {
			t.Errorf("%s: array %d is %v instead of %v", what, i, a[:4], b[:4])
		}
	}
}

// Forward and backward pass made of a graph's parts give what the function and
// its gradient give, compiled too, and no part calls the function again.
func TestPartsOfAGraphComputeWhatTheFunctionDoes(t *testing.T) {
	do(t, func(s *Scope) error {
		key := s.RandomKey(1)
		x, w := s.Normal(key, 0, 1, Float32, 4, 32), s.Normal(key, 0, 0.1, Float32, 32, 32)
		hat := s.Normal(key, 1, 1, Float32, 4, 32)
		want := half(s, []Array{x, w})
		gradient := s.ValueAndGrad(func(s *Scope, in []Array) []Array {
			return []Array{s.SumAll(s.Mul(half(s, in)[0], hat))}
		}, 0)
		wantGradient := gradient.Call(s, x, w)
		if err := s.Err(); err != nil {
			return err
		}
		wantGradient = wantGradient[1:]

		calls := 0
		counted := func(s *Scope, in []Array) []Array { calls++; return half(s, in) }
		g := s.TakeApart(counted, []Array{x, w}, []int{0}, []Array{hat, hat})
		defer g.Free(s)
		if err := s.Err(); err != nil {
			return err
		}
		if len(g.In) != 2 || len(g.Out) != 2 || len(g.Cotangents) != 2 || len(g.Gradients) != 1 {
			t.Fatalf("ends: %v %v %v %v", g.In, g.Out, g.Cotangents, g.Gradients)
		}
		var tanh int
		for i, n := range g.Nodes {
			for _, k := range n.Inputs {
				if k >= i {
					t.Errorf("node %d, %s, comes before its input %d", i, n.Op, k)
				}
			}
			switch n.Op {
			case "Tanh":
				tanh = i
			case "Copy", "StopGradient", "CustomTransforms":
				t.Errorf("%s is a node", n.Op)
			}
		}
		if n := g.Nodes[tanh]; n.Bytes() != 4*32*4 || !slices.Equal(n.Shape, []int{4, 32}) || n.Inputs[0] != g.In[0] {
			t.Errorf("tanh: %+v", n)
		}
		zero := s.ZerosLike(hat)
		for _, compiled := range []bool{false, true} {
			forward := g.Part(s, g.In, append(slices.Clone(g.Out), tanh), compiled)
			backward := g.Part(s, []int{g.In[0], g.In[1], tanh, g.Cotangents[0], g.Cotangents[1]}, g.Gradients, compiled)
			for range 2 {
				out := forward.Call(s, x, w)
				if len(out) != 3 {
					t.Fatal(s.Err())
				}
				equal(t, s, "forward", out[:2], want)
				equal(t, s, "backward", backward.Call(s, x, w, out[2], hat, zero), wantGradient)
			}
		}
		if calls != 1 {
			t.Errorf("the function ran %d times", calls)
		}
		return s.Err()
	})
}

// A part lives on without its graph and without arrays that it took from outside.
func TestAPartOutlivesItsGraph(t *testing.T) {
	do(t, func(s *Scope) error {
		x := s.Float32s([]float32{1, 2}, 2)
		var part *Function
		err := s.Child(func(c *Scope) error {
			constant := c.Float32s([]float32{10, 20}, 2)
			g := c.TakeApart(func(s *Scope, in []Array) []Array { return []Array{s.Add(in[0], constant)} }, []Array{x}, nil, nil)
			part = g.Part(s, g.In, g.Out, false)
			g.Free(c)
			g.Free(c)
			if late := g.Part(c, g.In, g.Out, false); late.Call(c, x) != nil || c.Err() == nil {
				t.Error("a part of a graph that was freed")
			}
			return nil
		})
		if err == nil {
			t.Error("no error of a graph that was freed")
		}
		equal(t, s, "part", part.Call(s, x), []Array{s.Float32s([]float32{11, 22}, 2)})
		return s.Err()
	})
}

func TestGraphsRefuse(t *testing.T) {
	double := func(s *Scope, in []Array) []Array { return []Array{s.MulN(in[0], 2)} }
	cases := map[string]struct {
		words string
		f     func(s *Scope, x Array)
	}{
		"no such input":        {"no input 1", func(s *Scope, x Array) { s.TakeApart(double, []Array{x}, []int{1}, []Array{x}) }},
		"gradient of nothing":  {"cotangents", func(s *Scope, x Array) { s.TakeApart(double, []Array{x}, []int{0}, nil) }},
		"too many cotangents":  {"", func(s *Scope, x Array) { s.TakeApart(double, []Array{x}, []int{0}, []Array{x, x}) }},
		"cotangent of another": {"", func(s *Scope, x Array) { s.TakeApart(double, []Array{x}, []int{0}, []Array{s.Zeros(Float32, 7)}) }},
		"function that panics": {"ouch", func(s *Scope, x Array) {
			s.TakeApart(func(*Scope, []Array) []Array { panic("ouch") }, []Array{x}, []int{0}, []Array{x})
		}},
		"function that fails": {"nothing", func(s *Scope, x Array) {
			s.TakeApart(func(s *Scope, _ []Array) []Array { s.Fail(errors.New("nothing")); return nil }, []Array{x}, nil, nil)
		}},
		"array that was freed": {"freed", func(s *Scope, x Array) { s.Free(x); s.TakeApart(double, []Array{x}, nil, nil) }},
		"another shape":        {"another shape", func(s *Scope, x Array) { part(s, double, x).Call(s, s.Zeros(Float32, 3)) }},
		"another type":         {"another shape or type", func(s *Scope, x Array) { part(s, double, x).Call(s, s.AsType(x, Float16)) }},
		"one input too many":   {"2 inputs instead of 1", func(s *Scope, x Array) { part(s, double, x).Call(s, x, x) }},
		"input that is missing": {"not given", func(s *Scope, x Array) {
			g := s.TakeApart(double, []Array{x}, nil, nil)
			defer g.Free(s)
			g.Part(s, nil, g.Out, false)
		}},
		"node that is not": {"", func(s *Scope, x Array) {
			g := s.TakeApart(double, []Array{x}, nil, nil)
			defer g.Free(s)
			g.Part(s, g.In, []int{99}, false)
		}},
		"negative node": {"", func(s *Scope, x Array) {
			g := s.TakeApart(double, []Array{x}, nil, nil)
			defer g.Free(s)
			g.Part(s, []int{-1}, g.Out, false)
		}},
		"input twice": {"twice", func(s *Scope, x Array) {
			g := s.TakeApart(double, []Array{x}, nil, nil)
			defer g.Free(s)
			g.Part(s, []int{0, 0}, g.Out, false)
		}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			before := rt.Live()
			for range 20 {
				err := rt.Do(t.Context(), func(s *Scope) error { c.f(s, ones(s, 2)); return nil })
				if err == nil || !strings.Contains(err.Error(), c.words) {
					t.Fatalf("%v", err)
				}
			}
			if n := rt.Live() - before; n != 0 || len(rt.callbacks) != 0 {
				t.Errorf("%d arrays and %d callbacks are left", n, len(rt.callbacks))
			}
		})
	}
}

func ones(s *Scope, n int) Array { return s.AddN(s.Zeros(Float32, n), 1) }

func part(s *Scope, f Func, x Array) *Function {
	g := s.TakeApart(f, []Array{x}, nil, nil)
	defer g.Free(s)
	return g.Part(s, g.In, g.Out, false)
}
