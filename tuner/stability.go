package tuner

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/mlxdyno/mlxdyno/probe/leak"
	"github.com/mlxdyno/mlxdyno/trainer"
)

// Bounds of the gates.
const (
	maxDrift  = 0.10 // of step time, last third over middle third
	maxSpread = 0.25 // (p90 − p10) / median of step time
	maxSteady = 60   // steps of the stability burst, unless a verdict on leaks needs more
)

// steadiness is what the stability burst showed.
type steadiness struct {
	survived bool
	leak     leak.Verdict
	steps    int
	shape    trainer.Shape
	spread   float64
	seconds  float64
	slowdown float64 // seconds that a step takes longer than the one before, of a process that leaks; 0 when none was seen
}

// stability runs the winner longer, on one shape, and then at the widest batch.
func (r *run) stability(ctx context.Context, f *finalist) (steadiness, error) {
	period := f.Accumulation
	need := leak.MinReadings*period + period
	share := max(r.bursts.share(2)-r.loadTime(), 2*time.Second).Seconds()
	at := func(s trainer.Shape) float64 { return r.seconds(f.Point, s) * max(f.ratio, r.pace) }
	shape := steadyShape(f.plan, at, share/float64(need))
	steps := need
	if t := at(shape); t > 0 {
		steps = min(max(int(share/t), need), max(maxSteady, need))
	}
	steps -= steps % period
	shape.Steps = steps
	widest := trainer.Shape{Batch: f.plan.Widest.Batch, Width: f.plan.Widest.Width, Steps: widestSteps}
	shapes := []trainer.Shape{shape}
	if widest.Width != shape.Width {
		shapes = append(shapes, widest)
	}
	job := trainer.Job{Config: f.config, Shapes: shapes, Budget: max(min(4*time.Duration(share*float64(time.Second)), r.bursts.left()-r.loadTime()), 2*time.Second)}
	burst, err := r.bursts.run(ctx, "stability", fmt.Sprintf("watch %s for leaks over %d steps", f.Point, steps), f.Point, job)
	if errors.Is(err, errSpent) {
		r.lacks = append(r.lacks, fmt.Sprintf("the budget of %s was spent before it could be watched for leaks and drift", r.Wishes.Budget))
		return steadiness{survived: true, shape: shape, spread: max(f.wobble, (r.pace-1)/2) * p10to90, leak: leak.Verdict{State: leak.Inconclusive, Reason: "it was not watched: the budget was spent"}}, nil
	}
	if err != nil {
		return steadiness{}, err
	}
	r.observe(burst)
	s := steadiness{survived: burst.Result.Outcome.Good(), shape: shape}
	r.judge(f, &s, burst)
	return s, nil
}

// steadyShape is the widest shape of the epoch's narrower half whose step fits
// the time, else the narrowest: a leak shows at every shape.
func steadyShape(e *epoch, at func(trainer.Shape) float64, seconds float64) trainer.Shape {
	shapes := e.shapes()
	best := shapes[0]
	for _, s := range shapes[:(len(shapes)+1)/2] {
		if at(s) <= seconds {
			best = s
		}
	}
	return trainer.Shape{Batch: best.Batch, Width: best.Width}
}

// judge fills in the gates.
func (r *run) judge(f *finalist, s *steadiness, b trainer.Burst) {
	gate := func(name string, observed, required float64, unit, format string, args ...any) *Gate {
		r.report.Gates = append(r.report.Gates, Gate{Name: name, Passed: observed <= required, Observed: observed, Required: required, Unit: unit, Text: fmt.Sprintf(format, args...)})
		return &r.report.Gates[len(r.report.Gates)-1]
	}
	r.report.Gates = nil
	failed := 0.0
	if !s.survived {
		failed = 1
	}
	gate("survives", failed, 0, "failures", "the stability burst %s after %d steps", b.Result.Outcome, len(b.Summary.Steps))
	bad := 0
	var active []int64
	var seconds []float64
	for _, step := range b.Summary.Steps {
		if !step.Loss.Finite() {
			bad++
		}
		if step.Shape.Width == s.shape.Width && len(active) < s.shape.Steps {
			if a, ok := step.Memory.Active.Get(); ok {
				active = append(active, a)
			}
			seconds = append(seconds, step.Seconds)
		}
	}
	gate("finite loss", float64(bad), 0, "steps", "%d of %d steps had a loss that is no number", bad, len(b.Summary.Steps))
	s.steps = len(active)
	s.leak = leak.Exact(active, f.Accumulation)
	if s.leak.State == leak.Leaking {
		// What has leaked before a step is no part of what the step needs.
		f.peak, f.jitter = peakOf(without(s.leak.BytesAStep, b), f.plan.Widest)
	} else {
		peak, jitter := peakOf(b, f.plan.Widest)
		f.peak, f.jitter = max(f.peak, peak), max(f.jitter, jitter)
	}
	f.PeakBytes = f.peak
	if p := r.peakAt(f.Point, f.plan.Widest); p > 0 {
		f.peakBias = float64(f.peak) / p
	}
	for _, step := range b.Summary.Steps {
		f.cache = max(f.cache, step.Memory.Cache.Or(0))
	}
	gate("peak within the limit", float64(f.peak), float64(r.usable()), "B", "%s at the widest batch (%d × %d) of the %s that are usable",
		trainer.FormatBytes(f.peak), f.plan.Widest.Batch, f.plan.Widest.Width, trainer.FormatBytes(r.usable()))
	gate("leak", s.leak.BytesAStep, 0, "B/step", "%s", s.leak.Reason)
	if s.leak.State == leak.Inconclusive {
		g := &r.report.Gates[len(r.report.Gates)-1]
		g.Passed, g.Advisory = false, true
	}
	if len(seconds) >= 9 {
		third := len(seconds) / 3
		early, late := median(seconds[third:2*third]), median(seconds[len(seconds)-third:])
		f.drift = late/early - 1
		s.spread = relativeSpread(seconds[1:], median(seconds[1:])) * p10to90
		gate("drift", math.Max(0, f.drift), maxDrift, "", "step time changed by %+.1f %% from the middle to the last third", 100*f.drift).Advisory = true
		gate("spread", s.spread, maxSpread, "", "step times spread by %.0f %% (p90 − p10 over median)", 100*s.spread).Advisory = true
	}
	if s.leak.State == leak.Leaking {
		s.seconds = median(seconds)
		s.slowdown = slowdown(seconds)
	}
}

// without is a burst whose process had lost nothing before each step.
func without(leaked float64, b trainer.Burst) trainer.Burst {
	b.Summary.Steps = slices.Clone(b.Summary.Steps)
	for i := range b.Summary.Steps {
		m := &b.Summary.Steps[i].Memory
		if p, ok := m.Peak.Get(); ok {
			m.Peak = trainer.Some(p - int64(leaked*float64(i)))
		}
	}
	return b
}

// slowdown is by how many seconds steps grow longer, one to the next, from the
// middle to the last third; 0 unless that is clear of what steps differ by.
func slowdown(seconds []float64) float64 {
	third := len(seconds) / 3
	if third < 3 {
		return 0
	}
	middle, last := seconds[third:2*third], seconds[len(seconds)-third:]
	early, late := median(middle), median(last)
	noise := 1.25 * math.Hypot(relativeSpread(middle, early)*early, relativeSpread(last, late)*late) / math.Sqrt(float64(third))
	if late-early <= 3*noise {
		return 0
	}
	return (late - early) / float64(third+len(seconds)%3) // between the middles of the two
}
