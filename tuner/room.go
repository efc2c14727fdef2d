package tuner

import (
	"cmp"
	"math"
	"slices"

	"github.com/mlxdyno/mlxdyno/probe/budget"
	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/tuner/predict"
	"github.com/mlxdyno/mlxdyno/tuner/search"
)

// slackGrows is by how much of itself what the C library keeps of freed memory may grow
// after the steps that a burst has. With our trainer on a Linux CPU that was 11 to 18 MB
// after 64 steps and up to 70 % more after 500, with mlx-lm 11 MB and 55 % more; of several
// bursts the one with the most counts. It cannot be given back, as something that lives
// lies above it: giving back all that can be after each step did not help. With all large
// arrays mapped by themselves nothing grows, but steps of small models take 5 to 30 % longer.
const slackGrows = 0.75

// usable is the memory that MLX's live buffers may take: the limit without what
// the process needs outside MLX and what MLX keeps of freed buffers.
func (r *run) usable() int64 { return r.Limit.Bytes - r.beside() }

// beside is what a process takes beside MLX's live buffers: its program, what the C
// library keeps, and what MLX does.
func (r *run) beside() int64 {
	return r.host + int64(slackGrows*float64(r.host-r.program)) + r.kept()
}

// kept is what MLX keeps of freed buffers beside a peak: on a CPU up to the limit
// that was set, else as much as was seen. What a GPU keeps is chosen within what
// the peak leaves.
func (r *run) kept() int64 {
	switch {
	case r.device != "cpu":
		return 0
	case r.Base.Config.Plan.CacheLimit.IsSet:
		return r.Base.Config.Plan.CacheLimit.Bytes
	}
	return r.cache
}

func (r *run) estimate(p Point, s trainer.Shape) int64 {
	return budget.Estimate(r.Facts, r.config(p), s).Peak.Best().Or(0)
}

// mayFit reports whether, by the estimate, the smallest step of the space could
// fit at all. It errs on the side of trying.
func (r *run) mayFit() bool {
	p := r.anchor(r.space.Checkpointing[len(r.space.Checkpointing)-1])
	p.Bits = r.space.Bits[len(r.space.Bits)-1]
	return r.estimate(p, r.epoch(p.Batch, p.MaxSeqLength).Widest) <= 2*r.usable()
}

func (r *run) safe(p Point, s trainer.Shape) bool {
	if r.model != nil {
		if e, ok := r.model.Peak(p.Condition(), s); ok {
			return int64(e.Upper) <= r.usable()
		}
		if plain := p; p.Checkpointing { // takes no more than without
			plain.Checkpointing = false
			if e, ok := r.model.Peak(plain.Condition(), s); ok && int64(e.Upper) <= r.usable() {
				return true
			}
		}
	}
	return float64(r.estimate(p, s)) <= safely*float64(r.usable())
}

// observe takes from a burst what every burst tells.
func (r *run) observe(b trainer.Burst) {
	h := cmp.Or(b.Summary.Hello, b.Result.Hello)
	if h != nil && h.Device.Kind != r.device {
		r.device = h.Device.Kind
		clear(r.plans) // it has a say in how rows become batches
	}
	steps := b.Summary.Steps
	if len(steps) == 0 {
		return
	}
	first := steps[0]
	r.first, r.compiles = first.Seconds, compiled(b)
	r.load = max(r.load, first.Elapsed.Seconds()-first.Seconds-first.DataSeconds)
	if r.device == "cuda" {
		return // the process's footprint is host memory, the limit is the card's
	}
	if loaded := b.Summary.Ready; loaded != nil {
		f, okF := loaded.Memory.Footprint.Get()
		a, okA := loaded.Memory.Active.Get()
		if program := f - a - loaded.Memory.Cache.Or(0); okF && okA && (r.program == 0 || program < r.program) {
			r.program = max(program, 0)
		}
	}
	// Freed memory may stay with the process, so that what it has outside MLX is
	// seen while little was ever in use, or on top of the highest peak so far.
	least, most, peak := int64(math.MaxInt64), int64(0), int64(0)
	for _, s := range steps {
		cache := s.Memory.Cache.Or(0)
		r.cache = max(r.cache, cache)
		peak = max(peak, s.Memory.Peak.Or(0))
		f, okF := s.Memory.Footprint.Get()
		a, okA := s.Memory.Active.Get()
		if okF && okA {
			least = min(least, max(0, f-a-cache))
			most = max(most, f-max(peak, a)-cache)
		}
	}
	if least < math.MaxInt64 {
		r.host = max(r.host, r.program, least, most)
	}
}

// noteDeath remembers the shape at which a process ended that should not have: the one
// that took too much, or the one that it did not finish.
func (r *run) noteDeath(c predict.Condition, shapes []trainer.Shape, b trainer.Burst) {
	for _, s := range b.Summary.Steps {
		if most := b.Job.MaxPeakBytes; most > 0 && s.Memory.Peak.Or(0) > most {
			r.deaths[c] = append(r.deaths[c], trainer.Shape{Batch: s.Shape.Batch, Width: s.Shape.Width})
			return
		}
	}
	steps := b.Summary.Steps
	for _, s := range shapes {
		n, settling := 0, 0.0
		for n < min(len(steps), s.Steps) && steps[n].Shape.Batch == s.Batch && steps[n].Shape.Width == s.Width {
			if n > 0 {
				settling += steps[n].Seconds
			}
			n++
		}
		steps = steps[n:]
		ended := n == s.Steps || b.Job.ShapeSeconds > 0 && n >= trainer.LeastSteps && settling >= b.Job.ShapeSeconds
		if len(steps) == 0 && !ended {
			r.deaths[c] = append(r.deaths[c], trainer.Shape{Batch: s.Batch, Width: s.Width})
			return
		}
	}
}

// deadly reports whether a step has no fewer positions than one at which a process
// died, and takes no less by the model, if there is one: rows may be shorter.
func (r *run) deadly(c predict.Condition, s trainer.Shape) bool {
	return slices.ContainsFunc(r.deaths[c], func(fatal trainer.Shape) bool {
		if s.Positions() < fatal.Positions() {
			return false
		}
		if r.model == nil {
			return true
		}
		one, ok := r.model.Peak(c, s)
		other, known := r.model.Peak(c, fatal)
		return !ok || !known || one.Value >= other.Value
	})
}

// fail leaves a point out that was predicted to fit.
func (r *run) fail(p Point, why string) {
	r.failed[p] = why
	r.measured = slices.DeleteFunc(r.measured, func(f *finalist) bool { return f.Point == p })
	r.enumerate()
}

func (r *run) problem() search.Problem {
	return search.Problem{
		Space: r.space,
		Plan:  func(batch, limit int) search.Plan { return r.epoch(batch, limit).Plan },
		Model: r.model,
		Limit: r.usable(),
		Beside: func(p Point, peak int64) int64 {
			if p.Accumulation == 1 {
				return 0
			}
			return 4*r.known.AdapterParameters(p.Rank) + int64(accumulated*float64(peak))
		},
		Reject: func(p Point) string {
			if why := r.failed[p]; why != "" {
				return why
			}
			if r.deadly(p.Condition(), r.epoch(p.Batch, p.MaxSeqLength).Widest) {
				return "a burst of that size died"
			}
			return ""
		},
	}
}

// enumerate asks the model of the whole space. What was measured counts as measured.
func (r *run) enumerate() {
	r.outcome = search.Enumerate(r.problem())
	for _, cs := range [][]Candidate{r.outcome.Feasible, r.outcome.Doubtful} {
		for i, c := range cs {
			cs[i] = r.lighten(c)
		}
	}
	for _, f := range r.measured {
		is := func(c Candidate) bool { return c.Point == f.Point }
		if i := slices.IndexFunc(r.outcome.Feasible, is); i >= 0 {
			r.outcome.Feasible[i] = f.Candidate
			continue
		}
		// It fits, whatever the model says.
		r.outcome.Feasible = append(r.outcome.Feasible, f.Candidate)
		r.outcome.Doubtful = slices.DeleteFunc(r.outcome.Doubtful, is)
		r.outcome.Infeasible[search.WhyMemory]--
	}
	search.Order(r.outcome.Feasible, r.Wishes.Prefer)
	search.Order(r.outcome.Doubtful, r.Wishes.Prefer)
}
