package optim

import (
	"math"

	"github.com/mlxdyno/mlxdyno/mlxbind"
)

// Shape of a schedule after its warm-up.
type Shape string

// Shapes.
const (
	Constant Shape = "constant"
	Cosine   Shape = "cosine"
	Linear   Shape = "linear"
)

// Schedule is the learning rate of every update. It rises from 0 over Warmup
// updates, then moves from Rate to End over Updates more; Constant stays. It is
// computed with MLX's float32, so that rates are those of mlx-lm's lr_schedule.
type Schedule struct {
	Shape   Shape
	Rate    float64
	End     float64
	Warmup  int
	Updates int
}

// At returns the rate of an update, counted from 0, as a float32 scalar.
//
// mlx-lm joins the parts at Warmup + 1: the last update of the warm-up has the
// full rate, and the part after it starts over with that.
func (o Schedule) At(s *mlxbind.Scope, update int) mlxbind.Array {
	if o.Warmup > 0 && update < o.Warmup+1 {
		return line(s, 0, o.Rate, o.Warmup, update)
	}
	if o.Warmup > 0 {
		update -= o.Warmup + 1
	}
	switch o.Shape {
	case Cosine:
		wave := s.Cos(s.MulN(s.Scalar(float64(min(update, o.Updates)), mlxbind.Float32), math.Pi/float64(o.Updates)))
		decay := s.MulN(s.AddN(wave, 1), 0.5)
		return s.AddN(s.MulN(decay, o.Rate-o.End), o.End)
	case Linear:
		return line(s, o.Rate, o.End, o.Updates, update)
	}
	return s.Scalar(o.Rate, mlxbind.Float32)
}

// line goes from one value to another over so many updates.
func line(s *mlxbind.Scope, from, to float64, updates, update int) mlxbind.Array {
	at := s.Scalar(float64(min(update, updates)), mlxbind.Float32)
	return s.AddN(s.MulN(at, (to-from)/float64(updates)), from)
}
