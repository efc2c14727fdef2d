package mlxbind

import (
	"context"
	"errors"
	"sync"
	"testing"
)

// elsewhereDo runs f on a goroutine of its own and waits for it.
func elsewhereDo(f func()) {
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	<-done
}

func TestDoWithinDoIsRefused(t *testing.T) {
	nothing := func(*Scope) error { t.Error("it ran"); return nil }
	do(t, func(s *Scope) error {
		if err := rt.Do(t.Context(), nothing); !errors.Is(err, ErrNested) {
			t.Error(err)
		}
		if err := rt.Close(); !errors.Is(err, ErrNested) {
			t.Error(err)
		}
		s.Checkpoint(func(s *Scope, in []Array) []Array {
			if err := rt.Do(s.Context(), nothing); !errors.Is(err, ErrNested) {
				t.Error(err)
			}
			if err := rt.Close(); !errors.Is(err, ErrNested) {
				t.Error(err)
			}
			return in
		}).Call(s, s.Scalar(1, Float32))
		return nil
	})
	gradientIsRight(t)
}

// What refusals_test.go does not reach: a Function, a Child, a Keep elsewhere.
func TestOtherGoroutinesAreRefused(t *testing.T) {
	live := rt.Live()
	for name, use := range map[string]func(s *Scope, f *Function, a Array){
		"call":     func(s *Scope, f *Function, a Array) { f.Call(s, a) },
		"call one": func(s *Scope, f *Function, a Array) { f.Call1(s, a) },
		"free":     func(s *Scope, f *Function, a Array) { f.Free(s) },
		"make":     func(s *Scope, f *Function, a Array) { s.Compile(sumOfSquares, false) },
		"child": func(s *Scope, f *Function, a Array) {
			s.Fail(s.Child(func(*Scope) error { t.Error("it ran"); return nil }))
		},
		"build": func(s *Scope, f *Function, a Array) {
			s.Build(func(*Scope, []Array) []Array { t.Error("it ran"); return nil })
		},
		"keep":      func(s *Scope, f *Function, a Array) { _ = s.Keep(a) },
		"eval":      func(s *Scope, f *Function, a Array) { _ = s.Eval(a) },
		"read":      func(s *Scope, f *Function, a Array) { _, _ = s.ReadInt32s(a) },
		"normalize": func(s *Scope, f *Function, a Array) { s.RMSNorm(a, Array{}, 1) },
	} {
		err := rt.Do(t.Context(), func(s *Scope) error {
			f, a := s.Checkpoint(sumOfSquares), s.Zeros(Float32, 2)
			elsewhereDo(func() { use(s, f, a) })
			return nil
		})
		if !errors.Is(err, ErrWrongThread) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := rt.Live() - live; n != 0 {
		t.Errorf("%d arrays are left", n)
	}
	gradientIsRight(t)
}

// A Scope that got out of its Do is of no use, also within the next.
func TestAScopeThatGotOut(t *testing.T) {
	var out *Scope
	var array Array
	var function *Function
	do(t, func(s *Scope) error {
		out, array, function = s, s.Zeros(Float32, 2), s.Checkpoint(sumOfSquares)
		return nil
	})
	if v, err := out.ReadFloat32s(array); v != nil || !errors.Is(err, ErrEnded) {
		t.Error(v, err)
	}
	do(t, func(s *Scope) error {
		if a := out.Scalar(1, Float32); !a.IsNone() || !errors.Is(out.Err(), ErrEnded) {
			t.Error(a, out.Err())
		}
		if err := out.Child(func(*Scope) error { t.Error("it ran"); return nil }); !errors.Is(err, ErrEnded) {
			t.Error(err)
		}
		if err := out.Keep(); !errors.Is(err, ErrEnded) {
			t.Error(err)
		}
		out.Free(array)
		err := s.Child(func(c *Scope) error { function.Call(c, c.Scalar(1, Float32)); return nil })
		if !errors.Is(err, ErrFreed) {
			t.Error(err)
		}
		var e *Error
		err = s.Child(func(c *Scope) error { c.Exp(array); return nil })
		if !errors.As(err, &e) || e.Op != "exp" {
			t.Error(err)
		}
		return nil
	})
}

// Keep hands arrays to the Scope around, and nowhere after a failure.
func TestKeep(t *testing.T) {
	for name, c := range map[string]struct {
		f    func(s *Scope, a Array) error
		kept int
	}{
		"well":               {func(s *Scope, a Array) error { return s.Keep(a) }, 1},
		"twice":              {func(s *Scope, a Array) error { return errors.Join(s.Keep(a), s.Keep(a, a)) }, 1},
		"nothing":            {func(s *Scope, a Array) error { return s.Keep() }, 0},
		"and an error":       {func(s *Scope, a Array) error { return errors.Join(s.Keep(a), errPlanted) }, 0},
		"and a sticky error": {func(s *Scope, a Array) error { err := s.Keep(a); s.Fail(errPlanted); return err }, 0},
		"and a panic":        {func(s *Scope, a Array) error { _ = s.Keep(a); panic("planted") }, 0},
	} {
		live := rt.Live()
		var a Array
		err := rt.Do(context.Background(), func(s *Scope) error {
			a = s.Add(s.Scalar(1, Float32), s.Scalar(2, Float32))
			return c.f(s, a)
		})
		if n := rt.Live() - live; n != c.kept {
			t.Errorf("%s: %d arrays are kept, %v", name, n, err)
		}
		if err := rt.Do(context.Background(), func(s *Scope) error {
			if c.kept > 0 {
				if v, err := s.Item(a); v != 3 || err != nil {
					t.Error(v, err)
				}
			}
			s.Fail(errPlanted) // freeing does not mind
			s.Free(a)
			return nil
		}); !errors.Is(err, errPlanted) {
			t.Error(err)
		}
		if n := rt.Live() - live; n != 0 {
			t.Errorf("%s: %d arrays are left", name, n)
		}
	}
	err := rt.Do(t.Context(), func(s *Scope) error {
		a := s.Zeros(Float32, 2)
		return s.Child(func(c *Scope) error { return c.Keep(a) })
	})
	if err == nil {
		t.Error("it kept what is another's")
	}
}

// A Scope that lives long forgets what was freed by hand.
func TestALongScopeStaysSmall(t *testing.T) {
	do(t, func(s *Scope) error {
		for range 20 * compactFrom {
			s.Free(s.Scalar(1, Float32))
		}
		if n := cap(s.arrays); n > 4*compactFrom {
			t.Errorf("room for %d handles", n)
		}
		held := make([]Array, 3*compactFrom)
		for i := range held {
			held[i] = s.Scalar(float64(i), Float32)
		}
		for i, a := range held {
			if i%1000 == 0 {
				if v, err := s.Item(a); v != float64(i) {
					return err
				}
			}
		}
		return s.Err()
	})
}

// Runtime's methods from many goroutines at once; the race detector watches.
func TestManyGoroutines(t *testing.T) {
	live := rt.Live()
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			for i := range 50 {
				ctx, cancel := context.WithCancel(t.Context())
				if i%7 == 0 {
					cancel()
				}
				err := rt.Do(ctx, func(s *Scope) error {
					x := s.Scalar(float64(g), Float32)
					f := s.ValueAndGrad(func(s *Scope, in []Array) []Array {
						if rt.Live() <= live {
							t.Error("nothing lives within a function")
						}
						return sumOfSquares(s, in)
					}, 0)
					if v, err := s.Item(f.Call(s, x)[1]); v != float64(2*g) {
						return err
					}
					return s.Err()
				})
				cancel()
				if (i%7 == 0) != errors.Is(err, context.Canceled) || i%7 != 0 && err != nil {
					t.Error(i, err)
				}
				if rt.Live() < 0 || rt.MLXVersion() == "" || !rt.HasCrossEntropy() {
					t.Error("a runtime does not know itself")
				}
			}
		})
	}
	all.Wait()
	if n := rt.Live() - live; n != 0 {
		t.Errorf("%d arrays are left", n)
	}
}
