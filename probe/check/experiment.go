package check

import (
	"slices"
	"strings"

	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/trainer"
)

// Experiment says how a cause is taken away in a burst, and what must then be
// gone. It is a proposal: whoever runs bursts decides whether it is worth it.
type Experiment struct {
	// Changes are the knobs that take the cause away. With None, After is a
	// burst without the cause that has been run already.
	Changes []Change
	What    string // what is changed, for a person; empty for the knobs themselves
	After   *trainer.Burst

	Data   bool           // over the data's own batches; else over the probe's shape
	Timed  bool           // the symptom is a time: both sides run anew, in turns
	Before *trainer.Burst // a burst with the cause that has been run already; not for a time

	Steps [2]int // of a burst with the cause and of one without, over the probe's shape; 0 is a few

	Symptom string
	Unit    string // bytes, s, share, or empty for a count
	Deadly  bool   // the symptom is death; else a burst that dies tells nothing
	Measure func(trainer.Burst) (float64, bool)
	Least   float64 // the symptom is gone when it is at most this, or
	Ratio   float64 // at most this part of what it was
}

// Gone reports whether a symptom is.
func (e Experiment) Gone(before, after float64) bool {
	return after <= e.Least || after <= e.Ratio*before
}

// Changed says what is changed, for a person.
func (e Experiment) Changed(c trainer.Config) string {
	if e.What != "" {
		return e.What
	}
	var parts []string
	for _, change := range e.Changes {
		if k, ok := trainer.FindKnob(change.Knob); ok && k.Get(&c) != change.Value {
			parts = append(parts, "--"+change.Knob+" "+shown(k, k.Get(&c))+" → "+shown(k, change.Value))
		}
	}
	return strings.Join(parts, ", ")
}

// shown is a knob's value for a person: bytes in a unit.
func shown(k trainer.Knob, value string) string {
	if k.Unit == "bytes" {
		if l, err := trainer.ParseLimit(value); err == nil {
			return l.String()
		}
	}
	return value
}

// Apply returns a configuration with the cause taken away.
func (e Experiment) Apply(c trainer.Config) (trainer.Config, error) {
	for _, change := range e.Changes {
		k, _ := trainer.FindKnob(change.Knob)
		if err := k.Set(&c, change.Value); err != nil {
			return c, err
		}
	}
	return c, nil
}

// ExperimentFor returns the experiment that would prove a finding, if its check
// knows one.
func ExperimentFor(f probe.Finding, in Input) (Experiment, bool) {
	i := slices.IndexFunc(registry, func(c Check) bool { return c.Code == f.Code })
	if i < 0 || registry[i].prove == nil || f.Severity == probe.Pass || f.Severity == probe.Skipped || f.Severity == probe.Unclear {
		return Experiment{}, false
	}
	return registry[i].prove(in)
}

// What experiments measure in a burst.

// settled are the steps of a burst that did not pay for compiling and first
// allocations: without the first, and where steps are compiled without the first
// of each shape.
func settled(b trainer.Burst) []trainer.StepRecord {
	compiled := b.Summary.Hello != nil && b.Summary.Hello.Compiled
	seen := map[trainer.Shape]bool{}
	var out []trainer.StepRecord
	for i, s := range b.Summary.Steps {
		if i > 0 && (!compiled || seen[s.Shape]) {
			out = append(out, s)
		}
		seen[s.Shape] = true
	}
	return out
}

// stepSeconds is the median time of a step, data left out.
func stepSeconds(b trainer.Burst) (float64, bool) {
	var seconds []float64
	for _, s := range settled(b) {
		seconds = append(seconds, s.Seconds)
	}
	if len(seconds) == 0 {
		return 0, false
	}
	slices.Sort(seconds)
	return (seconds[(len(seconds)-1)/2] + seconds[len(seconds)/2]) / 2, true
}

// secondsPerThousand is the time of a thousand tokens, padding counted.
func secondsPerThousand(b trainer.Burst) (float64, bool) {
	var seconds, positions float64
	for _, s := range settled(b) {
		seconds += s.Seconds
		positions += float64(s.Shape.Positions())
	}
	return 1000 * seconds / max(positions, 1), positions > 0
}

func peakBytes(b trainer.Burst) (float64, bool) {
	n, ok := b.Summary.Figures.PeakBytes.Get()
	return float64(n), ok
}

func cacheBytes(b trainer.Burst) (float64, bool) {
	var most int64
	known := false
	for _, s := range b.Summary.Steps {
		if n, ok := s.Memory.Cache.Get(); ok {
			most, known = max(most, n), true
		}
	}
	return float64(most), known
}

// compiledSteps is the number of compiled steps at the end or, where nobody
// counts them, of distinct shapes.
func compiledSteps(b trainer.Burst) (float64, bool) {
	n := len(b.Summary.Steps)
	if n == 0 {
		return 0, false
	}
	if traces, ok := b.Summary.Steps[n-1].Traces.Get(); ok {
		return float64(traces), true
	}
	shapes := map[trainer.Shape]bool{}
	for _, s := range b.Summary.Steps {
		shapes[s.Shape] = true
	}
	return float64(len(shapes)), true
}

func dataShare(b trainer.Burst) (float64, bool) {
	var data, all float64
	for i, s := range b.Summary.Steps {
		if i > 0 || len(b.Summary.Steps) == 1 {
			data += s.DataSeconds
			all += s.Seconds + s.DataSeconds
		}
	}
	return data / max(all, 1e-9), all > 0
}

// wholeSecondsAStep is the time from the start of a process to its end, for each
// of its steps.
func wholeSecondsAStep(b trainer.Burst) (float64, bool) {
	n := len(b.Summary.Steps)
	return b.Result.Elapsed.Seconds() / float64(max(n, 1)), n > 0 && b.Result.Elapsed > 0
}

// deaths is 1 for a burst that died.
func deaths(b trainer.Burst) (float64, bool) {
	if b.Result.Outcome.Good() {
		return 0, true
	}
	return 1, true
}
