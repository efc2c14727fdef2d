// Package predict says what a training step takes, from a few steps that were
// measured: memory and time as functions of the batch's shape, of the bits of
// the base, of the rank and of checkpointing.
//
// With b rows of width s+1, so that s positions of each are predicted,
//
//	memory  = c0 + W(bits) + κ·P(rank) + b·s·α + b·s²·μ
//	seconds = t0 + b·s·β + b·s²·γ
//
// with constants of their own for each condition that was measured: bits, rank
// and checkpointing. They are not negative, and they are fitted to relative
// errors, so that small shapes count as much as large ones. α holds the
// activations of all blocks and the logits (λ·V a position): for one model the
// vocabulary is constant and the two cannot be told apart. The ratio m of the
// seconds with and without checkpointing follows from the two fits.
//
// A condition that was not measured is reached from one that was, by steps in
// which one thing changes at a time: measured where the other bits or the other
// rank were measured without checkpointing, else computed. For memory the
// computed step is W, from the model's files, κ·P, and the low-rank activations
// that are kept; for time it is the ratio of floating-point operations,
// 4·parameters + 6·P a position.
//
// Note: one joint fit with factors for rank and checkpointing was tried and is
// worse, because the factors differ between short and long rows.
package predict

import (
	"math"
	"slices"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// Condition is what a worker process is loaded with.
type Condition struct {
	Bits          int // quantization at load; 0 is as stored
	Rank          int
	Checkpointing bool
}

// Sample is one measured shape.
type Sample struct {
	Condition
	Shape     trainer.Shape
	PeakBytes float64 // 0 when unknown
	Seconds   float64 // of a step; 0 when unknown
}

// Known is what is not fitted.
type Known struct {
	WeightBytes       func(bits int) int64 // W, of the base as loaded
	AdapterParameters func(rank int) int64 // P
	Parameters        int64                // of the base
	BytesAParameter   float64              // κ: weight, gradient and optimizer state of one adapter parameter
	BytesARank        float64              // low-rank activations of one position for each unit of rank
}

// Work adds up shapes: what the functions are linear in.
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

// Plus returns w with n times v added.
func (w Work) Plus(v Work, n float64) Work {
	return Work{w.Steps + n*v.Steps, w.Positions + n*v.Positions, w.Squares + n*v.Squares}
}

func (w Work) row() []float64 { return []float64{w.Steps, w.Positions, w.Squares} }

func (w Work) dot(x []float64) float64 {
	return w.Steps*x[0] + w.Positions*x[1] + w.Squares*x[2]
}

// Estimate is a prediction.
type Estimate struct {
	Value        float64
	Error        float64 // one standard error
	Upper        float64 // not exceeded with 99 % confidence
	Extrapolated bool    // beyond what was measured: a condition or a larger shape
}

// fit is one fitted function.
type fit struct {
	x       []float64
	relErr  float64 // standard deviation of relative residuals
	freedom int     // observations beyond coefficients
	largest float64 // positions of the largest shape that took part
	points  int
}

// Floors of the relative standard deviations. MLX's peaks repeat to a fraction
// of a percent; step times on an idle machine to a few.
const (
	peakFloor = 0.005
	timeFloor = 0.02
	guess     = 0.10 // with as many coefficients as observations
)

// newFit fits what of says of the samples. Fewer than three shapes cannot tell
// three constants apart, and all of it would go into the one that does not grow
// with the batch; then that one is what is known of it, and the rest grows.
func newFit(samples []Sample, of func(Sample) float64, floor, known float64) (fit, bool) {
	var a [][]float64
	var y []float64
	var f fit
	shapes := map[Work]bool{}
	lowest := math.Inf(1)
	for _, s := range samples {
		v := of(s)
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
		shapes[w] = true
		lowest = min(lowest, v)
	}
	if n := len(shapes); n > 0 && n < 3 {
		known = min(known, 0.95*lowest)
		slope := 0.0
		for i := range a {
			slope = max(slope, (y[i]-known*a[i][0])/a[i][1])
		}
		f.x, f.points, f.relErr = []float64{known, slope, 0}, len(y), guess
		return f, true
	}
	x, ok := nnls(a, y)
	if !ok {
		return fit{}, false
	}
	used := 0
	for _, v := range x {
		if v > 0 {
			used++
		}
	}
	f.x, f.points, f.freedom = x, len(y), len(y)-used
	f.relErr = guess
	if f.freedom > 0 {
		f.relErr = max(floor, math.Sqrt(residual(a, y, x)/float64(f.freedom)))
	}
	return f, true
}

// at evaluates the fit; peak positions decide how far it is stretched.
func (f fit) at(w Work, positions float64) Estimate {
	v := w.dot(f.x)
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
	peaks  map[Condition]fit
	times  map[Condition]fit
	anchor Condition // the first condition that was measured; others are reached from it
}

// Fit fits a model to samples, the first of which names the anchor: the bits
// and rank that the study is about. It returns false when not even the anchor
// can be fitted.
func Fit(samples []Sample, known Known) (*Model, bool) {
	m := &Model{known: known, peaks: map[Condition]fit{}, times: map[Condition]fit{}}
	by := map[Condition][]Sample{}
	var order []Condition
	for _, s := range samples {
		if !slices.Contains(order, s.Condition) {
			order = append(order, s.Condition)
		}
		by[s.Condition] = append(by[s.Condition], s)
	}
	for _, c := range order {
		peak, okPeak := newFit(by[c], func(s Sample) float64 { return s.PeakBytes }, peakFloor, m.constant(c))
		seconds, okTime := newFit(by[c], func(s Sample) float64 { return s.Seconds }, timeFloor, 0)
		if !okPeak || !okTime {
			continue
		}
		if len(m.peaks) == 0 {
			m.anchor = c
		}
		m.peaks[c], m.times[c] = peak, seconds
	}
	return m, len(m.peaks) > 0
}

// Knows reports whether anything can be said about c: some condition with its
// checkpointing was measured.
func (m *Model) Knows(c Condition) bool {
	_, ok := m.start(c)
	return ok
}

// Measured reports whether samples of exactly c took part.
func (m *Model) Measured(c Condition) bool {
	_, ok := m.peaks[c]
	return ok
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
	from, ok := m.start(c)
	if !ok {
		return Estimate{}, false
	}
	w := WorkOf(s)
	e := m.peaks[from].at(w, w.Positions)
	if from != c {
		x := slices.Clone(m.peaks[from].x)
		e.Value = 0
		for _, next := range path(from, c) {
			a, b := plain(from), plain(next)
			if fa, fb := m.peaks[a], m.peaks[b]; fa.x != nil && fb.x != nil {
				for j := range x {
					x[j] += fb.x[j] - fa.x[j]
				}
			} else {
				step := m.constant(next) - m.constant(from)
				if !c.Checkpointing {
					step += m.known.BytesARank * float64(next.Rank-from.Rank) * w.Positions
				}
				e.Value += step
				e.Error = math.Hypot(e.Error, 0.05*math.Abs(step))
			}
			from = next
		}
		for j := range x { // a larger shape takes no less, whatever the noise of three fits adds up to
			x[j] = max(x[j], 0)
		}
		e.Value = max(e.Value+w.dot(x), m.constant(c))
		e.Extrapolated = true
		e.Upper = e.Value + student99(m.peaks[m.anchor].freedom)*e.Error
	}
	return e, true
}

// Seconds predicts the time of work whose largest step has so many positions.
func (m *Model) Seconds(c Condition, w Work, largest float64) (Estimate, bool) {
	from, ok := m.start(c)
	if !ok {
		return Estimate{}, false
	}
	e := m.times[from].at(w, largest)
	if from != c {
		for _, next := range path(from, c) {
			a, b := plain(from), plain(next)
			ratio := m.operations(next) / m.operations(from)
			if fa, fb := m.times[a], m.times[b]; fa.x != nil && fb.x != nil && w.dot(fa.x) > 0 {
				ratio = w.dot(fb.x) / w.dot(fa.x)
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

func plain(c Condition) Condition { c.Checkpointing = false; return c }

func (m *Model) constant(c Condition) float64 {
	return float64(m.known.WeightBytes(c.Bits)) + m.known.BytesAParameter*float64(m.known.AdapterParameters(c.Rank))
}

func (m *Model) operations(c Condition) float64 {
	return 4*float64(m.known.Parameters) + 6*float64(m.known.AdapterParameters(c.Rank))
}

// TimeError is the relative standard deviation of what the anchor's times leave
// over.
func (m *Model) TimeError() float64 { return m.times[m.anchor].relErr }
