package mlxbind

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
)

// leave ends its goroutine where it must not.
func leave(*Scope, []Array) []Array {
	runtime.Goexit()
	return nil
}

// leavings are the places at which runtime.Goexit is called. They have MLX in
// the middle of a transformation, which nothing will finish.
func leavings() map[string]func(s *Scope, in Array) {
	places := map[string]func(s *Scope, in Array){
		"Do":    func(s *Scope, in Array) { leave(s, nil) },
		"Child": func(s *Scope, in Array) { _ = s.Child(func(s *Scope) error { leave(s, nil); return nil }) },
		"Build": func(s *Scope, in Array) { s.Build(leave, in) },
		"a deferred function of a function": func(s *Scope, in Array) {
			s.ValueAndGrad(func(s *Scope, in []Array) []Array {
				defer runtime.Goexit()
				return sumOfSquares(s, in)
			}, 0).Call(s, in)
		},
		"a function that panicked": func(s *Scope, in Array) {
			s.ValueAndGrad(func(s *Scope, in []Array) []Array {
				defer runtime.Goexit()
				panic("planted")
			}, 0).Call(s, in)
		},
		"a child within a function": func(s *Scope, in Array) {
			s.Compile(func(s *Scope, in []Array) []Array {
				_ = s.Child(func(s *Scope) error { leave(s, nil); return nil })
				return in
			}, false).Call(s, in)
		},
	}
	for a, outer := range transformations {
		places[outer.name] = func(s *Scope, in Array) { nested(leave, []int{a})(s, []Array{in}) }
		for b, inner := range transformations {
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
	after := false
	err := rt.Do(context.Background(), func(s *Scope) error {
		x := s.Float32s([]float32{1, 2, 3}, 3)
		f := s.Compile(sumOfSquares, false)
		f.Call(s, x)
		_ = s.Eval(x)
		place(s, x)
		after = true
		return nil
	})
	if after || !errors.Is(err, ErrGoexit) {
		return fmt.Errorf("Do went on: %t; its error: %v", after, err)
	}
	waiting := make(chan error)
	for range 4 {
		go func() { waiting <- rt.Do(context.Background(), func(*Scope) error { return nil }) }()
	}
	for range 4 {
		if err := <-waiting; !errors.Is(err, ErrGoexit) {
			return fmt.Errorf("the next Do: %v", err)
		}
	}
	if err := rt.Close(); !errors.Is(err, ErrGoexit) {
		return fmt.Errorf("Close: %v", err)
	}
	_ = rt.Live() // does not crash
	o, err := options()
	if err != nil {
		return err
	}
	if _, err := Open(o); err == nil || !strings.Contains(err.Error(), "Goexit") {
		return fmt.Errorf("Open: %v", err)
	}
	for range 5 { // the process lives on
		runtime.GC()
	}
	return nil
}

func TestGoexitIsAnErrorEverywhere(t *testing.T) {

	for name := range leavings() {
		t.Run(name, func(t *testing.T) { subject(t, "goexit", placeVariable+"="+name) })
	}
}
