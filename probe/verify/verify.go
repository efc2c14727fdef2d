// Package verify says whether a cure worked: it holds what was measured after
// it against what was measured before, one question at a time.
//
// A question that the measurements cannot answer is open, which is neither a
// pass nor a failure.
package verify

import (
	"fmt"
	"math"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// Schema names the form of a Comparison.
const Schema = "mlxdyno/verify/1"

// Side is what one diagnosis or training says.
type Side struct {
	Name            string               `json:"name"` // of the file or run
	Kind            string               `json:"kind"` // doctor or train
	PeakBytes       trainer.Opt[int64]   `json:"peak_bytes,omitzero"`
	LimitBytes      trainer.Opt[int64]   `json:"limit_bytes,omitzero"`
	TokensPerSecond trainer.Opt[float64] `json:"tokens_per_second,omitzero"`
	Pressed         trainer.Opt[bool]    `json:"pressed,omitzero"` // whether memory was short while it ran
	Pressure        string               `json:"pressure,omitempty"`
	Died            trainer.Opt[bool]    `json:"died_of_memory,omitzero"` // out of memory, or probably
	LeakBytesAStep  trainer.Opt[float64] `json:"leak_bytes_a_step,omitzero"`
	LeakUnknown     string               `json:"leak_unknown,omitempty"` // why
}

// Verdict is the answer to one question.
type Verdict string

const (
	Pass Verdict = "pass"
	Fail Verdict = "fail"
	Open Verdict = "open"
)

// Answer is one line of a comparison.
type Answer struct {
	Question string  `json:"question"` // limit, speed, pressure, oom or leak
	Verdict  Verdict `json:"verdict"`
	Before   string  `json:"before"`
	After    string  `json:"after"`
	Needed   string  `json:"needed"` // for a pass
}

// Comparison is the whole.
type Comparison struct {
	Schema  string   `json:"schema"` // Schema
	Passed  bool     `json:"passed"` // no question failed
	Before  Side     `json:"before"`
	After   Side     `json:"after"`
	Answers []Answer `json:"answers"`
}

// slower is how much of its speed a cure may cost: less than what the same
// configuration differs from day to day.
const slower = 0.05

// Compare answers all questions.
func Compare(before, after Side) Comparison {
	c := Comparison{Schema: Schema, Passed: true, Before: before, After: after, Answers: []Answer{
		limit(before, after), speed(before, after), pressure(before, after), deaths(before, after), leaks(before, after),
	}}
	for _, a := range c.Answers {
		c.Passed = c.Passed && a.Verdict != Fail
	}
	return c
}

const unknown = "unknown"

func judge(passed bool) Verdict {
	if passed {
		return Pass
	}
	return Fail
}

func limit(before, after Side) Answer {
	of := func(s Side) string {
		peak, ok := s.PeakBytes.Get()
		if !ok {
			return unknown
		}
		text := trainer.FormatBytes(peak)
		if l, ok := s.LimitBytes.Get(); ok {
			text += " of " + trainer.FormatBytes(l)
		}
		return text
	}
	a := Answer{Question: "limit", Verdict: Open, Before: of(before), After: of(after), Needed: "peak below the limit"}
	peak, ok1 := after.PeakBytes.Get()
	most, ok2 := after.LimitBytes.Get()
	if ok1 && ok2 {
		a.Verdict = judge(peak <= most)
	}
	return a
}

func speed(before, after Side) Answer {
	of := func(s Side) string {
		if v, ok := s.TokensPerSecond.Get(); ok {
			return fmt.Sprintf("%.0f tokens/s", v)
		}
		return unknown
	}
	a := Answer{Question: "speed", Verdict: Open, Before: of(before), After: of(after), Needed: fmt.Sprintf("at most %.0f %% slower", 100*slower)}
	was, ok1 := before.TokensPerSecond.Get()
	is, ok2 := after.TokensPerSecond.Get()
	if ok1 && ok2 && was > 0 && !math.IsNaN(is) {
		a.Verdict = judge(is >= (1-slower)*was)
		a.After += fmt.Sprintf(", %+.1f %%", 100*(is/was-1))
	}
	return a
}

func pressure(before, after Side) Answer {
	of := func(s Side) string {
		switch {
		case s.Pressure != "":
			return s.Pressure
		case s.Pressed.Known():
			return "memory was enough"
		}
		return unknown
	}
	a := Answer{Question: "pressure", Verdict: Open, Before: of(before), After: of(after), Needed: "memory was enough"}
	if pressed, ok := after.Pressed.Get(); ok {
		a.Verdict = judge(!pressed)
	}
	return a
}

func deaths(before, after Side) Answer {
	of := func(s Side) string {
		died, ok := s.Died.Get()
		switch {
		case !ok:
			return unknown
		case died:
			return "ran out of memory"
		}
		return "ran to its end"
	}
	a := Answer{Question: "oom", Verdict: Open, Before: of(before), After: of(after), Needed: "ran to its end"}
	if died, ok := after.Died.Get(); ok {
		a.Verdict = judge(!died)
	}
	return a
}

func leaks(before, after Side) Answer {
	of := func(s Side) string {
		v, ok := s.LeakBytesAStep.Get()
		switch {
		case !ok && s.LeakUnknown != "":
			return unknown + ": " + s.LeakUnknown
		case !ok:
			return unknown
		case v == 0:
			return "none"
		}
		return trainer.FormatBytes(int64(v)) + " a step"
	}
	a := Answer{Question: "leak", Verdict: Open, Before: of(before), After: of(after), Needed: "none"}
	if v, ok := after.LeakBytesAStep.Get(); ok {
		a.Verdict = judge(v == 0)
	}
	return a
}
