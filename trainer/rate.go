package trainer

import "math"

// LRSchedule says how the learning rate moves once it is warmed up. What is none
// of these stays, as the zero value does.
type LRSchedule string

const (
	ConstantRate LRSchedule = "constant" // it stays
	CosineRate   LRSchedule = "cosine"   // half a wave down to LREnd
	LinearRate   LRSchedule = "linear"   // a straight line to LREnd
)

// IsZero makes `json:",omitzero"` leave the default out.
func (s LRSchedule) IsZero() bool { return s == ConstantRate }

// Decays reports whether the rate moves to Quality.LREnd.
func (s LRSchedule) Decays() bool { return s == CosineRate || s == LinearRate }

// Updates is the number of optimizer updates of the whole training. Steps at
// its end that do not complete one change nothing.
func (c Config) Updates() int { return c.Schedule.Steps / max(1, c.Plan.Accumulation) }

// DecayUpdates is the number of updates over which the rate moves to LREnd once
// it is warmed up: all that the warm-up leaves.
func (c Config) DecayUpdates() int { return max(1, c.Updates()-c.Quality.Warmup) }

// LearningRate returns the rate of an optimizer update, counted from 0. It is
// what build_schedule of mlx-lm makes of the same values, in float64 where MLX
// computes in float32: a warm-up of n updates goes linearly from 0, the rate of
// update 0, to the full rate, that of update n. What follows begins with update
// n+1, which has the full rate too.
func (c Config) LearningRate(update int) float64 {
	q := c.Quality
	if update <= q.Warmup && q.Warmup > 0 {
		return q.LearningRate * float64(update) / float64(q.Warmup)
	}
	if q.Warmup > 0 {
		update -= q.Warmup + 1
	}
	done := min(1, float64(update)/float64(c.DecayUpdates()))
	switch q.LRSchedule {
	case CosineRate:
		done = (1 - math.Cos(math.Pi*done)) / 2
	case LinearRate:
	default:
		return q.LearningRate
	}
	return (1-done)*q.LearningRate + done*q.LREnd
}
