package diagnose

import (
	"slices"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// figures draws a burst together. The first step pays for compiling and first
// allocations and is left out of the times when there are others.
func figures(b trainer.Burst, shape *trainer.Shape, why string) *Figures {
	f := &Figures{Outcome: b.Result.Outcome, Shape: shape, ShapeWhy: why, Steps: len(b.Summary.Steps), Shapes: len(b.Summary.Shapes),
		TokensPerSecond: b.Summary.Figures.TokensPerSecond, PeakBytes: b.Summary.Figures.PeakBytes, FootprintBytes: b.Summary.Figures.FootprintBytes}
	if r := b.Summary.Ready; r != nil {
		f.LoadSeconds = trainer.Some(r.LoadSeconds)
	}
	steps := b.Summary.Steps
	if len(steps) == 0 {
		return f
	}
	first, last := steps[0], steps[len(steps)-1]
	f.ActiveBytes, f.CacheBytes = last.Memory.Active, last.Memory.Cache
	if first.Loss.Finite() {
		f.FirstLoss = trainer.Some(float64(first.Loss))
	}
	if last.Loss.Finite() {
		f.LastLoss = trainer.Some(float64(last.Loss))
	}
	if len(steps) > 1 {
		steps = steps[1:]
	}
	var data, all float64
	seconds := make([]float64, len(steps))
	for i, s := range steps {
		seconds[i] = s.Seconds + s.DataSeconds
		data += s.DataSeconds
		all += seconds[i]
	}
	slices.Sort(seconds)
	at := func(q float64) float64 { return seconds[int(q*float64(len(seconds)-1)+0.5)] }
	f.StepSeconds = trainer.Some(at(0.5))
	if len(seconds) >= 3 && at(0.5) > 0 {
		f.StepSpread = trainer.Some((at(0.9) - at(0.1)) / at(0.5))
	}
	if all > 0 {
		f.DataShare = trainer.Some(data / all)
	}
	return f
}
