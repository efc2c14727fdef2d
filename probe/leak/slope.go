package leak

import (
	"math"
	"math/rand/v2"
	"slices"
)

// A series is looked at through the medians of blocks, each a 24th of it. The
// first two are warm-up and left out. The middle third and the last one are
// judged; the six before them, early ones, only tell whether growth slows down.
const (
	earlyBlocks = 6
	thirdBlocks = 8
	judged      = 2 * thirdBlocks
	blocks      = earlyBlocks + judged
	allBlocks   = blocks + 2

	slowing   = 0.6 // growth that falls to this share of its earlier pace is not a leak's
	resamples = 120

	rounding = 1e-20 // variance of what is equal, in values of about 1
)

// outline describes a series by its block medians. Slopes are per block.
type outline struct {
	slope  float64 // of what is judged
	steady float64 // slope of the last third less slowing × the middle third's
	held   float64 // slope of the last third less slowing × the early blocks'
	last   float64 // slope of the last third
}

// describe takes the medians of detrended blocks, and the trend.
func describe(m *[blocks]float64, trend float64) outline {
	late := m[earlyBlocks:]
	o := outline{slope: theilSen(late) + trend, last: theilSen(late[thirdBlocks:]) + trend}
	o.steady = o.last - slowing*(theilSen(late[:thirdBlocks])+trend)
	o.held = o.last - slowing*(theilSen(m[:earlyBlocks])+trend)
	return o
}

// outlined describes a series of which warm-up has been cut off.
func outlined(y []float64) outline {
	var m [blocks]float64
	var trend float64
	z := slices.Clone(y)
	for range 5 { // medians of a steep block depend on its slope
		medians(z, &m, nil)
		step := theilSen(m[earlyBlocks:])
		trend += step
		for i := range z {
			z[i] = y[i] - trend*blocks/float64(len(y))*float64(i)
		}
		if step == 0 {
			break
		}
	}
	medians(z, &m, nil)
	return describe(&m, trend)
}

// medians fills m with the medians of as many blocks of y.
func medians(y []float64, m *[blocks]float64, scratch []float64) {
	for i := range m {
		b := append(scratch[:0], y[i*len(y)/blocks:(i+1)*len(y)/blocks]...)
		slices.Sort(b)
		m[i] = sortedMiddle(b)
	}
}

// theilSen is the median slope between any two of evenly spaced values.
func theilSen(m []float64) float64 {
	var pairs [judged * (judged - 1) / 2]float64
	s := pairs[:0]
	for i := range m {
		for j := range i {
			s = append(s, (m[i]-m[j])/float64(i-j))
		}
	}
	slices.Sort(s)
	return sortedMiddle(s)
}

// spread is how the outline of a series without growth varies.
type spread struct {
	slopeError, steadyError, heldError float64 // standard deviations
	free                               float64 // degrees of freedom; below 1 nothing can be said
	memory                             int     // cells that depend on each other
}

// bootstrap finds out how the outline of n cells varies, from residuals drawn
// in blocks several times as long as they remember.
func bootstrap(residuals []float64, n int, fit *regression) spread {
	s := spread{memory: blockLength(residuals)}
	s.free = float64(len(residuals))/float64(s.memory) - 2 - float64(len(fit.apart))
	if s.free < 1 {
		return s
	}
	rng := rand.New(rand.NewPCG(1, uint64(n)))
	sample, scratch := make([]float64, n), make([]float64, 0, n/blocks+1)
	var m [blocks]float64
	for range resamples {
		for at := 0; at < n; at += s.memory {
			from := rng.IntN(len(residuals) - s.memory + 1)
			copy(sample[at:], residuals[from:from+s.memory])
		}
		fit.adjust(sample)
		medians(sample, &m, scratch)
		o := describe(&m, 0)
		s.slopeError += o.slope * o.slope
		s.steadyError += o.steady * o.steady
		s.heldError += o.held * o.held
	}
	root := func(sum float64) float64 { return math.Sqrt(sum / resamples) }
	s.slopeError, s.steadyError, s.heldError = root(s.slopeError), root(s.steadyError), root(s.heldError)
	return s
}

// blockLength is three times as long as residuals of a line remember, at
// least 5.
func blockLength(r []float64) int {
	return max(5, int(math.Ceil(3*memory(r, 4/float64(len(r))))))
}

// memory is the integrated autocorrelation time, at least 1: the larger of two
// estimates, from the first correlation, which is precise where each reading
// remembers the last one only, and from the sum of correlations, which also sees
// a long memory under short fluctuations. A fitted line takes away about 4/n of
// each correlation; correction gives it back.
func memory(r []float64, correction float64) float64 {
	variance := dot(r, r)
	if variance <= rounding*float64(len(r)) {
		return 1
	}
	first, sum := 1.0, 1.0
	for lag := 1; lag < len(r)/3; lag++ {
		rho := dot(r[lag:], r)/variance + correction
		if lag == 1 {
			phi := min(max(rho, 0), 0.99)
			first = (1 + phi) / (1 - phi)
		}
		sum += 2 * rho
		if float64(lag) >= 4*sum {
			break
		}
	}
	return max(first, sum)
}
