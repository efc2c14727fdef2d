package pace

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

var full = flag.Bool("pace.full", false, "all runs of the study, as in docs/leaks.md")

// times are seconds of n steps around typical, each remembering the last with
// weight phi.
func times(rng *rand.Rand, n int, phi, sigma float64) []float64 {
	out := make([]float64, n)
	v := rng.NormFloat64() * sigma
	for i := range out {
		v = phi*v + math.Sqrt(1-phi*phi)*sigma*rng.NormFloat64()
		out[i] = math.Exp(v)
	}
	return out
}

func stepsOf(seconds []float64) []Step {
	var out []Step
	for _, s := range seconds {
		out = append(out, Step{Seconds: s, Tokens: 400, Positions: 512})
	}
	return out
}

// shaped gives steps one of several shapes in turns at random, slow when they
// first come.
func shaped(rng *rand.Rand, seconds []float64, shapes int) []Step {
	seen := map[float64]bool{}
	steps := stepsOf(seconds)
	for i := range steps {
		p := float64(64 * (1 + rng.IntN(shapes)))
		steps[i].Positions = p
		steps[i].Seconds *= 0.05 + p/1000
		if !seen[p] {
			steps[i].Seconds += 20
		}
		seen[p] = true
	}
	return steps
}

func TestDrift(t *testing.T) {
	trials := 400
	if *full {
		trials = 2000
	}
	course := func(change float64) func(x float64) float64 {
		return func(x float64) float64 { return 1 + change*x }
	}
	for _, c := range []struct {
		name   string
		phi    float64
		n      int
		shapes int
		course func(x float64) float64 // of the time of a step
	}{
		{name: "white", n: 40},
		{name: "white", n: 200},
		{name: "AR(1) 0.5", phi: 0.5, n: 100},
		{name: "AR(1) 0.7", phi: 0.7, n: 100},
		{name: "AR(1) 0.7", phi: 0.7, n: 400},
		{name: "AR(1) 0.7", phi: 0.7, n: 1600},
		{name: "AR(1) 0.9", phi: 0.9, n: 400},
		{name: "8 shapes", phi: 0.7, n: 200, shapes: 8},
		{name: "slower by 40 %", phi: 0.5, n: 200, course: course(0.4)},
		{name: "slower by 40 %, 8 shapes", phi: 0.5, n: 300, shapes: 8, course: course(0.4)},
		{name: "faster by 40 %", phi: 0.5, n: 200, course: course(-0.4)},
	} {
		t.Run(fmt.Sprint(c.name, "/", c.n), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(9, uint64(c.n)))
			count := map[State]int{}
			for range trials {
				y := times(rng, c.n+20, c.phi, 0.05)
				for i := range y {
					if c.course != nil {
						y[i] *= c.course(float64(i) / float64(len(y)))
					}
				}
				steps := stepsOf(y)
				if c.shapes > 0 {
					steps = shaped(rng, y, c.shapes)
				}
				d := Judge(Run{Steps: steps}).Drift
				count[d.State]++
				if c.course != nil && d.State != Unclear && (d.Low > c.course(1)-1 || d.High < c.course(1)-1) {
					count["beside the interval"]++
				}
			}
			if *full {
				fmt.Println("|", c.name, "|", c.n, "|", count, "|")
			}
			want := map[bool]State{true: Slower, false: Faster}[c.course != nil && c.course(1) > 1]
			switch {
			case c.course == nil && 100*(count[Slower]+count[Faster]) > trials:
				t.Errorf("%v of %d steady runs, want at most 1 %% that drift", count, trials)
			case c.course == nil && (c.phi == 0 || c.n >= 1000) && c.n > 100 && 10*count[Steady] < 9*trials:
				t.Errorf("%v of %d steady runs, want 90 %% called so", count, trials)
			case c.course != nil && (100*count[want] < 99*trials || 20*count["beside the interval"] > trials):
				t.Errorf("%v of %d runs, want 99 %% %s, and intervals that hold the change", count, trials, want)
			}
		})
	}
}

func TestDriftSaysWhatIsMissing(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	if d := Judge(Run{Steps: stepsOf(times(rng, 20, 0, 0.05))}).Drift; d.State != Unclear || d.More != MinSteps-19 {
		t.Errorf("%+v, want unclear for want of %d steps", d, MinSteps-19)
	}
	if d := Judge(Run{Steps: stepsOf(times(rng, 60, 0.5, 0.6))}).Drift; d.State != Unclear || d.More <= 0 || d.Detectable <= 0 {
		t.Errorf("restless steps: %+v, want unclear and how many more would tell", d)
	}
	if d := Judge(Run{Steps: stepsOf(make([]float64, 100))}).Drift; d.State != Unclear {
		t.Errorf("nothing measured: %+v", d)
	}
	equal := make([]Step, 100)
	for i := range equal {
		equal[i] = Step{Seconds: 0.25, Positions: 64}
	}
	if d := Judge(Run{Steps: equal}).Drift; d.State != Steady || d.Change != 0 {
		t.Errorf("equal steps: %+v", d)
	}
	// A few outliers are jitter, not drift.
	for i := 80; i < 100; i += 6 {
		equal[i].Seconds = 3
	}
	if d := Judge(Run{Steps: equal}).Drift; d.State != Steady {
		t.Errorf("outliers at the end: %+v", d)
	}
}

func TestJudge(t *testing.T) {
	steps := make([]Step, 201)
	for i := range steps {
		steps[i] = Step{Seconds: 1, DataSeconds: 0.25, Tokens: 500, Positions: 1024}
	}
	steps[0].Seconds = 60 // compiles
	for i := 10; i < 20; i++ {
		steps[i].Seconds = 2
	}
	steps[100].Seconds = math.NaN()
	r := Judge(Run{Steps: steps, Ceiling: 1000})
	if r.Steps != 199 || r.Jitter.P50 != 1 || r.Jitter.P95 != 2 || r.Jitter.P99 != 2 {
		t.Errorf("%+v: want 199 steps, of which 5 in 100 take twice as long", r)
	}
	if want := 199 * 0.25 / (199*1.25 + 10); math.Abs(r.DataWait-want) > 1e-9 {
		t.Errorf("waits %v for data, want %v", r.DataWait, want)
	}
	if want := 199 * 500 / (199*1.25 + 10); math.Abs(r.TokensPerSecond-want) > 1e-6 || math.Abs(r.CeilingShare-want/1000) > 1e-9 || r.Impossible {
		t.Errorf("%v tokens/s, %v of the ceiling, want %v", r.TokensPerSecond, r.CeilingShare, want)
	}
	if r := Judge(Run{Steps: steps, Ceiling: 300}); !r.Impossible {
		t.Errorf("%v tokens/s where 300 are possible: %+v", r.TokensPerSecond, r)
	}
	if r := Judge(Run{Steps: steps, Skip: 190}); r.Steps != 10 {
		t.Errorf("%d steps after 190, want 10", r.Steps)
	}
}

func TestHost(t *testing.T) {
	sized := func(fixed, each float64) []Step {
		var out []Step
		for i := range 120 {
			p := float64(128 * (1 + i%4))
			out = append(out, Step{Seconds: fixed + each*p, Positions: p})
		}
		return out
	}
	for name, c := range map[string]struct {
		r         Run
		suspected bool
		says      string
	}{
		"computes":         {Run{Steps: sized(0.01, 0.001)}, false, "97 % of a step depends"},
		"launches":         {Run{Steps: sized(0.5, 0.0001)}, true, "93 % of a step does not depend"},
		"one size":         {Run{Steps: stepsOf(make([]float64, 50))}, false, "one size"},
		"idles":            {Run{Steps: sized(0.01, 0.001), BusyShare: 0.4}, true, "40 % of the time"},
		"busy after all":   {Run{Steps: sized(0.5, 0.0001), BusyShare: 0.97}, false, "97 % of the time"},
		"an absurd share":  {Run{Steps: sized(0.01, 0.001), BusyShare: 40}, false, "depends"},
		"nothing measured": {Run{}, false, "one size"},
	} {
		if h := Judge(c.r).Host; h.Suspected != c.suspected || !strings.Contains(h.Reason, c.says) {
			t.Errorf("%s: %+v, want %v because %q", name, h, c.suspected, c.says)
		}
	}
}

func FuzzJudge(f *testing.F) {
	f.Add(1., 2., 3., 4., 5., 0.5, 100, 3)
	f.Add(math.NaN(), math.Inf(1), -1., 0., 1e308, -1., 300, -5)
	f.Add(1e308, 1e-308, 1e308, 1e308, 1e308, 1e-300, 200, 1<<40)
	f.Fuzz(func(t *testing.T, a, b, data, tokens, positions, ceiling float64, n, skip int) {
		var steps []Step
		for i := range min(max(n, 0), 400) {
			s := Step{Seconds: a, DataSeconds: data, Tokens: tokens, Positions: positions}
			if i%3 == 1 {
				s.Seconds, s.Positions = b, positions/float64(1+i%5)
			}
			steps = append(steps, s)
		}
		r := Judge(Run{Steps: steps, Skip: skip, BusyShare: ceiling, Ceiling: ceiling})
		for _, v := range []float64{r.Drift.Change, r.Drift.Low, r.Drift.High, r.Drift.Detectable, r.Jitter.P50, r.Jitter.P95, r.Jitter.P99,
			r.DataWait, r.Host.FixedShare, r.TokensPerSecond, r.CeilingShare} {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				t.Fatalf("%+v is not finite", r)
			}
		}
		if r.Drift.Reason == "" || r.Host.Reason == "" || r.DataWait < 0 || r.DataWait > 1 || r.Drift.More < 0 {
			t.Errorf("%+v makes no sense", r)
		}
	})
}
