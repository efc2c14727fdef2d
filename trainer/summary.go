package trainer

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Summary is what a worker's events add up to.
type Summary struct {
	Hello   *Hello         `json:"hello,omitempty"`
	Ready   *Ready         `json:"ready,omitempty"`
	Steps   []StepRecord   `json:"steps,omitempty"`
	Evals   []EvalRecord   `json:"evals,omitempty"`
	Shapes  []ShapeSummary `json:"shapes,omitempty"`
	Figures Figures        `json:"figures"`
	Warns   []Warning      `json:"warnings,omitempty"`
}

// StepRecord is a Step with its place in the training.
type StepRecord struct {
	Number  int           `json:"number"`
	Segment int           `json:"segment"`
	Elapsed time.Duration `json:"elapsed_ns"`
	Step
}

// EvalRecord is an Eval with its place in the training.
type EvalRecord struct {
	AfterStep int `json:"after_step"`
	Eval
}

// ShapeSummary gathers the steps of one shape. The first step of a shape pays
// for tracing and first allocation: it is left out of the times when there are
// others, and counts in the peak.
type ShapeSummary struct {
	Shape
	StepSeconds float64    `json:"step_seconds"` // median, data not included
	Spread      float64    `json:"spread"`       // (p90 − p10) / median of step seconds; 0 for fewer than 3 steps
	PeakBytes   Opt[int64] `json:"peak_bytes,omitzero"`
}

// Summarize adds up the events of one worker or of a whole training. Replayed
// steps count once: the latest segment wins.
func Summarize(events []Event) Summary {
	var s Summary
	at := map[int]int{}
	for _, e := range events {
		switch p := e.Payload.(type) {
		case Hello:
			s.Hello = &p
		case Ready:
			s.Ready = &p
		case Warning:
			s.Warns = append(s.Warns, p)
		case Eval:
			s.Evals = append(s.Evals, EvalRecord{AfterStep: e.Step, Eval: p})
		case Step:
			r := StepRecord{Number: e.Step, Segment: e.Segment, Elapsed: e.Elapsed, Step: p}
			if i, ok := at[e.Step]; ok {
				s.Steps[i] = r
				continue
			}
			at[e.Step] = len(s.Steps)
			s.Steps = append(s.Steps, r)
		}
	}
	s.Shapes = summarizeShapes(s.Steps)
	s.Figures = figuresOf(s.Steps)
	if n := len(s.Evals); n > 0 && s.Evals[n-1].Loss.Finite() {
		s.Figures.ValLoss = Some(float64(s.Evals[n-1].Loss))
	}
	return s
}

func summarizeShapes(steps []StepRecord) []ShapeSummary {
	bySize := map[Shape][]StepRecord{}
	for _, r := range steps {
		k := Shape{Batch: r.Shape.Batch, Width: r.Shape.Width}
		bySize[k] = append(bySize[k], r)
	}
	var out []ShapeSummary
	for shape, rs := range bySize {
		sum := ShapeSummary{Shape: shape}
		sum.Steps = len(rs)
		for _, r := range rs {
			if p, ok := r.Memory.Peak.Get(); ok && p >= sum.PeakBytes.Or(0) {
				sum.PeakBytes = Some(p)
			}
		}
		timed := rs
		if len(rs) > 1 {
			timed = rs[1:]
		}
		secs := make([]float64, len(timed))
		for i, r := range timed {
			secs[i] = r.Seconds
		}
		slices.Sort(secs)
		sum.StepSeconds = quantile(secs, 0.5)
		if len(secs) >= 3 && sum.StepSeconds > 0 {
			sum.Spread = (quantile(secs, 0.9) - quantile(secs, 0.1)) / sum.StepSeconds
		}
		out = append(out, sum)
	}
	slices.SortFunc(out, func(a, b ShapeSummary) int {
		return cmp.Or(cmp.Compare(a.Positions(), b.Positions()), cmp.Compare(a.Batch, b.Batch))
	})
	return out
}

// figuresOf leaves the first step of every segment out of the rates: it pays
// for tracing and for the first allocations.
func figuresOf(steps []StepRecord) Figures {
	var f Figures
	var tokens int64
	var seconds float64
	var timed int
	segment := -1
	for _, r := range steps {
		if p, ok := r.Memory.Peak.Get(); ok && p >= f.PeakBytes.Or(0) {
			f.PeakBytes = Some(p)
		}
		if p, ok := r.Memory.Footprint.Get(); ok && p >= f.FootprintBytes.Or(0) {
			f.FootprintBytes = Some(p)
		}
		first := r.Segment != segment
		segment = r.Segment
		if first && len(steps) > 1 {
			continue
		}
		tokens += r.Tokens
		seconds += r.Seconds + r.DataSeconds
		timed++
	}
	if timed > 0 && seconds > 0 {
		f.TokensPerSecond = Some(float64(tokens) / seconds)
		f.StepSeconds = Some(seconds / float64(timed))
	}
	return f
}

// quantile interpolates linearly in sorted values, which must not be empty.
func quantile(sorted []float64, q float64) float64 {
	pos := q * float64(len(sorted)-1)
	i := int(pos)
	if i+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	return sorted[i] + (pos-float64(i))*(sorted[i+1]-sorted[i])
}

// Burst is a job that was run in a process of its own, for its measurements.
type Burst struct {
	Job     Job     `json:"job"`
	Result  Result  `json:"result"`
	Summary Summary `json:"summary"`
}

// Problem says what became of a burst that did not end well: "" of one that did.
func (b Burst) Problem() string {
	r := b.Result
	switch {
	case r.Outcome.Good():
		return ""
	case r.Failure != nil:
		return r.Failure.Text
	case r.SuspectedOOM:
		return "ended without a word, as processes do that get no memory"
	case len(r.Evidence) > 0:
		e := r.Evidence[0]
		return fmt.Sprintf("%s: %s (%s)", e.Name, e.Observed, e.Source)
	}
	return "the worker process " + string(r.Outcome)
}
