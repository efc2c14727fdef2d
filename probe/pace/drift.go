package pace

import (
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/stat/distuv"
)

// State is what became of the speed.
type State string

const (
	Steady  State = "steady"
	Slower  State = "slower"
	Faster  State = "faster"
	Unclear State = "unclear"
)

// Drift is how the time of a step changed from the beginning of a run to its
// end, as a share: 0.1 is 10 % longer.
type Drift struct {
	State      State   `json:"state"`
	Change     float64 `json:"change"`
	Low        float64 `json:"low"` // interval of Change
	High       float64 `json:"high"`
	Detectable float64 `json:"detectable"`     // a change that would have been seen; 0 when unknown
	More       int     `json:"more,omitempty"` // of an unclear one: steps that would tell, about
	Reason     string  `json:"reason"`
}

const (
	// MinSteps is how many steps a verdict on drift needs.
	MinSteps = 40

	blocks    = 10    // whose medians stand for the run
	tolerated = 0.15  // change that must be excluded for a run to count as steady
	worth     = 0.03  // change of a step's time that is worth a word
	tail      = 0.003 // one-sided, of the interval
	loss      = 1.35  // standard errors of Theil and Sen's slope over those of least squares
	clipped   = 4     // standard deviations that a single step may count
	fewest    = 3     // degrees of freedom behind an interval
	remembers = 3     // memories to a nearly independent block
)

// drift judges times relative to what is usual, oldest first. The slope is
// Theil and Sen's over block medians of logarithms, its error that of a line
// through fluctuation with a memory.
func drift(ratios []float64) Drift {
	d := Drift{State: Unclear}
	n := len(ratios)
	if n < MinSteps {
		d.More = MinSteps - n
		d.Reason = fmt.Sprintf("%d steps can be compared; a verdict needs %d", n, MinSteps)
		return d
	}
	y := make([]float64, n)
	for i, r := range ratios {
		y[i] = math.Log(r)
	}
	slope := theilSen(y) // a step
	residuals := make([]float64, n)
	for i := range y {
		residuals[i] = y[i] - slope*float64(i)
	}
	variance, memory := fluctuation(residuals)
	free := float64(n)/(remembers*memory) - 2
	if free < fewest {
		d.More = int(remembers*memory*(fewest+3)) - n
		d.More = max(d.More, 1)
		d.Reason = fmt.Sprintf("each step's time depends on about %.0f before it", memory)
		return d
	}
	student := distuv.StudentsT{Mu: 0, Sigma: 1, Nu: free}
	length := float64(n - 1)
	width := student.Quantile(1-tail) * loss * length * math.Sqrt(12*variance*memory/(length*length*length))
	rise := slope * length
	d.Change, d.Low, d.High, d.Detectable = math.Expm1(rise), math.Expm1(rise-width), math.Expm1(rise+width), math.Expm1(2*width)
	if math.IsInf(d.High+d.Detectable, 0) {
		d.Change, d.Low, d.High, d.Detectable = 0, 0, 0, 0
		d.Reason = "step times differ by more than can be computed with"
		return d
	}
	switch {
	case d.Low > 0 && d.Change > worth:
		d.State, d.Reason = Slower, fmt.Sprintf("steps take %.0f to %.0f %% longer at the end than at first", 100*d.Low, 100*d.High)
	case d.High < 0 && d.Change < -worth:
		d.State, d.Reason = Faster, fmt.Sprintf("steps take %.0f to %.0f %% less at the end than at first", -100*d.High, -100*d.Low)
	case d.High > tolerated:
		// Error falls with the root of the length.
		d.More = int(min(float64(n)*(d.High*d.High/tolerated/tolerated-1), math.MaxInt32)) + 1
		d.Reason = fmt.Sprintf("steps may take up to %.0f %% longer at the end, which this many do not tell", 100*d.High)
	default:
		d.State, d.Reason = Steady, fmt.Sprintf("the change lies between %+.1f and %+.1f %%", 100*d.Low, 100*d.High)
	}
	return d
}

// theilSen is the median slope between any two of the medians of blocks.
func theilSen(y []float64) float64 {
	var x, m [blocks]float64
	for i := range blocks {
		from, to := i*len(y)/blocks, (i+1)*len(y)/blocks
		x[i], m[i] = float64(from+to-1)/2, quantile(y[from:to], 50)
	}
	var slopes []float64
	for i := range blocks {
		for j := range i {
			slopes = append(slopes, (m[i]-m[j])/(x[i]-x[j]))
		}
	}
	return quantile(slopes, 50)
}

// fluctuation is the variance of residuals and how many of them depend on each
// other, both of residuals without outliers: single slow steps say nothing
// about a run's course. The memory is the larger of two estimates, from the
// first correlation and from the sum of correlations.
func fluctuation(r []float64) (variance, memory float64) {
	r = slices.Clone(r)
	center := quantile(r, 50)
	apart := make([]float64, len(r))
	for i := range r {
		r[i] -= center
		apart[i] = math.Abs(r[i])
	}
	most := 0.
	for _, p := range []int{50, 75, 90} { // where more than half are equal, others tell
		if most == 0 {
			most = clipped * 1.4826 * quantile(apart, p)
		}
	}
	for i := range r {
		r[i] = min(max(r[i], -most), most)
	}
	n := float64(len(r))
	var squares float64
	for _, v := range r {
		squares += v * v
	}
	variance = squares / (n - 2)
	if squares <= 1e-20*n {
		return variance, 1
	}
	first, sum := 1.0, 1.0
	for lag := 1; lag < len(r)/3; lag++ {
		var c float64
		for i := lag; i < len(r); i++ {
			c += r[i] * r[i-lag]
		}
		rho := c/squares + 4/n // which a fitted line takes away
		if lag == 1 {
			phi := min(max(rho, 0), 0.99)
			first = (1 + phi) / (1 - phi)
		}
		sum += 2 * rho
		if float64(lag) >= 4*sum {
			break
		}
	}
	return variance, max(first, sum)
}
