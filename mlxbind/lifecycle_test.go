package mlxbind

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
)

func TestLifecycle(t *testing.T) { subject(t, "lifecycle") }

// lived is a process that opens and closes its Runtime in every order.
func lived() error {
	o, err := options()
	if err != nil {
		return err
	}
	ctx := context.Background()
	if _, err := Open(o); err == nil || !strings.Contains(err.Error(), "already") {
		return fmt.Errorf("a second Open: %w", err)
	}
	var array Array
	var function *Function
	var scope *Scope
	var group *Group
	err = rt.Do(ctx, func(s *Scope) (err error) {
		array, function, scope = s.Scalar(7, Float32), s.Checkpoint(sumOfSquares), s
		if group, err = s.Join("any", false); err != nil {
			return err
		}
		return s.Keep(array)
	})
	if err != nil || rt.Live() != 1 {
		return fmt.Errorf("the first runtime: %d arrays, %w", rt.Live(), err)
	}
	// Everyone who waits for a Runtime that closes gets an answer.
	var all sync.WaitGroup
	answers := make(chan error, 100)
	for i := range 100 {
		all.Go(func() {
			if i == 50 {
				answers <- rt.Close()
			} else if err := rt.Do(ctx, func(s *Scope) error { return s.Eval(s.Scalar(1, Float32)) }); !errors.Is(err, ErrClosed) {
				answers <- err
			}
		})
	}
	all.Wait()
	close(answers)
	for err := range answers {
		if err != nil {
			return fmt.Errorf("while it closes: %w", err)
		}
	}
	old := rt
	if err := errors.Join(old.Close(), old.Close()); err != nil {
		return fmt.Errorf("closed again: %w", err)
	}
	if err := old.Do(ctx, func(*Scope) error { return nil }); !errors.Is(err, ErrClosed) {
		return fmt.Errorf("Do after Close: %w", err)
	}
	if n := old.Live(); n != 0 {
		return fmt.Errorf("%d arrays are left", n)
	}
	if v, err := scope.Item(array); err == nil {
		return fmt.Errorf("a scope of a closed runtime gave %v", v)
	}
	if rt, err = Open(o); err != nil {
		return fmt.Errorf("Open after Close: %w", err)
	}
	err = rt.Do(ctx, func(s *Scope) error {
		first := s.Scalar(1, Float32) // takes the place that array had
		for name, use := range map[string]func(s *Scope){
			"an array": func(s *Scope) { s.Exp(array) }, "a function": func(s *Scope) { function.Call(s, first) },
			"an ended scope": func(s *Scope) { scope.Exp(first); s.Fail(scope.Err()) },
			"a group":        func(s *Scope) { s.AllSum(first, group) },
		} {
			if err := s.Child(func(c *Scope) error { use(c); return nil }); err == nil {
				return errors.New(name + " of the runtime before is of use")
			}
		}
		if err := old.Do(ctx, func(*Scope) error { return nil }); err == nil {
			return errors.New("the runtime before runs")
		}
		v, err := s.Item(s.ValueAndGrad(sumOfSquares, 0).Call(s, first)[1])
		if v != 2 {
			return fmt.Errorf("a gradient of %v, %w", v, err)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("the second runtime: %w", err)
	}
	// A Runtime that failed to open is none.
	for _, bad := range []Options{{}, {Shim: "/none"}, {Shim: o.Shim, BLAS: "/none"}, {Shim: os.Args[0]}} {
		if _, err := Open(bad); err == nil || !strings.Contains(err.Error(), "mlxdyno setup") {
			return fmt.Errorf("open %+v: %w", bad, err)
		}
	}
	return rt.Close()
}

func TestReopening(t *testing.T) { subject(t, "reopening") }

// reopened is a process that opens MLX again and again.
func reopened() error {
	o, err := options()
	if err != nil {
		return err
	}
	for range 50 {
		if err := rt.Close(); err != nil {
			return err
		}
		if rt, err = Open(o); err != nil {
			return err
		}
		err = rt.Do(context.Background(), func(s *Scope) error {
			f := s.Compile(func(s *Scope, in []Array) []Array { return s.ValueAndGrad(sumOfSquares, 0).Call(s, in...) }, false)
			v, err := s.Item(f.Call(s, s.Full(3, Float32, 1))[1])
			if v != 6 {
				return fmt.Errorf("a gradient of %v, %w", v, err)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	if n := runtime.NumGoroutine(); n > 2 {
		return fmt.Errorf("%d goroutines run", n)
	}
	return nil
}
