package run

import (
	"fmt"
	"strconv"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// action is what follows the end of a segment.
type action int

const (
	goOn      action = iota // next segment, from the newest checkpoint
	tryAgain                // the same once more
	backOff                 // once more with another configuration
	finish                  // every step is done
	interrupt               // ended because somebody asked
	giveUp                  // cannot go on
)

// ending is what is known when a segment has ended.
type ending struct {
	config      trainer.Config // in force
	result      trainer.Result
	from        int  // steps done when the segment began
	saved       int  // steps in the newest valid checkpoint
	tries       int  // restarts with this configuration since the last progress
	interrupted bool // somebody asked the training to end
	asked       bool // the guard asked the segment to end
}

// decision is an action with what goes with it.
type decision struct {
	action  action
	why     string   // one line for tryAgain and backOff
	change  *BackOff // for backOff
	failure *Failure // for giveUp
}

// decide says what to do next. It is a function of its arguments alone.
func decide(e ending, p Policy) decision {
	r := e.result
	switch {
	case r.Outcome == trainer.Finished && r.LastStep >= e.config.Schedule.Steps:
		return decision{action: finish}
	case e.interrupted:
		return decision{action: interrupt}
	case r.Outcome == trainer.Finished && e.saved > e.from, r.Outcome == trainer.Stopped && e.asked && e.saved > e.from:
		return decision{action: goOn}
	case r.Outcome == trainer.OOM, r.SuspectedOOM, r.Failure != nil && r.Failure.FailKind == trainer.FailOOM:
		return afterOOM(e, p)
	case r.Outcome == trainer.Failed && r.Failure != nil && hopeless(r.Failure.FailKind):
		return decision{action: giveUp, failure: failureOf(r)}
	}
	most := p.MaxRetries
	if r.Outcome == trainer.Broken {
		most = min(most, 1) // it may have been a stray write; twice is a defect
	}
	if e.tries >= most {
		return decision{action: giveUp, failure: failureOf(r)}
	}
	return decision{action: tryAgain, why: "the worker " + ended(r)}
}

// hopeless failures come again however often one tries.
func hopeless(k trainer.FailKind) bool {
	return k == trainer.FailData || k == trainer.FailConfig || k == trainer.FailNonFinite
}

// afterOOM makes the configuration smaller. A death that merely looks like want
// of memory may be somebody's kill: unless it comes again it changes nothing
// that moves a loss. When nothing is left to make smaller, a segment that got
// on is followed by another: what leaks is gone with the process.
func afterOOM(e ending, p Policy) decision {
	why := "the worker " + ended(e.result)
	firm := !e.result.SuspectedOOM || e.tries > 0
	if change := ease(e.config, firm, e.saved == 0); change != nil {
		change.Why = why
		return decision{action: backOff, why: why, change: change}
	}
	if (e.result.SuspectedOOM || e.saved > e.from) && e.tries < p.MaxRetries {
		return decision{action: tryAgain, why: why}
	}
	return decision{action: giveUp, failure: failureOf(e.result)}
}

// ease returns the next change that makes c need less memory, mildest first:
// no cache, and then, if the cause is firm, recomputed activations and, where
// smaller allows it, a smaller batch with as many rows behind every update as
// before. Nil means that there is none left. Activations are not recomputed
// under dropout: MLX draws other masks the second time, and the gradients
// would not belong to the loss.
func ease(c trainer.Config, firm, smaller bool) *BackOff {
	switch {
	case c.Plan.CacheLimit.IsSet && c.Plan.CacheLimit.Bytes > 0:
		b := &BackOff{Knob: "cache-limit", From: c.Plan.CacheLimit.String(), To: trainer.LimitOf(0).String()}
		c.Plan.CacheLimit = trainer.LimitOf(0)
		b.Config = c
		return b
	case !firm:
		return nil
	case !c.Plan.Checkpointing && c.Quality.Dropout == 0:
		c.Plan.Checkpointing = true
		return &BackOff{Knob: "grad-checkpoint", From: "false", To: "true", Config: c}
	case smaller && c.Plan.Batch > 1:
		b := &BackOff{Knob: "batch-size", From: strconv.Itoa(c.Plan.Batch), Reorders: true}
		n := smallestFactor(c.Plan.Batch)
		c.Plan.Batch /= n
		c.Plan.Accumulation *= n
		// A step is one batch: as many rows and updates as planned take n times
		// the steps, and everything counted in steps moves with them.
		for _, steps := range []*int{&c.Schedule.Steps, &c.Schedule.EvalEvery, &c.Schedule.SaveEvery, &c.Schedule.ReloadInterval} {
			*steps *= n
		}
		if c.Schedule.ValBatches > 0 {
			c.Schedule.ValBatches *= n
		}
		b.To, b.Config = strconv.Itoa(c.Plan.Batch), c
		return b
	}
	return nil
}

func smallestFactor(n int) int {
	for f := 2; f*f <= n; f++ {
		if n%f == 0 {
			return f
		}
	}
	return n
}

// ended says in a few words how a worker ended.
func ended(r trainer.Result) string {
	at := fmt.Sprintf(" after step %d", r.LastStep)
	switch r.Outcome {
	case trainer.OOM:
		return "ran out of memory" + at
	case trainer.Crashed:
		if r.SuspectedOOM {
			return "crashed" + at + ", as it would for want of memory"
		}
		return "crashed" + at
	case trainer.Killed:
		by := "a signal"
		if r.Signal != "" {
			by = r.Signal
		}
		if r.SuspectedOOM {
			return "was killed by " + by + at + ", as it would for want of memory"
		}
		return "was killed by " + by + at
	case trainer.Stalled:
		return "made no progress" + at + " and was ended"
	case trainer.Broken:
		return "broke the protocol" + at + " and was ended"
	case trainer.Finished:
		return "said it was done" + at + " and left no checkpoint to go on from"
	case trainer.Stopped:
		return "stopped" + at + " and left no checkpoint to go on from"
	}
	if r.Failure != nil {
		return "failed" + at + ": " + r.Failure.Text
	}
	return "failed" + at
}

// failureOf turns the last result into words and advice.
func failureOf(r trainer.Result) *Failure {
	f := &Failure{Outcome: r.Outcome, Text: "the worker " + ended(r), Evidence: r.Evidence, LogTail: r.LogTail}
	if r.Failure != nil {
		f.Code = r.Failure.Code
		if r.Failure.Hint != "" {
			f.Fix = append(f.Fix, r.Failure.Hint)
		}
		if r.Failure.FailKind != trainer.FailInternal || r.Failure.Code != "internal" {
			f.LogTail = "" // the worker knew what was wrong and has said it
		}
	}
	switch {
	case r.Outcome == trainer.OOM || r.SuspectedOOM || r.Failure != nil && r.Failure.FailKind == trainer.FailOOM:
		f.Fix = append(f.Fix, "let mlxdyno tune look for a configuration that fits this machine",
			"or start a new run with a smaller --batch-size and as much more --grad-accumulation-steps, or a smaller --max-seq-length")
	case r.Failure != nil && r.Failure.FailKind == trainer.FailNonFinite:
		f.Fix = append(f.Fix, "start a new run with a lower --learning-rate; rows with nothing to predict do this too: see mlxdyno doctor --data")
	case r.Failure != nil && r.Failure.FailKind == trainer.FailData:
		f.Fix = append(f.Fix, "mend the data and start a new run; mlxdyno doctor --data names the rows")
	case r.Failure != nil && r.Failure.FailKind == trainer.FailConfig:
		f.Fix = append(f.Fix, "start a new run with that setting changed")
	default:
		f.Fix = append(f.Fix, "read the end of worker.log in the run directory, then mlxdyno doctor")
	}
	return f
}
