package leak

import (
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/stat/distuv"
)

// Trend is what Noise concludes of a noisy series. Slopes are bytes a sample.
type Trend struct {
	State      State   `json:"state"`
	Slope      float64 `json:"slope"`
	Low        float64 `json:"low"` // interval of the slope
	High       float64 `json:"high"`
	Detectable float64 `json:"detectable"` // the least slope that this series would have shown; 0 when unknown
	Samples    int     `json:"samples"`
	From       int     `json:"from_sample"`    // of a leak: the sample, counted from 0, where the growth begins, about
	More       int     `json:"more,omitempty"` // of an inconclusive one: samples that would tell, about; 0 when unknown
	Reason     string  `json:"reason"`

	unseparated bool
}

const (
	// MinSamples is how many samples Noise needs for a verdict.
	MinSamples = 200

	minMeasured = 4 * allBlocks // samples behind any figure
	tailSlope   = 0.0005        // one-sided, that a slope is not zero
	tailSteady  = 0.003         // one-sided, that growth does not slow down
	muchMore    = 1 << 30
)

// Noise judges readings that fluctuate, such as a process's footprint. The
// slope is Theil–Sen's over the medians of blocks, beside what covariates
// explain and without the first third; its interval comes from a block bootstrap
// of the residuals and Student's t for how few independent blocks there are.
//
// A leak must beat every innocent explanation: chance (the interval lies above
// zero), a warm-up or any growth that ends (the last third must surely rise more
// than 0.6 times as fast as the middle third and as what came before), a few
// jumps (three explain it worse than a line), what steps without updates do as
// well, and growth too small to matter. Where a
// change of level hides the rest, what came after it is judged for itself. The
// same series always gets the same verdict.
func Noise(s Series) Trend {
	t := judgeNoise(s)
	if t.State == None || t.Samples < MinSamples || t.unseparated {
		return t
	}
	changes := Changes(s)
	if t.State == Leaking {
		t.From = growsFrom(changes)
		return t
	}
	if len(changes) == 0 {
		return t
	}
	// What went on before the last change may hide what went on since.
	last := changes[len(changes)-1].At
	if t.Samples-last < MinSamples {
		t.More = max(MinSamples-(t.Samples-last), 1)
		t.Reason += fmt.Sprintf("; it changed at sample %d, and what came after is too short to judge alone", last)
		return t
	}
	since := judgeNoise(s.since(last))
	since.Samples, since.Reason = t.Samples, fmt.Sprintf("since it changed at sample %d, %s", last, since.Reason)
	// It must not have risen faster before, in jumps or otherwise: what slows
	// down looks steady when only its end is seen.
	before := pace(s, last)
	since.Detectable = max(since.Detectable, before*slowing/(1-slowing)+since.Detectable/2)
	switch {
	case since.State == Inconclusive:
		since.Detectable = 0
	case since.State == Leaking && since.Low < slowing*before:
		since.Detectable = 0
		return since.unclear(t.Samples, "since it changed at sample %d, it rises steadily, but not surely as fast as before", last)
	case since.State == Leaking:
		since.From = last
	}
	return since
}

func judgeNoise(s Series) Trend {
	t := Trend{State: Inconclusive, Samples: len(s.Values)}
	if len(s.Values) < minMeasured {
		return t.unclear(MinSamples-len(s.Values), "%d samples; a verdict on a noisy series needs %d", t.Samples, MinSamples)
	}
	c, ok := s.prepare()
	if !ok {
		return t.unclear(0, "more than %.0f %% of the readings are missing", 100*maxMissing)
	}
	e := c.examine()
	unit := c.scale * judged / float64(e.cells) / float64(c.width) // of a slope per block
	t.Slope, t.Low, t.High, t.Detectable = unit*e.slope, unit*e.low, unit*e.high, unit*e.detectable
	if sum := t.Slope + t.Low + t.High + t.Detectable; math.IsInf(sum, 0) || math.IsNaN(sum) {
		t.Slope, t.Low, t.High, t.Detectable = 0, 0, 0, 0
		return t.unclear(0, "the readings are too large to compute with")
	}
	switch {
	case e.free < 1:
		t.Low, t.High, t.Detectable = 0, 0, 0
		return t.unclear(moreFor(t.Samples, float64(enough*e.memory)/float64(e.cells)),
			"each sample depends on about %d before it, so that no slope can be told from drift", e.memory*c.width)
	case t.Samples < MinSamples:
		return t.unclear(MinSamples-t.Samples, "%d samples; a verdict on a noisy series needs %d", t.Samples, MinSamples)
	case e.inseparable && t.Low > 0:
		t.unseparated = true
		return t.unclear(0, "tokens or shapes grow in step with time, so that growth beside theirs cannot be told")
	}
	return t.conclude(s, e, unit)
}

// enough is how many independent blocks make a usable interval.
const enough = 8

// examined is the examination of cells without their warm-up, in their scale.
type examined struct {
	outline
	spread
	cells                 int // judged
	low, high, detectable float64
	steadies, slows       bool
	beatsSteps            bool    // steps explain it worse than a line
	lastHigh              float64 // upper end for the slope of the last third
	inseparable           bool
}

func (c cells) examine() examined {
	warm := len(c.y) * (allBlocks - blocks) / allBlocks
	y := slices.Clone(c.y[warm:])
	var x [][]float64
	for _, v := range c.x {
		x = append(x, v[warm:])
	}
	early := len(y) * earlyBlocks / blocks
	fit := newRegression(x, early)
	fit.adjust(y)
	e := examined{outline: outlined(y), cells: len(y) - early, inseparable: fit.inseparable}
	residuals := y[early:]
	steps := versus(residuals)
	n := len(y)
	for i := range residuals {
		residuals[i] -= e.slope * blocks / float64(n) * float64(i)
	}
	center := mean(residuals)
	for i := range residuals {
		residuals[i] -= center
	}
	e.spread = bootstrap(residuals, n, fit)
	if e.free < 1 {
		return e
	}
	student := distuv.StudentsT{Mu: 0, Sigma: 1, Nu: e.free}
	width := e.slopeError * student.Quantile(1-tailSlope)
	sure := student.Quantile(1 - tailSteady)
	e.low, e.high = e.slope-width, e.slope+width
	e.detectable = max(
		width,
		(sure*e.steadyError+max(-e.steady, 0))/(1-slowing),
		(sure*e.heldError+max(-e.held, 0))/(1-slowing),
		slopeBeyondSteps(versus(residuals), min(len(residuals), groups))/judged) + e.slopeError
	e.beatsSteps = steps < 0
	e.steadies = e.steady > sure*e.steadyError && e.held > sure*e.heldError
	e.slows = e.steady < -sure*e.steadyError
	e.lastHigh = e.last + e.steadyError*sure
	return e
}

func (t Trend) conclude(s Series, e examined, unit float64) Trend {
	harm := s.Plan.harmful()
	if t.Low <= 0 {
		if harm > 0 && t.High > harm {
			worst := max(t.High, 1.4*(t.High-t.Low)/2) // the slope itself will differ
			return t.unclear(moreFor(t.Samples, math.Pow(worst/harm, 2./3)),
				"no growth is seen, but %.3g a sample would harm, and up to %.3g cannot be excluded", harm, t.High)
		}
		return t.none("the slope's interval includes zero; growth of more than %.3g a sample is excluded", t.High)
	}
	switch {
	case e.slows && (harm == 0 || unit*e.lastHigh <= harm):
		return t.none("it rises at first and then settles")
	case harm > 0 && t.High <= harm:
		return t.none("it rises by %.3g a sample, which takes less than %.0f %% of the headroom over the training", t.Slope, 100*harmShare)
	case !e.beatsSteps:
		return t.unclear(t.Samples, "it rises, but %d jumps explain it as well as a steady rise", jumps)
	case !e.steadies:
		return t.unclear(t.Samples, "it rises, but may be slowing down: the last third does not surely rise as fast as before")
	case harm > 0 && t.Low <= harm:
		return t.unclear(moreFor(t.Samples, math.Pow((t.High-t.Low)/2/max(math.Abs(t.Slope-harm), harm/10), 2./3)),
			"it rises by %.3g to %.3g a sample; %.3g would harm", t.Low, t.High, harm)
	}
	if s.Control != nil {
		c := judgeNoise(Series{Values: s.Control})
		if c.Samples < MinSamples || c.unmeasured() {
			return t.unclear(max(MinSamples-c.Samples, 0), "it rises, but the control without updates says too little: %s", c.Reason)
		}
		if t.Slope-c.Slope <= math.Hypot(t.Slope-t.Low, c.Slope-c.Low) {
			return t.unclear(0, "it rises by %.3g a sample, and a control without updates by %.3g: not by what updates do", t.Slope, c.Slope)
		}
	}
	t.State = Leaking
	t.Reason = fmt.Sprintf("it rises steadily by %.3g to %.3g a sample, by more than fluctuation, a warm-up or jumps explain", t.Low, t.High)
	return t
}

// unmeasured says that the slope has no interval.
func (t Trend) unmeasured() bool { return t.State == Inconclusive && t.Detectable == 0 }

func (t Trend) none(format string, args ...any) Trend {
	t.State, t.Reason = None, fmt.Sprintf(format, args...)
	return t
}

func (t Trend) unclear(more int, format string, args ...any) Trend {
	t.State, t.More, t.Reason = Inconclusive, more, fmt.Sprintf(format, args...)
	return t
}

// moreFor is how many samples are still missing when times as many are needed.
func moreFor(n int, times float64) int {
	more := math.Ceil(float64(n) * (times - 1))
	if !(more < muchMore) {
		return muchMore
	}
	return max(int(more), 1)
}
