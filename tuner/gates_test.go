package tuner

import (
	"context"
	"math"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// gateNames are all that a winner has to pass, in the order in which they are told.
var gateNames = []string{"survives", "finite loss", "loss follows the reference", "peak within the limit", "leak", "drift", "spread", "traces", "swap", "memory pressure", "process within the limit"}

// calm is a machine with memory to spare.
func calm() Strain { return Strain{SwapOutBytes: trainer.Some[int64](5), Pressure: trainer.Some(0)} }

func TestGates(t *testing.T) {
	after := func(reads int, then Strain) func() Strain {
		n := 0
		return func() Strain {
			if n++; n > reads {
				return then
			}
			return calm()
		}
	}
	tests := []struct {
		name     string
		change   func(*machine, *Study)
		gate     string // that is not passed; empty for none
		advisory bool
		unknown  bool
	}{
		{"all is well", func(*machine, *Study) {}, "", false, false},
		{"a loss that is no number", func(m *machine, _ *Study) {
			m.loss = func(_ trainer.Config, step int) float64 {
				return map[bool]float64{true: 2, false: math.NaN()}[step < 40]
			}
		}, "finite loss", false, false},
		{"a loss that strays", func(m *machine, _ *Study) {
			m.loss = func(c trainer.Config, step int) float64 {
				return 2 + map[bool]float64{true: 0, false: 0.03 * float64(step)}[c.Plan.Checkpointing]
			}
		}, "loss follows the reference", false, false},
		{"rounding is no straying", func(m *machine, _ *Study) {
			m.loss = func(c trainer.Config, step int) float64 {
				return 2 + map[bool]float64{true: 0, false: 1e-4 * float64(step)}[c.Plan.Checkpointing]
			}
		}, "", false, false},
		{"nothing to hold the loss against", func(_ *machine, s *Study) {
			if err := s.Base.Set("grad-checkpoint", "true", trainer.FromFlag); err != nil {
				panic(err)
			}
		}, "loss follows the reference", true, true},
		{"ever slower", func(m *machine, _ *Study) { m.slows = 0.01 }, "drift", false, false},
		{"slower over a few steps", func(m *machine, _ *Study) { m.slows, m.t0 = 0.05, 2 }, "drift", true, false},
		{"slower within a second", func(m *machine, _ *Study) { m.slows, m.t0, m.beta, m.gamma = 0.01, 0.001, 10e-6, 2e-9 }, "drift", true, false},
		{"new traces at every step", func(m *machine, _ *Study) {
			m.device, m.compile, m.traces = "cuda", 0.001, func(step int) int { return step + 1 }
		}, "traces", false, false},
		{"one trace a shape", func(m *machine, _ *Study) {
			m.device, m.compile, m.traces = "cuda", 0.001, func(step int) int { return 1 + step/1000 }
		}, "", false, false},
		{"traces that nobody counts", func(m *machine, _ *Study) { m.device, m.compile = "cuda", 0.001 }, "traces", true, true},
		{"swapping", func(_ *machine, s *Study) {
			n := int64(0)
			s.Strain = func() Strain {
				n += 100 << 20
				return Strain{SwapOutBytes: trainer.Some(n), Pressure: trainer.Some(0)}
			}
		}, "swap", false, false},
		{"pressure rises", func(_ *machine, s *Study) {
			n := 0
			s.Strain = func() Strain { // before and after each burst
				n++
				return Strain{SwapOutBytes: trainer.Some[int64](0), Pressure: trainer.Some(map[bool]int{true: 0, false: 1}[n%2 == 1])}
			}
		}, "memory pressure", false, false},
		{"pressure that was there before", func(_ *machine, s *Study) {
			s.Strain = after(0, Strain{SwapOutBytes: trainer.Some[int64](0), Pressure: trainer.Some(1)})
		}, "memory pressure", true, false},
		{"a system that does not say", func(_ *machine, s *Study) {
			s.Strain = func() Strain { return Strain{SwapOutBytes: trainer.Some[int64](0), Unknown: "no such file"} }
		}, "memory pressure", true, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // no clock looks at the strain between the reads that are counted
				m := laptop()
				m.noise = 0.005
				s := study(m, 8<<30)
				s.Strain = calm
				s.Wishes.Budget = 4 * DefaultBudget
				s.Wishes.Prefer = Quality // which measures with checkpointing and without
				tt.change(m, &s)
				s.Device = m.kind()
				r, err := s.Run(context.Background())
				if err != nil {
					t.Fatal(err)
				}
				var names []string
				for _, g := range r.Gates {
					names = append(names, g.Name)
					if want := g.Name != tt.gate; g.Passed != want && (g.Name != "spread" || tt.gate != "drift") { // which spreads steps, too
						t.Errorf("%s: passed %t, %s", g.Name, g.Passed, g.Text)
					}
					if g.Name == tt.gate && (g.Advisory != tt.advisory || g.Observed.Known() == tt.unknown) {
						t.Errorf("%s: advisory %t, observed %v: %s", g.Name, g.Advisory, g.Observed, g.Text)
					}
					if g.Text == "" {
						t.Errorf("%s says nothing", g.Name)
					}
				}
				if d := cmp.Diff(gateNames, names); d != "" {
					t.Error(d)
				}
				if want := tt.gate == "" || tt.advisory; (r.Verdict == Confirmed) != want {
					t.Errorf("%s: %s", r.Verdict, r.Problem)
				}
			})
		})
	}
}

// A search that goes on knows what the machine said while its bursts ran before.
func TestStrainIsKept(t *testing.T) {
	s := study(laptop(), 8<<30)
	s.Journal = filepath.Join(t.TempDir(), "journal.jsonl")
	s.Strain = calm
	var gates [2][]Gate
	for i := range gates {
		r, err := s.Run(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		gates[i] = r.Gates
		s.Strain = nil
	}
	same := func(a, b Gate) bool { return a == b }
	if !slices.EqualFunc(gates[0], gates[1], same) {
		t.Errorf("%+v became %+v", gates[0], gates[1])
	}
}

// What the process turns out to have beside MLX counts: a smaller configuration is taken
// that leaves room for it, or the last one is not confirmed, with what it would need.
func TestProcessOverTheLimit(t *testing.T) {
	run := func(limit, ragged int64) *Report {
		m := laptop()
		m.noise, m.t0, m.ragged = 0.002, 0.2, ragged
		s := study(m, limit)
		s.Wishes.Budget = 4 * DefaultBudget
		r, err := s.Run(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	const limit = 2400 << 20
	calm := run(limit, 0)
	_, _, whole := laptop().truth(calm.Config, study(laptop(), 1).Prompts)
	ragged := int64(limit - whole - 200<<20)
	r := run(limit, ragged)
	_, _, peak := laptop().truth(r.Config, study(laptop(), 1).Prompts)
	if calm.Verdict != Confirmed || r.Verdict != Confirmed || peak >= whole || peak+float64(ragged)+300<<20 > limit {
		t.Errorf("%s: %.4g bytes beside %d more of the process, %.4g without them; %s", r.Verdict, peak, ragged, whole, r.Problem)
	}
	if r := run(900<<20, 800<<20); r.Verdict == Confirmed || r.Problem == "" || r.Hint == "" {
		t.Errorf("%s with 800 MiB more than was seen: %s (%s)", r.Verdict, r.Problem, r.Hint)
	}
}
