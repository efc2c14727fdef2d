package leak

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

const gradients = 2004 << 20

// series starts at base and adds each difference in turn.
func series(base int64, diffs ...int64) []int64 {
	out := []int64{base}
	for _, d := range diffs {
		base += d
		out = append(out, base)
	}
	return out
}

func repeat(n int, pattern ...int64) []int64 {
	var out []int64
	for range n {
		out = append(out, pattern...)
	}
	return out
}

// asynchronous are readings, in MB, of a training on CUDA with a cache limit at
// one shape, where buffers are freed when the GPU has done with them.
var asynchronous = []int64{2586, 2541, 3239, 3220, 3258, 3656, 3210, 3210, 3267, 3210, 2952, 3627, 3281, 3177, 3182, 3182, 3201, 3281, 3267, 3404, 3940,
	3177, 3177, 3604, 3191, 3201, 3267, 3201, 3366, 3444, 3159, 3104, 3277, 3595, 2978, 3365, 5402, 3248, 3258, 3481, 3604}

// However long such a series was, and in whatever order it came.
func TestExactNeverBlamesAsynchronousFreeing(t *testing.T) {
	for from := range asynchronous {
		for to := from; to <= len(asynchronous); to++ {
			if v := Exact(asynchronous[from:to], 1); v.State == Leaking {
				t.Errorf("readings %d to %d: %+v", from, to, v)
			}
		}
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		s := slices.Clone(asynchronous)
		rng.Shuffle(len(s), func(i, j int) { s[i], s[j] = s[j], s[i] })
		s = s[:MinReadings+rng.IntN(6)]
		if v := Exact(s, 1); v.State == Leaking {
			t.Fatalf("%v: %+v", s, v)
		}
	}
}

func TestExact(t *testing.T) {
	warm := []int64{500, 20, 0}
	cases := []struct {
		name   string
		active []int64
		period int
		state  State
		bytes  float64
		exact  bool
		from   int
	}{
		{name: "empty", state: Inconclusive},
		{name: "too short", active: series(1000, repeat(7, 0)...), state: Inconclusive},
		{name: "flat", active: series(1000, repeat(12, 0)...), state: None},
		{name: "optimizer state in warm-up", active: series(1000, append(warm, repeat(8, 0)...)...), state: None},
		{name: "one jump early", active: series(1000, append([]int64{0, 0, 0, 0, 700}, repeat(9, 0)...)...), state: None},
		{name: "one jump late", active: series(1000, append(repeat(12, 0), 700, 0, 0, 0, 0, 0)...), state: Inconclusive},
		{name: "all gradients every step", active: series(36<<30, append(warm, repeat(9, gradients)...)...),
			state: Leaking, bytes: gradients, exact: true, from: 3},
		{name: "starts later", active: series(1000, append(repeat(8, 0), repeat(6, 64)...)...),
			state: Leaking, bytes: 64, exact: true, from: 8},
		{name: "every third step", active: series(1000, append(warm, repeat(4, 0, 0, 96)...)...),
			state: Leaking, bytes: 32, exact: true, from: 3},
		{name: "unequal but always up", active: series(1000, append(warm, 70, 90, 80, 100, 60, 75, 85, 95, 66, 71)...),
			state: Leaking, bytes: 75, from: 8},
		{name: "comes and goes, and ends with rises", active: []int64{2586, 2541, 3239, 3258, 3656, 3210, 3267, 2952, 2978, 3104, 3177, 3281, 3595}, state: None},
		{name: "freed asynchronously", active: asynchronous, state: Inconclusive},
		{name: "alternates", active: series(1000, append(warm, repeat(6, 40, -40)...)...), state: None},
		{name: "saw of a collector", active: series(1000, append(warm, 5, 9, -14, 3, 8, 2, -13, 6, -6, 7, 1, -8)...), state: None},
		{name: "below zero", active: []int64{-5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5}, state: Inconclusive},
		{name: "as large as numbers are", active: series(0, append(warm, math.MaxInt64/20, math.MaxInt64/20, math.MaxInt64/20, math.MaxInt64/20, math.MaxInt64/20,
			math.MaxInt64/20, math.MaxInt64/20)...), state: Leaking, bytes: math.MaxInt64 / 20, exact: true, from: 3},
		{name: "collected now and then", active: series(1000, append(warm, append(append(repeat(12, 8), -96), repeat(10, 8)...)...)...), state: Inconclusive},
		{name: "longer than what was collected", active: series(1000, append(warm, append(append(repeat(12, 8), -96), repeat(14, 8)...)...)...),
			state: Leaking, bytes: 8, exact: true, from: 16},
		{name: "collected in part", active: series(1000, append(warm, append(repeat(3, append(repeat(6, 8), -40)...), 8, 8, 8, 8, 8)...)...),
			state: Leaking, bytes: 8. / 7, exact: true, from: 3},
		{name: "another rise was collected", active: series(1000, append(warm, append(append(repeat(12, 16), -192), repeat(10, 8)...)...)...),
			state: Leaking, bytes: 8, exact: true, from: 16},
		{name: "falls", active: series(1000, append(warm, repeat(8, -8)...)...), state: None},
		{name: "rises without a rule", active: series(1000, append(warm, 50, -3, 40, -9, 33, -1, 21, 0, 17, -2, 44)...), state: Inconclusive},
		{name: "accumulation comes and goes", active: series(1000, repeat(12, 300, -300)...), period: 2, state: None},
		{name: "accumulation leaks each update", active: series(1000, repeat(12, 300, -236)...), period: 2,
			state: Leaking, bytes: 32, exact: true, from: 7},
		{name: "accumulation too short", active: series(1000, repeat(8, 300, -300)...), period: 4, state: Inconclusive},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			v := Exact(c.active, c.period)
			if v.State != c.state || v.BytesAStep != c.bytes || v.IsExact != c.exact || v.Reason == "" {
				t.Errorf("got %+v, want %s %v exact %v", v, c.state, c.bytes, c.exact)
			}
			if c.state == Leaking && v.From != c.from {
				t.Errorf("from step %d, want %d", v.From, c.from)
			}
		})
	}
}

// A planted leak on a flat series is found to the byte, wherever it starts.
func TestExactFindsAnyPlantedLeak(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base := rapid.Int64Range(0, 1<<40).Draw(t, "base")
		leaked := rapid.Int64Range(1, 1<<34).Draw(t, "leaked")
		warm := rapid.SliceOfN(rapid.Int64Range(0, 1<<30), WarmUp, WarmUp).Draw(t, "warm")
		quiet := rapid.IntRange(0, 20).Draw(t, "quiet")
		rising := rapid.IntRange(MinDifferences, 20).Draw(t, "rising")
		diffs := append(append(warm, repeat(quiet, 0)...), repeat(rising, leaked)...)
		v := Exact(series(base, diffs...), 1)
		if v.State != Leaking || v.BytesAStep != float64(leaked) || v.From != WarmUp+quiet {
			t.Fatalf("%+v, want %d bytes from step %d", v, leaked, WarmUp+quiet)
		}
	})
}

// A bounded series whose floor stays is never called a leak.
func TestExactNeverBlamesBoundedSeries(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		swing := rapid.SliceOfN(rapid.Int64Range(0, 100), 4, 30).Draw(t, "swing")
		var active []int64
		for _, s := range swing {
			active = append(active, 1000+s, 1000)
		}
		if v := Exact(active, 1); v.State == Leaking {
			t.Fatalf("%v: %+v", active, v)
		}
	})
}

func TestExhausts(t *testing.T) {
	if e := (Rate{BytesAStep: 10, Low: 5, High: 20}).Exhausts(100); e != (Exhaustion{Steps: 10, Soonest: 5, Latest: 20}) {
		t.Errorf("%+v", e)
	}
	if e := (Rate{BytesAStep: 10, Low: -5, High: 20}).Exhausts(100); e.Latest != Never {
		t.Errorf("%+v: a slope that may be none may last forever", e)
	}
	if e := (Verdict{State: None}).Rate().Exhausts(100); e != (Exhaustion{Never, Never, Never}) {
		t.Errorf("%+v: nothing grows", e)
	}
	if r := (Verdict{State: Leaking, BytesAStep: 100}).Rate(); r.Low >= 100 || r.High <= 100 {
		t.Errorf("%+v: a median is not exact", r)
	}
}

func TestStepsToExhaustion(t *testing.T) {
	cases := []struct {
		name     string
		slope    float64
		headroom int64
		steps    int
		ok       bool
	}{
		{"no growth", 0, 100, 0, false},
		{"falls", -1, 100, 0, false},
		{"none left", 5, -3, 0, true},
		{"whole steps", 30, 100, 3, true},
		{"far away", 1e-9, 1 << 60, 1<<31 - 1, true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if n, ok := StepsToExhaustion(c.slope, c.headroom); n != c.steps || ok != c.ok {
				t.Errorf("%d %v, want %d %v", n, ok, c.steps, c.ok)
			}
		})
	}
}
