package worker

import (
	"time"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// Stall is how long a worker may be silent before it counts as stalled. What is
// zero has a default.
type Stall struct {
	Start      time.Duration // before its first step, while it loads; default 10 min
	Evaluation time.Duration // while it may be at its first evaluation, whose length nobody knows yet; default 1 h
	Step       time.Duration // later: this or 10 × the longest silence so far, whichever is more; default 1 min
}

const stallFactor = 10

// watch measures silence in ticks and not by a clock, so that a suspended
// machine or a stopped parent does not look like a stalled worker.
type watch struct {
	limits Stall
	job    trainer.Job
	tick   time.Duration

	events int64
	silent time.Duration
}

func newWatch(limits Stall, job trainer.Job) *watch {
	tick := min(limits.Start, limits.Step) / 20
	return &watch{limits: limits, job: job, tick: max(time.Millisecond, min(tick, time.Second))}
}

// stalled is told once a tick what is known of the worker.
func (w *watch) stalled(s seen) bool {
	if s.events != w.events || s.delivering {
		w.events, w.silent = s.events, 0
		return false
	}
	w.silent += w.tick
	return w.silent >= w.limit(s)
}

func (w *watch) limit(s seen) time.Duration {
	limit := w.limits.Start
	if s.steps > 0 {
		limit = max(w.limits.Step, stallFactor*s.slowest)
	}
	if w.mayEvaluate(s) {
		limit = max(limit, w.limits.Evaluation)
	}
	return limit
}

// mayEvaluate reports whether the worker may be at its first evaluation. Later
// ones are measured by the first.
func (w *watch) mayEvaluate(s seen) bool {
	if !w.job.Evaluate || s.evaluated || s.ready == nil {
		return false
	}
	every := max(w.job.Config.Schedule.EvalEvery, 1)
	return s.steps == 0 || s.lastStep%every == 0 || w.job.UntilStep > 0 && s.lastStep >= w.job.UntilStep
}
