package leak

import (
	"fmt"
	"math"
)

// Readings are the series of one run, one reading after each step. What was not
// read is nil; what has another length than the longest is not judged.
type Readings struct {
	Active    []int64 // MLX's live bytes
	Cache     []int64 // freed buffers that MLX keeps
	Footprint []int64 // what the system charges the process with
	Traces    []int64 // compiled steps so far

	Tokens []float64 // of each step
	Shapes []float64 // how large each step's shape was; equal ones are one shape

	Period        int  // steps to one optimizer update
	Apart         bool // the footprint does not include MLX's memory, as with a discrete GPU
	ShapesPlanned int  // distinct shapes that the data has; 0 when unknown
	Plan          Plan
}

// Cause is one of the ways in which a run can grow.
type Cause string

const (
	LiveArrays    Cause = "live arrays"    // somebody still holds them: a true leak
	AllocatorPool Cause = "allocator pool" // freed, kept for reuse, not bounded
	HostOrDriver  Cause = "host or driver" // outside MLX's counters
	CompileCache  Cause = "compile cache"  // compiled steps are never dropped
)

// Judgement is the verdict on one cause.
type Judgement struct {
	Cause  Cause  `json:"cause"`
	State  State  `json:"state"`
	Rate   Rate   `json:"rate"` // bytes a step; of a compile cache, traces a step
	From   int    `json:"from_step"`
	More   int    `json:"more,omitempty"` // of an inconclusive one: steps that would tell, about
	Reason string `json:"reason"`
}

// Causes judges each series for itself, since separate series mean separate
// causes: active memory is what is held, the cache is the allocator's, the rest
// of the footprint is the host's or the driver's, and traces that rise while
// bytes are flat are compiled steps. Those not read are left out.
func Causes(r Readings) []Judgement {
	n := max(len(r.Active), len(r.Cache), len(r.Footprint), len(r.Traces))
	whole := func(x []int64) bool { return len(x) == n && n > 0 }
	var out []Judgement
	if whole(r.Active) {
		out = append(out, r.liveArrays())
	}
	if whole(r.Cache) {
		out = append(out, r.noisy(AllocatorPool, floats(r.Cache)))
	}
	if whole(r.Footprint) && (r.Apart || whole(r.Active) && whole(r.Cache)) {
		rest := floats(r.Footprint)
		if !r.Apart {
			for i := range rest {
				rest[i] -= float64(r.Active[i]) + float64(r.Cache[i])
			}
		}
		out = append(out, r.noisy(HostOrDriver, rest))
	}
	if whole(r.Traces) {
		out = append(out, r.compiled())
	}
	together(out)
	return out
}

// together says what two causes that were found at once may have to do with
// each other.
func together(js []Judgement) {
	var host, traces *Judgement
	for i := range js {
		switch js[i].Cause {
		case HostOrDriver:
			host = &js[i]
		case CompileCache:
			traces = &js[i]
		}
	}
	if host == nil || traces == nil || traces.State != Leaking || traces.Rate.BytesAStep <= 0 {
		return
	}
	if host.State == Leaking {
		host.Reason += fmt.Sprintf("; compiled steps pile up too, and would explain it at %.3g bytes each", host.Rate.BytesAStep/traces.Rate.BytesAStep)
	}
}

func (r Readings) series(y []float64) Series {
	return Series{Values: y, Tokens: r.Tokens, Shapes: r.Shapes, Plan: r.Plan}
}

func (r Readings) noisy(c Cause, y []float64) Judgement {
	t := Noise(r.series(y))
	j := Judgement{Cause: c, State: t.State, From: t.From, More: t.More, Reason: t.Reason}
	if t.State == Leaking {
		j.Rate = t.Rate()
	}
	return j
}

// liveArrays judges active memory to the byte where all steps have one shape.
// Otherwise, and where buffers are freed late, it is a noisy series, read at
// one phase.
func (r Readings) liveArrays() Judgement {
	j := Judgement{Cause: LiveArrays, State: Inconclusive}
	if r.oneShape() {
		v := Exact(r.Active, r.Period)
		j = Judgement{Cause: LiveArrays, State: v.State, From: v.From, Rate: v.Rate(), Reason: v.Reason}
		if v.State != Inconclusive || len(r.Active) < MinSamples {
			return j
		}
	}
	period := max(r.Period, 1)
	pick := func(x []float64) []float64 {
		if len(x) != len(r.Active) {
			return nil
		}
		var out []float64
		for i := period - 1; i < len(x); i += period {
			out = append(out, x[i])
		}
		return out
	}
	s := Series{Values: pick(floats(r.Active)), Tokens: pick(r.Tokens), Shapes: pick(r.Shapes), Plan: r.Plan}
	s.Plan.Steps /= period
	t := Noise(s)
	j.State, j.From, j.More, j.Reason = t.State, t.From*period, t.More*period, t.Reason
	if t.State == Leaking {
		k := float64(period)
		j.Rate = Rate{BytesAStep: t.Slope / k, Low: t.Low / k, High: t.High / k}
	}
	return j
}

func (r Readings) oneShape() bool {
	for _, s := range r.Shapes {
		if s != r.Shapes[0] {
			return false
		}
	}
	return true
}

// minTraces must be new in the last third for a verdict that they pile up.
const minTraces = 5

// compiled judges a counter that never falls. A new shape brings a new trace:
// that ends with the shapes. It is a leak when traces are made for shapes that
// had been compiled, or when new ones surely keep coming.
func (r Readings) compiled() Judgement {
	j := Judgement{Cause: CompileCache, State: Inconclusive}
	n := len(r.Traces)
	if n < 3*MinReadings {
		j.More = 3*MinReadings - n
		j.Reason = fmt.Sprintf("%d steps; a verdict on compiled steps needs %d", n, 3*MinReadings)
		return j
	}
	var added, again [3]float64 // in each third; again: for shapes seen before
	seen := map[float64]bool{}
	for i, t := range r.Traces {
		var d float64
		if i > 0 {
			d = float64(t) - float64(r.Traces[i-1])
		}
		if d < 0 || t < 0 {
			j.Reason = "the number of compiled steps fell"
			return j
		}
		third := min(3*i/n, 2)
		added[third] += d
		if len(r.Shapes) == n {
			if seen[r.Shapes[i]] {
				again[third] += d
			}
			seen[r.Shapes[i]] = true
		}
	}
	perStep := func(traces float64) Rate {
		k := float64(n - 2*n/3)
		margin := 3 * math.Sqrt(traces)
		return Rate{BytesAStep: traces / k, Low: max(traces-margin, 0) / k, High: (traces + margin) / k}
	}
	last := added[2]
	switch bounded := r.ShapesPlanned > 0 && r.Traces[n-1] <= int64(r.ShapesPlanned); {
	case last == 0:
		j.State, j.Reason = None, "no step was compiled in the last third"
	case again[2] >= max(minTraces, slowing*again[1]):
		j.State, j.From, j.Rate = Leaking, n/3, perStep(again[2])
		j.Reason = fmt.Sprintf("%.0f of the last %.0f compiled steps are of shapes that had been compiled before", again[2], last)
	case bounded:
		j.State = None
		j.Reason = fmt.Sprintf("%d of %d shapes have been compiled: it ends with them", r.Traces[n-1], r.ShapesPlanned)
	case last >= minTraces && goesOn(added[1], last):
		j.State, j.From, j.Rate = Leaking, n/3, perStep(last)
		j.Reason = fmt.Sprintf("%.0f steps were compiled in the last third, and %.0f in the middle one: new ones keep coming", last, added[1])
	default:
		j.More = n
		j.Reason = fmt.Sprintf("%.0f steps were compiled in the last third, and %.0f in the middle one: that may end", last, added[1])
	}
	return j
}

// goesOn says that counts surely do not slow down, as if each were by chance.
func goesOn(middle, last float64) bool {
	const sure = 2.75
	return last-slowing*middle > sure*math.Sqrt(last+slowing*slowing*middle)
}
