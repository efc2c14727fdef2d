package tuner

import (
	"context"
	"math"
	"slices"
	"testing"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/tuner/predict"
	"github.com/mlxdyno/mlxdyno/tuner/search"
	"pgregory.net/rapid"
)

// Where larger batches fit without checkpointing, it is calibrated with as few shapes as
// tell its times; where they do not, as well as without.
func TestCheckpointingIsCalibratedAsFarAsItMatters(t *testing.T) {
	for limit, want := range map[int64][]int{600 << 20: {7, 7}, 900 << 20: {7, predict.LeastShapes}} {
		for prefer, want := range map[search.Preference][]int{Speed: want, Memory: {7, 7}} {
			m := laptop()
			m.t0, m.noise, m.kill = 0.1, 0, float64(limit) // larger batches pay
			s := study(m, limit)
			s.Wishes.Prefer = prefer
			r, err := s.Run(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			var got []int
			for _, b := range r.Bursts {
				if b.Purpose == "calibrate" && len(got) < len(want) {
					got = append(got, len(b.Shapes))
				}
			}
			if r.Verdict != Confirmed || !slices.Equal(got, want) {
				t.Errorf("%d bytes, %s: %s; %d shapes of each calibration, not %d", limit, prefer, r.Verdict, got, want)
			}
		}
	}
}

func TestProcessesThatCouldChangeNothing(t *testing.T) {
	calibrates := func(what func(Point) bool) func(*Report) bool {
		return func(r *Report) bool {
			return slices.ContainsFunc(r.Bursts, func(b BurstRecord) bool { return b.Purpose == "calibrate" && what(b.Point) })
		}
	}
	runs := func(what func(Point) bool) func(*Report) bool {
		return func(r *Report) bool {
			return slices.ContainsFunc(r.Bursts, func(b BurstRecord) bool { return what(b.Point) })
		}
	}
	checkpointing := func(p Point) bool { return p.Checkpointing }
	fewerBits := func(p Point) bool { return p.Bits != 0 }
	highRank := func(p Point) bool { return p.Rank > 16 }
	tests := []struct {
		name   string
		limit  int64
		change func(*machine, *Study)
		spent  func(*Report) bool
		want   bool
	}{
		{"checkpointing where all fits", 64 << 30, nil, runs(checkpointing), false},
		{"checkpointing where larger batches would pay", 900 << 20, func(m *machine, _ *Study) { m.t0 = 0.3 }, calibrates(checkpointing), true},
		{"checkpointing, to save memory", 64 << 30, func(_ *machine, s *Study) { s.Wishes.Prefer = Memory }, calibrates(checkpointing), true},
		{"fewer bits on a CPU where all fits", 64 << 30, func(_ *machine, s *Study) { s.Wishes.MinBits = 4 }, runs(fewerBits), false},
		{"fewer bits on a GPU", 64 << 30, func(m *machine, s *Study) { s.Wishes.MinBits, m.device = 4, "metal" }, runs(fewerBits), true},
		{"fewer bits on a GPU, to calibrate", 64 << 30, func(m *machine, s *Study) { s.Wishes.MinBits, m.device = 4, "metal" }, calibrates(fewerBits), false},
		{"higher ranks", 64 << 30, func(_ *machine, s *Study) { s.Wishes.Ranks = []int{16, 32, 64} }, runs(highRank), false},
		{"higher ranks, for quality", 64 << 30, func(_ *machine, s *Study) {
			s.Wishes.Ranks, s.Wishes.Prefer = []int{16, 32, 64}, Quality
		}, runs(highRank), true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := laptop()
			s := study(m, tt.limit)
			if tt.change != nil {
				tt.change(m, &s)
			}
			m.kill = float64(tt.limit)
			r, err := s.Run(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			if r.Verdict != Confirmed {
				t.Fatalf("%s: %s", r.Verdict, r.Problem)
			}
			if got := tt.spent(r); got != tt.want {
				t.Errorf("ran %t, want %t: %+v", got, tt.want, r.Bursts)
			}
		})
	}
}

// What an update costs is read off a burst that accumulates, and such steps are
// compared as if each did its part of one.
func TestUpdatesAreTakenOutOfAccumulatingSteps(t *testing.T) {
	shape := trainer.Shape{Batch: 1, Width: 33}
	var events []trainer.Event
	for i, seconds := range []float64{0.9, 0.1, 0.1, 0.15, 0.1, 0.1, 0.1, 0.15} {
		events = append(events, trainer.Event{Step: i + 1, Payload: trainer.Step{Shape: shape, Seconds: seconds}})
	}
	b := trainer.Burst{Summary: trainer.Summarize(events)}
	b.Job.Config.Plan.Accumulation = 4
	u, ok := updateSeconds(b, 4)
	if !ok || math.Abs(u-0.05) > 1e-9 {
		t.Fatalf("an update of %g s (%t), want 0.05", u, ok)
	}
	if _, ok := updateSeconds(b, 1); ok {
		t.Error("steps that all update tell what an update costs")
	}
	for own, want := range map[int]float64{4: 0.1125, 2: 0.125} { // a candidate with two to an update, in turns with one with four
		for i, v := range (&run{update: u}).balanced(b, shape, own) {
			if math.Abs(v-want) > 1e-9 {
				t.Errorf("%d steps to an update: step %d of %g s, want %g", own, i+2, v, want)
			}
		}
	}
}

// What a try is expected to save is what numerical integration makes of it.
func TestExpectedSaving(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		mean, deviation := rapid.Float64Range(-0.5, 0.5).Draw(t, "mean"), rapid.Float64Range(0.01, 0.3).Draw(t, "deviation")
		const parts = 4000
		sum, width := 0.0, 16*deviation/parts
		for i := range parts {
			z := -8 + 16*(float64(i)+0.5)/parts
			sum += max(mean+z*deviation, 0) * math.Exp(-z*z/2) / math.Sqrt(2*math.Pi) / deviation * width
		}
		if got := expected(mean, deviation); math.Abs(got-sum) > 1e-6 {
			t.Errorf("%g ± %g: %g, by integration %g", mean, deviation, got, sum)
		}
	})
}

// Data of one shape leave calibration one shape, whatever room there is: it runs with
// the bits as stored, then.
func TestOneShapeIsNoWantOfRoom(t *testing.T) {
	m := laptop()
	m.device, m.noise = "metal", 0
	for i := range m.lengths {
		m.lengths[i] = 90
	}
	s := study(m, 64<<30)
	s.Device, s.Wishes.MinBits = "metal", 4
	if err := s.Base.Set("batch-size", "4", trainer.FromFlag); err != nil {
		t.Fatal(err)
	}
	r, err := s.Run(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if first := r.Bursts[0]; first.Purpose != "calibrate" || first.Point.Bits != 0 || len(first.Shapes) != 1 {
		t.Errorf("the first burst: %+v", first)
	}
}
