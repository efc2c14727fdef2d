package leak

import (
	"math"
	"math/rand/v2"
	"testing"
)

// ar1 makes fluctuation of variance sigma² in which each sample remembers the
// last with weight phi.
func ar1(rng *rand.Rand, n int, phi, sigma float64) []float64 {
	y := make([]float64, n)
	v := rng.NormFloat64() * sigma
	for i := range y {
		v = phi*v + math.Sqrt(1-phi*phi)*sigma*rng.NormFloat64()
		y[i] = v
	}
	return y
}

func TestNoiseFalseAlarms(t *testing.T) {
	const trials = 200
	cases := []struct {
		name string
		add  func(i, n int) float64
		phi  float64
		n    int
	}{
		{"white", nil, 0, 200},
		{"ar 0.5", nil, 0.5, 200},
		{"ar 0.7", nil, 0.7, 200},
		{"ar 0.9", nil, 0.9, 200},
		{"warm-up fast", func(i, n int) float64 { return 30 * (1 - math.Exp(-float64(i)/10)) }, 0.7, 200},
		{"warm-up slow", func(i, n int) float64 { return 10 * (1 - math.Exp(-float64(i)/40)) }, 0.5, 300},
		{"one jump", func(i, n int) float64 {
			if i > n/3 {
				return 10
			}
			return 0
		}, 0.7, 200},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(7, 11))
			alarms := 0
			for range trials {
				y := ar1(rng, c.n, c.phi, 1)
				for i := range y {
					if c.add != nil {
						y[i] += c.add(i, c.n)
					}
				}
				if Noise(y).State == Leaking {
					alarms++
				}
			}
			if alarms > trials/100 {
				t.Errorf("%d false alarms in %d series, want at most 1 %%", alarms, trials)
			}
		})
	}
}

func TestNoiseFindsPlantedSlope(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 5))
	found := 0
	const trials = 100
	for range trials {
		y := ar1(rng, 400, 0.7, 1)
		for i := range y {
			y[i] += 0.05 * float64(i)
		}
		v := Noise(y)
		if v.State == Leaking && v.Low <= 0.05 && 0.05 <= v.High {
			found++
		}
	}
	if found < 95 {
		t.Errorf("found %d of %d planted slopes with the interval around them, want 95", found, trials)
	}
}

func TestNoiseShortSeriesGetNoVerdict(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	y := ar1(rng, 150, 0.5, 1)
	for i := range y {
		y[i] += float64(i)
	}
	if v := Noise(y); v.State != Inconclusive || v.Detectable <= 0 {
		t.Errorf("150 samples: %+v, want inconclusive with what could have been seen", v)
	}
	if v := Noise(y[:12]); v.State != Inconclusive || v.Detectable != 0 {
		t.Errorf("12 samples: %+v, want inconclusive", v)
	}
	if a, b := Noise(y), Noise(y); a != b {
		t.Errorf("the same series got %+v and %+v", a, b)
	}
}

func TestNoiseFlatSeries(t *testing.T) {
	if v := Noise(make([]float64, 300)); v.State != None || v.Slope != 0 {
		t.Errorf("%+v, want none", v)
	}
}
