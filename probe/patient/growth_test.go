package patient

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/mlxdyno/mlxdyno/probe/leak"
)

// printed is a series as a trainer prints it: every so many steps, in units of
// digit.
func printed(every int, digit float64, bytes ...float64) []reading {
	out := make([]reading, len(bytes))
	for i, b := range bytes {
		b = math.Round(b/digit) * digit
		out[i] = reading{x: float64(i * every), y: b, binary: b * 1.073741824, digit: digit}
	}
	return out
}

// TestSeedSeries is the log with which the project began: GB with one decimal.
func TestSeedSeries(t *testing.T) {
	g := grow(Active, printed(10, 1e8, 36.7e9, 56.7e9, 76.7e9, 96.8e9, 116.8e9, 134.9e9), true, true)
	if g.State != leak.Leaking {
		t.Fatalf("%+v", g)
	}
	mib := g.Binary.BytesAStep / (1 << 20)
	const head = 128256 * 4096 * 4.
	if math.Abs(mib-2011) > 1 || g.Binary.Low > head || g.Binary.High < head {
		t.Errorf("%.0f (%.0f to %.0f) MiB a step, want 2011, and an interval with 2004", mib, g.Binary.Low/(1<<20), g.Binary.High/(1<<20))
	}
	if g.Rate.High > 8.03e9*4/2 || g.Rate.Low < 54.5e6*4*2 {
		t.Errorf("the interval %v tells nothing apart", g.Rate)
	}
}

func TestGrowthOfShortSeries(t *testing.T) {
	up := func(n int, f func(i int) float64) []float64 {
		out := make([]float64, n)
		for i := range out {
			out[i] = f(i)
		}
		return out
	}
	for name, c := range map[string]struct {
		y    []float64
		want leak.State
	}{
		"level":                   {up(8, func(int) float64 { return 18.4e9 }), leak.None},
		"level but for a digit":   {up(8, func(i int) float64 { return 18.4e9 + float64(i%2)*1e8 }), leak.None},
		"a jump at first":         {[]float64{16e9, 18.4e9, 18.4e9, 18.4e9, 18.4e9, 18.4e9, 18.4e9}, leak.None},
		"five readings":           {up(5, func(i int) float64 { return 18e9 + float64(i)*1e9 }), leak.Inconclusive},
		"a warm-up":               {up(12, func(i int) float64 { return 20e9 - 5e9*math.Exp(-float64(i)/3) }), leak.Inconclusive},
		"slows down":              {up(11, func(i int) float64 { return 18e9 + 1e9*float64(i)*(1-0.033*float64(i)) }), leak.Inconclusive},
		"a ratchet":               {[]float64{18e9, 18e9, 21e9, 21e9, 21e9, 26e9, 26e9, 26e9, 26e9}, leak.Inconclusive},
		"comes and goes":          {up(30, func(i int) float64 { return 18e9 + float64(i%5)*1e9 }), leak.None},
		"uneven":                  {[]float64{18e9, 18.2e9, 23e9, 23.3e9, 30e9, 30.4e9, 31e9}, leak.Inconclusive},
		"too small to be printed": {[]float64{18.0e9, 18.0e9, 18.1e9, 18.1e9, 18.2e9, 18.2e9, 18.3e9}, leak.Inconclusive},
		"leaks after a jump":      {[]float64{10e9, 18e9, 19e9, 20e9, 21e9, 22e9, 23e9}, leak.Leaking},
		"leaks":                   {up(40, func(i int) float64 { return 18e9 + float64(i)*2e9 }), leak.Leaking},
		"falls":                   {up(10, func(i int) float64 { return 18e9 - float64(i)*1e9 }), leak.None},
	} {
		if g := grow(Active, printed(10, 1e8, c.y...), true, true); g.State != c.want || g.Reason == "" {
			t.Errorf("%s: %s (%s), want %s", name, g.State, g.Reason, c.want)
		}
	}
}

// TestNoGrowthWhereThereIsNone holds for every length at which there is a
// verdict: at most 1 in 100 of noise, AR(1), warm-up, a ratchet and random walks
// that end.
func TestNoGrowthWhereThereIsNone(t *testing.T) {
	const trials = 2000
	kinds := map[string]func(rng *rand.Rand, n int) []float64{
		"white": func(rng *rand.Rand, n int) []float64 { return ar(rng, n, 0) },
		"AR(1)": func(rng *rand.Rand, n int) []float64 { return ar(rng, n, 0.7) },
		"warm-up": func(rng *rand.Rand, n int) []float64 {
			y, tau := ar(rng, n, 0.5), 1+rng.Float64()*float64(n)/4
			for i := range y {
				y[i] -= 4e9 * math.Exp(-float64(i)/tau)
			}
			return y
		},
		"ratchet": func(rng *rand.Rand, n int) []float64 {
			y, most := make([]float64, n), 0.
			for i := range y {
				most = max(most, rng.ExpFloat64()*3e8)
				y[i] = 2e10 + most
			}
			return y
		},
	}
	for name, make := range kinds {
		for _, n := range []int{6, 8, 11, 20, 50, 120, 199} {
			rng := rand.New(rand.NewPCG(uint64(n), 3))
			wrong := 0
			for range trials {
				if grow(Active, printed(1, 1e6, make(rng, n)...), true, true).State == leak.Leaking {
					wrong++
				}
			}
			if 100*wrong > trials {
				t.Errorf("%s, %d readings: %d of %d are called a growth", name, n, wrong, trials)
			}
		}
	}
}

func ar(rng *rand.Rand, n int, phi float64) []float64 {
	out, v := make([]float64, n), rng.NormFloat64()
	for i := range out {
		v = phi*v + math.Sqrt(1-phi*phi)*rng.NormFloat64()
		out[i] = 2e10 + 3e8*v
	}
	return out
}

// TestGrowthIsFound plants slopes that are well above the noise.
func TestGrowthIsFound(t *testing.T) {
	const trials = 500
	for _, n := range []int{6, 11, 40, 150} {
		rng := rand.New(rand.NewPCG(uint64(n), 4))
		found, inside := 0, 0
		for range trials {
			y := ar(rng, n, 0.5)
			slope := 50 * 3e8 / float64(n-1) // 50 deviations of the noise
			for i := range y {
				y[i] += slope * float64(i)
			}
			g := grow(Active, printed(1, 1e6, y...), true, true)
			if g.State == leak.Leaking {
				found++
				if g.Rate.Low <= slope && slope <= g.Rate.High {
					inside++
				}
			}
		}
		if 100*found < 99*trials || 100*inside < 98*found {
			t.Errorf("%d readings: %d of %d found, %d with an interval that holds the slope", n, found, trials, inside)
		}
	}
}

func TestExactGrowth(t *testing.T) {
	var rs []reading
	for i := range 30 {
		rs = append(rs, reading{x: float64(i), y: 1e9 + float64(i)*525336576*4, binary: 1e9 + float64(i)*525336576*4, digit: 1})
	}
	if g := grow(Active, rs, true, true); !g.Rate.IsExact || g.Rate.BytesAStep != 525336576*4 || g.Binary != g.Rate {
		t.Errorf("%+v", g)
	}
	if g := grow(Active, rs, false, true); g.Rate.IsExact {
		t.Errorf("shapes differ, and yet %+v", g)
	}
}

func FuzzGrow(f *testing.F) {
	f.Add(1e9, 1e9, 2e9, 1e8, 8, uint64(1))
	f.Add(-1e300, math.Inf(1), math.NaN(), 0., 300, uint64(2))
	f.Fuzz(func(t *testing.T, base, slope, noise, digit float64, n int, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var rs []reading
		x := 0.
		for i := range min(max(n, 0), 300) {
			x += float64(1 + rng.IntN(3))
			y := base + slope*float64(i) + noise*rng.NormFloat64()
			if !(math.Abs(y) < 1e18) {
				return // no memory
			}
			rs = append(rs, reading{x: x, y: math.Abs(y), binary: math.Abs(y), digit: math.Abs(digit)})
		}
		g := grow(Active, rs, true, true)
		if g.Reason == "" || math.IsNaN(g.Rate.BytesAStep) || g.State == leak.Leaking && (g.Rate.Low > g.Rate.BytesAStep || g.Rate.High < g.Rate.BytesAStep || g.Rate.BytesAStep <= 0) {
			t.Errorf("%+v of %v", g, fmt.Sprint(rs))
		}
	})
}
