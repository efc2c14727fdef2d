package patient

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/stat/distuv"

	"github.com/mlxdyno/mlxdyno/probe/leak"
)

// Growth is the verdict on one series of memory readings.
type Growth struct {
	Kind     string     `json:"kind"` // active, peak, cache, memory, resident or footprint
	State    leak.State `json:"state"`
	Readings int        `json:"readings"`
	First    int64      `json:"first_bytes"`
	Last     int64      `json:"last_bytes"`
	Highest  int64      `json:"highest_bytes"`
	Rate     leak.Rate  `json:"rate"` // bytes a step, decimal units taken as 10ⁿ
	// Binary is the rate if the patient's GB are 2³⁰ bytes; equal to Rate where
	// its unit has one meaning.
	Binary   leak.Rate `json:"binary_rate"`
	PerSteps float64   `json:"steps_a_reading"` // 0 when readings are by time: rates are bytes a second then
	Reason   string    `json:"reason"`
}

const (
	fewestRises = 5    // in a row, that make a growth of coarse readings
	mostRises   = 10   // of the means of blocks that stand for a longer series
	evenness    = 0.35 // standard deviation of rises to their mean
	goingOn     = 0.7  // of the first rises, that the last must reach
	clear       = 8    // units of the last printed digit, of a rise
	jump        = 2    // times the others, that a first rise is left out for
	sure        = 0.995
)

// reading is one value of a series: x is a step or a second.
type reading struct {
	x         float64
	y, binary float64
	digit     float64
}

// grow judges one series. Readings of one shape that are bytes at each step are
// judged to the byte; from leak.MinSamples on by leak's statistics; fewer ones
// only when they rise, all of them, by much the same.
func grow(kind string, rs []reading, oneShape, bySteps bool) Growth {
	g := Growth{Kind: kind, State: leak.Inconclusive, Readings: len(rs)}
	if len(rs) == 0 {
		g.Reason = "there is no reading"
		return g
	}
	g.First, g.Last = int64(rs[0].y), int64(rs[len(rs)-1].y)
	for _, r := range rs {
		g.Highest = max(g.Highest, int64(r.y))
	}
	if span := rs[len(rs)-1].x - rs[0].x; len(rs) > 1 && bySteps && span > 0 {
		g.PerSteps = span / float64(len(rs)-1)
	}
	switch {
	case bySteps && g.PerSteps == 1 && oneShape && exact(rs) && len(rs) >= leak.MinReadings && kind != Footprint && kind != Resident:
		g.exactly(rs)
		if g.State != leak.Inconclusive {
			break
		}
		fallthrough
	case len(rs) >= leak.MinSamples:
		g.noisily(rs)
	default:
		g.coarsely(rs)
	}
	ratio := 1.
	if last := rs[len(rs)-1]; last.y > 0 {
		ratio = last.binary / last.y
	}
	g.Binary = leak.Rate{BytesAStep: ratio * g.Rate.BytesAStep, Low: ratio * g.Rate.Low, High: ratio * g.Rate.High, IsExact: g.Rate.IsExact}
	return g
}

// exact says whether readings are whole bytes.
func exact(rs []reading) bool {
	return !slices.ContainsFunc(rs, func(r reading) bool { return r.digit != 1 })
}

func (g *Growth) exactly(rs []reading) {
	bytes := make([]int64, len(rs))
	for i, r := range rs {
		bytes[i] = int64(r.y)
	}
	v := leak.Exact(bytes, 1)
	g.State, g.Rate, g.Reason = v.State, v.Rate(), v.Reason
}

func (g *Growth) noisily(rs []reading) {
	values := make([]float64, len(rs))
	for i, r := range rs {
		values[i] = r.y
	}
	t := leak.Noise(leak.Series{Values: values})
	g.State, g.Reason = t.State, t.Reason
	if t.State == leak.Leaking {
		each := (rs[len(rs)-1].x - rs[0].x) / float64(len(rs)-1)
		g.Rate = leak.Rate{BytesAStep: t.Slope / each, Low: t.Low / each, High: t.High / each}
	}
}

// coarsely judges a short or coarse series. Memory that only comes and goes,
// warms up or is raised in jumps does not rise evenly at every reading.
func (g *Growth) coarsely(rs []reading) {
	whole, all := rs, len(rs)
	if rs = thinned(rs); len(rs)-1 < fewestRises {
		g.Reason = fmt.Sprintf("%d readings; a verdict needs %d", all, fewestRises+1)
		return
	}
	rates := rises(rs)
	if rest := slices.Sorted(slices.Values(rates[1:])); rates[0] > jump*rest[len(rest)/2] && len(rates) > fewestRises {
		rs, rates = rs[1:], rates[1:] // the optimizer's state, made in the first step
	}
	digit := slices.MaxFunc(rs, func(a, b reading) int { return cmp.Compare(a.digit, b.digit) }).digit
	first, last := rs[0], rs[len(rs)-1]
	if most, least := extremes(rs); most-least <= 2*digit || most-least < 1e-4*most {
		g.State, g.Reason = leak.None, fmt.Sprintf("%d readings are equal to the digits that are known", all)
		return
	}
	if lowest, _ := extremesOf(rates); lowest <= 0 {
		third := max(len(whole)/3, 1)
		_, before := extremes(whole[:third])
		_, after := extremes(whole[len(whole)-third:])
		if after <= before+digit {
			g.State, g.Reason = leak.None, "it comes and goes, and returns to where it began"
			return
		}
		g.Reason = "it rose, but not at every reading: a longer run would tell"
		return
	}
	mean, deviation := moments(rates)
	n := float64(len(rates))
	half := len(rates) / 2
	before, _ := moments(rates[:half])
	after, _ := moments(rates[len(rates)-half:])
	switch {
	case last.y-first.y < clear*digit:
		g.Reason = "it rose by too few of the last digit that is printed"
	case after < goingOn*before:
		g.Reason = "its rise slows down, as a warm-up does"
	case deviation > evenness*mean:
		g.Reason = "it rose at every reading, but by very unequal amounts"
	default:
		student := distuv.StudentsT{Mu: 0, Sigma: 1, Nu: n - 1}
		slope := (last.y - first.y) / (last.x - first.x)
		width := student.Quantile(sure)*deviation/math.Sqrt(n) + 2*digit/(last.x-first.x)
		g.State = leak.Leaking
		g.Rate = leak.Rate{BytesAStep: slope, Low: max(slope-width, 0), High: slope + width}
		g.Reason = fmt.Sprintf("%d readings, each higher than the one before by much the same", all)
	}
}

// thinned makes means of blocks of a longer series.
func thinned(rs []reading) []reading {
	if len(rs)-1 <= mostRises {
		return rs
	}
	out := make([]reading, mostRises+1)
	for i := range out {
		block := rs[i*len(rs)/len(out) : (i+1)*len(rs)/len(out)]
		n := float64(len(block))
		for _, r := range block {
			out[i].x, out[i].y, out[i].binary = out[i].x+r.x/n, out[i].y+r.y/n, out[i].binary+r.binary/n
			out[i].digit = max(out[i].digit, r.digit)
		}
	}
	return out
}

// rises are bytes a step between neighbours.
func rises(rs []reading) []float64 {
	out := make([]float64, len(rs)-1)
	for i := range out {
		out[i] = (rs[i+1].y - rs[i].y) / (rs[i+1].x - rs[i].x)
	}
	return out
}

func extremes(rs []reading) (most, least float64) {
	most, least = rs[0].y, rs[0].y
	for _, r := range rs {
		most, least = max(most, r.y), min(least, r.y)
	}
	return most, least
}

func extremesOf(v []float64) (least, most float64) { return slices.Min(v), slices.Max(v) }

func moments(v []float64) (mean, deviation float64) {
	for _, x := range v {
		mean += x / float64(len(v))
	}
	for _, x := range v {
		deviation += (x - mean) * (x - mean)
	}
	if len(v) > 1 {
		deviation = math.Sqrt(deviation / float64(len(v)-1))
	}
	return mean, deviation
}
