package compare

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// Schema names the form of a Report.
const Schema = "mlxdyno/compare/1"

// Report is what a comparison showed.
type Report struct {
	Schema  string  `json:"schema"` // Schema
	Verdict Verdict `json:"verdict"`
	Says    string  `json:"says"` // the same in words
	Hint    string  `json:"hint,omitempty"`

	A      Result `json:"a"`
	B      Result `json:"b"`
	Speed  Ratio  `json:"speed"`  // useful tokens a second of A over those of B
	Memory Ratio  `json:"memory"` // peak of A over that of B

	OneProcess bool     `json:"one_process"` // they took turns inside processes; else each had its own
	Processes  int      `json:"processes"`
	Seconds    float64  `json:"seconds"` // of the processes
	BudgetNS   int64    `json:"budget_ns"`
	Notes      []string `json:"notes,omitempty"`
}

// Verdict is about A: what its speed is beside B's.
type Verdict string

const (
	Faster  Verdict = "faster"
	Slower  Verdict = "slower"
	Even    Verdict = "even"    // as fast, to within what matters
	Open    Verdict = "open"    // it could not be told
	OnlyA   Verdict = "only a"  // B does not run
	OnlyB   Verdict = "only b"  // A does not run
	Neither Verdict = "neither" // neither does
)

// Result is one side.
type Result struct {
	Name            string            `json:"name"`
	Engine          string            `json:"engine"`
	Knobs           map[string]string `json:"knobs,omitempty"` // those that the other side has otherwise
	TokensPerSecond Summary           `json:"tokens_per_second"`
	PeakBytes       Summary           `json:"peak_bytes"`
	Problem         string            `json:"problem,omitempty"` // why it does not run, or was not run
}

// Summary is benchstat's: the median, and the interval of at least 95 % that order
// statistics give, unknown below six values.
type Summary struct {
	Values []float64            `json:"values,omitempty"`
	Median trainer.Opt[float64] `json:"median,omitzero"`
	Low    trainer.Opt[float64] `json:"low,omitzero"`
	High   trainer.Opt[float64] `json:"high,omitzero"`
}

// Ratio is that of two samples.
type Ratio struct {
	Value trainer.Opt[float64] `json:"value,omitzero"` // median over all pairs
	Low   trainer.Opt[float64] `json:"low,omitzero"`   // 95 % interval, that of the U test; unknown when there are too few
	High  trainer.Opt[float64] `json:"high,omitzero"`
	P     trainer.Opt[float64] `json:"p,omitzero"` // of the U test of Mann and Whitney
}

// matters is the least difference in speed that does.
const matters = 0.05

// conclude fills in the verdict and the words for it.
func (r *Report) conclude(budget time.Duration) {
	r.Speed = ratioOf(r.A.TokensPerSecond.Values, r.B.TokensPerSecond.Values)
	r.Memory = ratioOf(r.A.PeakBytes.Values, r.B.PeakBytes.Values)
	a, b := "A ("+r.A.Name+")", "B ("+r.B.Name+")"
	switch {
	case r.A.Problem != "" && r.B.Problem != "":
		r.Verdict, r.Says = Neither, fmt.Sprintf("neither could be measured: %s: %s; %s: %s", a, r.A.Problem, b, r.B.Problem)
		return
	case r.B.Problem != "":
		r.Verdict, r.Says = OnlyA, fmt.Sprintf("only %s could be measured: %s: %s", a, b, r.B.Problem)
		return
	case r.A.Problem != "":
		r.Verdict, r.Says = OnlyB, fmt.Sprintf("only %s could be measured: %s: %s", b, a, r.A.Problem)
		return
	}
	ratio := r.Speed.Value.Or(1)
	low, sure := r.Speed.Low.Get()
	high := r.Speed.High.Or(0)
	first, second := a, b
	if ratio < 1 {
		first, second, ratio, low, high = b, a, 1/ratio, 1/high, 1/low
	}
	n := fmt.Sprintf("%s, %d and %d measurements", pText(r.Speed.P), len(r.A.TokensPerSecond.Values), len(r.B.TokensPerSecond.Values))
	more := "give it more time: --budget " + trainer.FormatDuration(2*budget)
	switch {
	case !sure:
		r.Verdict, r.Hint = Open, more
		r.Says = fmt.Sprintf("which is faster could not be told by so few measurements: give them more with --budget (%s; by their medians %s is %.3g × as fast as %s)", n, first, ratio, second)
	case low > 1 && ratio < 1+matters && high < 1+matters:
		r.Verdict = Even
		r.Says = fmt.Sprintf("%s is faster than %s by less than matters: %.3g × (95 %%: %.3g to %.3g; %s)", first, second, ratio, low, high, n)
	case low > 1:
		r.Verdict = Faster
		if first == b {
			r.Verdict = Slower
		}
		r.Says = fmt.Sprintf("%s is %.3g × as fast as %s (95 %%: %.3g to %.3g; %s)", first, ratio, second, low, high, n)
	case low > 1/(1+matters) && high < 1+matters:
		r.Verdict = Even
		r.Says = fmt.Sprintf("%s and %s are equally fast to within %.3g %% (95 %%: %.3g to %.3g ×; %s)", a, b, 100*math.Max(high-1, 1/low-1), low, high, n)
	default:
		r.Verdict, r.Hint = Open, more
		r.Says = fmt.Sprintf("no difference in speed could be shown: %s is %.3g to %.3g × as fast as %s (95 %%; %s)", first, low, high, second, n)
	}
	r.Says += memoryText(r.Memory, r.A.PeakBytes, r.B.PeakBytes)
}

// memoryText goes on with the peaks.
func memoryText(m Ratio, a, b Summary) string {
	v, ok := m.Value.Get()
	if !ok {
		return ""
	}
	peaks := fmt.Sprintf("%s against %s", trainer.FormatBytes(int64(a.Median.Or(0))), trainer.FormatBytes(int64(b.Median.Or(0))))
	switch {
	case v < 0.995:
		return fmt.Sprintf("; A's peak is %.3g %% lower (%s)", 100*(1-v), peaks)
	case v > 1.005:
		return fmt.Sprintf("; A's peak is %.3g %% higher (%s)", 100*(v-1), peaks)
	}
	return fmt.Sprintf("; their peaks are alike (%s)", peaks)
}

func pText(p trainer.Opt[float64]) string {
	v, ok := p.Get()
	switch {
	case !ok:
		return "p unknown"
	case v < 0.001:
		return "p < 0.001"
	}
	return fmt.Sprintf("p = %.3f", v)
}

// different are the knobs of a that b has otherwise, paths and schedule aside.
func different(a, b trainer.Config) map[string]string {
	out := map[string]string{}
	for _, k := range trainer.Knobs {
		if v := k.Get(&a); v != k.Get(&b) && !strings.HasSuffix(k.Name, "-path") {
			out[k.Name] = v
		}
	}
	return out
}
