package patient

import (
	"slices"
	"time"

	"github.com/mlxdyno/mlxdyno/probe/pace"
	"github.com/mlxdyno/mlxdyno/trainer"
)

// tick is a point's time by one clock.
type tick struct {
	step      int
	at, digit time.Duration
	tokens    int64
	positions int64
	hasTokens bool
}

// ticks are the points with a time: by our clock if we saw it run, else by its
// own. Steps that go back begin anew.
func ticks(r Record) (out []tick, basis string) {
	basis = "steps over the time that it printed"
	ours := 0
	for _, p := range r.Points {
		if p.At.Known() {
			ours++
		}
	}
	if 2*ours > len(r.Points) {
		basis = "steps over time, by our clock"
	}
	for _, p := range r.Points {
		t := tick{step: p.Step, positions: p.Positions.Or(0)}
		t.tokens, t.hasTokens = p.TrainedTokens.Get()
		if 2*ours > len(r.Points) {
			at, ok := p.At.Get()
			if !ok {
				continue
			}
			t.at = at
		} else {
			c, ok := p.Elapsed.Get()
			if !ok {
				continue
			}
			t.at, t.digit = c.Time, c.Resolution
		}
		if n := len(out); n > 0 && (t.step <= out[n-1].step || t.at < out[n-1].at) {
			out = out[:0]
		}
		out = append(out, t)
	}
	return out, basis
}

// speed is the mean over all steps but the first, which pays for the start.
func speed(r Record) Speed {
	var s Speed
	var printed []float64
	var tokens []float64
	for _, p := range r.Points {
		if v, ok := p.StepsPerSecond.Get(); ok {
			printed = append(printed, v)
			s.PrintedDigit = max(s.PrintedDigit, p.SpeedDigits)
		}
		if v, ok := p.TokensPerSecond.Get(); ok {
			tokens = append(tokens, v)
		}
	}
	if len(printed) > 0 {
		s.Printed = trainer.Some(median(printed))
	}
	ts, basis := ticks(r)
	s.Basis = basis
	if n := len(ts); n > 1 && ts[n-1].step > ts[0].step && ts[n-1].at > ts[0].at {
		steps := float64(ts[n-1].step - ts[0].step)
		span := ts[n-1].at - ts[0].at
		s.StepSeconds = trainer.Some(span.Seconds() / steps)
		s.StepError = float64(ts[0].digit+ts[n-1].digit) / 2 / float64(span)
		s.StepsPerSecond = trainer.Some(steps / span.Seconds())
		s.Pace = judgePace(ts)
		s.countTokens(ts)
	}
	switch {
	case !s.StepSeconds.Known() && s.Printed.Or(0) > 0:
		s.StepsPerSecond, s.StepSeconds = s.Printed, trainer.Some(1/s.Printed.Or(1))
		s.Basis = "what it prints, which nothing confirms"
	case !s.StepSeconds.Known():
		s.Basis = "no two steps have a time"
	}
	if len(tokens) > 0 {
		s.PrintedTokens = trainer.Some(median(tokens))
	}
	if !s.TokensPerSecond.Known() {
		s.TokensPerSecond = s.PrintedTokens
	}
	return s
}

// fewTokens are too few where they are printed in hundreds.
const fewTokens = 1000

// countTokens takes the tokens between the first and the last report of them.
func (s *Speed) countTokens(ts []tick) {
	known := slices.DeleteFunc(slices.Clone(ts), func(t tick) bool { return !t.hasTokens })
	if len(known) < 2 {
		return
	}
	first, last := known[0], known[len(known)-1]
	tokens := float64(last.tokens - first.tokens)
	if tokens < fewTokens || last.step <= first.step || last.at <= first.at {
		return
	}
	s.TokensAStep = trainer.Some(tokens / float64(last.step-first.step))
	s.TokensPerSecond = trainer.Some(tokens / (last.at - first.at).Seconds())
}

// judgePace judges the times between reports that are finer than a twentieth.
func judgePace(ts []tick) *pace.Report {
	var steps []pace.Step
	for i := 1; i < len(ts); i++ {
		n := float64(ts[i].step - ts[i-1].step)
		d := ts[i].at - ts[i-1].at
		if d <= 0 || 20*ts[i].digit > d {
			continue
		}
		steps = append(steps, pace.Step{Seconds: d.Seconds() / n, Positions: float64(ts[i].positions)})
	}
	if len(steps) == 0 {
		return nil
	}
	p := pace.Judge(pace.Run{Steps: steps})
	return &p
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	if n := len(s); n%2 == 0 {
		return s[n/2-1]/2 + s[n/2]/2
	}
	return s[len(s)/2]
}
