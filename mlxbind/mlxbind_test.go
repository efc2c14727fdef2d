package mlxbind

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/mlxdyno/mlxdyno/mlxbind/install"
)

// rt is the one Runtime that a process can have.
var rt *Runtime

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	o, err := options()
	if err == nil {
		rt, err = Open(o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if name := os.Getenv(subjectVariable); name != "" {
		if err := subjects[name](); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	}
	return m.Run()
}

func options() (Options, error) {
	home, err := install.Home()
	if err != nil {
		return Options{}, err
	}
	env, err := install.Find(home)
	return Options{Shim: env.Shim, BLAS: env.BLASLibrary, CPU: true}, err
}

// do runs f and demands that nothing is left of it.
func do(t *testing.T, f func(s *Scope) error) {
	t.Helper()
	before := rt.Live()
	if err := rt.Do(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	if n := rt.Live() - before; n != 0 {
		t.Errorf("%d arrays are left", n)
	}
}

func TestGradientOfAFormula(t *testing.T) {
	do(t, func(s *Scope) error {
		x := s.Float32s([]float32{1, 2, 3}, 3)
		f := s.ValueAndGrad(func(s *Scope, in []Array) []Array { return []Array{s.SumAll(s.PowN(in[0], 3))} }, 0)
		out := f.Call(s, x)
		if err := s.Err(); err != nil {
			return err
		}
		v, err := s.Item(out[0])
		g, err2 := s.ReadFloat32s(out[1])
		if v != 36 || fmt.Sprint(g) != "[3 12 27]" {
			t.Errorf("%v %v", v, g)
		}
		return errors.Join(err, err2)
	})
}

func TestErrorsAreSticky(t *testing.T) {
	before := rt.Live()
	err := rt.Do(context.Background(), func(s *Scope) error {
		a := s.Zeros(Float32, 2, 3)
		b := s.MatMul(a, a)
		c := s.Add(b, a)
		if !c.IsNone() {
			t.Error("an array of nothing")
		}
		return nil
	})
	var e *Error
	if !errors.As(err, &e) || e.Op != "matmul" {
		t.Error(err)
	}
	if rt.Live() != before {
		t.Error("leak")
	}
}
