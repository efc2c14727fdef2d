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
	"github.com/mlxdyno/mlxdyno/tuner/predict"
)

// maxSteady is how many steps the stability burst has, unless a verdict on leaks
// needs more.
const maxSteady = 60

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
	widest := trainer.Shape{Batch: f.plan.Widest.Batch, Width: f.plan.Widest.Width, Steps: r.settling(at(f.plan.Widest))}
	shapes := []trainer.Shape{shape}
	if widest.Width != shape.Width {
		shapes = append(shapes, widest)
	}
	before := 0
	for _, s := range shapes {
		before += s.Steps
	}
	down, why := r.stairs(f, shape, before)
	if why != "" {
		r.report.NotTried = append(r.report.NotTried, NotTried{What: "lower limits of MLX's memory and cache", Why: why})
	}
	shapes = append(shapes, down.shapes(f.plan.Widest)...)
	job := trainer.Job{Config: f.config, Shapes: shapes, Limits: down.jobs, Budget: max(min(4*time.Duration(share*float64(time.Second)), r.bursts.left()-r.loadTime()), 2*time.Second)}
	burst, err := r.bursts.run(ctx, "stability", fmt.Sprintf("watch %s for leaks over %d steps", f.Point, steps), f.Point, job)
	if errors.Is(err, errSpent) {
		r.lacks = append(r.lacks, fmt.Sprintf("the budget of %s was spent before it could be watched for leaks and drift", trainer.FormatDuration(r.Wishes.Budget)))
		return steadiness{survived: true, shape: shape, spread: max(f.wobble, (r.pace-1)/2) * p10to90, leak: leak.Verdict{State: leak.Inconclusive, Reason: "it was not watched: the budget was spent"}}, nil
	}
	if err != nil {
		return steadiness{}, err
	}
	r.observe(burst)
	s := steadiness{survived: burst.Result.Outcome.Good(), shape: shape}
	stood, told := down.read(&burst)
	if !told && len(down.plan) > 0 {
		r.report.NotTried = append(r.report.NotTried, NotTried{What: "lower limits of MLX's memory and cache", Why: "the burst did not get to the end of them, or did not say what steps took"})
	}
	r.judge(f, &s, burst)
	if told && s.survived {
		r.lower(f, s, stood)
	}
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
	early, late := predict.Median(middle), predict.Median(last)
	noise := 1.25 * math.Hypot(relativeSpread(middle, early)*early, relativeSpread(last, late)*late) / math.Sqrt(float64(third))
	if late-early <= 3*noise {
		return 0
	}
	return (late - early) / float64(third+len(seconds)%3) // between the middles of the two
}
