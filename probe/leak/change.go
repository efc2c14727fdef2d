package leak

import (
	"math"
	"slices"
)

// Change is a place where a series changes its level or its slope.
type Change struct {
	At     int     `json:"at"`     // first sample after it
	Jump   float64 `json:"jump"`   // of the level there
	Before float64 `json:"before"` // slope a sample, up to the change before
	After  float64 `json:"after"`  // slope a sample, up to the next change
}

const (
	shortest = 10 // cells between changes
	proof    = 6  // times the long-run variance and the logarithm of the length: what a change must explain
)

// Changes finds where a series changes level or slope beside what its
// covariates explain, by binary segmentation into straight lines. A change must
// explain more than the readings' own memory does. Places are exact to a few
// samples, and to a thousandth of a long series.
func Changes(s Series) []Change {
	c, ok := s.prepare()
	if !ok || c.scale == 0 || math.IsInf(c.scale, 0) {
		return nil
	}
	newRegression(c.x, 0).adjust(c.y)
	l := newLines(c.y)
	cuts := l.segment()
	var out []Change
	for k := 1; k+1 < len(cuts); k++ {
		a0, a1 := l.fit(cuts[k-1], cuts[k])
		b0, b1 := l.fit(cuts[k], cuts[k+1])
		at := float64(cuts[k]) - 0.5
		per := c.scale / float64(c.width)
		out = append(out, Change{At: len(s.Values)%c.width + cuts[k]*c.width, Jump: c.scale * (b0 + b1*at - a0 - a1*at), Before: per * a1, After: per * b1})
	}
	return out
}

// growsFrom is where the growth began that goes on at the end: the start of
// the stretches that rise at least half as fast as the last one.
func growsFrom(changes []Change) int {
	for k := len(changes) - 1; k >= 0; k-- {
		if changes[k].Before < changes[len(changes)-1].After/2 {
			return changes[k].At
		}
	}
	return 0
}

// lines fits straight lines to stretches of a series in constant time.
type lines struct {
	raw       []float64
	y, xy, yy []float64 // sums up to each place
}

func newLines(y []float64) *lines {
	n := len(y)
	l := &lines{raw: y, y: make([]float64, n+1), xy: make([]float64, n+1), yy: make([]float64, n+1)}
	for i, v := range y {
		l.y[i+1] = l.y[i] + v
		l.xy[i+1] = l.xy[i] + float64(i)*v
		l.yy[i+1] = l.yy[i] + v*v
	}
	return l
}

// moments of the stretch from ≤ i < to, about its middle.
func (l *lines) moments(from, to int) (n, x, y, xx, xy float64) {
	n = float64(to - from)
	x = float64(from+to-1) / 2
	y = (l.y[to] - l.y[from]) / n
	xx = n * (n*n - 1) / 12
	return n, x, y, xx, l.xy[to] - l.xy[from] - n*x*y
}

func (l *lines) fit(from, to int) (at0, slope float64) {
	_, x, y, xx, xy := l.moments(from, to)
	if xx > 0 {
		slope = xy / xx
	}
	return y - slope*x, slope
}

// rest is the sum of squares that a line leaves.
func (l *lines) rest(from, to int) float64 {
	n, _, y, xx, xy := l.moments(from, to)
	r := l.yy[to] - l.yy[from] - n*y*y
	if xx > 0 {
		r -= xy * xy / xx
	}
	return max(r, 0)
}

// segment returns the places of all changes, with both ends.
func (l *lines) segment() []int {
	n := len(l.raw)
	cuts := []int{0, n}
	robust := differenced(l.raw)
	var split func(from, to int, least float64)
	split = func(from, to int, least float64) {
		best, at := 0., 0
		whole := l.rest(from, to)
		for i := from + shortest; i <= to-shortest; i++ {
			if gain := whole - l.rest(from, i) - l.rest(i, to); gain > best {
				best, at = gain, i
			}
		}
		if at == 0 {
			return
		}
		variance := max(min(l.longRun(from, at, to), robust), least)
		if best > proof*variance*math.Log(float64(n)+1)+nothing*l.yy[n] {
			cuts = append(cuts, at)
			split(from, at, variance/2)
			split(at, to, variance/2)
		}
	}
	split(0, n, 0)
	slices.Sort(cuts)
	return cuts
}

// differenced estimates the long-run variance from differences over several
// distances, of which few jumps change little. The largest estimate counts.
func differenced(y []float64) float64 {
	var out float64
	for _, lag := range []int{1, 2, 4} {
		near, far := differences(y, lag), differences(y, 2*lag)
		if near == 0 {
			continue
		}
		phi := math.Pow(min(max(far/near-1, 0), 0.98), 1/float64(lag))
		out = max(out, near/2/(1-math.Pow(phi, float64(lag)))*(1+phi)/(1-phi))
	}
	return out
}

// differences is the variance of differences over lag values, by their median
// deviation.
func differences(y []float64, lag int) float64 {
	if len(y) <= lag {
		return 0
	}
	d := make([]float64, len(y)-lag)
	for i := range d {
		d[i] = y[i+lag] - y[i]
	}
	m := middle(d)
	for i := range d {
		d[i] = math.Abs(d[i] - m)
	}
	s := 1.4826 * middle(d)
	return s * s
}

// longRun is the long-run variance of what two lines leave: with its memory,
// without the change that is in question. Other changes add to it, but slopes do
// not, as they do to differences: the smaller of the two counts.
func (l *lines) longRun(from, at, to int) float64 {
	r := slices.Clone(l.raw[from:to])
	withoutLine(r[:at-from])
	withoutLine(r[at-from:])
	n := float64(len(r))
	return dot(r, r) / max(n-5, 1) * memory(r, 8/n)
}

// pace is how fast a series rose before a change, the change included, after
// its warm-up.
func pace(s Series, until int) float64 {
	c, _ := s.prepare()
	newRegression(c.x, 0).adjust(c.y)
	l := newLines(c.y)
	from := len(c.y) * (allBlocks - blocks) / allBlocks
	to := (until - len(s.Values)%c.width) / c.width
	if to <= from {
		return 0
	}
	a0, a1 := l.fit(from, min(from+shortest, to))
	b0, b1 := l.fit(to, min(to+shortest, len(c.y)))
	rise := b0 + b1*float64(to) - a0 - a1*float64(from)
	return max(rise/float64(to-from)*c.scale/float64(c.width), 0)
}
