package fits

import (
	"math"
	"slices"

	"github.com/mlxdyno/mlxdyno/probe/budget"
	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/tuner/predict"
)

// Peak is what a step takes of MLX's memory.
type Peak struct {
	Bytes float64
	Bound float64 // not exceeded, as far as the basis allows to say
}

// oracle says what steps take.
type oracle struct {
	q     Question
	model *predict.Model // nil leaves it to arithmetic
	known predict.Known
	steps map[predict.Condition]budget.Steps
	vague bool // some time was left out
}

// vagueTime is the share of a time by which it may be off, as one standard error, to
// be said at all.
const vagueTime = 0.5

func newOracle(q Question) *oracle {
	o := &oracle{q: q, steps: map[predict.Condition]budget.Steps{}}
	o.known = q.known()
	if m, ok := predict.Fit(q.Samples, o.known); ok {
		o.model = m
	}
	for _, c := range q.conditions() {
		o.steps[c] = budget.StepsOf(q.Facts, q.config(c), q.Device)
	}
	return o
}

// conditions are all that are asked about: most bits and lowest rank first.
func (q Question) conditions() []predict.Condition {
	var out []predict.Condition
	for _, bits := range q.Bits {
		for _, rank := range q.Ranks {
			for _, gc := range []bool{false, true} {
				out = append(out, predict.Condition{Bits: bits, Rank: rank, Checkpointing: gc})
			}
		}
	}
	return out
}

// known is what the model's files say.
func (q Question) known() predict.Known {
	layers := q.Config.Quality.Layers
	weights := map[int]int64{}
	bits := slices.Clone(q.Bits)
	for _, s := range q.Samples {
		bits = append(bits, s.Bits)
	}
	perRank := q.Facts.AdapterParameters(1, layers)
	for _, b := range bits {
		at := budget.Estimate(q.Facts, q.config(predict.Condition{Bits: b, Rank: 1}), trainer.Shape{Batch: 1, Width: 2})
		weights[b] = at.Line(budget.Weights).Best().Or(0)
	}
	return predict.Known{
		Ahead:             func() bool { return predict.WorksAhead(q.Device) },
		WeightBytes:       func(bits int) int64 { return weights[bits] },
		AdapterParameters: func(rank int) int64 { return perRank * int64(rank) },
		Parameters:        q.Facts.Parameters,
		Stages:            q.stages(),
	}
}

// stages are what steps consist of by formula, worked out once for each condition.
func (q Question) stages() func(predict.Condition) budget.Stages {
	done := map[predict.Condition]budget.Stages{}
	return func(c predict.Condition) budget.Stages {
		of, ok := done[c]
		if !ok {
			of = budget.StagesOf(q.Facts, q.config(c), q.Device)
			done[c] = of
		}
		return of
	}
}

// measured reports whether measured points say something of c.
func (o *oracle) measured(c predict.Condition) bool { return o.model != nil && o.model.Knows(c) }

// peak is what a step takes. A higher rank never takes less, nor 8 bits less than
// 4: where two fits say otherwise, their noise does.
func (o *oracle) peak(c predict.Condition, s trainer.Shape) Peak {
	p := o.ranked(c, s)
	for _, bits := range o.q.Bits {
		if c.Bits != 0 && bits != 0 && bits > c.Bits {
			other := c
			other.Bits = bits
			above := o.ranked(other, s)
			p = Peak{min(p.Bytes, above.Bytes), min(p.Bound, above.Bound)}
		}
	}
	return p
}

func (o *oracle) ranked(c predict.Condition, s trainer.Shape) Peak {
	var p Peak
	for _, rank := range o.q.Ranks {
		if rank > c.Rank {
			break
		}
		below := o.alone(predict.Condition{Bits: c.Bits, Rank: rank, Checkpointing: c.Checkpointing}, s)
		p = Peak{max(p.Bytes, below.Bytes), max(p.Bound, below.Bound)}
	}
	return p
}

func (o *oracle) alone(c predict.Condition, s trainer.Shape) Peak {
	if o.measured(c) {
		if e, ok := o.model.PeakUpTo(c, s); ok {
			return Peak{e.Value, e.Upper}
		}
	}
	bytes := float64(o.steps[c].Peak(s))
	return Peak{bytes, bytes * (1 + o.arithmeticError())}
}

func (o *oracle) fits(c predict.Condition, s trainer.Shape) bool {
	return o.peak(c, s).Bound <= float64(o.q.room())
}

// longest is the most tokens a row may have in a batch of so many; 0 when none fit.
func (o *oracle) longest(c predict.Condition, batch int) int {
	return unit * border(o.q.mostLength()/unit, func(n int) bool { return o.fits(c, shape(batch, n*unit)) })
}

// largest is the most rows of so many tokens that a batch may have; 0 when not even
// one fits.
func (o *oracle) largest(c predict.Condition, length int) int {
	return border(mostBatch, func(n int) bool { return o.fits(c, shape(n, length)) })
}

// border is the largest of 1…n for which ok holds, which it does up to some number;
// 0 when for none.
func border(n int, ok func(int) bool) int {
	low, high := 0, n+1 // ok(low), !ok(high)
	for high-low > 1 {
		if middle := (low + high) / 2; ok(middle) {
			low = middle
		} else {
			high = middle
		}
	}
	return low
}

// shape is a batch of rows of so many tokens that are predicted.
func shape(batch, length int) trainer.Shape { return trainer.Shape{Batch: batch, Width: length + 1} }

// Time is how long work takes; unknown when Seconds is 0.
type Time struct{ Seconds, Error float64 }

func (o *oracle) time(c predict.Condition, largest float64, steps ...predict.Work) Time {
	if o.measured(c) {
		if e, ok := o.model.Seconds(c, largest, steps...); ok {
			if e.Error > vagueTime*e.Value {
				o.vague = true
				return Time{}
			}
			return Time{e.Value, e.Error}
		}
	}
	r := o.q.Rate
	if r == nil || r.Operations <= 0 {
		return Time{}
	}
	w := predict.Sum(steps)
	seconds := o.operations(c, w) / r.Operations
	if r.Bandwidth > 0 { // every step reads the weights forward and backward
		seconds = math.Max(seconds, w.Steps*2*float64(o.known.WeightBytes(c.Bits))/r.Bandwidth)
	}
	return Time{seconds, r.Error * seconds}
}

// operations are floating-point ones: two for each parameter and position forward,
// two more backward for the frozen weights of blocks that have adapters, and six for
// an adapter's parameter. Attention takes 4 × length × query width forward and twice
// that backward. What checkpointing computes again comes on top.
func (o *oracle) operations(c predict.Condition, w predict.Work) float64 {
	f := o.q.Facts
	adapted := 1.0
	if n := o.q.Config.Quality.Layers; n > 0 && f.Layers > 0 {
		adapted = min(1, float64(n)/float64(f.Layers))
	}
	parameters := float64(f.Parameters)
	if !f.TiedHead { // a look-up multiplies nothing
		parameters -= float64(f.EmbeddingParameters())
	}
	again := 0.0
	if c.Checkpointing {
		again = adapted
	}
	attention := 4 * float64(f.QueryDim()) * float64(f.Layers)
	return w.Positions*(parameters*(2+2*adapted+2*again)+6*float64(o.known.AdapterParameters(c.Rank))) +
		w.Squares*attention*(1+2*adapted+again)
}
