package tuner

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/data"
)

const oneSided95 = 1.645

// TryAll is the wish to try every other way to compute a step.
const TryAll = "all"

// Tried is another way to compute the winner's steps, held against the winner.
type Tried struct {
	trainer.Turn
	Taken     bool                 `json:"taken"`
	Faster    trainer.Opt[float64] `json:"faster,omitzero"` // share of the time that is saved; negative where it takes longer
	PeakBytes trainer.Opt[int64]   `json:"peak_bytes,omitzero"`
	Why       string               `json:"why"` // taken, or not
}

// tries asks whether one knob is to be tried.
func (w Wishes) tries(knob string) bool {
	return slices.Contains(w.Try, TryAll) || slices.Contains(w.Try, knob)
}

// tryOthers runs the winner with one knob turned at a time, as far as that was wished
// for, and keeps what is faster, or as fast in less memory. Each costs a process.
func (r *run) tryOthers(ctx context.Context, f *finalist) error {
	if len(r.Wishes.Try) == 0 || f.lacks != "" {
		return nil
	}
	r.report.Tried = nil
	f.plain, f.gain = f.Candidate, 1
	for {
		var next *trainer.Turn
		for _, t := range r.Otherwise(f.config) {
			settled := slices.ContainsFunc(r.report.Tried, func(done Tried) bool { return done.Turn == t || done.Knob == t.Knob && done.Taken })
			if next == nil && r.Wishes.tries(t.Knob) && !r.userSet(t.Knob) && !settled {
				next = &t
			}
		}
		if next == nil {
			break
		}
		if err := r.try(ctx, f, *next); errors.Is(err, errSpent) {
			r.report.NotTried = append(r.report.NotTried, NotTried{What: next.String(), Why: "the budget was spent; give --budget more"})
			break
		} else if err != nil {
			return err
		}
	}
	for _, name := range r.Wishes.Try {
		if name != TryAll && !slices.ContainsFunc(r.report.Tried, func(t Tried) bool { return t.Knob == name }) &&
			!slices.ContainsFunc(r.report.NotTried, func(n NotTried) bool { return strings.HasPrefix(n.What, name+"=") }) {
			why := "there is no other way here"
			if r.userSet(name) {
				why = "it was set by you"
			}
			r.report.NotTried = append(r.report.NotTried, NotTried{What: name, Why: why})
		}
	}
	return nil
}

// try runs the winner with one knob turned, and makes it the winner if it is better.
func (r *run) try(ctx context.Context, f *finalist, t trainer.Turn) error {
	k, ok := trainer.FindKnob(t.Knob)
	if !ok {
		return fmt.Errorf("tune: no knob is called %q", t.Knob)
	}
	other := *f
	if err := k.Set(&other.config, t.Value); err != nil {
		return fmt.Errorf("tune: try %s: %w", t, err)
	}
	if data.BatchingOf(other.config, r.device).Packed != data.BatchingOf(f.config, r.device).Packed {
		r.report.Tried = append(r.report.Tried, Tried{Turn: t, Why: "not run: rows would be laid out otherwise, which its bursts do not show; mlxdyno tune --compare tells"})
		return nil
	}
	if r.bursts.left() < r.needForWinner() {
		return errSpent
	}
	at := func(s trainer.Shape) float64 { return r.seconds(f.Point, s) * f.least }
	seconds := (r.bursts.share(4) - r.loadTime()).Seconds()
	strata, shapes := confirmShapes(f.plan, at, seconds/r.pace, r.confirmSteps(), r.settling(at(f.plan.Widest)))
	job := trainer.Job{Config: other.config, Shapes: shapes, Budget: 2 * r.bursts.share(4), MaxPeakBytes: r.usable()}
	burst, err := r.bursts.run(ctx, "try", "try "+t.String()+" with "+f.String(), f.Point, job)
	if err != nil {
		return err
	}
	out := Tried{Turn: t}
	other.peak, other.cache, other.jitter = 0, 0, 0
	r.measure(&other, burst, strata, func(s trainer.Shape) float64 { return r.seconds(f.Point, s) })
	if other.peak > 0 {
		out.PeakBytes = trainer.Some(other.peak)
	}
	if other.ratio > 0 {
		out.Faster = trainer.Some(1 - other.least/f.least)
	}
	faster, timed := out.Faster.Get()
	smaller := 1 - float64(other.peak)/float64(f.peak)
	// One process of each: they differ by more than their steps.
	surely := max(Tie, oneSided95*math.Hypot(math.Hypot(f.spread, other.spread), math.Sqrt2*betweenProcesses))
	shown := fmt.Sprintf("%.1f %% %s, with %.0f %% %s memory", 100*math.Abs(faster), either(faster < 0, "slower", "faster"), 100*math.Abs(smaller), either(smaller < 0, "more", "less"))
	switch {
	case !burst.Result.Outcome.Good():
		out.Why = "its process came to an end: " + burst.Problem()
	case !timed || other.peak == 0:
		out.Why = "it was too slow to be measured within the budget"
	case other.peak > r.usable():
		out.Why = "it exceeds the memory limit"
	case faster > surely:
		out.Taken, out.Why = true, shown
	case faster > -hardlySlower && smaller > Tie:
		out.Taken, out.Why = true, shown+": as fast, and smaller"
	case faster > 0:
		out.Why = fmt.Sprintf("%s: faster, but by less than one process of each can tell (%.0f %%)", shown, 100*surely)
	default:
		out.Why = shown
	}
	r.report.Tried = append(r.report.Tried, out)
	if out.Taken {
		other.Candidate = atPace(other.Candidate, other.least/f.least)
		other.PeakBytes, other.PeakErrorBytes, other.gain = other.peak, other.jitter, f.gain*other.least/f.least
		*f = other
	}
	return nil
}

// triedText says what trying a knob came to.
func (r *run) triedText(knob string) string {
	var parts []string
	for _, t := range r.report.Tried {
		if t.Knob == knob {
			parts = append(parts, fmt.Sprintf("%s: %s", t.Value, t.Why))
		}
	}
	return strings.Join(parts, "; ")
}

func either(first bool, a, b string) string {
	if first {
		return a
	}
	return b
}
