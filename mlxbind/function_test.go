package mlxbind

import (
	"errors"
	"fmt"
	"slices"
	"testing"
)

// One of each transformation of the same function gives what the function
// gives, with the gradient that it has.
func TestTransformationsAgree(t *testing.T) {
	f := func(s *Scope, in []Array) []Array {
		return []Array{s.SumAll(s.Mul(s.Tanh(in[0]), in[1]))}
	}
	byHand := func(s *Scope, in, cotangents, out []Array) []Array {
		tanh := s.Tanh(in[0])
		slope := s.AddN(s.Negative(s.Square(tanh)), 1)
		return []Array{s.Mul(cotangents[0], s.Mul(slope, in[1])), s.Mul(cotangents[0], tanh)}
	}
	do(t, func(s *Scope) error {
		x, y := s.Float32s([]float32{0.5, -1, 2}, 3), s.Float32s([]float32{1, 2, -3}, 3)
		plain := s.ValueAndGrad(f, 0, 1).Call(s, x, y)
		if len(plain) != 3 {
			t.Fatal(s.Err())
		}
		for name, transformed := range map[string]*Function{
			"checkpoint": s.Checkpoint(f), "compile": s.Compile(f, false), "shapeless": s.Compile(f, true), "custom vjp": s.CustomVJP(f, byHand, 2, 1),
		} {
			out := s.ValueAndGrad(func(s *Scope, in []Array) []Array { return transformed.Call(s, in...) }, 0, 1).Call(s, x, y)
			outside := s.Compile(func(s *Scope, in []Array) []Array {
				return s.ValueAndGrad(func(s *Scope, in []Array) []Array { return transformed.Call(s, in...) }, 0, 1).Call(s, in...)
			}, false).Call(s, x, y)
			for i := range plain {
				for _, got := range [][]Array{out, outside} {
					if len(got) != 3 {
						t.Fatalf("%s: %d results, %v", name, len(got), s.Err())
					}
					if off, err := s.Item(s.SumAll(s.Abs(s.Sub(got[i], plain[i])))); err != nil || off > 1e-6 {
						t.Errorf("%s: result %d is off by %v, %v", name, i, off, err)
					}
				}
			}
		}
		return s.Err()
	})
}

func TestGradientsComeInTheOrderAskedFor(t *testing.T) {
	f := func(s *Scope, in []Array) []Array { // gradients 3, 5 and 7
		return []Array{s.Add(s.MulN(in[0], 3), s.Add(s.MulN(in[1], 5), s.MulN(in[2], 7))), s.Square(in[0])}
	}
	want := []float64{3, 5, 7}
	do(t, func(s *Scope) error {
		one := s.Scalar(1, Float32)
		for _, asked := range [][]int{{0}, {2}, {0, 1, 2}, {2, 1, 0}, {1, 2, 0}, {-1, 0}, {0, -1}, {-3, -1, -2}} {
			out := s.ValueAndGrad(f, asked...).Call(s, one, one, one)
			if len(out) != 2+len(asked) {
				t.Fatalf("%v: %d results, %v", asked, len(out), s.Err())
			}
			for i, a := range asked {
				if v, err := s.Item(out[2+i]); err != nil || v != want[(a+3)%3] {
					t.Errorf("%v: gradient %d is %v, %v", asked, i, v, err)
				}
			}
			if v, err := s.Item(out[0]); v != 15 || err != nil {
				t.Error(v, err)
			}
		}
		return s.Err()
	})
}

// A gradient of one's own is what MLX uses, right or wrong.
func TestCustomGradientIsUsed(t *testing.T) {
	do(t, func(s *Scope) error {
		forward, backward := 0, 0
		double := s.CustomVJP(func(s *Scope, in []Array) []Array {
			forward++
			return []Array{s.Square(in[0]), s.MulN(in[0], 2)}
		}, func(s *Scope, in, cotangents, out []Array) []Array {
			backward++
			if len(in) != 1 || len(cotangents) != 2 || len(out) != 2 {
				t.Errorf("%d inputs, %d cotangents, %d outputs", len(in), len(cotangents), len(out))
			}
			return []Array{s.Full(42, Float32, 2)}
		}, 1, 2)
		out := s.ValueAndGrad(func(s *Scope, in []Array) []Array {
			r := double.Call(s, in...)
			if len(r) != 2 {
				return nil
			}
			return []Array{s.SumAll(s.Add(r[0], r[1]))}
		}, 0).Call(s, s.Float32s([]float32{1, 2}, 2))
		if len(out) != 2 {
			return s.Err()
		}
		v, _ := s.Item(out[0])
		g, err := s.ReadFloat32s(out[1])
		if v != 11 || !slices.Equal(g, []float32{42, 42}) || forward != 1 || backward != 1 || double.Traces() != 2 {
			t.Errorf("value %v, gradient %v, %d and %d runs, %d traces", v, g, forward, backward, double.Traces())
		}
		return err
	})
}

func TestCompiledFunctionsTraceOncePerShape(t *testing.T) {
	do(t, func(s *Scope) error {
		f := s.Compile(sumOfSquares, false)
		shapeless := s.Compile(func(s *Scope, in []Array) []Array { return []Array{s.Square(in[0])} }, true)
		for range 5 {
			for n := 1; n <= 3; n++ {
				for _, d := range []DType{Float32, Float16} {
					if v, err := s.Item(f.Call1(s, s.Full(2, d, n))); v != float64(4*n) {
						t.Error(v, err)
					}
				}
				if v, err := s.Item(s.SumAll(shapeless.Call1(s, s.Full(2, Float32, n)))); v != float64(4*n) {
					t.Error(v, err)
				}
			}
		}
		if f.Traces() != 6 || shapeless.Traces() != 1 {
			t.Errorf("%d traces of 3 shapes in 2 dtypes, %d without shapes", f.Traces(), shapeless.Traces())
		}
		s.EnableCompile(false)
		g := s.Compile(sumOfSquares, false)
		for range 3 {
			g.Call(s, s.Full(2, Float32, 2))
		}
		s.EnableCompile(true)
		if g.Traces() != 3 {
			t.Errorf("%d runs of 3 though nothing is compiled", g.Traces())
		}
		return s.Err()
	})
}

// A compiled function whose first run failed is as good as new.
func TestCompiledFunctionsRecover(t *testing.T) {
	do(t, func(s *Scope) error {
		fail := true
		f := s.Compile(func(s *Scope, in []Array) []Array {
			if fail {
				s.Fail(errPlanted)
			}
			return []Array{s.MulN(in[0], 3)}
		}, false)
		x := s.Scalar(2, Float32)
		if err := s.Child(func(c *Scope) error { f.Call(c, x); return nil }); !errors.Is(err, errPlanted) {
			t.Error(err)
		}
		fail = false
		for range 2 {
			if v, err := s.Item(f.Call1(s, x)); v != 6 {
				t.Error(v, err)
			}
		}
		return s.Err()
	})
}

// MLX takes a gradient after the Func has returned, and runs the functions that
// it made for it: they must still be there.
func TestFunctionsOfAFuncOutliveIt(t *testing.T) {
	for name, f := range map[string]Func{
		"in the Func": func(s *Scope, in []Array) []Array { return s.Checkpoint(sumOfSquares).Call(s, in...) },
		"in Build": func(s *Scope, in []Array) []Array {
			return s.Build(func(s *Scope, in []Array) []Array { return s.Checkpoint(sumOfSquares).Call(s, in...) }, in...)
		},
		"in a Func in a Func": func(s *Scope, in []Array) []Array {
			return s.Compile(func(s *Scope, in []Array) []Array { return s.Checkpoint(sumOfSquares).Call(s, in...) }, false).Call(s, in...)
		},
	} {
		do(t, func(s *Scope) error {
			out := s.ValueAndGrad(f, 0).Call(s, s.Float32s([]float32{1, 2}, 2))
			if len(out) != 2 {
				t.Fatal(name, s.Err())
			}
			if g, err := s.ReadFloat32s(out[1]); !slices.Equal(g, []float32{2, 4}) {
				t.Error(name, g, err)
			}
			return s.Err()
		})
	}
	if n := len(rt.callbacks); n != 0 {
		t.Errorf("%d callbacks are left", n)
	}
	// What was freed earlier is told.
	err := rt.Do(t.Context(), func(s *Scope) error {
		s.ValueAndGrad(func(s *Scope, in []Array) (out []Array) {
			s.Fail(s.Child(func(c *Scope) error { out = c.Checkpoint(sumOfSquares).Call(s, in...); return nil }))
			return out
		}, 0).Call(s, s.Float32s([]float32{1, 2}, 2))
		return nil
	})
	if !errors.Is(err, ErrFreed) {
		t.Error(err)
	}
	gradientIsRight(t)
}

func TestAFunctionThatRunsIsNotFreed(t *testing.T) {
	live := rt.Live()
	err := rt.Do(t.Context(), func(s *Scope) error {
		var f *Function
		f = s.Compile(func(s *Scope, in []Array) []Array { f.Free(s); return in }, false)
		f.Call(s, s.Scalar(1, Float32))
		return nil
	})
	if !errors.Is(err, errBusy) {
		t.Error(err)
	}
	if n := rt.Live() - live; n != 0 {
		t.Errorf("%d arrays are left", n)
	}
}

// step is one update of the parameters w and b by gradient descent.
func step(s *Scope, f *Function, w, b, x, y Array) (loss, w2, b2 Array) {
	out := f.Call(s, w, b, x, y)
	if len(out) != 3 {
		return Array{}, Array{}, Array{}
	}
	return out[0], s.Sub(w, s.MulN(out[1], 0.01)), s.Sub(b, s.MulN(out[2], 0.01))
}

func squaredError(s *Scope, in []Array) []Array {
	w, b, x, y := in[0], in[1], in[2], in[3]
	return []Array{s.MeanAll(s.Square(s.Sub(s.Add(s.MatMul(x, w), b), y)))}
}

// A thousand steps over shapes that vary leave neither arrays nor bytes.
func TestAThousandStepsAreFlat(t *testing.T) {
	const steps, shapes = 1000, 5
	for _, compiled := range []bool{false, true} {
		t.Run(fmt.Sprintf("compiled %t", compiled), func(t *testing.T) {
			live, active := counters(t)
			do(t, func(s *Scope) error {
				w, b := s.Zeros(Float32, 8, 1), s.Zeros(Float32, 1)
				f := s.ValueAndGrad(squaredError, 0, 1)
				if compiled {
					g := f
					f = s.Compile(func(s *Scope, in []Array) []Array { return g.Call(s, in...) }, false)
				}
				if err := s.Eval(w, b); err != nil {
					return err
				}
				var flatLive int
				var flatActive, flatResident int64
				for i := range steps {
					rows := 4 + i%shapes
					err := s.Child(func(c *Scope) error {
						x := c.Normal(c.RandomKey(uint64(i)), 0, 1, Float32, rows, 8)
						loss, w2, b2 := step(c, f, w, b, x, c.Sum(x, 1, true))
						if err := c.Keep(w2, b2); err != nil {
							return err
						}
						_, err := c.Item(loss)
						s.Free(w, b)
						w, b = w2, b2
						return err
					})
					if err != nil {
						return err
					}
					nowLive, nowActive := rt.Live(), s.Memory().Active
					switch {
					case i == 2*shapes:
						flatLive, flatActive, flatResident = nowLive, nowActive, residentBytes(t)
					case i > 2*shapes && (nowLive != flatLive || nowActive != flatActive):
						t.Fatalf("step %d: %d arrays and %d bytes instead of %d and %d", i, nowLive, nowActive, flatLive, flatActive)
					}
				}
				if grown := residentBytes(t) - flatResident; grown > 4<<20 {
					t.Errorf("resident memory grew by %d bytes", grown)
				}
				if want := shapes; compiled && f.Traces() != want {
					t.Errorf("%d traces of %d shapes", f.Traces(), want)
				}
				final, err := s.ReadFloat32s(w)
				for _, v := range final {
					if v < 0.99 || v > 1.01 { // it has learned to add up
						t.Errorf("weights %v", final)
						break
					}
				}
				return err
			})
			if l, a := counters(t); l != live || a != active {
				t.Errorf("%d arrays and %d bytes are left", l-live, a-active)
			}
		})
	}
}

// Checkpointed blocks need less memory at their peak and give the same
// gradients, to the bit.
func TestCheckpointingLowersThePeak(t *testing.T) {
	const depth, width, rows = 16, 32, 512
	do(t, func(s *Scope) error {
		block := func(s *Scope, in []Array) []Array {
			h := s.MatMul(in[0], in[1])
			for range 6 {
				h = s.Tanh(s.MulN(h, 1.1))
			}
			return []Array{h}
		}
		blocks := s.Checkpoint(block)
		x := s.Normal(s.RandomKey(1), 0, 1, Float32, rows, width)
		weights := s.Normal(s.RandomKey(2), 0, 0.2, Float32, depth, width, width)
		if err := s.Eval(x, weights); err != nil {
			return err
		}
		run := func(apply func(s *Scope, in []Array) []Array) (peak int64, gradient []float32) {
			err := s.Child(func(c *Scope) error {
				f := c.ValueAndGrad(func(s *Scope, in []Array) []Array {
					h := x
					for i := range depth {
						out := apply(s, []Array{h, s.Squeeze(s.Slice(in[0], 0, i, i+1), 0)})
						if len(out) != 1 {
							return nil
						}
						h = out[0]
					}
					return []Array{s.MeanAll(s.Square(h))}
				}, 0)
				out := f.Call(c, weights)
				before := c.Memory().Active
				c.ResetPeak()
				if err := c.Eval(out...); err != nil {
					return err
				}
				peak = c.Memory().Peak - before
				var err error
				gradient, err = c.ReadFloat32s(out[1])
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			return peak, gradient
		}
		kept, want := run(block)
		recomputed, got := run(func(s *Scope, in []Array) []Array { return blocks.Call(s, in...) })
		t.Logf("peak %d bytes, %d with checkpoints", kept, recomputed)
		if recomputed*2 > kept {
			t.Errorf("peak of %d bytes instead of %d", recomputed, kept)
		}
		if len(want) != depth*width*width || !slices.Equal(got, want) {
			t.Error("gradients differ")
		}
		return s.Err()
	})
}
