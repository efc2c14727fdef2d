package tuner

import (
	"math"
	"slices"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/tuner/predict"
)

// What single bursts show.

// samplesOf turns the steps of a burst of shapes into samples: the highest peak
// and the least time of each. What else the machine does only ever adds time,
// so the least is what repeats; how much comes on top is measured later, for
// the winner. A shape none of whose steps was timed still tells its peak.
func samplesOf(b trainer.Burst, p Point) []predict.Sample {
	var out []predict.Sample
	for _, s := range b.Summary.Shapes {
		shape := trainer.Shape{Batch: s.Batch, Width: s.Width}
		sample := predict.Sample{Condition: p.Condition(), Shape: shape, PeakBytes: float64(s.PeakBytes.Or(0)), ActiveBytes: activeAt(b, shape), SpreadBytes: spreadAt(b, shape)}
		if times := timesOf(b, shape); len(times) > 0 {
			sample.Seconds = slices.Min(times)
		}
		out = append(out, sample)
	}
	return out
}

// activeAt is the median of what is there after the steps of one shape; 0 when
// unknown.
func activeAt(b trainer.Burst, shape trainer.Shape) float64 {
	var active []float64
	for _, s := range stepsOf(b, shape) {
		if a, ok := s.Memory.Active.Get(); ok {
			active = append(active, float64(a))
		}
	}
	return predict.Median(active)
}

// spreadAt is how far the highest peak at one shape is above the middle one.
func spreadAt(b trainer.Burst, shape trainer.Shape) float64 {
	peaks := peaksOf(b, shape)
	if len(peaks) == 0 {
		return 0
	}
	return slices.Max(peaks) - predict.Median(peaks)
}

func peaksOf(b trainer.Burst, shape trainer.Shape) []float64 {
	var peaks []float64
	for _, s := range stepsOf(b, shape) {
		if p, ok := s.Memory.Peak.Get(); ok {
			peaks = append(peaks, float64(p))
		}
	}
	return peaks
}

func hintOf(b trainer.Burst) string {
	if f := b.Result.Failure; f != nil && f.Hint != "" {
		return f.Hint
	}
	return "run mlxdyno doctor with the same model and data"
}

// timesOf returns the seconds of the steps of one shape. The first pays for
// tracing and first allocations and is left out when there are others; where
// steps are compiled it pays for that, too, which can take a hundred times as
// long as the step, and never counts.
func timesOf(b trainer.Burst, shape trainer.Shape) []float64 {
	var out []float64
	for _, s := range stepsOf(b, shape) {
		out = append(out, s.Seconds)
	}
	if len(out) > 1 || compiled(b) && len(out) == 1 {
		out = out[1:]
	}
	return out
}

func compiled(b trainer.Burst) bool { return b.Summary.Hello != nil && b.Summary.Hello.Compiled }

// peakOf returns the highest peak at one shape, and how far its steps differ: from
// the middle one, as the first may not have had all that later ones have.
func peakOf(b trainer.Burst, shape trainer.Shape) (highest, jitter int64) {
	peaks := peaksOf(b, shape)
	if len(peaks) == 0 {
		return 0, 0
	}
	highest = int64(slices.Max(peaks))
	if len(peaks) < 3 {
		return highest, highest - int64(slices.Min(peaks))
	}
	return highest, highest - int64(predict.Median(peaks))
}

// traceSeconds is what the first step of a shape took beyond the others: the
// median over shapes of so many rows, and never less than nothing.
func traceSeconds(b trainer.Burst, batch int) float64 {
	var extra []float64
	for _, s := range b.Summary.Shapes {
		if s.Steps > 1 && s.Batch == batch {
			extra = append(extra, stepsOf(b, trainer.Shape{Batch: s.Batch, Width: s.Width})[0].Seconds-s.StepSeconds)
		}
	}
	return max(0, predict.Median(extra))
}

// relativeSpread is a robust standard deviation over the middle; with one value
// it is a guess.
func relativeSpread(v []float64, middle float64) float64 {
	if len(v) < 2 || !(middle > 0) {
		return 0.10
	}
	dev := make([]float64, len(v))
	for i, x := range v {
		dev[i] = math.Abs(x - middle)
	}
	return max(0.02, 1.4826*predict.Median(dev)/middle)
}

// updateSeconds is what a step that ends an update takes longer than one that
// only accumulates: the least that any shape says, as one slow step of the few that end
// an update makes more of it. False when the burst does not tell.
func updateSeconds(b trainer.Burst, accumulation int) (float64, bool) {
	if accumulation < 2 {
		return 0, false
	}
	var extra []float64
	for _, s := range b.Summary.Shapes {
		var ends, others []float64
		for i, step := range stepsOf(b, trainer.Shape{Batch: s.Batch, Width: s.Width}) {
			switch {
			case i == 0: // pays for first allocations
			case step.Number%accumulation == 0:
				ends = append(ends, step.Seconds)
			default:
				others = append(others, step.Seconds)
			}
		}
		if len(ends) > 0 && len(others) > 0 {
			extra = append(extra, predict.Median(ends)-predict.Median(others)) // the least of fewer would be higher
		}
	}
	if len(extra) == 0 {
		return 0, false
	}
	return max(0, slices.Min(extra)), true
}

func stepsOf(b trainer.Burst, shape trainer.Shape) []trainer.StepRecord {
	var out []trainer.StepRecord
	for _, s := range b.Summary.Steps {
		if s.Shape.Batch == shape.Batch && s.Shape.Width == shape.Width {
			out = append(out, s)
		}
	}
	return out
}
