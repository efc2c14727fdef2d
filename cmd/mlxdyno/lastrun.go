package main

import (
	"strconv"

	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/probe/check"
	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/run"
)

// lastRun puts the last words of the newest training into a snapshot's terms;
// nil when it ended well, or cannot be read: mlxdyno report then says why.
func lastRun(home string) *probe.LastRun {
	w, err := run.Last(home)
	if err != nil || w == nil {
		return nil
	}
	bytes := func(v trainer.Opt[int64]) probe.Value[int64] {
		const source = "its last event"
		if n, ok := v.Get(); ok {
			return probe.Known(n, source)
		}
		return probe.Unknown[int64]("the trainer did not say it", source)
	}
	out := &probe.LastRun{Dir: w.Dir, State: string(w.State), At: w.At, Step: w.Step, Steps: w.Steps, Doing: w.Doing, Outcome: string(w.Outcome),
		Peak: bytes(w.Memory.Peak), Held: bytes(w.Memory.Footprint), Resume: w.Resume, Smaller: smaller(w.Settings)}
	if w.Failure != nil {
		out.Why, out.Outcome = w.Failure.Text, string(w.Failure.Outcome)
	}
	return out
}

// smaller is the command of a training that needs less memory and learns the
// same: fewer rows at once, then activations computed again. What learns less
// is not proposed.
func smaller(s trainer.Settings) string {
	c := s.Config
	switch {
	case c.Plan.Batch > 1:
		fewer := c.Plan.Batch / 2
		if c.Plan.Batch%2 != 0 {
			fewer = 1
		}
		return check.Command("train", s, check.Change{Knob: "batch-size", Value: strconv.Itoa(fewer)},
			check.Change{Knob: "grad-accumulation-steps", Value: strconv.Itoa(c.EffectiveBatch() / fewer)})
	case !c.Plan.Checkpointing && c.Quality.Dropout == 0: // with dropout its gradients are wrong
		return check.Command("train", s, check.Change{Knob: "grad-checkpoint", Value: "true"})
	}
	return check.Command("tune", s)
}
