package predict

import (
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"github.com/mlxdyno/mlxdyno/trainer"
)

func TestNNLSOnKnownSystems(t *testing.T) {
	tests := []struct {
		name string
		a    [][]float64
		y    []float64
		want []float64
	}{
		{"exact", [][]float64{{1, 0}, {0, 1}, {1, 1}}, []float64{2, 3, 5}, []float64{2, 3}},
		{"bound is active", [][]float64{{1, 1}, {1, 2}, {1, 3}}, []float64{3, 2, 1}, []float64{2, 0}},
		{"negative offset is not had", [][]float64{{1, 1}, {1, 2}}, []float64{1, 3}, []float64{0, 1.4}},
		{"twins: one of them serves", [][]float64{{1, 1}, {2, 2}}, []float64{1, 2}, []float64{1, 0}},
		{"one observation", [][]float64{{1, 5, 25}}, []float64{10}, []float64{10, 0, 0}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := nnls(tt.a, tt.y)
			if !ok {
				t.Fatal("no solution")
			}
			for i := range got {
				if math.Abs(got[i]-tt.want[i]) > 1e-9 {
					t.Fatalf("%v, want %v", got, tt.want)
				}
			}
		})
	}
	if x, ok := nnls(nil, nil); ok {
		t.Fatalf("a solution of nothing: %v", x)
	}
	if x, ok := nnls([][]float64{{1}, {2}}, []float64{-1, -2}); ok {
		t.Fatalf("a non-negative fit of negative values: %v", x)
	}
}

// The minimum is where the gradient is zero for what is used and points away
// for what is not (Karush, Kuhn and Tucker).
func TestNNLSIsAMinimum(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rows := rapid.IntRange(3, 8).Draw(t, "rows")
		var a [][]float64
		var y []float64
		for range rows {
			a = append(a, []float64{1, rapid.Float64Range(0.1, 10).Draw(t, "x"), rapid.Float64Range(0.1, 10).Draw(t, "z")})
			y = append(y, rapid.Float64Range(0.1, 10).Draw(t, "y"))
		}
		x, ok := nnls(a, y)
		if !ok {
			t.Fatal("positive columns always have a fit")
		}
		full := len(x) == 3
		for j := range x {
			var gradient, norm float64
			for i := range a {
				r := y[i]
				for k := range x {
					r -= a[i][k] * x[k]
				}
				gradient += a[i][j] * r
				norm += a[i][j] * a[i][j]
			}
			gradient /= math.Sqrt(norm)
			if x[j] < 0 || x[j] > 0 && math.Abs(gradient) > 1e-6 || x[j] == 0 && full && gradient > 1e-3 {
				t.Fatalf("x = %v, gradient %g at %d", x, gradient, j)
			}
		}
	})
}

var files = Known{
	WeightBytes:       func(bits int) int64 { return map[int]int64{0: 20e6, 8: 6e6, 4: 4e6}[bits] },
	AdapterParameters: func(rank int) int64 { return 28e3 * int64(rank) },
	Parameters:        5e6,
	BytesAParameter:   16,
}

var shapes = []trainer.Shape{{Batch: 1, Width: 97}, {Batch: 1, Width: 513}, {Batch: 4, Width: 65}, {Batch: 4, Width: 257}, {Batch: 8, Width: 129}, {Batch: 4, Width: 513}}

// measure makes samples of known constants.
func measure(c Condition, constant, alpha, mu, t0, beta, gamma, noise float64) []Sample {
	rng := rand.New(rand.NewPCG(1, uint64(c.Rank)))
	var out []Sample
	for _, s := range shapes {
		w := WorkOf(s)
		out = append(out, Sample{c, s,
			constant + alpha*w.Positions + mu*w.Squares,
			(t0 + beta*w.Positions + gamma*w.Squares) * math.Exp(noise*rng.NormFloat64())})
	}
	return out
}

func near(t *testing.T, what string, got, want, relative float64) {
	t.Helper()
	if math.Abs(got/want-1) > relative {
		t.Errorf("%s: %g, want %g", what, got, want)
	}
}

func TestFitFindsTheConstants(t *testing.T) {
	off, on := Condition{0, 8, false}, Condition{0, 8, true}
	m, ok := Fit(append(measure(off, 23e6, 174e3, 200, 0.01, 1e-4, 2e-8, 0), measure(on, 23e6, 60e3, 80, 0.01, 1.4e-4, 3e-8, 0)...), files)
	if !ok {
		t.Fatal("no fit")
	}
	wide := trainer.Shape{Batch: 8, Width: 513}
	w := WorkOf(wide)
	peak, _ := m.Peak(off, wide)
	near(t, "peak", peak.Value, 23e6+174e3*w.Positions+200*w.Squares, 1e-6)
	if !peak.Extrapolated || peak.Upper <= peak.Value {
		t.Errorf("twice the largest measured shape counts as known: %+v", peak)
	}
	inside, _ := m.Peak(off, trainer.Shape{Batch: 2, Width: 257})
	if inside.Extrapolated || inside.Error/inside.Value >= peak.Error/peak.Value {
		t.Errorf("inside %+v, outside %+v", inside, peak)
	}
	seconds, _ := m.Seconds(on, w, w.Positions)
	near(t, "seconds", seconds.Value, 0.01+1.4e-4*w.Positions+3e-8*w.Squares, 1e-6)

	// Work is additive: an epoch costs what its steps cost.
	a, _ := m.Seconds(on, WorkOf(shapes[0]), 0)
	b, _ := m.Seconds(on, WorkOf(shapes[3]), 0)
	both, _ := m.Seconds(on, WorkOf(shapes[0]).Plus(WorkOf(shapes[3]), 2), 0)
	near(t, "epoch", both.Value, a.Value+2*b.Value, 1e-9)
}

func TestUnmeasuredConditionsAreReached(t *testing.T) {
	off, on := Condition{0, 8, false}, Condition{0, 8, true}
	four := Condition{4, 8, false}
	samples := append(measure(off, 23e6, 174e3, 200, 0.01, 1e-4, 2e-8, 0), measure(on, 23e6, 60e3, 80, 0.01, 1.4e-4, 3e-8, 0)...)
	s := trainer.Shape{Batch: 4, Width: 257}
	w := WorkOf(s)

	m, _ := Fit(samples, files)
	base, _ := m.Peak(on, s)
	higher, _ := m.Peak(Condition{0, 32, true}, s)
	near(t, "24 more ranks", higher.Value-base.Value, 16*24*28e3, 1e-9)
	quantized, _ := m.Peak(Condition{4, 8, true}, s)
	near(t, "4 bits", base.Value-quantized.Value, 16e6, 1e-9)
	slower, _ := m.Seconds(Condition{0, 32, true}, w, w.Positions)
	faster, _ := m.Seconds(on, w, w.Positions)
	if !higher.Extrapolated || !slower.Extrapolated || slower.Value <= faster.Value {
		t.Errorf("rank 32 %+v, rank 8 %+v", slower, faster)
	}

	// Measured without checkpointing, the difference carries over.
	m, _ = Fit(append(samples, measure(four, 8e6, 200e3, 200, 0.02, 3e-4, 2e-8, 0)...), files)
	quantized, _ = m.Peak(Condition{4, 8, true}, s)
	near(t, "4 bits with checkpointing", quantized.Value, base.Value-15e6+26e3*w.Positions, 1e-6)
	if !m.Knows(Condition{4, 8, true}) || m.Measured(Condition{4, 8, true}) {
		t.Error("a reached condition counts as measured, or as unknown")
	}
	m, _ = Fit(measure(off, 23e6, 174e3, 200, 0.01, 1e-4, 2e-8, 0), files)
	if _, ok := m.Peak(on, s); ok {
		t.Error("a prediction with checkpointing, of which nothing was measured")
	}
}

// One shape must not look as if larger ones cost no more.
func TestFewShapesStillGrow(t *testing.T) {
	c := Condition{0, 8, false}
	for _, n := range []int{1, 2} {
		m, ok := Fit(measure(c, 24e6, 174e3, 200, 0.01, 1e-4, 2e-8, 0)[:n], files)
		if !ok {
			t.Fatal("no fit")
		}
		w := WorkOf(shapes[5])
		e, _ := m.Peak(c, shapes[5])
		if truth := 24e6 + 174e3*w.Positions + 200*w.Squares; e.Upper < truth {
			t.Errorf("%d shapes: at most %g, true %g", n, e.Upper, truth)
		}
	}
}

// A bound with 99 % confidence is exceeded by at most a few of a hundred
// machines, at shapes inside what was measured.
func TestUpperBoundHolds(t *testing.T) {
	above, machines := 0, 400
	for i := range machines {
		rng := rand.New(rand.NewPCG(uint64(i), 3))
		c := Condition{0, 8, false}
		var samples []Sample
		peak := func(s trainer.Shape) float64 {
			w := WorkOf(s)
			return (23e6 + 174e3*w.Positions + 200*w.Squares) * math.Exp(0.02*rng.NormFloat64())
		}
		for _, s := range shapes {
			samples = append(samples, Sample{c, s, peak(s), 1})
		}
		m, ok := Fit(samples, files)
		if !ok {
			t.Fatal("no fit")
		}
		s := trainer.Shape{Batch: 4, Width: 385}
		if e, _ := m.Peak(c, s); peak(s) > e.Upper {
			above++
		}
	}
	if above > machines*3/100 {
		t.Errorf("%d of %d true peaks above the 99 %% bound", above, machines)
	}
}

// TestWorkOfPackedRows: alike rows are the same work, padded to nothing or packed.
func TestWorkOfPackedRows(t *testing.T) {
	padded := WorkOf(trainer.Shape{Batch: 3, Width: 65})
	if want := (Work{Steps: 1, Positions: 3 * 64, Squares: 3 * 64 * 64}); padded != want {
		t.Errorf("padded: %+v, want %+v", padded, want)
	}
	if packed := WorkOf(trainer.Shape{Batch: 3, Width: 90, Packed: 3 * 64}); packed != padded {
		t.Errorf("packed: %+v, want %+v", packed, padded)
	}
}

func TestConstantsHaveUnits(t *testing.T) {
	m, _ := Fit(append(measure(Condition{0, 8, false}, 23e6, 174e3, 200, 0.01, 1e-4, 2e-8, 0), measure(Condition{0, 8, true}, 23e6, 60e3, 80, 0.01, 1.4e-4, 2.8e-8, 0)...), files)
	found := false
	for _, c := range m.Constants() {
		if c.Name == "" || c.Unit == "" || c.Doc == "" {
			t.Errorf("%+v", c)
		}
		if c.Name == "m" {
			found = true
			near(t, "m", c.Value, 1.4, 0.03)
		}
	}
	if !found {
		t.Error("no ratio of checkpointing")
	}
}
