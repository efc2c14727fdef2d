// Package optim updates parameters as MLX's own optimizers do, operation by
// operation, so that a training agrees with mlx-lm's to the last bit.
package optim

import (
	"fmt"

	"github.com/mlxdyno/mlxdyno/mlxbind"
)

// Optimizer is a rule for one parameter after another.
type Optimizer struct {
	Name  string
	slots []string // names of the arrays that are kept for each parameter
	rule  func(s *mlxbind.Scope, rate, gradient, parameter mlxbind.Array, state []mlxbind.Array) (mlxbind.Array, []mlxbind.Array)
}

// Constants of MLX's Adam, which corrects no bias.
const (
	beta1, beta2 = 0.9, 0.999
	epsilon      = 1e-8
)

// New returns the optimizer of a name: adam, adamw or sgd. weightDecay is
// adamw's.
func New(name string, weightDecay float64) (*Optimizer, error) {
	switch name {
	case "adam":
		return &Optimizer{name, []string{"m", "v"}, adam}, nil
	case "adamw":
		// Loshchilov and Hutter 2019: the parameter decays, not the gradient.
		return &Optimizer{name, []string{"m", "v"}, func(s *mlxbind.Scope, rate, g, p mlxbind.Array, state []mlxbind.Array) (mlxbind.Array, []mlxbind.Array) {
			decay := s.MulN(rate, weightDecay)
			return adam(s, rate, g, s.Mul(p, s.AddN(s.Negative(decay), 1)), state)
		}}, nil
	case "sgd":
		return &Optimizer{name, nil, func(s *mlxbind.Scope, rate, g, p mlxbind.Array, _ []mlxbind.Array) (mlxbind.Array, []mlxbind.Array) {
			return s.Sub(p, s.Mul(rate, g)), nil
		}}, nil
	}
	return nil, fmt.Errorf("there is no optimizer %q here", name)
}

// adam is Kingma and Ba 2015 without its correction of bias.
func adam(s *mlxbind.Scope, rate, g, p mlxbind.Array, state []mlxbind.Array) (mlxbind.Array, []mlxbind.Array) {
	m := s.Add(s.MulN(state[0], beta1), s.MulN(g, 1-beta1))
	v := s.Add(s.MulN(state[1], beta2), s.MulN(s.Square(g), 1-beta2))
	return s.Sub(p, s.Div(s.Mul(rate, m), s.AddN(s.Sqrt(v), epsilon))), []mlxbind.Array{m, v}
}

// Slots is the number of arrays kept for each parameter.
func (o *Optimizer) Slots() int { return len(o.slots) }

// Init returns the state before the first update: the slots of the first
// parameter, then those of the second, and so on.
func (o *Optimizer) Init(s *mlxbind.Scope, parameters []mlxbind.Array) []mlxbind.Array {
	var state []mlxbind.Array
	for _, p := range parameters {
		for range o.slots {
			state = append(state, s.ZerosLike(p))
		}
	}
	return state
}

// Names are those of the state's arrays, as MLX's optimizers have them, for
// parameters of these names.
func (o *Optimizer) Names(parameters []string) []string {
	var names []string
	for _, p := range parameters {
		for _, slot := range o.slots {
			names = append(names, p+"."+slot)
		}
	}
	return names
}

// Update returns parameters and state after one update with gradients in the
// order of the parameters. rate is a float32 scalar.
func (o *Optimizer) Update(s *mlxbind.Scope, rate mlxbind.Array, gradients, parameters, state []mlxbind.Array) (newParameters, newState []mlxbind.Array) {
	n := len(o.slots)
	for i, p := range parameters {
		next, kept := o.rule(s, s.AsType(rate, s.DTypeOf(gradients[i])), gradients[i], p, state[i*n:(i+1)*n])
		newParameters = append(newParameters, next)
		newState = append(newState, kept...)
	}
	return newParameters, newState
}

// Clip scales gradients so that their global norm is at most limit.
func Clip(s *mlxbind.Scope, gradients []mlxbind.Array, limit float64) []mlxbind.Array {
	sum := s.Scalar(0, mlxbind.Float32)
	for _, g := range gradients {
		sum = s.Add(sum, s.SumAll(s.Square(s.AsType(g, mlxbind.Float32))))
	}
	factor := s.MinimumN(s.Div(s.Scalar(limit, mlxbind.Float32), s.AddN(s.Sqrt(sum), 1e-6)), 1)
	out := make([]mlxbind.Array, len(gradients))
	for i, g := range gradients {
		out[i] = s.Mul(g, s.AsType(factor, s.DTypeOf(g)))
	}
	return out
}
