package tuner

import (
	"fmt"
	"math"

	"github.com/mlxdyno/mlxdyno/probe/leak"
	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/tuner/predict"
)

const (
	forwardShare  = 0.35 // of a step's time that a validation batch takes
	minPeakError  = 0.02 // stated at least
	minTokenError = 0.05
	p10to90       = 2.56 // standard deviations between those quantiles of a normal distribution
)

// expect makes the promises for the planned training.
func (r *run) expect(d *decision, f *finalist, s steadiness, step float64) trainer.Expected {
	steps := d.config.Schedule.Steps
	median, low, high := r.peaksSeen(f, steps)
	ahead := r.foresee(f, steps)
	if f.inOrder {
		median = r.peakAt(f.Point, trainer.Shape{Batch: f.Batch, Width: ahead.widest}) * f.peakBias
		low, high = median, median
	}
	growth := int64(0)
	if s.leak.State == leak.Leaking {
		n := steps
		if d.config.Schedule.ReloadInterval > 0 {
			n = min(n, d.config.Schedule.ReloadInterval)
		}
		growth = int64(s.leak.BytesAStep * float64(n))
	}
	var e trainer.Expected
	e.PeakBytes = trainer.Some(int64(median) + growth)
	stated := minPeakError
	if f.Accumulation > 1 { // such steps differ: 138.8 and 142.3 MB were seen at one shape
		stated = accumulated
	}
	if f.inOrder && ahead.widest != f.plan.Widest.Width { // which was not run: what was, and the model, say so
		if p, ok := r.model.Peak(f.Condition(), trainer.Shape{Batch: f.Batch, Width: ahead.widest}); ok {
			stated = max(stated, 2*p.Error/p.Value)
		}
	}
	e.PeakError = max(stated, 2*float64(f.jitter)/median) + max(high/median-1, 1-low/median)

	traced := f.trace * f.plan.shapesSeen(steps)
	work := step*float64(steps) + traced
	tokens := float64(f.plan.Tokens) / float64(f.plan.Batches) * float64(steps)
	if f.inOrder {
		e, _ := r.model.Seconds(f.Condition(), float64(f.Batch*(ahead.widest-1)), ahead.work...)
		work, tokens = e.Value*f.ratio+traced, float64(ahead.tokens)
	}
	e.TokensPerSecond = trainer.Some(tokens / work)
	e.StepSeconds = trainer.Some(work / float64(steps))
	sampling := f.plan.samplingError(steps, func(steps ...predict.Work) float64 {
		t, _ := r.model.Seconds(f.Condition(), float64(f.plan.Widest.Positions()), steps...)
		return t.Value
	})
	if f.inOrder {
		sampling = 0
	}
	// What makes single steps differ on a busy machine comes and goes slowly: it
	// does not average out, so the spread of steps counts whole.
	steady := math.Hypot(s.spread/p10to90, f.drift/2)
	e.TokensError = max(minTokenError, min(1, 1.96*math.Hypot(math.Hypot(f.spread, steady), sampling)))
	total := r.load + work
	batches, known := r.validation(d.config)
	note := "validation not included"
	switch {
	case known && batches == 0:
		note = "no validation"
	case known:
		total += float64(batches) * forwardShare * step
		note = "validation estimated"
	}
	if n := d.config.Schedule.ReloadInterval; n > 0 {
		total += float64((steps-1)/n) * r.load
	}
	e.TotalSeconds = trainer.Some(total)
	if s.leak.State != leak.Inconclusive {
		e.LeakBytesAStep = trainer.Some(s.leak.BytesAStep)
	}
	e.Basis = fmt.Sprintf("%d bursts: %d shapes to fit by, a confirmation on shapes of the data's own batches and at the widest of them, %d steps on one shape; %s",
		r.bursts.good(), len(r.samples), s.steps, note)
	switch {
	case f.inOrder:
		e.Basis += fmt.Sprintf("; the %d batches that seed %d draws are known, and the rehearsal met them", steps, d.config.Seed)
	case f.plan.Batches > steps:
		e.Basis += fmt.Sprintf("; the training sees %d of %d batches, so its widest is known only in probability", steps, f.plan.Batches)
	}
	return e
}

// validation is how many batches the training validates on, in all: before the
// first step, every EvalEvery steps, and after the last. It is unknown when each
// time takes the whole of a split of unknown size.
func (r *run) validation(c trainer.Config) (batches int, known bool) {
	s := c.Schedule
	if r.Tokens.Valid == "" || s.ValBatches == 0 {
		return 0, true
	}
	times := 1 + (s.Steps+s.EvalEvery-1)/s.EvalEvery
	if r.ValidRows == 0 {
		return times * max(s.ValBatches, 0), s.ValBatches > 0
	}
	whole := r.ValidRows / min(c.Plan.Batch, r.ValidRows)
	if s.ValBatches < 0 {
		return times * whole, true
	}
	return times * min(s.ValBatches, whole), true
}

// peaksSeen is the peak at the widest batch that a training of so many steps
// meets: its median and the ends of its 96 % range.
func (r *run) peaksSeen(f *finalist, steps int) (median, low, high float64) {
	at := func(q float64) float64 { return r.peakAt(f.Point, f.plan.widestSeen(steps, q)) * f.peakBias }
	return at(0.5), at(0.02), at(0.98)
}

// shapesSeen is the expected number of distinct shapes among so many batches.
func (e *epoch) shapesSeen(steps int) float64 {
	var sum float64
	for _, s := range e.shapes() {
		share := float64(s.Steps) / float64(e.Batches)
		sum += 1 - math.Pow(1-share, float64(steps))
	}
	return sum
}

// samplingError is the relative standard error of tokens a second over so many
// batches of the epoch, drawn without replacement.
func (e *epoch) samplingError(steps int, seconds func(...predict.Work) float64) float64 {
	n := float64(e.Batches)
	if float64(steps) >= n {
		return 0 // the rest of a further epoch is ignored
	}
	mean := seconds(e.Work...) / n
	rate := float64(e.Tokens) / n
	var sum float64
	for i, b := range e.batches {
		d := seconds(e.work[i])/mean - float64(b.Tokens)/rate
		sum += d * d
	}
	return math.Sqrt(sum / n / float64(steps) * (1 - float64(steps)/n))
}
