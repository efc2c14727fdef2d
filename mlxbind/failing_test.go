package mlxbind

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
)

var errPlanted = errors.New("planted")

// planted are the ways in which a Func can fail, and what its caller must see.
// A function that comes back has not failed yet: cancelling shows later.
var planted = []struct {
	name string
	fail func(s *Scope, in []Array, cancel func()) []Array
	want func(error) bool
}{
	{"shapes do not fit", func(s *Scope, in []Array, _ func()) []Array {
		return []Array{s.SumAll(s.MatMul(in[0], s.Zeros(Float32, 5, 7)))}
	}, isRefused("matmul")},
	{"no such axis", func(s *Scope, in []Array, _ func()) []Array {
		return []Array{s.Sum(in[0], 9, false)}
	}, isRefused("sum")},
	{"an array is missing", func(s *Scope, in []Array, _ func()) []Array {
		return []Array{s.Exp(Array{})}
	}, isRefused("exp")},
	{"a result is missing", func(*Scope, []Array, func()) []Array { return []Array{{}} }, isRefused("")},
	{"a result is freed", func(s *Scope, in []Array, _ func()) []Array {
		a := s.Exp(in[0])
		s.Free(a)
		return []Array{a}
	}, isRefused("")},
	{"no results", func(*Scope, []Array, func()) []Array { return nil }, isNothing},
	{"its own error", func(s *Scope, in []Array, _ func()) []Array { s.Fail(errPlanted); return in }, is(errPlanted)},
	{"panics with words", func(*Scope, []Array, func()) []Array { panic("planted") }, isPanic},
	{"panics with an error", func(*Scope, []Array, func()) []Array { panic(errPlanted) }, func(err error) bool { return isPanic(err) && errors.Is(err, errPlanted) }},
	{"panics with nil", func(*Scope, []Array, func()) []Array { panic(nil) }, isPanic},
	{"runs off a slice", func(s *Scope, in []Array, _ func()) []Array { return []Array{in[len(in)+3]} }, isRuntime},
	{"follows a nil pointer", func(*Scope, []Array, func()) []Array { var s *Scope; return []Array{s.Exp(Array{})} }, isRuntime},
	{"writes to a nil map", func(_ *Scope, in []Array, _ func()) []Array { var m map[Array]int; m[in[0]] = 1; return in }, isRuntime}, //nolint:staticcheck // it is the case
	{"panics in a child", func(s *Scope, in []Array, _ func()) []Array {
		s.Fail(s.Child(func(*Scope) error { panic("planted") }))
		return in
	}, isPanic},
	{"panics in what it builds", func(s *Scope, in []Array, _ func()) []Array {
		return s.Build(func(s *Scope, _ []Array) []Array { s.Exp(in[0]); panic("planted") }, in...)
	}, isPanic},
	{"cancelled", func(s *Scope, in []Array, cancel func()) []Array {
		cancel()
		s.Exp(in[0])
		_ = s.Eval(s.Zeros(Float32, 3))
		return in
	}, is(context.Canceled)},
	{"cancelled before it calls another", func(s *Scope, in []Array, cancel func()) []Array {
		f := s.Checkpoint(sumOfSquares)
		cancel()
		return f.Call(s, in...)
	}, is(context.Canceled)},
}

// A custom gradient counts its results before MLX could miss them.
func isNothing(err error) bool {
	return errors.Is(err, errNothing) || err != nil && strings.HasPrefix(err.Error(), "custom gradient: 0 ")
}

// isRefused by MLX, in that operation unless it is empty.
func isRefused(op string) func(error) bool {
	return func(err error) bool {
		var e *Error
		return errors.As(err, &e) && (op == "" || e.Op == op) && e.Text != ""
	}
}

func is(target error) func(error) bool { return func(err error) bool { return errors.Is(err, target) } }

func isPanic(err error) bool {
	var p *PanicError
	return errors.As(err, &p) && len(p.Stack) > 0
}

func isRuntime(err error) bool {
	var r runtime.Error
	return isPanic(err) && errors.As(err, &r)
}

func sumOfSquares(s *Scope, in []Array) []Array { return []Array{s.SumAll(s.Square(in[0]))} }

// transformations make a Function of f, in every way that there is. The last
// fails in the gradient, where there are three arrays for one input.
var transformations = []struct {
	name string
	make func(s *Scope, f Func) *Function
}{
	{"value and grad", func(s *Scope, f Func) *Function { return s.ValueAndGrad(f, 0) }},
	{"compile", func(s *Scope, f Func) *Function { return s.Compile(f, false) }},
	{"compile without shapes", func(s *Scope, f Func) *Function { return s.Compile(f, true) }},
	{"checkpoint", func(s *Scope, f Func) *Function { return s.Checkpoint(f) }},
	{"custom vjp", func(s *Scope, f Func) *Function {
		return s.CustomVJP(f, func(_ *Scope, in, _, _ []Array) []Array { return in }, 1, 1)
	}},
	{"gradient of custom vjp", func(s *Scope, f Func) *Function {
		g := s.CustomVJP(sumOfSquares, func(s *Scope, in, _, _ []Array) []Array { return f(s, in) }, 1, 1)
		return s.ValueAndGrad(func(s *Scope, in []Array) []Array { return g.Call(s, in...) }, 0)
	}},
	{"gradient of checkpoint", func(s *Scope, f Func) *Function {
		calls := 0
		g := s.Checkpoint(func(s *Scope, in []Array) []Array {
			if calls++; calls == 1 {
				return sumOfSquares(s, in)
			}
			return f(s, in)
		})
		return s.ValueAndGrad(func(s *Scope, in []Array) []Array { return g.Call(s, in...) }, 0)
	}},
}

// nested wraps f in transformations, the first of them outermost.
func nested(f Func, kinds []int) Func {
	for i := len(kinds) - 1; i >= 0; i-- {
		inner, k := f, kinds[i]
		f = func(s *Scope, in []Array) []Array { return transformations[k].make(s, inner).Call(s, in...) }
	}
	return f
}

// fail makes one failing call and says what is wrong with its error.
func fail(parent context.Context, i int, kinds []int) error {
	p := planted[i]
	ctx, cancel := context.WithCancel(parent)
	defer cancel()
	reached := false
	err := rt.Do(ctx, func(s *Scope) error {
		x := s.Float32s([]float32{1, 2, 3}, 3)
		f := nested(func(s *Scope, in []Array) []Array {
			reached = true
			s.Tanh(in[0])
			return p.fail(s, in, cancel)
		}, kinds)
		f(s, []Array{x})
		return nil
	})
	if !reached || !p.want(err) {
		words := fmt.Sprintf("%q within", p.name)
		for _, k := range kinds {
			words += " " + transformations[k].name + ","
		}
		return fmt.Errorf("%s reached %t: %w", words, reached, err)
	}
	return nil
}

// counters are the arrays and bytes that are alive.
func counters(t *testing.T) (live int, active int64) {
	t.Helper()
	err := rt.Do(t.Context(), func(s *Scope) error {
		active = s.Memory().Active
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return rt.Live(), active
}

// gradientIsRight fails when MLX no longer computes what it did.
func gradientIsRight(t *testing.T) {
	t.Helper()
	do(t, func(s *Scope) error {
		f := s.ValueAndGrad(nested(sumOfSquares, []int{1, 3}), 0)
		out := f.Call(s, s.Float32s([]float32{1, 2, 3}, 3))
		if err := s.Err(); err != nil {
			return err
		}
		v, err := s.Item(out[0])
		g, err2 := s.ReadFloat32s(out[1])
		if v != 14 || fmt.Sprint(g) != "[2 4 6]" {
			t.Errorf("value %v and gradient %v of a sum of squares", v, g)
		}
		return errors.Join(err, err2)
	})
}

func TestEveryFailureAtEveryNesting(t *testing.T) {
	live, active := counters(t)
	for i := range planted {
		for a := range transformations {
			if err := fail(t.Context(), i, []int{a}); err != nil {
				t.Error(err)
			}
			for b := range transformations {
				if err := fail(t.Context(), i, []int{a, b}); err != nil {
					t.Error(err)
				}
			}
		}
		if err := fail(t.Context(), i, nil); err != nil && !strings.Contains(planted[i].name, "result") { // Do wants none
			t.Error(err)
		}
	}
	if l, a := counters(t); l != live || a != active {
		t.Errorf("%d arrays and %d bytes are left", l-live, a-active)
	}
	gradientIsRight(t)
}

func TestTenThousandFailingCallsLeaveNothing(t *testing.T) {
	const calls, warm = 10_000, 2_000
	random := rand.New(rand.NewPCG(1, 2))
	live, active := counters(t)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	var resident int64
	for i := range calls {
		if i == warm {
			resident = residentBytes(t)
		}
		if i%50 == 0 { // cancelled before
			if err := rt.Do(cancelled, func(*Scope) error { t.Error("it ran"); return nil }); !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			continue
		}
		kinds := make([]int, 1+random.IntN(3))
		for j := range kinds {
			kinds[j] = random.IntN(len(transformations))
		}
		if err := fail(t.Context(), random.IntN(len(planted)), kinds); err != nil {
			t.Fatalf("call %d: %v", i, err)
		}
	}
	if l, a := counters(t); l != live || a != active {
		t.Errorf("%d arrays and %d bytes are left", l-live, a-active)
	}
	grown := residentBytes(t) - resident
	t.Logf("resident memory grew by %d bytes in %d calls", grown, calls-warm)
	if grown > 2<<20 {
		t.Errorf("resident memory grew by %d bytes in %d calls", grown, calls-warm)
	}
	gradientIsRight(t)
	if n := len(rt.callbacks); n != 0 {
		t.Errorf("%d callbacks are left", n)
	}
}
