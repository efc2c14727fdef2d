package mlxbind

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"testing"
)

// leave ends its goroutine where it must not.
func leave(*Scope, []Array) []Array {
	runtime.Goexit()
	return nil
}

// leavings are the places at which runtime.Goexit is called. Most have MLX in
// the middle of a transformation, which nothing will finish.
func leavings() map[string]func(s *Scope, in Array) {
	places := map[string]func(s *Scope, in Array){
		"Do":    func(s *Scope, in Array) { leave(s, nil) },
		"Child": func(s *Scope, in Array) { _ = s.Child(func(s *Scope) error { leave(s, nil); return nil }) },
		"Build": func(s *Scope, in Array) { s.Build(leave, in) },
		"deferred by a function": func(s *Scope, in Array) {
			s.ValueAndGrad(func(s *Scope, in []Array) []Array {
				defer runtime.Goexit()
				return sumOfSquares(s, in)
			}, 0).Call(s, in)
		},
		"deferred by a function that panics": func(s *Scope, in Array) {
			s.ValueAndGrad(func(s *Scope, in []Array) []Array {
				defer runtime.Goexit()
				panic("planted")
			}, 0).Call(s, in)
		},
		"a function that then panics": func(s *Scope, in Array) {
			s.ValueAndGrad(func(s *Scope, in []Array) []Array {
				defer func() { panic("planted") }()
				return leave(s, in)
			}, 0).Call(s, in)
		},
		"a child of a function": func(s *Scope, in Array) {
			s.Compile(func(s *Scope, in []Array) []Array {
				_ = s.Child(func(s *Scope) error { leave(s, nil); return nil })
				return in
			}, false).Call(s, in)
		},
	}
	for a, outer := range transformations {
		places[outer.name] = func(s *Scope, in Array) { nested(leave, []int{a})(s, []Array{in}) }
		for b, inner := range transformations {
			if b != (a+1)%len(transformations) && b != a {
				continue // all pairs take a quarter of a second each
			}
			places[outer.name+" of "+inner.name] = func(s *Scope, in Array) { nested(leave, []int{a, b})(s, []Array{in}) }
		}
	}
	return places
}

const placeVariable = "MLXBIND_TEST_PLACE"

// left is a process in which a function called runtime.Goexit.
func left() error {
	place, ok := leavings()[os.Getenv(placeVariable)]
	if !ok {
		return errors.New("no such place")
	}
	after, deferred := false, false
	err := rt.Do(context.Background(), func(s *Scope) error {
		defer func() { deferred = true }()
		x := s.Float32s([]float32{1, 2, 3}, 3)
		if v, err := s.Item(s.Compile(sumOfSquares, false).Call1(s, x)); v != 14 {
			return fmt.Errorf("it computes %v, %w", v, err)
		}
		place(s, x)
		after = true
		return nil
	})
	if after || !deferred || !errors.Is(err, ErrGoexit) {
		return fmt.Errorf("Do went on: %t, deferred calls ran: %t, its error: %w", after, deferred, err)
	}
	waiting := make(chan error)
	for range 4 {
		go func() { waiting <- rt.Do(context.Background(), func(*Scope) error { return nil }) }()
	}
	for range 4 {
		if err := <-waiting; !errors.Is(err, ErrGoexit) {
			return fmt.Errorf("the next Do: %w", err)
		}
	}
	for range 2 {
		if err := rt.Close(); err != nil && !errors.Is(err, ErrGoexit) {
			return fmt.Errorf("Close: %w", err)
		}
	}
	rt.Live() // does not crash
	o, err := options()
	if err != nil {
		return err
	}
	if _, err := Open(o); !errors.Is(err, ErrGoexit) {
		return fmt.Errorf("Open: %w", err)
	}
	for range 20 { // the process lives on
		runtime.GC()
		runtime.Gosched()
	}
	return nil
}

func TestGoexitIsAnErrorEverywhere(t *testing.T) {
	for _, name := range slices.Sorted(maps.Keys(leavings())) {
		t.Run(name, func(t *testing.T) { subject(t, "goexit", placeVariable+"="+name) })
	}
}
