package leak

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func rng() *rand.Rand { return rand.New(rand.NewPCG(3, 5)) }

func growing(rng *rand.Rand, n int, phi, slope float64) []float64 {
	return add(ar1(rng, n, phi, 1), func(i int) float64 { return slope * float64(i) })
}

func TestNoiseIntervalHoldsSlope(t *testing.T) {
	rng := rng()
	found := 0
	const trials = 100
	for range trials {
		if v := Noise(Series{Values: growing(rng, 400, 0.7, 0.1)}); v.State == Leaking && v.Low <= 0.1 && 0.1 <= v.High && v.From == 0 {
			found++
		}
	}
	if found < 98 {
		t.Errorf("found %d of %d planted slopes with the interval around them, want 98", found, trials)
	}
}

func TestNoiseShortSeriesGetNoVerdict(t *testing.T) {
	y := growing(rng(), 150, 0.5, 1)
	if v := Noise(Series{Values: y}); v.State != Inconclusive || v.Detectable <= 0 || v.More != MinSamples-150 {
		t.Errorf("150 samples: %+v, want inconclusive with what could have been seen and how many are missing", v)
	}
	if v := Noise(Series{Values: y[:12]}); v.State != Inconclusive || v.Detectable != 0 || v.More != MinSamples-12 {
		t.Errorf("12 samples: %+v, want inconclusive", v)
	}
	y = growing(rng(), 300, 0.5, 0.1)
	if a, b := Noise(Series{Values: y}), Noise(Series{Values: y}); a != b {
		t.Errorf("the same series got %+v and %+v", a, b)
	}
}

// What each part of the question changes. The fluctuation is that of a
// footprint in MB.
func TestNoise(t *testing.T) {
	n := 600
	flat := func() []float64 { return ar1(rng(), n, 0.5, 20) }
	with := func(f func(i int) float64) []float64 { return add(flat(), f) }
	line := func(slope float64) func(int) float64 { return func(i int) float64 { return slope * float64(i) } }
	gaps := func(y []float64, every int) []float64 {
		for i := 0; i < len(y); i += every {
			y[i] = math.NaN()
		}
		return y
	}
	tokens := lengths(rng(), n)
	ramp := add(make([]float64, n), line(3))
	drifting := add(slices.Clone(tokens), line(2))
	leak := with(line(2))
	cases := []struct {
		name  string
		s     Series
		state State
		says  string
	}{
		{"flat", Series{Values: flat()}, None, "includes zero"},
		{"equal", Series{Values: make([]float64, n)}, None, "includes zero"},
		{"leak", Series{Values: leak}, Leaking, "steadily"},
		{"leak that begins late", Series{Values: with(func(i int) float64 { return float64(max(i-270, 0)) })}, Leaking, "steadily"},
		{"leak that was faster at first", Series{Values: with(func(i int) float64 { return float64(min(3*i, 400+i)) })}, Inconclusive, "as fast as before"},
		{"falls", Series{Values: with(line(-2))}, None, "includes zero"},
		{"exact line", Series{Values: ramp}, Leaking, "steadily"},
		{"some readings missing", Series{Values: gaps(slices.Clone(leak), 20)}, Leaking, "steadily"},
		{"many readings missing", Series{Values: gaps(slices.Clone(leak), 5)}, Inconclusive, "missing"},
		{"settles", Series{Values: with(func(i int) float64 { return 3000 * (1 - math.Exp(-float64(i)/40)) })}, None, "includes zero"},
		{"three jumps", Series{Values: with(func(i int) float64 { return 500 * float64(min(i/150, 3)) })}, Inconclusive, "changed at sample"},
		{"jumps at first", Series{Values: with(func(i int) float64 { return 2000 * float64(min(i/100, 3)) })}, None, "since it changed at sample 300"},
		{"grows with tokens", Series{Values: add(with(func(i int) float64 { return 3 * (tokens[i] + 2*float64(i)) }), line(0)),
			Tokens: add(slices.Clone(tokens), line(2))}, None, "includes zero"},
		{"grows beside tokens", Series{Values: with(func(i int) float64 { return 3*tokens[i] + 2*float64(i) }), Tokens: tokens}, Leaking, "steadily"},
		{"ratchet of shapes", Series{Values: with(func(i int) float64 { return 3 * slices.Max(drifting[:i+1]) }), Shapes: drifting}, None, "includes zero"},
		{"tokens grow like time", Series{Values: leak, Tokens: ramp}, Inconclusive, "in step with time"},
		{"covariates of another length", Series{Values: leak, Tokens: tokens[1:], Shapes: tokens[2:]}, Leaking, "steadily"},
		{"harmless", Series{Values: leak, Plan: Plan{Steps: 100, Headroom: 1e5}}, None, "less than 2 %"},
		{"harmful", Series{Values: leak, Plan: Plan{Steps: 5000, Headroom: 1e4}}, Leaking, "steadily"},
		{"perhaps harmful", Series{Values: leak, Plan: Plan{Steps: 1000, Headroom: 1e5}}, Inconclusive, "would harm"},
		{"nothing seen that would harm", Series{Values: flat(), Plan: Plan{Steps: 1000, Headroom: 1e5}}, None, "excluded"},
		{"harm too small to see", Series{Values: flat(), Plan: Plan{Steps: 100_000, Headroom: 1e4}}, Inconclusive, "cannot be excluded"},
		{"flat control", Series{Values: leak, Control: flat()}, Leaking, "steadily"},
		{"control grows too", Series{Values: leak, Control: with(line(1.95))}, Inconclusive, "a control without updates"},
		{"control grows less", Series{Values: with(line(4)), Control: with(line(1))}, Leaking, "steadily"},
		{"short control", Series{Values: leak, Control: flat()[:150]}, Inconclusive, "the control"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			v := Noise(c.s)
			if v.State != c.state || !strings.Contains(v.Reason, c.says) {
				t.Errorf("%+v, want %s because %q", v, c.state, c.says)
			}
			if (v.More > 0) && v.State != Inconclusive {
				t.Errorf("%+v asks for more samples", v)
			}
		})
	}
}

// As many samples more as an inconclusive verdict asks for do tell.
func TestNoiseMoreTells(t *testing.T) {
	plan := Plan{Steps: 20_000, Headroom: 60_000} // 0.06 a step harms
	r := rng()
	none, asked := 0, 0
	const trials = 40
	for range trials {
		y := ar1(r, 30_000, 0.5, 20)
		v := Noise(Series{Values: y[:300], Plan: plan})
		if v.State != Inconclusive || v.More == 0 || v.More > 20_000 {
			continue
		}
		asked++
		if Noise(Series{Values: y[:min(300+v.More*3/2, len(y))], Plan: plan}).State == None {
			none++
		}
	}
	if asked < trials/2 || none < asked*9/10 {
		t.Errorf("%d of %d asked for more samples, and with half as many again %d were told", asked, trials, none)
	}
}

func TestNoiseSaysWhereGrowthBegins(t *testing.T) {
	y := add(ar1(rng(), 900, 0.5, 20), func(i int) float64 { return 10 * float64(max(i-300, 0)) })
	if v := Noise(Series{Values: y}); v.State != Leaking || v.From < 260 || v.From > 340 {
		t.Errorf("%+v, want a leak from sample 300, about", v)
	}
}

func TestChanges(t *testing.T) {
	noise := func() []float64 { return ar1(rng(), 600, 0.5, 1) }
	cases := []struct {
		name   string
		add    func(i int) float64
		at     []int
		jump   float64
		before float64
		after  float64
	}{
		{name: "none"},
		{name: "slope alone", add: func(i int) float64 { return float64(i) }},
		{name: "jump", add: func(i int) float64 { return 50 * float64(i/400) }, at: []int{400}, jump: 50},
		{name: "slope begins", add: func(i int) float64 { return 0.5 * float64(max(i-300, 0)) }, at: []int{300}, after: 0.5},
		{name: "slope ends", add: func(i int) float64 { return 0.5 * float64(min(i, 300)) }, at: []int{300}, before: 0.5},
		{name: "two jumps", add: func(i int) float64 { return 40 * float64(i/200) }, at: []int{200, 400}, jump: 40},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			y := noise()
			if c.add != nil {
				add(y, c.add)
			}
			got := Changes(Series{Values: y})
			if len(got) != len(c.at) {
				t.Fatalf("%+v, want changes at %v", got, c.at)
			}
			for k, g := range got {
				if math.Abs(float64(g.At-c.at[k])) > 8 || math.Abs(g.Jump-c.jump) > 3 ||
					math.Abs(g.Before-c.before) > 0.03 || math.Abs(g.After-c.after) > 0.03 {
					t.Errorf("%+v, want a jump of %v at %d, slopes %v and %v", g, c.jump, c.at[k], c.before, c.after)
				}
			}
		})
	}
	// None where there are none.
	r, any := rng(), 0
	for range 300 {
		if len(Changes(Series{Values: ar1(r, 100+r.IntN(400), 0.9*r.Float64(), 1)})) > 0 {
			any++
		}
	}
	if any > 3 {
		t.Errorf("%d of 300 series without changes have some", any)
	}
}

// Long series are averaged: places and slopes are still those of samples.
func TestNoiseLongSeries(t *testing.T) {
	y := add(ar1(rng(), 7001, 0.5, 20), func(i int) float64 { return 0.5 * float64(max(i-3000, 0)) })
	v := Noise(Series{Values: y})
	if v.State != Leaking || v.Low > 0.5 || v.High < 0.4 || v.From < 2900 || v.From > 3100 {
		t.Errorf("%+v, want 0.5 a sample from 3000 on", v)
	}
}

// Growth that slows down all the time looks steady when only its end is seen.
func TestNoiseSlowingGrowth(t *testing.T) {
	for name, grows := range map[string]func(float64) float64{"logarithm": math.Log, "root": math.Sqrt} {
		r := rng()
		for range 100 {
			size := logUniform(r, 10, 1000)
			y := add(ar1(r, 1500, 0, 1), func(i int) float64 { return size * grows(float64(i+1)) })
			if v := Noise(Series{Values: y}); v.State == Leaking {
				t.Fatalf("%.0f × a %s: %+v", size, name, v)
			}
		}
	}
}

// What could as well be the tokens' doing makes the interval wider.
func TestNoiseKnowsWhatTokensHide(t *testing.T) {
	n := 600
	y, tokens := ar1(rng(), n, 0.5, 1), lengths(rng(), n)
	apart := Noise(Series{Values: y, Tokens: tokens})
	alike := Noise(Series{Values: y, Tokens: add(slices.Clone(tokens), func(i int) float64 { return 20 * float64(i) })})
	if a, b := alike.High-alike.Low, apart.High-apart.Low; a < 2*b {
		t.Errorf("the slope's interval is %v wide with tokens that rise, %v with others", a, b)
	}
}

func TestVersus(t *testing.T) {
	for name, c := range map[string]struct {
		f    func(i int) float64
		line bool
	}{
		"line":        {func(i int) float64 { return float64(i) }, true},
		"kink":        {func(i int) float64 { return float64(max(i-300, 0)) }, true},
		"one jump":    {func(i int) float64 { return float64(i / 200) }, false},
		"three jumps": {func(i int) float64 { return float64(i / 125) }, false},
		"nine jumps":  {func(i int) float64 { return float64(i / 50) }, true},
	} {
		if got := versus(add(make([]float64, 500), c.f)); (got < 0) != c.line {
			t.Errorf("%s: steps fit better by %v", name, got)
		}
	}
}
