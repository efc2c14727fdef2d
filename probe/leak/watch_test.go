package leak

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

var watches = flag.Int("leak.watches", 200, "watches of each kind in the tests of Watch")

// feed gives a watch readings and returns what it found.
func feed(w *Watch, y []float64) (d *Drift) {
	for _, v := range y {
		d = w.Add(v)
	}
	return d
}

// The rate that Watch states: one in a hundred within 10,000 readings.
func TestWatchFalseAlarms(t *testing.T) {
	const readings = 10_000
	for _, phi := range []float64{0, 0.5, 0.7, 0.9, 0.95} {
		t.Run(fmt.Sprintf("AR(1) %v", phi), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(5, uint64(100*phi)))
			alarms := 0
			for range *watches {
				var w Watch
				d := feed(&w, ar1(rng, readings, phi, 1))
				if !w.Learned() {
					t.Fatalf("no baseline from %d readings", readings)
				}
				if d != nil {
					alarms++
				}
			}
			if *full {
				fmt.Printf("| AR(1) %v | %.2f %% |\n", phi, 100*float64(alarms)/float64(*watches))
			}
			if 100*alarms > *watches {
				t.Errorf("%d of %d watches raised an alarm, want at most 1 %%", alarms, *watches)
			}
		})
	}
}

// A slope is found once it has risen by a few standard deviations, and where it
// began is said.
func TestWatchFindsGrowth(t *testing.T) {
	for _, slope := range []float64{0.002, 0.01, 0.05} {
		rng := rand.New(rand.NewPCG(6, 7))
		var delay, off, rise float64
		for range *watches {
			const began = 1000
			y := ar1(rng, 8000, 0.7, 1)
			for i := began; i < len(y); i++ {
				y[i] += slope * float64(i-began)
			}
			w := Watch{Skip: 50}
			d := feed(&w, y)
			if d == nil || d.At < began || d.Rise <= 0 {
				t.Fatalf("slope %v: found %+v, want growth after reading %d", slope, d, began)
			}
			delay += float64(d.At-began) / float64(*watches)
			off = max(off, math.Abs(float64(d.From-began))*slope)
			rise += slope * float64(d.At-began) / float64(*watches)
		}
		if *full {
			fmt.Printf("| %v | %.0f | %.1f |\n", slope, delay, rise)
		}
		if rise > 12 {
			t.Errorf("slope %v: found after %.0f readings, when it had risen by %.1f standard deviations", slope, delay, rise)
		}
		if off > 8 {
			t.Errorf("slope %v: its beginning is up to %.1f standard deviations off", slope, off)
		}
	}
}
