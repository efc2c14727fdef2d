package check

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/trainer"
)

const logLines = 8 // of a dead worker's log, as evidence

var burstOutcome = Check{
	Code: "burst.outcome", Required: true, DependsOn: []string{"mlx.install", "mlx.parts", "mlx.version-minimum", "model.readable", "model.tokenizer", "data.readable"},
	Story: Story{
		Title: "Trial steps",
		Means: "A few training steps in a process of their own did not end well: it ran out of memory, crashed, stalled, or the loss was not a number.",
		How:   "The end of the process is classified from its own last words, its exit status, the kernel's count of kills and its log.",
		Do:    "Follow the fix of the finding: smaller steps for memory, a lower learning rate for a loss that is not a number, setup for a crash.",
	},
	run: func(in Input) probe.Finding {
		ran := false
		for _, b := range []*trainer.Burst{in.Burst, in.Data} {
			if b == nil {
				continue
			}
			ran = true
			if !b.Result.Outcome.Good() {
				return in.death(*b)
			}
			for _, s := range b.Summary.Steps {
				if !s.Loss.Finite() {
					return in.nonFinite(fmt.Sprintf("the loss of step %d is %v", s.Number, float64(s.Loss)), b.Result)
				}
			}
		}
		if !ran {
			return probe.Finding{}
		}
		return pass("Trial steps ran to their end")
	},
	prove: func(in Input) (Experiment, bool) {
		b := in.Burst
		limit, ok := in.deathLimit()
		if !ok || b == nil || !ranOutOfMemory(b.Result) {
			return Experiment{}, false
		}
		changes, _, ok := in.smaller(limit)
		return Experiment{Changes: changes, Before: b, Symptom: "bursts that died", Deadly: true, Measure: deaths}, ok
	},
}

// ranOutOfMemory reports whether a burst died for want of memory, or probably.
func ranOutOfMemory(r trainer.Result) bool {
	return r.Outcome == trainer.OOM || r.SuspectedOOM || r.Failure != nil && r.Failure.FailKind == trainer.FailOOM
}

// death explains a burst that did not end well.
func (in Input) death(b trainer.Burst) probe.Finding {
	r := b.Result
	if r.Failure != nil && r.Failure.FailKind == trainer.FailNonFinite {
		return in.nonFinite(r.Failure.Text, r)
	}
	outOfMemory := ranOutOfMemory(r)
	f := finding(probe.Fail, "", "", deathEvidence(r)...)
	switch {
	case outOfMemory && r.SuspectedOOM && r.Outcome != trainer.OOM:
		f.Title, f.Why = "Trial steps died, probably out of memory", "how the process ended fits, but nothing proves it"
		f.Confidence = probe.Likely
	case outOfMemory:
		f.Title, f.Why = "Trial steps ran out of memory", "the step does not fit this machine as configured"
	case r.Outcome == trainer.Stalled:
		f.Title, f.Why = "Trial steps stalled", "the process made no progress and was ended"
	case r.Outcome == trainer.Crashed:
		f.Title, f.Why = "Trial steps crashed", "the process ended without a word; its log shows where"
	case r.Outcome == trainer.Killed:
		f.Title, f.Why = "Trial steps were killed", "a signal came from outside; nothing says from whom"
	case r.Outcome == trainer.Broken:
		f.Title, f.Why = "The trainer broke its protocol", "what it sent is not what this version of mlxdyno understands"
	default:
		f.Title, f.Why = "Trial steps failed", "the trainer said why"
	}
	if r.Failure != nil && r.Failure.Text != "" {
		f.Why = r.Failure.Text
	}
	said := ""
	if r.Failure != nil {
		said = r.Failure.Text + "\n" + r.Failure.Detail
	}
	known, recognised := recognise(said, r.LogTail)
	if recognised {
		f.Title, f.Why, f.Confidence = known.title, known.why, probe.Likely
	}
	switch {
	case recognised:
		f.Fix = known.fix(in)
	case outOfMemory:
		if limit, ok := in.deathLimit(); ok {
			f.Fix = in.shrink(limit)
		}
	case r.Failure != nil && r.Failure.Hint != "":
		f.Fix = []probe.Fix{{Text: r.Failure.Hint}}
	case r.Outcome == trainer.Crashed || r.Outcome == trainer.Broken:
		f.Fix = []probe.Fix{{Text: "Test the environment, and repair it if need be", Command: "mlxdyno setup"}}
	}
	if len(f.Fix) == 0 {
		f.Fix = []probe.Fix{{Text: "Run the doctor again; if it happens again, the log below says more", Command: Command("doctor", in.Settings)}}
	}
	return f
}

// deathLimit is what a smaller configuration must stay well below after one
// died: its own estimate was no protection.
func (in Input) deathLimit() (int64, bool) {
	if in.Budget == nil {
		return 0, false
	}
	peak, ok := in.Budget.Peak.Estimated.Get()
	limit, limited := in.Budget.Limit.Bytes.Get()
	if !ok {
		return limit, limited
	}
	if !limited || peak < limit {
		limit = peak
	}
	return limit / 4 * 3, true
}

func (in Input) nonFinite(what string, r trainer.Result) probe.Finding {
	f := finding(probe.Fail, "The loss is not a number", what, deathEvidence(r)...)
	rate := in.config().Quality.LearningRate
	f.Evidence = append(f.Evidence, number("learning rate", rate, "", "", "configuration"))
	f.Fix = []probe.Fix{{Text: "Try a tenth of the learning rate; if it stays, the weights or a row of the data are damaged",
		Command: Command("doctor", in.Settings, Change{"learning-rate", strconv.FormatFloat(rate/10, 'g', 3, 64)})}}
	return f
}

func deathEvidence(r trainer.Result) []probe.Evidence {
	out := []probe.Evidence{
		said("outcome", string(r.Outcome), "finished", "worker"),
		count("steps done", r.LastStep, "", "", "worker"),
	}
	if code, ok := r.ExitCode.Get(); ok {
		out = append(out, count("exit status", code, "", "0", "process"))
	}
	if r.Signal != "" {
		out = append(out, said("signal", r.Signal, "none", "process"))
	}
	for _, e := range r.Evidence {
		out = append(out, said(e.Name, e.Observed, "", e.Source))
	}
	if r.Failure != nil && r.Failure.Code != "" {
		out = append(out, said("error code", r.Failure.Code, "", "trainer"))
	}
	if lines := strings.Split(strings.TrimSpace(r.LogTail), "\n"); lines[0] != "" {
		out = append(out, said("end of the log", strings.Join(lines[max(0, len(lines)-logLines):], "\n"), "", "worker log"))
	}
	return out
}
