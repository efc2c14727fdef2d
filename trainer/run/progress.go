package run

import (
	"time"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// Progress is what a status line shows.
type Progress struct {
	Step            int
	Steps           int
	Segment         int
	Loss            trainer.Opt[trainer.Float] // of the newest step
	ValLoss         trainer.Opt[trainer.Float] // of the newest evaluation
	TokensPerSecond trainer.Opt[float64]       // smoothed over about the last 20 steps
	Memory          trainer.Memory
	ETA             trainer.Opt[time.Duration] // unknown before the second step of a process
}

// Meter turns events into Progress. It has no clock: times are the workers'.
type Meter struct {
	schedule trainer.Schedule
	now      Progress
	speed    rate
	in       bool // a step of the current process was seen
	at       time.Duration
	wall     time.Duration // between steps of one process, evaluations and saves included
	gaps     int
	starts   time.Duration // from the start of a process to the end of its first step
	started  int
}

// NewMeter returns a meter for a training on that schedule.
func NewMeter(s trainer.Schedule) *Meter {
	return &Meter{schedule: s, now: Progress{Steps: s.Steps}}
}

// Follow puts another schedule in force, as a back-off does. Where the number of
// steps changes, so does what a step is, and the pace is taken anew.
func (m *Meter) Follow(s trainer.Schedule) {
	if s.Steps != m.schedule.Steps {
		m.wall, m.gaps = 0, 0
	}
	m.schedule, m.now.Steps = s, s.Steps
}

// Add takes the next event in.
func (m *Meter) Add(e trainer.Event) {
	switch p := e.Payload.(type) {
	case trainer.Hello:
		m.in, m.now.Segment = false, e.Segment
	case trainer.Eval:
		m.now.ValLoss = trainer.Some(p.Loss)
	case trainer.Profiled: // the steps that follow are faster than those it took
		m.wall, m.gaps, m.speed = 0, 0, rate{}
	case trainer.Step:
		m.now.Step, m.now.Segment = e.Step, e.Segment
		m.now.Loss, m.now.Memory = trainer.Some(p.Loss), p.Memory
		if m.in {
			m.wall += e.Elapsed - m.at
			m.gaps++
			m.speed.add(p, brisk)
		} else {
			m.starts += e.Elapsed
			m.started++
		}
		m.in, m.at = true, e.Elapsed
	}
}

// Progress is the state after the events so far.
func (m *Meter) Progress() Progress {
	p := m.now
	if v, ok := m.speed.perSecond(); ok {
		p.TokensPerSecond = trainer.Some(v)
	}
	if m.gaps > 0 {
		left := max(0, p.Steps-p.Step)
		eta := time.Duration(left) * (m.wall / time.Duration(m.gaps))
		if n := m.schedule.ReloadInterval; n > 0 && left > 0 {
			eta += time.Duration((left-1)/n) * (m.starts / time.Duration(m.started))
		}
		p.ETA = trainer.Some(eta)
	}
	return p
}

// rate is tokens over seconds, older steps weighing less and less.
type rate struct{ tokens, seconds float64 }

// By these a step counts half after about 14 others, and after about 140.
const (
	brisk  = 0.95
	steady = 0.995
)

func (r *rate) add(s trainer.Step, fade float64) {
	r.tokens = fade*r.tokens + float64(s.Tokens)
	r.seconds = fade*r.seconds + s.Seconds + s.DataSeconds
}

func (r rate) perSecond() (float64, bool) {
	if r.seconds <= 0 {
		return 0, false
	}
	return r.tokens / r.seconds, true
}
