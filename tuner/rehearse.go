package tuner

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/tuner/predict"
)

const (
	minRehearsal = 6    // steps; fewer say too little about a training
	maxRehearsal = 64   // steps
	overdraft    = 0.15 // of the budget that it may take beyond the end: no other burst is as close to the training
)

// rehearse runs the first steps of the very training: its own batches, in its
// own order. What the confirmation said of them is held against it, and both
// together make the promise.
func (r *run) rehearse(ctx context.Context, f *finalist) error {
	step := f.EpochSeconds / float64(f.plan.Batches)
	left := max((r.bursts.left() - r.loadTime()).Seconds(), overdraft*r.Wishes.Budget.Seconds())
	steps := min(int(left/step), maxRehearsal, f.config.Schedule.Steps*r.Base.Config.Plan.Batch/f.Batch)
	if steps < minRehearsal {
		r.report.NotTried = append(r.report.NotTried, NotTried{What: "a rehearsal of the training's first steps",
			Why: fmt.Sprintf("the time left is enough for %d steps, fewer than the %d that would tell; give the study more with --budget", max(steps, 0), minRehearsal)})
		return nil
	}
	steps -= steps % f.Accumulation
	job := trainer.Job{Config: f.config, UntilStep: max(steps, f.Accumulation), Budget: time.Duration(2 * math.Max(left, 2) * float64(time.Second))}
	burst, err := r.bursts.run(ctx, "rehearse", fmt.Sprintf("rehearse %d steps of the training itself", steps), f.Point, job)
	if errors.Is(err, errSpent) {
		r.report.NotTried = append(r.report.NotTried, NotTried{What: "a rehearsal of the training's first steps", Why: "the budget was spent; give the study more with --budget"})
		return nil
	}
	if err != nil {
		return err
	}
	r.observe(burst)
	if !burst.Result.Outcome.Good() {
		r.report.Gates = append(r.report.Gates, Gate{Name: gateRehearsal, Observed: trainer.Some(1.0), Unit: "failures", Text: "the training's own first steps: " + burst.Problem()})
		return nil
	}
	f.inOrder = true
	expected := r.drawn(f, len(burst.Summary.Steps))
	var measured, predicted, pure, waiting float64
	var tokens, peak int64
	var widest trainer.Shape
	for i, s := range burst.Summary.Steps {
		if shape := s.Shape.Even(); shape.Width > widest.Width {
			widest = shape
		}
		f.inOrder = f.inOrder && s.Shape.Width == expected[i].Shape.Width && s.Tokens == expected[i].Tokens
		peak = max(peak, s.Memory.Peak.Or(0))
		if i == 0 { // as in every figure of a training
			continue
		}
		e, ok := r.model.Seconds(f.Condition(), float64(s.Shape.Positions()), predict.WorkOf(s.Shape))
		if !ok {
			continue
		}
		predicted += e.Value
		pure += s.Seconds
		waiting += s.DataSeconds
		tokens += s.Tokens
	}
	measured = pure + waiting
	if !(predicted > 0) || !(measured > 0) {
		return nil
	}
	told := predicted*f.ratio + f.trace*float64(distinct(burst)-1)
	check := Check{What: "rehearsal", Candidate: f.Point, HeldOut: true,
		PredictedTokensPerSecond: trainer.Some(float64(tokens) / told), MeasuredTokensPerSecond: trainer.Some(float64(tokens) / measured),
		TokensError: trainer.Some(measured/told - 1)}
	if p := r.peakAt(f.Point, widest) * f.peakBias; p > 0 && peak > 0 {
		check.PredictedPeakBytes, check.MeasuredPeakBytes = trainer.Some(int64(p)), trainer.Some(peak)
		check.PeakError = trainer.Some(p/float64(peak) - 1)
	}
	r.report.Checks = append(r.report.Checks, check)

	// Both are measurements of the same ratio: the one on synthetic shapes
	// covers the epoch evenly, this one has real rows and their data time. The first
	// counts for nothing where its steps had another cache.
	here := max(measured-f.trace*float64(distinct(burst)-1), pure/2) / predicted
	f.data = waiting / pure
	there := f.ratio * (1 + f.data)
	weight := measured / (measured + f.covered)
	ratio := weight*here + (1-weight)*there
	if f.recached {
		ratio, f.recached = here, false
		f.least *= ratio / f.ratio // what the machine adds to it is as it was
		f.spread = math.Max(f.spread, betweenProcesses)
	} else {
		f.spread = math.Max(f.spread, math.Abs(math.Log(here/there))/2)
	}
	f.Candidate = atPace(f.Candidate, ratio/f.ratio)
	f.ratio = ratio
	return nil
}

func distinct(b trainer.Burst) int {
	return max(len(b.Summary.Shapes), 1)
}
