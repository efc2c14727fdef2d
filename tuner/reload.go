package tuner

import "math"

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
