package tuner

import (
	"context"
	"errors"
	"math"
	"slices"

	"github.com/mlxdyno/mlxdyno/probe/leak"
	"github.com/mlxdyno/mlxdyno/tuner/search"
)

// growth is a process that loses memory with every step, and perhaps slows down
// as it does, in a training that may replace it by a new one.
type growth struct {
	bytesAStep float64 // lost
	headroom   int64   // bytes that may be lost before the limit is reached
	slowdown   float64 // seconds that a step takes longer than the one before
	reload     float64 // seconds that a replacement costs: to load, to compile again
	steps      int     // of the whole training
	multiple   int     // of which the interval is one: steps of an update
}

// most is after how many steps the process must be replaced, and whether the
// training reaches that.
func (g growth) most() (n int, bounded bool) {
	if !(g.bytesAStep > 0) {
		return g.steps, false
	}
	n = int(math.Max(0, math.Min(math.Floor(float64(g.headroom)/g.bytesAStep), float64(g.steps))))
	if n == g.steps {
		return n, false
	}
	return n - n%g.multiple, true
}

// interval is after how many steps to replace the process: 0 for never, and false
// when not even one update fits.
//
// With a linear slowdown the best interval is near √(2K/β) (Young 1974), and
// without one the longest there may be. Replacements come whole, though, so that
// what every interval costs is compared; of those that cost the same the shortest
// leaves most room.
func (g growth) interval() (int, bool) {
	most, bounded := g.most()
	if most < g.multiple {
		return 0, false
	}
	best, least := 0, math.Inf(1)
	if !bounded {
		least = g.beside(g.steps)
	}
	for n := g.multiple; n <= most; n += g.multiple {
		if cost := g.beside(n); cost < least {
			best, least = n, cost
		}
	}
	if best >= g.steps {
		best = 0
	}
	return best, true
}

// beside is what an interval costs on top of the steps of a fresh process, in
// seconds.
func (g growth) beside(interval int) float64 {
	whole, rest := g.steps/interval, g.steps%interval
	slow := func(n int) float64 { return g.slowdown * float64(n) * float64(n-1) / 2 }
	replaced := whole - 1
	if rest > 0 {
		replaced++
	}
	return float64(whole)*slow(interval) + slow(rest) + float64(replaced)*g.reload
}

// growth is what the stability burst says of a process that runs a candidate and
// leaks. A peak has in it what its own step loses.
func (r *run) growth(c Candidate, trace float64, s steadiness) growth {
	headroom := max(r.usable()-c.PeakBytes-3*c.PeakErrorBytes, 0) + int64(s.leak.BytesAStep)
	return growth{bytesAStep: s.leak.BytesAStep, headroom: headroom, slowdown: s.slowdown, reload: r.load + trace,
		steps: r.plannedSteps(c), multiple: c.Accumulation}
}

// reloading is the time of a useful token, with the processes that are replaced for
// what they lose; infinite when not even one update fits.
func (r *run) reloading(c Candidate, trace float64, s steadiness) float64 {
	g := r.growth(c, trace, s)
	n, ok := g.interval()
	switch {
	case !ok:
		return math.Inf(1)
	case n == 0:
		n = g.steps
	}
	step := c.EpochSeconds / float64(r.epoch(c.Batch, c.MaxSeqLength).Batches)
	return c.SecondsPerUsefulToken * (1 + g.beside(n)/(float64(g.steps)*step))
}

// reloadingLess returns a finalist that is faster than the winner once the processes
// count that a leak costs each, by more than a tie: one that takes less memory leaves
// more to a leak. It is nil when there is none.
func (r *run) reloadingLess(ctx context.Context, winner *finalist, s steadiness) (*finalist, error) {
	if s.leak.State != leak.Leaking || r.Wishes.Prefer != Speed {
		return nil, nil
	}
	missed := r.missed(winner)
	least, best := r.reloading(winner.Candidate, winner.trace, s)/(1+search.Tie), -1
	for i, c := range r.outcome.Feasible {
		if !c.Measured {
			c = atPace(c, missed)
		}
		if t := r.reloading(c, winner.trace, s); c.Point != winner.Point && t < least {
			least, best = t, i
		}
	}
	if best < 0 {
		return nil, nil
	}
	c := r.outcome.Feasible[best]
	if i := slices.IndexFunc(r.measured, func(f *finalist) bool { return f.Point == c.Point }); i >= 0 {
		return r.measured[i], nil
	}
	f, err := r.confirmOne(ctx, c)
	if errors.Is(err, errSpent) {
		return nil, nil
	}
	if err != nil || f == nil || f.lacks != "" || r.reloading(f.Candidate, f.trace, s) >= r.reloading(winner.Candidate, winner.trace, s) {
		return nil, err
	}
	r.measured = append(r.measured, f)
	r.enumerate()
	return f, nil
}
