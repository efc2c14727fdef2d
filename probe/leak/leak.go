// Package leak tells growth from noise in series of memory readings.
//
// MLX's count of active bytes, read at the same phase of steps of one shape,
// is exact: Exact judges it by byte differences and uses no statistics. The
// footprint of a process is noisy: Noise judges it by a robust slope with an
// interval, and only from MinSamples samples on. Short noisy series get no
// verdict, because a test at a nominal 1 % raises far more false alarms on
// the autocorrelated readings of a few dozen steps. Causes looks at several
// series of one run, since separate series mean separate causes. Attribute
// names what has the size of a leak. Watch listens to one reading at a time.
//
// A verdict of a leak is meant to hold; the price is that small leaks stay
// inconclusive, with how small and how much longer to look. docs/leaks.md has
// the measured error rates. The package knows nothing of where a series came
// from.
package leak

import (
	"fmt"
	"math"
	"slices"
)

// State is what a series says.
type State string

const (
	None         State = "none"         // does not grow
	Leaking      State = "leak"         // grows without end
	Inconclusive State = "inconclusive" // cannot be told; the reason says why
)

// Verdict is what Exact concludes.
type Verdict struct {
	State      State   `json:"state"`
	BytesAStep float64 `json:"bytes_a_step"` // growth a step; 0 unless State is Leaking
	IsExact    bool    `json:"is_exact"`     // every repeat grew by the same bytes; else BytesAStep is the median
	From       int     `json:"from_step"`    // of a leak: the step, counted from 0, after which each reading is higher
	Steps      int     `json:"steps"`        // readings judged, warm-up not counted
	Reason     string  `json:"reason"`       // what was seen, in a sentence
}

const (
	// WarmUp readings at the start are not judged: the optimizer's state is
	// made, steps are compiled, and the first buffers settle.
	WarmUp = 3
	// MinDifferences in a row must agree for a verdict.
	MinDifferences = 5
	// MinReadings is how many readings Exact needs to say anything.
	MinReadings = WarmUp + MinDifferences + 1
)

// Exact judges active bytes read after each step of one shape. period is the
// number of steps to one optimizer update: within it accumulated gradients
// come and go, so only every period-th reading is at the same phase.
func Exact(active []int64, period int) Verdict {
	period = max(period, 1)
	if len(active) > 0 && slices.Min(active) < 0 {
		return Verdict{State: Inconclusive, Reason: "a reading below zero is not a number of bytes"}
	}
	var phase []int64
	for i := period - 1; i < len(active); i += period {
		phase = append(phase, active[i])
	}
	if len(phase) < MinReadings {
		return Verdict{State: Inconclusive, Steps: max(len(phase)-WarmUp, 0), Reason: fmt.Sprintf(
			"%d steps give %d readings at the same phase; a verdict needs %d", len(active), len(phase), MinReadings)}
	}
	v := judge(phase[WarmUp:])
	v.Steps = len(phase) - WarmUp
	if v.State == Leaking {
		v.BytesAStep /= float64(period)
		v.From = (v.From+WarmUp)*period + period - 1
	}
	return v
}

// judge looks at readings after warm-up. Its From and BytesAStep count in
// readings.
func judge(a []int64) Verdict {
	d := make([]int64, len(a)-1)
	for i := range d {
		d[i] = a[i+1] - a[i]
	}
	if sum, p, from := cycle(d); p > 0 {
		if sum < 0 {
			return Verdict{State: None, Reason: "active memory falls"}
		}
		return Verdict{State: Leaking, BytesAStep: float64(sum) / float64(p), IsExact: true, From: from,
			Reason: fmt.Sprintf("the last %d readings grew by exactly %d bytes every %d", len(d)-from, sum, p)}
	}
	if quiet := quietTail(d); quiet >= MinDifferences && 2*quiet >= len(d) {
		return Verdict{State: None, Reason: fmt.Sprintf("the last %d readings are equal to the byte", quiet+1)}
	}
	// Where buffers are freed asynchronously, readings vary, and a run of rises
	// is chance; what never fell is not of that kind.
	if tail := d[len(d)/2:]; len(tail) >= MinDifferences && slices.Min(tail) > 0 && slices.Min(d) >= 0 {
		return Verdict{State: Leaking, BytesAStep: middle(floats(tail)), From: len(d) / 2,
			Reason: fmt.Sprintf("each of the last %d readings is higher than the one before, by unequal amounts", len(tail))}
	}
	// What only comes and goes returns to its floor; a leak lifts the floor.
	third := len(a) / 3
	first, last := slices.Min(a[:third]), slices.Min(a[len(a)-third:])
	if last <= first {
		return Verdict{State: None, Reason: "active memory varies and returns to its floor"}
	}
	return Verdict{State: Inconclusive, Reason: fmt.Sprintf(
		"active memory rose by %d bytes without a rule; a longer run would tell", last-first)}
}

// cycle finds the shortest period p with which the differences repeat up to
// the end and adds up to something, and how much one period adds. A period of 1
// needs MinDifferences repeats, a longer one three. p is 0 if there is none.
func cycle(d []int64) (sum int64, p, from int) {
	for p = 1; p <= len(d)/3; p++ {
		from = repeats(d, len(d), p)
		if n := len(d) - from; n < 3*p || n < MinDifferences {
			continue
		}
		sum = 0
		for _, v := range d[len(d)-p:] {
			sum += v
		}
		if sum < 0 || sum > 0 && !cameBefore(d, from, p, sum) {
			return sum, p, from
		}
	}
	return 0, 0, 0
}

// repeats returns where the stretch begins that ends at to and repeats with
// period p.
func repeats(d []int64, to, p int) int {
	from := max(to-p, 0)
	for from > 0 && d[from-1] == d[from-1+p] {
		from--
	}
	return from
}

// cameBefore says that a rise of the same kind, at least as long as the one
// that begins at from, was taken back: what a collector of garbage does.
func cameBefore(d []int64, from, p int, sum int64) bool {
	for fall := from - 1; fall >= p; fall-- {
		if d[fall] >= 0 {
			continue
		}
		begin := repeats(d, fall, p)
		var once, rise int64
		for _, v := range d[fall-p : fall] {
			once += v
		}
		for _, v := range d[begin:fall] {
			rise += v
		}
		if once == sum && len(d)-from <= fall-begin+p && -d[fall] >= rise/2 {
			return true
		}
	}
	return false
}

// quietTail counts the zero differences at the end.
func quietTail(d []int64) int {
	n := 0
	for n < len(d) && d[len(d)-1-n] == 0 {
		n++
	}
	return n
}

func floats(d []int64) []float64 {
	out := make([]float64, len(d))
	for i, v := range d {
		out[i] = float64(v)
	}
	return out
}

// Rate is growth that is to be explained, or lived with.
type Rate struct {
	BytesAStep float64 `json:"bytes_a_step"`
	Low        float64 `json:"low"` // its interval
	High       float64 `json:"high"`
	IsExact    bool    `json:"is_exact"` // bytes were counted
}

// Rate is the growth that was found; zero when none was.
func (v Verdict) Rate() Rate {
	r := Rate{BytesAStep: v.BytesAStep, Low: v.BytesAStep, High: v.BytesAStep, IsExact: v.IsExact}
	if !v.IsExact { // a median of unequal amounts
		r.Low, r.High = (1-near)*r.BytesAStep, (1+near)*r.BytesAStep
	}
	return r
}

// Rate is the slope with its interval.
func (t Trend) Rate() Rate { return Rate{BytesAStep: t.Slope, Low: t.Low, High: t.High} }

// Exhaustion says how long headroom lasts.
type Exhaustion struct {
	Steps   int `json:"steps"`
	Soonest int `json:"soonest"` // at the upper end of the growth's interval
	Latest  int `json:"latest"`  // at its lower end; Never when that is no growth
}

// Never is more steps than any training has.
const Never = math.MaxInt32

// Exhausts says after how many steps headroom is used up.
func (r Rate) Exhausts(headroom int64) Exhaustion {
	after := func(bytes float64) int {
		if n, ok := StepsToExhaustion(bytes, headroom); ok {
			return n
		}
		return Never
	}
	return Exhaustion{Steps: after(r.BytesAStep), Soonest: after(r.High), Latest: after(r.Low)}
}

// StepsToExhaustion returns how many steps fit into headroom bytes when each
// retains bytesAStep. ok is false when nothing grows.
func StepsToExhaustion(bytesAStep float64, headroom int64) (steps int, ok bool) {
	if !(bytesAStep > 0) {
		return 0, false
	}
	if headroom <= 0 {
		return 0, true
	}
	n := math.Floor(float64(headroom) / bytesAStep)
	if n >= Never {
		return Never, true
	}
	return int(n), true
}
