package tuner

import (
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/floats"

	"github.com/mlxdyno/mlxdyno/probe/leak"
	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/tuner/predict"
)

// Bounds of the gates.
const (
	maxDrift   = 0.05     // of step time, last third over middle third
	maxSpread  = 0.25     // (p90 − p10) / median of step time
	maxSwapped = 64 << 20 // bytes that a system may swap out by the way
	maxStray   = 0.05     // of a loss from that of the same step, computed otherwise
	surely     = 2.33     // standard errors of what is said to be so
	manySteps  = 40       // behind a drift that fails: fewer are gone in a busy moment,
	longSteps  = 5.0      // and so are so few seconds of them, for which the error below is too small: other programs slow many steps at a time
)

// Names of the gates that others ask about.
const (
	gateLeak      = "leak"
	gateRehearsal = "rehearsal"
	gatePeak      = "peak within the limit"
	gateProcess   = "process within the limit"
)

// gates collects what the winner has to pass.
type gates struct{ list *[]Gate }

// add adds a gate that is passed when observed does not exceed required.
func (g gates) add(name string, observed, required float64, unit, format string, args ...any) *Gate {
	*g.list = append(*g.list, Gate{Name: name, Passed: observed <= required, Observed: trainer.Some(observed), Required: required, Unit: unit, Text: fmt.Sprintf(format, args...)})
	return &(*g.list)[len(*g.list)-1]
}

// unknown adds a gate of which nothing is known: it fails nothing, and is not passed.
func (g gates) unknown(name string, required float64, unit, format string, args ...any) {
	*g.list = append(*g.list, Gate{Name: name, Advisory: true, Required: required, Unit: unit, Text: "not known: " + fmt.Sprintf(format, args...)})
}

// judge fills in what the stability burst says, and the gates.
func (r *run) judge(f *finalist, s *steadiness, b trainer.Burst) {
	r.report.Gates = nil
	g := gates{&r.report.Gates}
	failed := 0.0
	if !s.survived {
		failed = 1
	}
	g.add("survives", failed, 0, "failures", "the stability burst %s after %d steps", b.Result.Outcome, len(b.Summary.Steps))
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
	g.add("finite loss", float64(bad), 0, "steps", "%d of %d steps had a loss that is no number", bad, len(b.Summary.Steps))
	s.steps, s.leak = len(active), leak.Exact(active, f.Accumulation)
	r.judgeLoss(g, f)
	r.judgePeak(g, f, s, b)
	r.judgeLeak(g, f, s)
	r.judgePace(g, f, s, seconds)
	judgeTraces(g, s, b)
	judgeStrain(g, r.bursts.strain)
	if s.leak.State == leak.Leaking {
		s.seconds, s.slowdown = predict.Median(seconds), slowdown(seconds)
	}
}

// judgeLoss holds the losses of the chosen way to compute a step against those of the
// other way, on the same rows in the same order: calibration has run both.
func (r *run) judgeLoss(g gates, f *finalist) {
	c := f.Condition()
	other := c
	other.Checkpointing = !c.Checkpointing
	const name = "loss follows the reference"
	mine, theirs := r.losses[c], r.losses[other]
	n, worst, at := 0, 0.0, 0
	for n < min(len(mine), len(theirs)) && mine[n].shape == theirs[n].shape {
		if d := math.Abs(mine[n].loss/theirs[n].loss - 1); d > worst || math.IsNaN(d) {
			worst, at = d, n
		}
		n++
	}
	way := map[bool]string{true: "with checkpointing", false: "without checkpointing"}
	switch {
	case n == 0:
		g.unknown(name, maxStray, "", "no other way to compute the same steps was measured at %d bits and rank %d", c.Bits, c.Rank)
	case math.IsNaN(worst):
		g.add(name, 1, maxStray, "", "the loss of step %d is no number in one of both", at+1)
	default:
		g.add(name, worst, maxStray, "", "over %d steps the losses are within %.3g %% of those %s", n, 100*worst, way[other.Checkpointing])
	}
}

// judgePeak takes what the burst showed at the widest batch. What has leaked before
// a step is no part of what the step needs.
func (r *run) judgePeak(g gates, f *finalist, s *steadiness, b trainer.Burst) {
	leaks := s.leak.State == leak.Leaking
	if leaks {
		b = without(s.leak.BytesAStep, b)
	}
	peak, jitter := peakOf(b, f.plan.Widest)
	if f.unseen && peak > 0 {
		f.peak, f.jitter, f.unseen = 0, 0, false
		if f.covered > 0 { // its speed was measured, so that nothing is lacking now
			r.lacks = slices.DeleteFunc(r.lacks, func(s string) bool { return s == f.lacks })
		}
	}
	if leaks && peak > 0 { // the confirmation's had leaked, too
		f.peak, f.jitter = 0, 0
	}
	f.peak, f.jitter = max(f.peak, peak), max(f.jitter, jitter)
	if p := r.peakAt(f.Point, f.plan.Widest); p > 0 {
		f.peakBias = float64(f.peak) / p
	}
	f.PeakBytes, f.PeakErrorBytes = f.peak, f.jitter
	for _, step := range b.Summary.Steps {
		f.cache = max(f.cache, step.Memory.Cache.Or(0))
	}
	g.add(gatePeak, float64(f.peak+f.jitter), float64(r.usable()), "B", "%s and %s of jitter at the widest batch (%d × %d), of the %s that are usable",
		trainer.FormatBytes(f.peak), trainer.FormatBytes(f.jitter), f.plan.Widest.Batch, f.plan.Widest.Width, trainer.FormatBytes(r.usable()))
}

// judgeProcess asks, when all bursts have been seen, whether all that the process takes
// stays under the limit: of what it has beside MLX the training's own batches show more
// than those of one shape.
func (r *run) judgeProcess(f *finalist) bool {
	if f.lacks != "" || f.peak == 0 {
		return true // its peak was not measured, which is said
	}
	g := gates{&r.report.Gates}
	return g.add(gateProcess, float64(f.peak+f.jitter+r.beside()), float64(r.Limit.Bytes), "B", "%s of the process beside MLX's live buffers, %s of it freed memory that MLX keeps, of %s in all",
		trainer.FormatBytes(r.beside()), trainer.FormatBytes(r.kept()), trainer.FormatBytes(r.Limit.Bytes)).Passed
}

// headroom is what a leak may fill.
func (r *run) headroom(f *finalist) int64 { return max(r.usable()-f.peak-3*f.jitter, 0) }

// judgeLeak asks whether what is lost over the planned steps matters.
func (r *run) judgeLeak(g gates, f *finalist, s *steadiness) {
	steps, headroom := r.plannedSteps(f.Candidate), r.headroom(f)
	if s.leak.State == leak.Inconclusive {
		g.unknown(gateLeak, float64(headroom), "B", "%s", s.leak.Reason)
		return
	}
	lost := s.leak.BytesAStep * float64(steps)
	g.add(gateLeak, math.Max(lost, 0), float64(headroom), "B", "%s over the %d planned steps, of %s that are free: %s",
		trainer.FormatBytes(int64(math.Max(lost, 0))), steps, trainer.FormatBytes(headroom), s.leak.Reason)
}

// plannedSteps is how many steps the training will have at the winner's batch.
func (r *run) plannedSteps(c Candidate) int {
	if r.userSet("iters") {
		return r.Base.Config.Schedule.Steps
	}
	return roundUp((r.axes.rows+c.Batch-1)/c.Batch, c.Accumulation)
}

// judgePace asks whether steps stay as long as they are. A drift fails only where it
// is surely too large: other programs come and go.
func (r *run) judgePace(g gates, f *finalist, s *steadiness, seconds []float64) {
	if len(seconds) < 9 {
		g.unknown("drift", maxDrift, "", "%d steps are too few to tell", len(seconds))
		return
	}
	third := len(seconds) / 3
	middle, last := seconds[third:2*third], seconds[len(seconds)-third:]
	early, late := predict.Median(middle), predict.Median(last)
	f.drift = late/early - 1
	s.spread = relativeSpread(seconds[1:], predict.Median(seconds[1:])) * p10to90
	// The standard error of a median is 1.25 times that of a mean, and there are two.
	// Within a third, a drift is small beside what steps differ by.
	doubt := surely * 1.25 * math.Sqrt2 * max(relativeSpread(middle, early), relativeSpread(last, late)) / math.Sqrt(float64(third))
	gate := g.add("drift", math.Max(0, f.drift), maxDrift, "", "step time changed by %+.1f %% from the middle to the last third (± %.1f %%)", 100*f.drift, 100*doubt)
	took := floats.Sum(seconds)
	gate.Advisory = f.drift-doubt <= maxDrift || len(seconds) < manySteps || took < longSteps
	switch {
	case gate.Passed:
	case len(seconds) < manySteps:
		gate.Text += fmt.Sprintf(", over %d steps: it fails nothing over fewer than %d", len(seconds), manySteps)
	case took < longSteps:
		gate.Text += fmt.Sprintf(", within %.2g s: it fails nothing within less than %g", took, longSteps)
	}
	g.add("spread", s.spread, maxSpread, "", "step times spread by %.0f %% (p90 − p10 over median)", 100*s.spread).Advisory = true
}

// judgeTraces asks whether compiled steps stop growing in number: a shape is traced
// once.
func judgeTraces(g gates, s *steadiness, b trainer.Burst) {
	if !compiled(b) {
		g.add("traces", 0, 0, "traces", "nothing is compiled, so no traces are kept")
		return
	}
	var counts []int
	for _, step := range b.Summary.Steps {
		if n, ok := step.Traces.Get(); ok && step.Shape.Width == s.shape.Width {
			counts = append(counts, n)
		}
	}
	if len(counts) < 3 {
		g.unknown("traces", 0, "traces", "the engine does not count them")
		return
	}
	// The first step traces; with accumulation the first update does, too.
	settled := counts[min(len(counts)/3, len(counts)-2):]
	more := settled[len(settled)-1] - settled[0]
	g.add("traces", float64(more), 0, "traces", "%d more after %d steps of one shape, %d in all", more, len(counts)-len(settled)+1, slices.Max(counts))
}

// judgeStrain asks what the machine said of its memory meanwhile.
func judgeStrain(g gates, s strained) {
	if n, ok := s.Swapped.Get(); ok {
		g.add("swap", float64(n), maxSwapped, "B", "%s were swapped out while the winner ran", trainer.FormatBytes(n))
	} else {
		g.unknown("swap", maxSwapped, "B", "%s", s.Unknown)
	}
	level, ok := s.Worst.Get()
	if !ok {
		g.unknown("memory pressure", 0, "levels above normal", "%s", s.Unknown)
		return
	}
	gate := g.add("memory pressure", float64(level), 0, "levels above normal", "%s while the winner ran, %s before", pressureText(level), pressureText(s.Before.Or(0)))
	gate.Advisory = level <= s.Before.Or(0) // it is not the winner's
}
