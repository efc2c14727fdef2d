package predict

import (
	"math"
	"slices"

	"gonum.org/v1/gonum/stat"

	"github.com/mlxdyno/mlxdyno/probe/budget"
)

const (
	peakFloor = 0.0125 // standard deviation of a peak over its scale, at least: whether MLX has freed an array yet is a race
	peakGuess = 0.015  // what it is taken for before samples tell,
	guessed   = 2      // with the weight of so many of them

	// manySteps is how much further the highest of a training's peaks is above the
	// middle one than the highest of a few is.
	manySteps = 2

	// quiet is by how much of itself what is there between steps varies, over how
	// much of itself what a step adds does.
	quiet = 0.25

	// factorError is by how much of itself a formula may be off where no sample
	// tells: one standard deviation.
	factorError = 0.6
	alike       = 0.15 // by how much of themselves those of the same arrays are that are there in another number
	most        = 30   // times a formula, that all of them may be off together
	turns       = 20   // to the stages that are highest, at most; a handful settle it
)

// factors are how many times its formula each part of a step's memory is.
type factors [budget.Parts]float64

// peakFit is what samples at one width of weights say of them.
type peakFit struct {
	factors
	extra   float64    // bytes between steps beyond those of the files
	unlike  float64    // standard deviation of those within a condition: MLX may hand out buffers larger than asked for
	spread  covariance // of the factors
	sigma   float64    // relative standard deviation of what is left over
	repeats float64    // by how much a peak differs from one step to the next, over its scale
	freedom int
	points  int
	ceiling [stages]float64 // of a stage that was never the highest: how many times what is said of it it can have been at most; 0 when not known
}

const stages = budget.StageCount

// of is what a stage takes beyond what is there between steps, in bytes.
func (f factors) of(s budget.Stage) float64 {
	v := s.Fixed
	for p, bytes := range s.Parts {
		v += f[p] * bytes
	}
	return v
}

// highest is the stage that takes most.
func (f factors) highest(all [stages]budget.Stage) (bytes float64, stage int) {
	for i, s := range all {
		if v := f.of(s); i == 0 || v > bytes {
			bytes, stage = v, i
		}
	}
	return bytes, stage
}

// newPeakFit fits factors, which are not negative, to the samples whose peaks are
// known. Those that no sample tells stay near their formula or, where all formulas
// are off by as much, near that.
//
// A peak is the maximum of stages, each of which is linear in the factors. Which
// stage it is at a sample decides what the sample tells, and the factors decide
// which stage: the two are settled in turns, and the best turn counts.
func newPeakFit(all []Sample, known Known) (*peakFit, bool) {
	var samples []measured
	for _, s := range all {
		if s.PeakBytes > 0 {
			of := known.Stages(s.Condition)
			samples = append(samples, measured{stages: of.At(s.Shape), between: of.Resident, over: s.PeakBytes - of.Resident, spread: s.SpreadBytes})
		}
	}
	if len(samples) == 0 {
		return nil, false
	}
	f := &peakFit{points: len(samples)}
	f.extra, f.unlike = extraOf(all, known)
	for i := range samples {
		s := &samples[i]
		s.between += f.extra
		s.over = math.Max(s.over-f.extra, 0)
		s.scale = s.over + quiet*s.between
		f.repeats = math.Hypot(f.repeats, s.spread/s.scale/math.Sqrt(float64(len(samples))))
	}
	before, best := expected(samples), math.Inf(1)
	for _, start := range starts(before) {
		if now, e, left := turn(samples, before, start); left < best*(1-1e-9) {
			best = left
			f.factors = now
			f.settle(e, left)
		}
	}
	f.limit(samples)
	return f, true
}

// starts are factors to begin with: what is settled in turns may settle at another
// assignment than the best.
func starts(before factors) []factors {
	out := []factors{before}
	for _, share := range []float64{0, 0.4, 2.5} {
		other := before
		for _, p := range []budget.Part{budget.PartLoss, budget.PartStates, budget.PartHead} {
			other[p] *= share
		}
		out = append(out, other)
	}
	return out
}

// turn settles factors and the stages that are highest, in turns.
func turn(samples []measured, before, now factors) (best factors, at *equations, least float64) {
	least = math.Inf(1)
	var seen []int
	for range turns {
		tops := make([]int, len(samples))
		for i, s := range samples {
			_, tops[i] = now.highest(s.stages)
		}
		if slices.Equal(tops, seen) {
			break
		}
		seen = tops
		e := newEquations(before)
		for i, s := range samples {
			e.add(s.stages[tops[i]], s)
		}
		now = e.solve()
		if left := leftOver(samples, now); left < least {
			best, at, least = now, e, left
		}
	}
	return best, at, least
}

// measured is a sample beside what is said of it.
type measured struct {
	stages  [stages]budget.Stage
	between float64 // bytes between steps
	over    float64 // beyond them
	spread  float64
	scale   float64 // that its error is counted in
}

// extraOf is the median of what is there between steps beyond what the files say,
// and the standard deviation of that within conditions.
func extraOf(samples []Sample, known Known) (median, deviation float64) {
	var all []float64
	var order []Condition
	of := map[Condition][]float64{}
	for _, s := range samples {
		if s.ActiveBytes > 0 {
			extra := s.ActiveBytes - known.Stages(s.Condition).Resident
			if of[s.Condition] == nil {
				order = append(order, s.Condition)
			}
			all, of[s.Condition] = append(all, extra), append(of[s.Condition], extra)
		}
	}
	var squares, freedom float64
	for _, c := range order {
		if n := float64(len(of[c]) - 1); n > 0 {
			squares, freedom = squares+n*stat.Variance(of[c], nil), freedom+n
		}
	}
	if freedom > 0 {
		deviation = math.Sqrt(squares / freedom)
	}
	return Median(all), deviation
}

// expected are the factors before samples tell them apart: 1, or the one by which
// all formulas are off.
func expected(samples []measured) factors {
	var f factors
	for p := range f {
		if budget.Part(p).Known() {
			f[p] = 1
		}
	}
	var off []float64
	for _, s := range samples {
		if v, top := f.highest(s.stages); top != budget.StageUpdate && v > s.stages[top].Fixed {
			off = append(off, math.Max(s.over-s.stages[top].Fixed, 0)/(v-s.stages[top].Fixed))
		}
	}
	if len(off) == 0 {
		return f
	}
	common := math.Min(math.Max(Median(off), 1/most), most)
	for p := range f {
		if budget.Part(p) != budget.PartUpdate {
			f[p] *= common
		}
	}
	return f
}

func leftOver(samples []measured, f factors) float64 {
	var sum float64
	for _, s := range samples {
		v, _ := f.highest(s.stages)
		e := (v - s.over) / s.scale
		sum += e * e
	}
	return sum
}

// settle works out how sure the factors are.
func (f *peakFit) settle(e *equations, left float64) {
	f.freedom = max(f.points-e.used(), 0) + guessed
	f.sigma = math.Max(peakFloor, math.Sqrt((left+guessed*peakGuess*peakGuess)/float64(f.freedom)))
	f.sigma = math.Hypot(f.sigma, manySteps*f.repeats)
	f.spread = e.covariance(f.sigma)
}

// limit notes of stages that were never the highest what that says of them.
func (f *peakFit) limit(samples []measured) {
	var top [stages]bool
	for _, s := range samples {
		_, i := f.highest(s.stages)
		top[i] = true
	}
	for i := range f.ceiling {
		if top[i] {
			continue
		}
		f.ceiling[i] = math.Inf(1)
		for _, s := range samples {
			if v := f.of(s.stages[i]); v > 0 {
				f.ceiling[i] = math.Min(f.ceiling[i], math.Max(s.over/v, 1))
			}
		}
		if math.IsInf(f.ceiling[i], 1) {
			f.ceiling[i] = 0 // no sample has such a stage
		}
	}
}

// at is the peak of a step, in bytes.
func (f *peakFit) at(all budget.Stages, s [stages]budget.Stage, quantile float64, rising bool) Estimate {
	between := all.Resident + f.extra
	var e Estimate
	for i, stage := range s {
		over := f.of(stage)
		v := between + over
		err := math.Hypot(math.Hypot(f.sigma*(over+quiet*between), f.unlike), f.error(stage, rising))
		upper := v + quantile*err
		if c := f.ceiling[i]; c > 0 {
			upper = math.Min(upper, between+over*c+quantile*math.Hypot(f.sigma*(over*c+quiet*between), f.unlike))
		}
		if v > e.Value {
			e.Value, e.Error = v, err
		}
		e.Upper = math.Max(e.Upper, upper)
	}
	return e
}

// error is the standard error of a stage by its factors, in bytes. It grows with
// every part if it shall, which takes errors that cancel out for none that do.
func (f *peakFit) error(s budget.Stage, rising bool) float64 {
	var sum float64
	for i, a := range s.Parts {
		if a == 0 {
			continue
		}
		for j, b := range s.Parts {
			if c := f.spread[i][j]; c > 0 || !rising {
				sum += a * b * c
			}
		}
	}
	return math.Sqrt(math.Max(sum, 0))
}
