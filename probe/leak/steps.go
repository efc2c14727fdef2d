package leak

import "math"

const (
	jumps  = 3   // that may be all of a rise
	groups = 128 // that a fit of steps looks at
	kinks  = 32  // places where a slope may begin
)

// versus says how much less a few steps leave unexplained of y than a line
// does that may have one kink: sums of squares, positive when steps fit better.
func versus(y []float64) float64 {
	g := grouped(y)
	return bent(g) - stepped(g)
}

// grouped averages y into at most groups values.
func grouped(y []float64) []float64 {
	n := min(groups, len(y))
	out := make([]float64, n)
	for i := range out {
		out[i] = mean(y[i*len(y)/n : (i+1)*len(y)/n])
	}
	return out
}

// bent is what the best line with a kink leaves.
func bent(y []float64) float64 {
	r := append([]float64(nil), y...)
	withoutLine(r)
	straight := dot(r, r)
	best := straight
	ramp := make([]float64, len(y))
	for k := 1; k < kinks; k++ {
		at := k * len(y) / kinks
		for i := range ramp {
			ramp[i] = float64(max(i-at, 0))
		}
		withoutLine(ramp)
		if norm := dot(ramp, ramp); norm > 0 {
			b := dot(r, ramp)
			best = min(best, straight-b*b/norm)
		}
	}
	return max(best, 0)
}

// stepped is what the best levels with jumps between them leave.
func stepped(y []float64) float64 {
	n := len(y)
	sum, square := make([]float64, n+1), make([]float64, n+1)
	for i, v := range y {
		sum[i+1], square[i+1] = sum[i]+v, square[i]+v*v
	}
	rest := func(from, to int) float64 {
		s := sum[to] - sum[from]
		return max(square[to]-square[from]-s*s/float64(to-from), 0)
	}
	best := make([]float64, n+1) // of the first so many values, with the levels so far
	for to := 1; to <= n; to++ {
		best[to] = rest(0, to)
	}
	for range jumps {
		for to := n; to > 1; to-- {
			for from := 1; from < to; from++ {
				best[to] = min(best[to], best[from]+rest(from, to))
			}
		}
	}
	return best[n]
}

// slopeBeyondSteps is the slope over a whole series that a line would explain
// better than steps do, when fluctuation alone gives steps so much of an
// advantage. Steps leave a line a saw of 1/192 of its rise squared; what the
// saw meets in the fluctuation may halve that.
func slopeBeyondSteps(advantage float64, n int) float64 {
	const saws = 12 * (jumps + 1) * (jumps + 1)
	return math.Sqrt(saws * 2 * max(advantage, 0) / float64(n))
}
