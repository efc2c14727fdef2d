package leak

import (
	"math"
	"slices"
)

// Watch tells, one reading at a time and in constant memory, when a series has
// risen above how it began: a CUSUM of means of blocks that hardly depend on
// each other, against a baseline learned from the first readings. It is for use
// during a training, where Noise would come too late; it says that something
// changed, not what. On readings without growth, at most 1 in 100 watches raises
// an alarm within 10,000 readings. The zero value is ready.
type Watch struct {
	// Skip readings at the start are not looked at: a warm-up.
	Skip int

	readings int
	cell     summed // readings averaged, so that the baseline covers their memory
	width    int    // readings a cell
	baseline []float64

	learned       bool
	center, sigma float64 // of means of blocks
	allowance     float64
	length        int // cells a block
	block         summed
	sum           float64
	since         int    // reading at which sum was last zero
	above         summed // blocks since then
	drift         *Drift
}

type summed struct {
	total float64
	n     int
}

func (s *summed) add(v float64) { s.total, s.n = s.total+v, s.n+1 }

func (s *summed) mean() float64 { return s.total / float64(s.n) }

// Drift is what a Watch found.
type Drift struct {
	From int     `json:"from_reading"` // since when the readings have been higher, about; counted from 0
	At   int     `json:"at_reading"`   // when that was sure
	Base float64 `json:"base"`         // of the baseline
	Rise float64 `json:"rise"`         // above the baseline, on average since From
}

const (
	baselineCells = 192
	fewestBlocks  = 8   // of a baseline
	clip          = 6   // standard deviations that one block may count
	allowed       = 0.5 // standard deviations of a block that do not count
	unsure        = 3.5 // standard errors of the baseline that do not count either
	threshold     = 12  // of the sum, in standard deviations
)

// Add takes a reading in and returns what was found so far; nil is nothing. A
// reading that is NaN or infinite is missing.
func (w *Watch) Add(v float64) *Drift {
	at := w.readings
	w.readings++
	if w.drift != nil || at < w.Skip || math.IsNaN(v) || math.IsInf(v, 0) {
		return w.drift
	}
	w.width = max(w.width, 1)
	if w.cell.add(v / 4); w.cell.n < w.width { // a fourth: sums of the largest numbers do not overflow at once
		return nil
	}
	cell := w.cell.mean()
	w.cell = summed{}
	if math.IsInf(cell, 0) {
		return nil
	}
	if !w.learned {
		w.learn(cell)
		return nil
	}
	if w.block.add(cell); w.block.n == w.length {
		w.judge(w.block.mean(), at)
		w.block = summed{}
	}
	return w.drift
}

// Learned says whether the baseline is there: before, nothing is seen.
func (w *Watch) Learned() bool { return w.learned }

// learn collects the baseline. Readings that remember too long are averaged by
// twos until enough blocks of them are nearly independent.
func (w *Watch) learn(v float64) {
	if w.baseline = append(w.baseline, v); len(w.baseline) < baselineCells {
		return
	}
	y, scale := scaled(w.baseline)
	residuals := slices.Clone(y)
	withoutLine(residuals)
	w.length = blockLength(residuals)
	if w.length*fewestBlocks > len(y) {
		w.baseline = append(w.baseline[:0], averaged(w.baseline, 2)...)
		w.width *= 2
		return
	}
	// A baseline that rises counts from its end. The memory behind a block's
	// length is a third of it.
	n := float64(len(y))
	rise := max(y[len(y)-1]-residuals[len(y)-1]-(y[0]-residuals[0]), 0)
	w.center = middle(w.baseline) + scale*(mean(y)+rise/2)
	w.sigma = scale * math.Sqrt(dot(residuals, residuals)/(n-2)/3)
	w.sigma = max(w.sigma, 1e-9*math.Abs(w.center))
	w.allowance = allowed + unsure*math.Sqrt(float64(w.length)/n)
	w.learned, w.baseline, w.since = true, nil, w.readings
}

func (w *Watch) judge(level float64, at int) {
	z := 0.
	if w.sigma > 0 {
		z = min((level-w.center)/w.sigma, clip)
	} else if level > w.center {
		z = clip
	}
	w.sum += z - w.allowance
	w.above.add(level)
	if !(w.sum > 0) {
		w.sum, w.since, w.above = 0, at+1, summed{}
		return
	}
	if w.sum > threshold { // readings were taken as fourths
		w.drift = &Drift{From: w.since, At: at, Base: 4 * w.center, Rise: 4 * (w.above.mean() - w.center)}
	}
}
