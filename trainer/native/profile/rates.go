package profile

import (
	"time"

	"github.com/mlxdyno/mlxdyno/mlxbind"
)

// Rates are what a device can do at best: how fast it multiplies large matrices
// and how fast it moves memory.
type Rates struct{ FLOPS, BytesASecond float64 }

// Sizes of the square matrices that rates are measured with.
const (
	leastSide = 512
	mostSide  = 8192
	longTurn  = 50 * time.Millisecond // long enough to be measured well
	turns     = 3
)

// MeasureRates measures them, with matrices of a type that grow until a product
// takes long enough or three of them need room bytes.
func MeasureRates(s *mlxbind.Scope, d mlxbind.DType, room int64) (r Rates, err error) {
	err = s.Child(func(c *mlxbind.Scope) error {
		for side := leastSide; ; side *= 2 {
			took, moved, err := turn(c, d, side)
			if err != nil {
				return err
			}
			n := float64(side)
			r.FLOPS = max(r.FLOPS, 2*n*n*n/took.Seconds())
			r.BytesASecond = max(r.BytesASecond, 3*n*n*float64(d.Size())/moved.Seconds())
			if next := int64(2 * side); took > longTurn || next > mostSide || 3*next*next*int64(d.Size()) > room {
				return nil
			}
		}
	})
	return r, err
}

// turn is the least time of a product and of a sum.
func turn(s *mlxbind.Scope, d mlxbind.DType, side int) (product, sum time.Duration, err error) {
	err = s.Child(func(c *mlxbind.Scope) error {
		key := c.RandomKey(1)
		a, b := c.AsType(c.Uniform(key, -1, 1, mlxbind.Float32, side, side), d), c.AsType(c.Uniform(key, -1, 0, mlxbind.Float32, side, side), d)
		if err := c.Eval(a, b); err != nil {
			return err
		}
		least := func(f func(s *mlxbind.Scope) mlxbind.Array) (time.Duration, error) {
			shortest := time.Hour
			for range turns + 1 { // the first also compiles, or fetches memory
				err := c.Child(func(s *mlxbind.Scope) error {
					began := time.Now()
					err := s.Eval(f(s))
					shortest = min(shortest, time.Since(began))
					return err
				})
				if err != nil {
					return 0, err
				}
			}
			return max(shortest, time.Nanosecond), nil
		}
		if product, err = least(func(s *mlxbind.Scope) mlxbind.Array { return s.MatMul(a, b) }); err != nil {
			return err
		}
		sum, err = least(func(s *mlxbind.Scope) mlxbind.Array { return s.Add(a, b) })
		return err
	})
	return product, sum, err
}
