package profile

import (
	"time"

	"github.com/mlxdyno/mlxdyno/mlxbind"
	"github.com/mlxdyno/mlxdyno/trainer"
)

// Phases of a step.
const (
	Data      = "data"
	Forward   = "forward"
	Loss      = "loss"
	Backward  = "backward"
	Optimizer = "optimizer"
)

// Ends of a model, as blocks.
const (
	Embedding = "embedding"
	Head      = "head"
)

// Place is where in a step a piece belongs, outermost first: phase, block, and
// for a piece that is one operation, its layer and name.
type Place []string

// Recorder takes down what steps do. A nil Recorder takes down nothing, which is
// what an ordinary training has. It is on between Begin and End: what is
// computed besides steps does not concern it.
type Recorder struct {
	s  *mlxbind.Scope
	on bool

	since   time.Time     // end of the piece before
	skipped time.Duration // of this step, by the profile itself
	laps    []lap
	phases  map[string]float64 // of this step
	total   totals

	active int64 // bytes, at the end of the piece before
	peak   int64 // of this step
	book   book
	held   []trainer.Held // at the highest peak so far
}

// lap is one piece, measured.
type lap struct {
	place   Place
	seconds float64
	ops     *Operations // nil when it is a leaf
}

type totals struct {
	steps                         int
	tokens, positions, supervised int64
	peak                          int64
}

// New returns a Recorder. base is what is in memory during all steps.
func New(s *mlxbind.Scope, base []trainer.Held) *Recorder {
	r := &Recorder{s: s}
	r.book.base = base
	for _, h := range base {
		r.book.based += h.Bytes
	}
	return r
}

// Recording reports whether a step is being recorded.
func (r *Recorder) Recording() bool { return r != nil && r.on }

// Begin begins a step that has waited for its batch.
func (r *Recorder) Begin(data time.Duration) {
	if r == nil {
		return
	}
	r.on, r.skipped, r.peak = true, 0, 0
	r.phases = map[string]float64{}
	r.add(Place{Data}, data.Seconds(), nil)
	r.active = r.s.Memory().Active
	r.book.begin()
	r.s.ResetPeak()
	r.since = time.Now()
}

func (r *Recorder) add(p Place, seconds float64, ops *Operations) {
	r.laps = append(r.laps, lap{p, seconds, ops})
	r.phases[p[0]] += seconds
}

// Lap ends a piece that is computed, with what it did; nil leaves it whole.
// gradients are the bytes of adapters' gradients among its results.
func (r *Recorder) Lap(p Place, ops *Operations, gradients int64) {
	if !r.Recording() {
		return
	}
	now := time.Now()
	r.add(p, now.Sub(r.since).Seconds(), ops)
	m := r.s.Memory()
	peak := max(m.Peak, m.Active, r.active)
	if peak > r.peak {
		r.peak = peak
		if peak > r.total.peak {
			r.total.peak = peak
			r.held = r.book.at(p, peak, r.active)
		}
	}
	r.book.turn(p, m.Active-r.active, gradients, ops)
	r.resume(now)
}

// resume lets the clock and the counters of the next piece begin; what happened
// since then is the profile's own.
func (r *Recorder) resume(then time.Time) {
	r.active = r.s.Memory().Active
	r.s.ResetPeak()
	r.since = time.Now()
	r.skipped += r.since.Sub(then)
}

// Aside does what is the profile's own, between two pieces: it counts neither
// into the step's time nor into its peak.
func (r *Recorder) Aside(f func()) {
	if !r.Recording() {
		return
	}
	then := time.Now()
	f()
	r.resume(then)
}

// End ends a step and corrects what was seen of it from outside: its time by
// what the profile took itself, and its peak, which was read in between.
func (r *Recorder) End(step *trainer.Step) {
	if r == nil {
		return
	}
	seconds := step.Seconds - r.skipped.Seconds()
	counted := 0.0
	for phase, v := range r.phases {
		if phase != Data {
			counted += v
		}
	}
	r.add(Place{Optimizer, "", "", "bookkeeping"}, max(0, seconds-counted), nil)
	step.Seconds = max(seconds, counted)
	step.Memory.Peak = trainer.Some(r.peak)
	r.on = false
	t := &r.total
	t.steps++
	t.tokens += step.Tokens
	t.positions += step.Shape.Positions()
	t.supervised += step.Supervised
}

// Phases are those of the latest step.
func (r *Recorder) Phases() trainer.Phases { return trainer.Phases{Seconds: r.phases} }

// Steps is how many were recorded.
func (r *Recorder) Steps() int {
	if r == nil {
		return 0
	}
	return r.total.steps
}
