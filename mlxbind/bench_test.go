package mlxbind

import "testing"

// within runs f in a Scope on MLX's thread.
func within(b *testing.B, f func(s *Scope)) {
	b.Helper()
	if err := rt.Do(b.Context(), func(s *Scope) error { f(s); return nil }); err != nil {
		b.Fatal(err)
	}
}

// One crossing of the border to C++ and back.
func BenchmarkCrossing(b *testing.B) {
	for b.Loop() {
		rt.Live()
	}
}

func BenchmarkDo(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		within(b, func(*Scope) {})
	}
}

func BenchmarkChild(b *testing.B) {
	b.ReportAllocs()
	within(b, func(s *Scope) {
		for b.Loop() {
			_ = s.Child(func(*Scope) error { return nil })
		}
	})
}

// An operation that is not computed, and its freeing.
func BenchmarkAddAndFree(b *testing.B) {
	b.ReportAllocs()
	within(b, func(s *Scope) {
		x := s.Zeros(Float32, 4)
		for b.Loop() {
			s.Free(s.Add(x, x))
		}
	})
}

// A formula of 100 operations in a Scope of its own.
func BenchmarkHundredOperations(b *testing.B) {
	b.ReportAllocs()
	within(b, func(s *Scope) {
		x := s.Zeros(Float32, 4)
		for b.Loop() {
			_ = s.Child(func(c *Scope) error {
				y := x
				for range 100 {
					y = c.Add(y, x)
				}
				return nil
			})
		}
	})
}

func BenchmarkInfo(b *testing.B) {
	b.ReportAllocs()
	within(b, func(s *Scope) {
		x := s.Zeros(Float32, 4, 2)
		for b.Loop() {
			s.Info(x)
		}
	})
}

// A call of Go from C++: MLX hands a Func one array, and gets it back.
func BenchmarkCallback(b *testing.B) {
	b.ReportAllocs()
	within(b, func(s *Scope) {
		x := s.Zeros(Float32, 4)
		f := s.CustomVJP(func(_ *Scope, in []Array) []Array { return in }, nil, 1, 1)
		for b.Loop() {
			s.Free(f.Call(s, x)...)
		}
	})
}

// A compiled function that was traced: no Go is called.
func BenchmarkCompiledCall(b *testing.B) {
	b.ReportAllocs()
	within(b, func(s *Scope) {
		x := s.Zeros(Float32, 4)
		f := s.Compile(func(s *Scope, in []Array) []Array { return []Array{s.Square(in[0])} }, false)
		for b.Loop() {
			s.Free(f.Call(s, x)...)
		}
	})
}

func BenchmarkEval(b *testing.B) {
	b.ReportAllocs()
	within(b, func(s *Scope) {
		x := s.Zeros(Float32, 4)
		for b.Loop() {
			y := s.Add(x, x)
			_ = s.Eval(y)
			s.Free(y)
		}
	})
}

// An update of a parameter by gradient descent, computed: what a step of a
// trainer costs when its arithmetic costs nothing.
func BenchmarkStep(b *testing.B) {
	b.ReportAllocs()
	within(b, func(s *Scope) {
		x, y, w, bias := s.Zeros(Float32, 4, 8), s.Zeros(Float32, 4, 1), s.Zeros(Float32, 8, 1), s.Zeros(Float32, 1)
		f := s.ValueAndGrad(squaredError, 0, 1)
		for b.Loop() {
			s.Fail(s.Child(func(c *Scope) error {
				_, w2, b2 := step(c, f, w, bias, x, y)
				if err := c.Keep(w2, b2); err != nil {
					return err
				}
				c.Free(w, bias)
				w, bias = w2, b2
				return nil
			}))
		}
	})
}

func BenchmarkReadMegabyte(b *testing.B) {
	b.SetBytes(1 << 20)
	within(b, func(s *Scope) {
		x := s.Zeros(Float32, 1<<18)
		for b.Loop() {
			_, _ = s.ReadFloat32s(x)
		}
	})
}
