package mlxbind_test

import (
	"context"
	"fmt"
	"math/rand/v2"

	"github.com/mlxdyno/mlxdyno/mlxbind"
)

// A network with one hidden layer learns which points lie in a circle. The whole
// step is one compiled function from parameters to parameters; a Scope of its own
// for every step frees what lies between.
func Example() {
	// A program gets its Runtime from Open; see docs/mlxbind.md.
	rt := mlxbind.Opened()

	const points, hidden, steps, rate = 400, 16, 1500, 1.0
	random := rand.New(rand.NewPCG(1, 2))
	at, inside := make([]float32, 0, 2*points), make([]float32, 0, points)
	for range points {
		x, y := 2*random.Float32()-1, 2*random.Float32()-1
		label := float32(0)
		if x*x+y*y < 0.5 {
			label = 1
		}
		at, inside = append(at, x, y), append(inside, label)
	}

	logits := func(s *mlxbind.Scope, p []mlxbind.Array, x mlxbind.Array) mlxbind.Array {
		h := s.Tanh(s.AddMM(p[1], x, p[0]))
		return s.AddMM(p[3], h, p[2])
	}
	// Mean of log(1+eᶻ) - label·z, which is the cross entropy of a sigmoid.
	loss := func(s *mlxbind.Scope, in []mlxbind.Array) []mlxbind.Array {
		z := logits(s, in[:4], in[4])
		softplus := s.Log(s.AddN(s.Exp(z), 1))
		return []mlxbind.Array{s.MeanAll(s.Sub(softplus, s.Mul(in[5], z)))}
	}
	update := func(s *mlxbind.Scope, in []mlxbind.Array) []mlxbind.Array {
		out := s.ValueAndGrad(loss, 0, 1, 2, 3).Call(s, in...)
		if len(out) != 5 { // an error, which s keeps
			return nil
		}
		for i, gradient := range out[1:] {
			out[1+i] = s.Sub(in[i], s.MulN(gradient, rate))
		}
		return out // the loss, then the parameters
	}

	err := rt.Do(context.Background(), func(s *mlxbind.Scope) error {
		x, y := s.Float32s(at, points, 2), s.Float32s(inside, points, 1)
		first, second := s.SplitKey(s.RandomKey(1))
		p := []mlxbind.Array{
			s.Normal(first, 0, 1, mlxbind.Float32, 2, hidden), s.Zeros(mlxbind.Float32, hidden),
			s.Normal(second, 0, 0.3, mlxbind.Float32, hidden, 1), s.Zeros(mlxbind.Float32, 1),
		}
		step := s.Compile(update, false)
		for i := range steps {
			err := s.Child(func(c *mlxbind.Scope) error {
				out := step.Call(c, append(append([]mlxbind.Array{}, p...), x, y)...)
				if c.Err() != nil {
					return c.Err()
				}
				if i == 0 {
					v, err := c.Item(out[0])
					fmt.Printf("loss before: %.1f\n", v)
					if err != nil {
						return err
					}
				}
				if err := c.Keep(out[1:]...); err != nil { // computed, and s is their owner now
					return err
				}
				c.Free(p...)
				p = out[1:]
				return nil
			})
			if err != nil {
				return err
			}
		}
		right := s.Equal(s.GreaterEqualN(logits(s, p, x), 0), s.GreaterEqualN(y, 0.5))
		accuracy, err := s.Item(s.MeanAll(s.AsType(right, mlxbind.Float32)))
		if err != nil {
			return err
		}
		fmt.Println("more than 97 % of the points right:", accuracy > 0.97)
		fmt.Println("traces of the step:", step.Traces())
		return nil
	})
	fmt.Println("error:", err)
	fmt.Println("arrays left:", rt.Live())
	// Output:
	// loss before: 0.7
	// more than 97 % of the points right: true
	// traces of the step: 1
	// error: <nil>
	// arrays left: 0
}
