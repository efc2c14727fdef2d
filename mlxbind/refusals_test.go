package mlxbind

import (
	"context"
	"errors"
	"maps"
	"strings"
	"testing"
)

// refusal is how one function of the shim is made to fail.
type refusal struct {
	// with calls it on an array of 2 × 3 numbers, properly; nil when it takes none.
	with func(s *Scope, a Array)
	// without calls it properly when it takes no array.
	without func(s *Scope)
	// wrong calls are such that MLX or this package must refuse.
	wrong []func(s *Scope)
	// harmless tells of functions that answer for an array that was freed.
	harmless bool
}

// ofOne, ofTwo and so on make the refusals of functions that are alike.
func ofOne(f func(s *Scope, a Array) Array) refusal {
	return refusal{with: func(s *Scope, a Array) { f(s, a) }}
}

func ofTwo(f func(s *Scope, a, b Array) Array) refusal {
	return refusal{
		with: func(s *Scope, a Array) { f(s, a, a) },
		wrong: []func(*Scope){
			func(s *Scope) { f(s, s.Zeros(Float32, 2, 3), s.Zeros(Float32, 4, 5)) },
			func(s *Scope) { f(s, s.Zeros(Float32, 2, 3), Array{}) },
			func(s *Scope) { f(s, Array{}, s.Zeros(Float32, 2, 3)) },
		},
	}
}

func numbered(f func(s *Scope, a Array, v float64) Array) refusal {
	return ofOne(func(s *Scope, a Array) Array { return f(s, a, 2) })
}

func alongAxis(f func(s *Scope, a Array, axis int) Array) refusal {
	return refusal{
		with: func(s *Scope, a Array) { f(s, a, 1) },
		wrong: []func(*Scope){
			func(s *Scope) { f(s, s.Zeros(Float32, 2, 3), 5) },
			func(s *Scope) { f(s, s.Zeros(Float32, 2, 3), -5) },
			func(s *Scope) { f(s, s.Zeros(Float32, 2, 3), 1<<32) },
		},
	}
}

func reduced(f func(s *Scope, a Array, axis int, keepDims bool) Array) refusal {
	return alongAxis(func(s *Scope, a Array, axis int) Array { return f(s, a, axis, false) })
}

func bare(f func(s *Scope)) refusal { return refusal{without: f} }

func transformed(f func(s *Scope) *Function) refusal {
	return refusal{
		with: func(s *Scope, a Array) { f(s).Call(s, a) },
		wrong: []func(*Scope){
			func(s *Scope) { f(s).Call(s, Array{}) },
			func(s *Scope) { g := f(s); g.Free(s); g.Call(s, s.Zeros(Float32, 3)) },
		},
	}
}

// always are functions that cannot fail: any thread may call them, and they take nothing.
var always = []function{fnABI, fnBuiltFor, fnMLXVersion, fnIsOwner, fnLive}

func TestEveryFunctionRefusesWithWords(t *testing.T) {
	all := arrayRefusals()
	maps.Copy(all, runtimeRefusals(t))
	for _, f := range always {
		all[f] = refusal{}
	}
	for f := range functions {
		r, ok := all[f]
		if !ok {
			t.Errorf("nothing makes %s fail: give it a refusal", f)
			continue
		}
		t.Run(f.String(), func(t *testing.T) { refuses(t, r) })
	}
}

// refuses makes each call fail, and demands words, nothing left and a runtime
// that goes on.
func refuses(t *testing.T, r refusal) {
	live, active := counters(t)
	call := r.without
	if r.with != nil {
		call = func(s *Scope) { r.with(s, s.Float32s(narrowed(xs), 2, 3)) }
		for name, spoil := range map[string]func(s *Scope) Array{
			"an array is missing": func(*Scope) Array { return Array{} },
			"an array is used after it was freed": func(s *Scope) Array {
				a := s.Float32s(narrowed(xs), 2, 3)
				s.Free(a)
				return a
			},
		} {
			err := rt.Do(t.Context(), func(s *Scope) error { r.with(s, spoil(s)); return nil })
			var e *Error
			if r.harmless {
				if err != nil {
					t.Error(err)
				}
			} else if !errors.As(err, &e) || e.Text != name || e.Op == "" {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if call != nil {
		outcome(t, "properly", call, nil)
		outcome(t, "after the end", func(s *Scope) {
			var ended *Scope
			if err := s.Child(func(c *Scope) error { ended = c; return nil }); err != nil {
				t.Error(err)
			}
			call(ended)
			s.Fail(ended.Err())
		}, ErrEnded)
		outcome(t, "on another thread", func(s *Scope) {
			var a Array
			if r.with != nil {
				a = s.Zeros(Float32, 2, 3)
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				if r.with != nil {
					r.with(s, a)
				} else {
					call(s)
				}
			}()
			<-done
		}, ErrWrongThread)
	}
	for i, wrong := range r.wrong {
		err := rt.Do(t.Context(), func(s *Scope) error { wrong(s); return nil })
		if err == nil || strings.TrimSpace(err.Error()) == "" || strings.HasSuffix(err.Error(), ": ") {
			t.Errorf("wrong call %d: %v", i, err)
		} else if testing.Verbose() {
			t.Log(err)
		}
	}
	if l, a := counters(t); l != live || a != active {
		t.Errorf("%d arrays and %d bytes are left", l-live, a-active)
	}
	gradientIsRight(t)
}

func outcome(t *testing.T, name string, call func(*Scope), want error) {
	t.Helper()
	if err := rt.Do(context.Background(), func(s *Scope) error { call(s); return nil }); !errors.Is(err, want) {
		t.Errorf("%s: %v instead of %v", name, err, want)
	}
}
