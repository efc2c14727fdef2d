package leak

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"gonum.org/v1/gonum/stat/distuv"
)

// Trend is what Noise concludes of a noisy series. Slopes are per sample.
type Trend struct {
	State      State   `json:"state"`
	Slope      float64 `json:"slope"`
	Low        float64 `json:"low"` // interval of the slope
	High       float64 `json:"high"`
	Detectable float64 `json:"detectable"` // a slope below this would not have been seen; 0 when unknown
	Samples    int     `json:"samples"`
	Reason     string  `json:"reason"`
}

const (
	// MinSamples is how many samples Noise needs for a verdict.
	MinSamples = 200

	blocks      = 10  // block medians behind a slope
	warmUpShare = 0.5 // of the samples, left out at the start
	resamples   = 100
	tail        = 0.0005 // one-sided, of the interval
)

// Noise judges readings that fluctuate, such as a process's footprint. The
// slope is Theil–Sen's over block medians; its interval comes from a moving
// block bootstrap of the residuals, with blocks several times as long as the
// readings remember and Student's t for how few such blocks there are. A leak
// must also go on: the last third must rise at least half as fast as the
// middle third, which warm-up and ratchets do not. The same series always gets
// the same verdict.
func Noise(samples []float64) Trend {
	t := Trend{State: Inconclusive, Samples: len(samples)}
	y := samples[int(warmUpShare*float64(len(samples))):]
	if len(y) < 2*blocks {
		t.Reason = fmt.Sprintf("%d samples; a verdict on a noisy series needs %d", len(samples), MinSamples)
		return t
	}
	width := t.measure(y)
	if len(samples) < MinSamples {
		t.Reason = fmt.Sprintf("%d samples; a verdict on a noisy series needs %d", len(samples), MinSamples)
		return t
	}
	if math.IsInf(width, 0) {
		t.Reason = "each sample depends on so many before it that no slope can be told from drift"
		return t
	}
	if t.Low <= 0 {
		t.State = None
		t.Reason = fmt.Sprintf("the slope's interval includes zero; less than %.3g a sample could not have been seen", t.Detectable)
		return t
	}
	third := len(samples) / 3
	middle, last := theilSen(samples[third:2*third]), theilSen(samples[2*third:])
	if last < middle/2 {
		t.State = None
		t.Reason = "it rises at first and then settles"
		return t
	}
	t.State = Leaking
	t.Reason = "it rises steadily, by more than its fluctuation explains"
	return t
}

// measure fills in slope, interval and detectable slope; it returns the
// interval's half width.
func (t *Trend) measure(y []float64) float64 {
	t.Slope = theilSen(y)
	residuals := make([]float64, len(y))
	for i, v := range y {
		residuals[i] = v - t.Slope*float64(i)
	}
	center := mean(residuals)
	for i := range residuals {
		residuals[i] -= center
	}
	length := blockLength(residuals)
	free := float64(len(y))/float64(length) - 2
	if free < 1 {
		t.Low, t.High = math.Inf(-1), math.Inf(1)
		return math.Inf(1)
	}
	rng := rand.New(rand.NewPCG(1, uint64(len(y))))
	slopes := make([]float64, resamples)
	sample := make([]float64, len(y))
	for i := range slopes {
		for at := 0; at < len(sample); at += length {
			from := rng.IntN(len(residuals) - length + 1)
			copy(sample[at:], residuals[from:from+length])
		}
		slopes[i] = theilSen(sample)
	}
	var squares float64
	for _, s := range slopes {
		squares += s * s
	}
	student := distuv.StudentsT{Mu: 0, Sigma: 1, Nu: free}
	width := math.Sqrt(squares/float64(len(slopes))) * student.Quantile(1-tail)
	t.Low, t.High, t.Detectable = t.Slope-width, t.Slope+width, 2*width
	return width
}

// blockLength is three times the integrated autocorrelation time, at least 5.
func blockLength(r []float64) int {
	var variance, lag1 float64
	for i, v := range r {
		variance += v * v
		if i > 0 {
			lag1 += v * r[i-1]
		}
	}
	if variance == 0 {
		return 5
	}
	// A fitted slope takes away about 4/n of the correlation.
	phi := min(max(lag1/variance+4/float64(len(r)), 0), 0.99)
	return max(5, int(math.Ceil(3*(1+phi)/(1-phi))))
}

// theilSen is the median slope between block medians.
func theilSen(y []float64) float64 {
	n := min(blocks, len(y))
	x, m := make([]float64, n), make([]float64, n)
	for i := range n {
		from, to := i*len(y)/n, (i+1)*len(y)/n
		x[i] = float64(from+to-1) / 2
		m[i] = middle(y[from:to])
	}
	slopes := make([]float64, 0, n*(n-1)/2)
	for i := range n {
		for j := range i {
			slopes = append(slopes, (m[i]-m[j])/(x[i]-x[j]))
		}
	}
	return middle(slopes)
}

func mean(y []float64) float64 {
	var sum float64
	for _, v := range y {
		sum += v
	}
	return sum / float64(len(y))
}

func middle(y []float64) float64 {
	s := slices.Clone(y)
	slices.Sort(s)
	if len(s)%2 == 1 {
		return s[len(s)/2]
	}
	return s[len(s)/2-1]/2 + s[len(s)/2]/2
}
