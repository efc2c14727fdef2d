// Package predict says what a training step takes, from a few steps that were
// measured: memory and time as functions of the batch's shape, of the bits of
// the base, of the rank and of checkpointing.
//
// A peak is the maximum of stages: the loss, a block's backward pass, the update
// and, with a quantized head, its unpacking. What each consists of is known by
// formula (budget.Stages): what blocks keep, attention scores, scores of the
// vocabulary and so on, in bytes that follow from the model's files, the shape, the
// rank and checkpointing. The formulas are near; each part has one factor, which is
// not negative and is fitted to the peaks that were measured at one width of
// weights, with and without checkpointing and at all ranks together:
//
//	peak = between steps + max over stages of Σ factor · formula
//
// Factors that no sample tells stay near what the formulas are off by together, and
// how little is known of them goes into the error. What is there between steps is
// measured. A condition that was not measured has formulas of its own and shares
// the factors.
//
// With b rows of width s+1, so that s positions of each are predicted,
//
//	seconds = t0 + b·s·β + b·s²·γ
//
// with constants of their own for each condition that was measured, not negative,
// and fitted to relative errors, so that small shapes count as much as large ones.
// A device that computes while its host puts the next kernels together takes as long as
// the slower of both:
//
//	seconds = max(host, t0 + b·s·β + b·s²·γ)
//
// On an H200 every step of a 1B model with less than some 2,000 positions takes as long
// as its host.
// A condition that was not measured is reached from one that was, by steps in which
// one thing changes at a time: measured where the other bits or the other rank were
// measured without checkpointing; to a rank on the straight line of two others that were;
// else by the ratio of floating-point operations, 4·parameters + 6·P a position.
//
// Note: peaks were once fitted like seconds, as c0 + b·s·α + b·s²·μ for each
// condition. Where the loss is computed in parts, or scores of attention are bounded,
// that was off by up to 20 %, and for another rank or an untold range of shapes by more.
//
// Note: a fit in which the arrays of a block's MLP and of its attention are stages of
// their own was tried and is worse: which of them MLX frees in time is a race.
package predict

import (
	"cmp"
	"math"
	"slices"

	"github.com/mlxdyno/mlxdyno/probe/budget"
	"github.com/mlxdyno/mlxdyno/trainer"
)

// Condition is what a worker process is loaded with.
type Condition struct {
	Bits          int  `json:"bits"` // quantization at load; 0 is as stored
	Rank          int  `json:"rank"`
	Checkpointing bool `json:"checkpointing"`
}

// Sample is one measured shape.
type Sample struct {
	Condition
	Shape     trainer.Shape
	PeakBytes float64 // 0 when unknown

	// SpreadBytes is how far the highest of several peaks is above their middle.
	SpreadBytes float64

	// ActiveBytes are there between steps; 0 when unknown. Weights, adapters and
	// optimizer state are known from files, and what there is beside them from this.
	ActiveBytes float64
	Seconds     float64 // of a step; 0 when unknown
}

// Known is what is not fitted.
type Known struct {
	WeightBytes       func(bits int) int64 // W, of the base as loaded
	AdapterParameters func(rank int) int64 // P
	Parameters        int64                // of the base

	// PackedTimes is how many times as long steps on packed weights take as on
	// stored ones, where neither was measured beside the other; nil is as long.
	PackedTimes func() float64

	// Ahead reports whether the device computes while its host puts the next kernels
	// together; nil is that it does not.
	Ahead func() bool

	// Stages are what a step's memory consists of, by formula.
	Stages func(Condition) budget.Stages
}

// WorksAhead reports whether a kind of device computes while its host puts the next
// kernels together: every one but a CPU. Of an unknown one it is not assumed.
func WorksAhead(device string) bool { return device != "" && device != "cpu" }

// Work is one step or several, and what they add up to: what the functions are linear
// in. Where a step may wait for its host, they must be alike.
type Work struct {
	Steps     float64 // batches
	Positions float64 // Σ b·s
	Squares   float64 // Σ b·s²
}

// WorkOf returns the work of one step. Of a packed batch it takes the rows to be
// alike, as those of grouped batches are.
func WorkOf(s trainer.Shape) Work {
	if s.Packed > 0 {
		positions := float64(s.Packed)
		return Work{Steps: 1, Positions: positions, Squares: positions * positions / float64(s.Batch)}
	}
	length := float64(s.Width - 1)
	positions := float64(s.Batch) * length
	return Work{Steps: 1, Positions: positions, Squares: positions * length}
}

// Plus returns w with v added.
func (w Work) Plus(v Work) Work {
	return Work{w.Steps + v.Steps, w.Positions + v.Positions, w.Squares + v.Squares}
}

// Sum adds up steps.
func Sum(steps []Work) (sum Work) {
	for _, w := range steps {
		sum = sum.Plus(w)
	}
	return sum
}

// Gather adds up single steps, as far as it makes no difference to their time: all of
// them, or on a device that may wait for its host those that are alike.
func Gather(steps []Work, ahead bool) []Work {
	if !ahead {
		return []Work{Sum(steps)}
	}
	var out []Work
	place := map[Work]int{}
	for _, w := range steps {
		i, ok := place[w]
		if !ok {
			i = len(out)
			place[w], out = i, append(out, Work{})
		}
		out[i] = out[i].Plus(w)
	}
	return out
}

func (w Work) row() []float64 { return []float64{w.Steps, w.Positions, w.Squares} }

func (w Work) dot(x []float64) float64 {
	return w.Steps*x[0] + w.Positions*x[1] + w.Squares*x[2]
}

// Estimate is a prediction.
type Estimate struct {
	Value        float64 `json:"value"`
	Error        float64 `json:"error"`        // one standard error
	Upper        float64 `json:"upper"`        // not exceeded with 99 % confidence
	Extrapolated bool    `json:"extrapolated"` // beyond what was measured: a condition or a larger shape
}

// fit is one fitted function.
type fit struct {
	x       []float64
	host    float64 // seconds that a step takes at least
	relErr  float64 // standard deviation of relative residuals
	freedom int     // observations beyond coefficients
	largest float64 // positions of the largest shape that took part
	points  int
	scaled  bool // another fit, so many times: shapes were too few for one of its own
}

// Relative standard deviations of step times.
const (
	timeFloor = 0.02 // at least, on an idle machine
	guess     = 0.10 // with as many coefficients as observations
	clearly   = 0.8  // of the residuals of another fit, for steps that wait to be no mere noise
)

// LeastShapes are so many that they tell the three constants of times apart.
const LeastShapes = 3

// newFit fits the seconds of samples. Fewer than LeastShapes cannot tell the
// constants apart: they tell how many times as long as by another fit it takes. Without
// one all of it would go into the constant that does not grow with the batch; then all
// of it grows.
func newFit(samples []Sample, like fit, ahead bool) (fit, bool) {
	var a [][]float64
	var y []float64
	var f fit
	var timed []Work // as rows
	samples = slices.SortedStableFunc(slices.Values(samples), func(a, b Sample) int {
		return cmp.Compare(WorkOf(a.Shape).Positions, WorkOf(b.Shape).Positions)
	})
	for _, s := range samples {
		v := s.Seconds
		if !(v > 0) {
			continue
		}
		w := WorkOf(s.Shape)
		row := w.row()
		for j := range row {
			row[j] /= v // relative errors
		}
		a, y = append(a, row), append(y, 1)
		f.largest = max(f.largest, w.Positions)
		timed = append(timed, w)
	}
	if n := distinct(timed); n > 0 && n < LeastShapes {
		f.points, f.relErr, f.scaled = len(y), guess, true
		if like.x != nil {
			var factors []float64
			for _, row := range a {
				factors = append(factors, 1/max(row[0]*like.host, dot(row, like.x)))
			}
			times := Median(factors)
			f.x, f.host = []float64{times * like.x[0], times * like.x[1], times * like.x[2]}, times*like.host
			return f, true
		}
		slope := 0.0
		for i := range a {
			slope = max(slope, y[i]/a[i][1])
		}
		f.x = []float64{0, slope, 0}
		return f, true
	}
	if !f.solve(a, y, 0) {
		return fit{}, false
	}
	for waiting := 1; ahead && waiting < len(y) && distinct(timed[waiting:]) >= LeastShapes; waiting++ {
		if g := f; g.solve(a, y, waiting) && g.freedom > 0 && g.relErr < clearly*f.relErr {
			f = g
		}
	}
	return f, true
}

func distinct(steps []Work) int {
	seen := map[Work]bool{}
	for _, w := range steps {
		seen[w] = true
	}
	return len(seen)
}

// solve fits relative rows, smallest first, so many of which wait for their host.
func (f *fit) solve(a [][]float64, y []float64, waiting int) bool {
	x, ok := nnls(a[waiting:], y[waiting:])
	if !ok {
		return false
	}
	used := 0
	for _, v := range x {
		if v > 0 {
			used++
		}
	}
	f.host = 0
	if waiting > 0 {
		var sum, squares float64
		for _, row := range a[:waiting] { // row[0] is one over the seconds
			sum += row[0]
			squares += row[0] * row[0]
		}
		f.host = sum / squares
		used++
	}
	f.x, f.points, f.freedom = x, len(y), len(y)-used
	f.relErr = guess
	if f.freedom > 0 {
		off := 0.0
		for i, row := range a {
			d := max(row[0]*f.host, dot(row, x)) - y[i]
			off += d * d
		}
		f.relErr = max(timeFloor, math.Sqrt(off/float64(f.freedom)))
	}
	return true
}

func dot(row, x []float64) float64 { return row[0]*x[0] + row[1]*x[1] + row[2]*x[2] }

// of is how long steps take.
func (f fit) of(steps []Work) (seconds float64) {
	if f.host == 0 {
		return Sum(steps).dot(f.x)
	}
	for _, w := range steps {
		seconds += max(w.Steps*f.host, w.dot(f.x))
	}
	return seconds
}

// at evaluates the fit; peak positions decide how far it is stretched.
func (f fit) at(steps []Work, positions float64) Estimate {
	v := f.of(steps)
	rel := f.relErr
	e := Estimate{Value: v}
	if stretch := positions / f.largest; stretch > 1.001 {
		e.Extrapolated = true
		rel *= 1 + 2*math.Log(stretch)
	}
	e.Error = v * rel
	e.Upper = v + student99(f.freedom)*e.Error
	return e
}

// student99 is the one-sided 99 % point of Student's distribution.
func student99(freedom int) float64 {
	table := []float64{2.33, 31.8, 6.96, 4.54, 3.75, 3.36, 3.14, 3.00, 2.90, 2.82, 2.76}
	switch {
	case freedom <= 0: // the error is a guess that already covers it
		return table[0]
	case freedom == 1:
		return 6.96 // one residual says little: its floor and the guess bound it better than its own tail
	case freedom < len(table):
		return table[freedom]
	}
	return 2.6
}

// Model predicts. It is made by Fit and does not change.
type Model struct {
	known  Known
	peaks  map[int]*peakFit      // by bits
	widest map[Condition]float64 // positions of the largest shape whose peak was measured
	times  map[Condition]fit
	anchor Condition // the first condition that was measured; others are reached from it
}

// Fit fits a model to samples, the first of which names the anchor: the bits
// and rank that the study is about. It returns false when not even the anchor
// can be fitted.
func Fit(samples []Sample, known Known) (*Model, bool) {
	m := &Model{known: known, peaks: map[int]*peakFit{}, widest: map[Condition]float64{}, times: map[Condition]fit{}}
	by, bits := map[Condition][]Sample{}, map[int][]Sample{}
	var order []Condition
	for _, s := range samples {
		if !slices.Contains(order, s.Condition) {
			order = append(order, s.Condition)
		}
		by[s.Condition] = append(by[s.Condition], s)
		bits[s.Bits] = append(bits[s.Bits], s)
	}
	for _, c := range order {
		like := m.times[Condition{m.anchor.Bits, m.anchor.Rank, c.Checkpointing}]
		if like.x == nil {
			like = m.times[m.anchor]
		}
		seconds, ok := newFit(by[c], like, known.Ahead != nil && known.Ahead())
		widest := 0.0
		for _, s := range by[c] {
			if s.PeakBytes > 0 {
				widest = math.Max(widest, WorkOf(s.Shape).Positions)
			}
		}
		if !ok || widest == 0 {
			continue
		}
		if len(m.times) == 0 {
			m.anchor = c
		}
		m.times[c], m.widest[c] = seconds, widest
	}
	for b, s := range bits {
		if f, ok := newPeakFit(s, known); ok {
			m.peaks[b] = f
		}
	}
	return m, len(m.times) > 0
}

// Knows reports whether anything can be said about c: some condition with its
// checkpointing was measured.
func (m *Model) Knows(c Condition) bool {
	_, ok := m.start(c)
	return ok
}

// Measured reports whether samples of exactly c took part.
func (m *Model) Measured(c Condition) bool {
	_, ok := m.times[c]
	return ok
}

// Timed reports whether the times of c have constants of their own: three shapes of
// it, or more, were timed.
func (m *Model) Timed(c Condition) bool {
	return m.Measured(c) && !m.times[c].scaled
}

// start returns the measured condition nearest to c.
func (m *Model) start(c Condition) (Condition, bool) {
	if m.Measured(c) {
		return c, true
	}
	from := Condition{m.anchor.Bits, m.anchor.Rank, c.Checkpointing}
	return from, m.Measured(from)
}

// Peak predicts the peak of a step of shape s, in bytes.
func (m *Model) Peak(c Condition, s trainer.Shape) (Estimate, bool) {
	return m.peak(c, s, false)
}

// PeakUpTo predicts the highest peak of steps that are not larger than s. It
// never falls when s grows.
func (m *Model) PeakUpTo(c Condition, s trainer.Shape) (Estimate, bool) {
	return m.peak(c, s, true)
}

// Guess predicts the peak of a condition also where nothing was measured with its
// checkpointing: by its formulas, with the factors that other conditions have.
func (m *Model) Guess(c Condition, s trainer.Shape) Estimate {
	e := m.over(c, s, false)
	e.Extrapolated = true
	return e
}

func (m *Model) peak(c Condition, s trainer.Shape, upTo bool) (Estimate, bool) {
	from, ok := m.start(c)
	if !ok {
		return Estimate{}, false
	}
	e := m.over(c, s, upTo)
	e.Extrapolated = from != c || WorkOf(s).Positions > 1.001*m.widest[from]
	if from != c {
		// Whether the gradients of a block are still there at the peak no formula says, and
		// at one rank they do not stand out. With mlx-lm and checkpointing there was 0.3 MB
		// more at rank 32 than rank 8 had let expect: what those of one block differ by.
		unlike := math.Abs(m.known.Stages(c).Gradient - m.known.Stages(from).Gradient)
		e.Error = math.Hypot(e.Error, unlike/2)
		e.Upper += unlike
	}
	return e, true
}

func (m *Model) over(c Condition, s trainer.Shape, upTo bool) Estimate {
	f := m.peaks[c.Bits]
	if f == nil {
		f = m.peaks[m.anchor.Bits]
	}
	all := m.known.Stages(c)
	at := all.At(s)
	if upTo {
		at = all.AtMost(s)
	}
	return f.at(all, at, student99(f.freedom), upTo)
}

// Seconds predicts the time of steps the largest of which has so many positions. Each
// Work is of steps that are alike.
func (m *Model) Seconds(c Condition, largest float64, steps ...Work) (Estimate, bool) {
	from, ok := m.start(c)
	if !ok {
		return Estimate{}, false
	}
	e := m.times[from].at(steps, largest)
	if from != c {
		for _, next := range path(from, c) {
			a, b := plain(from), plain(next)
			ratio := m.operations(next) / m.operations(from) * m.packing(from, next)
			if fa, fb := m.times[a], m.timesLike(b); fa.x != nil && fb.x != nil && fa.of(steps) > 0 {
				ratio = fb.of(steps) / fa.of(steps)
			} else if line, ok := m.ranks(from, next, steps); ok {
				ratio = line
			}
			e.Value *= ratio
			e.Error *= ratio
			from = next
		}
		e.Extrapolated = true
		e.Error = math.Hypot(e.Error, 0.1*e.Value)
		e.Upper = e.Value + student99(m.times[m.anchor].freedom)*e.Error
	}
	return e, true
}

// timesLike are the times of a condition or, where its bits were not measured, those of
// the nearest width of packed weights that was: unpacking is what makes the difference.
func (m *Model) timesLike(c Condition) fit {
	if c.Bits == 0 || m.Measured(c) {
		return m.times[c]
	}
	away := func(bits int) int { return max(bits-c.Bits, c.Bits-bits) }
	var best fit
	nearest := math.MaxInt
	for other, f := range m.times {
		if other.Bits == 0 || other.Rank != c.Rank || other.Checkpointing != c.Checkpointing {
			continue
		}
		if d := away(other.Bits); d < nearest || d == nearest && other.Bits > c.Bits {
			best, nearest = f, d
		}
	}
	return best
}

// ranks is how many times as long steps take at another rank, on the straight line that
// two measured ones make. Operations say too much of small models: where they say that rank
// 32 takes 1.37 times as long as rank 8 it took 1.15 times. So beyond what was measured they
// are the most that a lower rank saves, and that a higher one costs. The two are measured
// without checkpointing, at the bits in question, as far as there are such.
func (m *Model) ranks(from, to Condition, steps []Work) (times float64, ok bool) {
	if from.Rank == to.Rank {
		return 0, false
	}
	away := func(c Condition) int { return max(c.Rank-to.Rank, to.Rank-c.Rank) }
	for _, at := range []Condition{plain(from), from, {m.anchor.Bits, from.Rank, false}, {m.anchor.Bits, from.Rank, from.Checkpointing}} {
		here := m.times[at]
		if here.x == nil || here.scaled || !(here.of(steps) > 0) {
			continue
		}
		var other Condition
		for c, f := range m.times {
			if c.Bits == at.Bits && c.Checkpointing == at.Checkpointing && c.Rank != at.Rank && !f.scaled &&
				(!ok || away(c) < away(other) || away(c) == away(other) && c.Rank < other.Rank) {
				other, ok = c, true
			}
		}
		if !ok {
			continue
		}
		slope := math.Max((m.times[other].of(steps)/here.of(steps)-1)/float64(other.Rank-at.Rank), 0)
		line := func(rank int) float64 { return 1 + slope*float64(rank-at.Rank) }
		times = line(to.Rank)
		edge := to // the nearest of what was measured, where to is beyond it
		edge.Rank = min(max(to.Rank, min(at.Rank, other.Rank)), max(at.Rank, other.Rank))
		if all := line(edge.Rank) * m.operations(to) / m.operations(edge); to.Rank < edge.Rank {
			times = math.Max(times, all)
		} else if to.Rank > edge.Rank {
			times = math.Min(times, all)
		}
		return times, true
	}
	return 0, false
}

// path leads from one condition to another with the same checkpointing,
// changing one thing at a time.
func path(from, to Condition) []Condition {
	var out []Condition
	if from.Bits != to.Bits {
		from.Bits = to.Bits
		out = append(out, from)
	}
	if from.Rank != to.Rank {
		from.Rank = to.Rank
		out = append(out, from)
	}
	return out
}

// packing is how many times as long steps take by what is known of packed weights.
func (m *Model) packing(from, to Condition) float64 {
	switch {
	case m.known.PackedTimes == nil || (from.Bits == 0) == (to.Bits == 0):
		return 1
	case to.Bits == 0:
		return 1 / m.known.PackedTimes()
	default:
		return m.known.PackedTimes()
	}
}

func plain(c Condition) Condition { c.Checkpointing = false; return c }

func (m *Model) operations(c Condition) float64 {
	return 4*float64(m.known.Parameters) + 6*float64(m.known.AdapterParameters(c.Rank))
}

// TimeError is the relative standard deviation of what the anchor's times leave
// over.
func (m *Model) TimeError() float64 { return m.times[m.anchor].relErr }

// Median is the middle of values, the mean of two where there are two; 0 of none.
func Median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(v))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}
