package tuner

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/tuner/search"
)

// confirmation is a finalist with its part of the burst that measures it.
type confirmation struct {
	*finalist
	predicted search.Candidate
	strata    []stratum
	shapes    []trainer.Shape
}

func (r *run) confirmation(c search.Candidate) *confirmation {
	f := &finalist{Candidate: c, plan: r.epoch(c.Batch, c.MaxSeqLength), config: r.config(c.Point)}
	r.setCache(f)
	at, share := r.stepOf(c.Point), r.bursts.share(4)
	strata, shapes := confirmShapes(f.plan, at, (share-r.loadTime()).Seconds()/r.pace, r.confirmSteps(), r.settling(at(f.plan.Widest)))
	return &confirmation{f, c, strata, shapes}
}

// group is c and the candidates that would follow it in processes of their own, and may as
// well run in turns with it: they are loaded with the same, update as it does and have room
// for as much cache, so that no more than their steps is spent, and what the machine does to
// the process it does to all of them.
func (r *run) group(c search.Candidate, tried map[Point]bool) []*confirmation {
	first := r.confirmation(c)
	out := []*confirmation{first}
	if r.Wishes.Prefer != Speed || !r.feasible(c.Point) {
		return out
	}
	left := (r.bursts.left() - r.needForWinner() - r.loadTime()).Seconds() - r.takesAll(first)
	for _, d := range r.outcome.Feasible {
		if len(r.measured)+len(out) >= maxFinalists {
			break
		}
		if tried[d.Point] || !r.worthConfirming(d) || d.Condition() != c.Condition() || d.MaxSeqLength != c.MaxSeqLength || d.Batch == c.Batch || (d.Accumulation > 1) != (c.Accumulation > 1) {
			continue
		}
		m := r.confirmation(d)
		gain := 1 - d.SecondsPerUsefulToken/c.SecondsPerUsefulToken
		if takes := r.takesAll(m); takes <= left && !unlike(m.config.Plan.CacheLimit, first.config.Plan.CacheLimit) &&
			expected(gain, math.Hypot(betweenProcesses, r.model.TimeError())) > worthAProcess {
			out = append(out, m)
			left -= takes
		}
	}
	return out
}

// unlike reports whether one cache is so much larger than another that times may differ.
func unlike(a, b trainer.Limit) bool { return a.Bytes > 2*b.Bytes || b.Bytes > 2*a.Bytes }

// takesAll is about how many seconds a part of a burst takes, traces included.
func (r *run) takesAll(m *confirmation) float64 {
	sum := r.takes(m.Point, m.shapes)
	if r.compiles {
		sum += float64(len(m.shapes)) * r.first
	}
	return sum
}

// confirmOne runs one candidate. It returns nil when the burst died or did not fit,
// after which the space is enumerated again without the likes of it. A burst that
// was too slow proves nothing of the kind: if the time is there, a smaller one is
// run; if not, the finalist says what it lacks.
func (r *run) confirmOne(ctx context.Context, c search.Candidate) (*finalist, error) {
	done, partly, err := r.confirmTogether(ctx, []*confirmation{r.confirmation(c)})
	if len(done) > 0 {
		return done[0], err
	}
	return partly, err
}

// confirmTogether runs a group in turns in one process, for the sake of the first, and
// returns all of which time and peak were measured. The first, if it could only be
// measured in part, is returned by itself.
func (r *run) confirmTogether(ctx context.Context, group []*confirmation) (done []*finalist, partly *finalist, err error) {
	first := group[0]
	job := r.sharedJob(group)
	for {
		burst, err := r.runTogether(ctx, group, job)
		if errors.Is(err, errSpent) && first.lacks != "" {
			break // what the burst before showed is what there is
		}
		if errors.Is(err, errSpent) && len(done) > 0 {
			return done, nil, nil
		}
		if err != nil {
			return nil, nil, err
		}
		done = append(done, r.complete(group, burst)...)
		if slices.Contains(done, first.finalist) {
			return done, nil, nil
		}
		if !burst.Result.Outcome.Good() {
			if len(group) == 1 || !r.feasible(first.Point) {
				return done, nil, nil
			}
			group = []*confirmation{r.confirmation(first.Candidate)} // it was not what was too much
			first, job = group[0], r.sharedJob(group)
			continue
		}
		if first.peak > r.usable() {
			return done, nil, nil
		}
		if first.ratio == 0 && compiled(burst) {
			r.noteUntimed(first.String())
		}
		again := first.lacks != ""
		first.lacks = r.lacking(first.finalist)
		strata, shapes := leanShapes(first.plan, r.stepOf(first.Point), r.settling(r.seconds(first.Point, first.plan.Widest)))
		if again || r.leanest(first.Candidate) > r.bursts.left() || slices.Equal(shapes, job.Shapes) {
			break
		}
		group, first.strata, first.shapes = group[:1], strata, shapes
		job = r.sharedJob(group)
		job.Budget = r.bursts.left()
	}
	r.assume(first.finalist)
	return done, first.finalist, nil
}

// sharedJob runs all of a group, smallest first. Updates come as often as the one with the
// most steps to one has them, and the cache is what all of them have room for.
func (r *run) sharedJob(group []*confirmation) trainer.Job {
	first := group[0]
	for _, m := range group[1:] {
		if cache := m.config.Plan.CacheLimit; cache.Bytes < first.config.Plan.CacheLimit.Bytes {
			first.config.Plan.CacheLimit = cache
		}
	}
	// A burst that measures the widest batch must reach it: its budget is twice
	// what it should take, and that of several is no more than what is left.
	budget := 2 * max(r.bursts.share(4), 2*time.Second)
	if len(group) > 1 {
		budget = max(budget, min(time.Duration(len(group))*budget, r.bursts.left()-r.needForWinner()))
	}
	job := trainer.Job{Config: first.config, Budget: budget, MaxPeakBytes: r.usable()}
	for _, m := range group {
		m.config.Plan.CacheLimit = first.config.Plan.CacheLimit
		job.Config.Plan.Accumulation = max(job.Config.Plan.Accumulation, m.Accumulation)
		job.Shapes = append(job.Shapes, m.shapes...)
	}
	slices.SortStableFunc(job.Shapes, byPositions)
	return job
}

// runTogether runs the job of a group, and takes from it what it shows.
func (r *run) runTogether(ctx context.Context, group []*confirmation, job trainer.Job) (trainer.Burst, error) {
	p := group[0].Point
	burst, err := r.bursts.run(ctx, "confirm", "run "+inTurns(group), p, job)
	if err != nil {
		return burst, err
	}
	process := len(r.report.Bursts)
	r.observe(burst)
	if !burst.Result.Outcome.Good() {
		r.noteDeath(p.Condition(), job.Shapes, burst)
	}
	p.Accumulation = job.Config.Plan.Accumulation
	learned := r.learn(burst, p)
	for i, m := range group {
		if i > 0 {
			r.report.Bursts[process-1].Companions = append(r.report.Bursts[process-1].Companions, m.Point)
		}
		m.process, m.alone = process, learned || m.alone
		if again, ok := r.problem().Predict(m.Point); ok {
			m.Candidate = again
		}
		r.measure(m.finalist, burst, m.strata, r.stepOf(m.Point))
	}
	r.enumerate()
	if burst.Result.Outcome.Good() {
		r.notePace(p.Condition(), burst)
	}
	return burst, nil
}

// complete returns those of a group that the burst has measured. Of one that came to a
// bad end they are those of which all was run, if something else was not.
func (r *run) complete(group []*confirmation, b trainer.Burst) []*finalist {
	good := b.Result.Outcome.Good()
	ran := func(m *confirmation) bool {
		return !slices.ContainsFunc(m.shapes, func(s trainer.Shape) bool { return len(stepsOf(b, s)) < s.Steps })
	}
	if !good && !slices.ContainsFunc(group, func(m *confirmation) bool { return !ran(m) }) {
		return nil
	}
	var out []*finalist
	for _, m := range group {
		switch {
		case !good && !ran(m):
		case m.peak > r.usable():
			r.fail(m.Point, "measured to exceed the memory limit")
		case r.lacking(m.finalist) != "":
		default:
			m.lacks = ""
			r.note(m.finalist, m.predicted)
			out = append(out, m.finalist)
		}
	}
	return out
}

func inTurns(group []*confirmation) string {
	text := group[0].String()
	for _, m := range group[1:] {
		text += fmt.Sprintf(" and %d × %d", m.Batch, m.Accumulation)
	}
	if len(group) > 1 {
		text += " in turns"
	}
	return text
}

// lacking says what a confirmation did not come to.
func (r *run) lacking(f *finalist) string {
	switch {
	case f.ratio == 0:
		return fmt.Sprintf("its confirmation was too slow to be timed (%s): its speed is predicted", r.paceText())
	case f.peak == 0:
		return fmt.Sprintf("its confirmation did not reach the widest batch in its time (%s): its peak is predicted", r.paceText())
	}
	return ""
}

// leanShapes are the fewest steps that tell speed and peak: two in the middle of the
// epoch, and two at its widest batch.
func leanShapes(e *epoch, at func(trainer.Shape) float64, widest int) ([]stratum, []trainer.Shape) {
	strata := e.strata(1, at)
	last := trainer.Shape{Batch: e.Widest.Batch, Width: e.Widest.Width, Steps: widest}
	if len(strata) == 0 || strata[0].shape.Width == last.Width {
		return strata, []trainer.Shape{last}
	}
	return strata, []trainer.Shape{{Batch: strata[0].shape.Batch, Width: strata[0].shape.Width, Steps: 2}, last}
}

// confirmShapes picks the shapes that stand for the epoch, narrowest first, and
// the widest last. Most is how many steps of a shape are enough.
func confirmShapes(e *epoch, at func(trainer.Shape) float64, seconds float64, most, atWidest int) ([]stratum, []trainer.Shape) {
	widest := at(e.Widest) * float64(atWidest)
	steps, parts := calibrateFor, maxStrata
	if widest+3*at(e.Widest) > seconds {
		parts, steps = 2, 2
	}
	strata := e.strata(parts, at)
	once := 0.0
	for _, s := range strata {
		once += at(s.shape)
	}
	if once > 0 && parts == maxStrata {
		steps = min(max(int((seconds-widest)/once), steps), most)
	}
	var shapes []trainer.Shape
	for _, s := range strata {
		if s.shape != (trainer.Shape{Batch: e.Widest.Batch, Width: e.Widest.Width}) {
			shapes = append(shapes, trainer.Shape{Batch: s.shape.Batch, Width: s.shape.Width, Steps: steps})
		}
	}
	last := trainer.Shape{Batch: e.Widest.Batch, Width: e.Widest.Width, Steps: atWidest}
	if len(shapes) < len(strata) { // the widest stands for a stratum, too
		last.Steps = max(steps, atWidest)
	}
	return strata, append(shapes, last)
}
