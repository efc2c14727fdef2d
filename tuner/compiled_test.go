package tuner

import (
	"context"
	"strings"
	"testing"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// gpu is a machine whose engine compiles every shape for as long as a hundred
// steps take.
func gpu() *machine {
	m := laptop()
	m.device, m.compile, m.noise = "cuda", 12.5, 0
	return m
}

func untimed(r *Report) (what []string) {
	for _, n := range r.NotTried {
		if strings.Contains(n.Why, "12.5 s to compile; give --budget more") {
			what = append(what, n.What)
		}
	}
	return what
}

func TestCompilingIsNoMeasurement(t *testing.T) {
	tests := []struct {
		name    string
		brief   func(trainer.Config) bool
		untimed string
	}{
		{"some steps are left to time", nil, ""},
		{"only compiled with checkpointing", func(c trainer.Config) bool { return c.Plan.Checkpointing }, "calibration with checkpointing, rank"},
		{"only compiled without", func(c trainer.Config) bool { return !c.Plan.Checkpointing }, "calibration without checkpointing, rank"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := gpu()
			m.brief = tt.brief
			s := study(m, 8<<30)
			s.Wishes.Budget = DefaultBudget * 8
			s.Wishes.Prefer = Memory // for speed, checkpointing is left alone where all fits without
			r, err := s.Run(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			if r.Verdict != Confirmed {
				t.Fatalf("%s: %s", r.Verdict, r.Problem)
			}
			if tt.brief != nil && tt.brief(r.Config) {
				t.Error("chosen although no step of it was timed")
			}
			for _, c := range r.Candidates {
				b := s.Base.Config
				b.Plan.Checkpointing = c.Checkpointing
				if tt.brief != nil && tt.brief(b) {
					t.Errorf("a speed of %.3g tok/s is told of %s", c.TokensPerSecond, c.Point)
				}
			}
			for _, c := range r.Checks {
				if v, ok := c.MeasuredTokensPerSecond.Get(); ok && c.Shape != nil {
					actual := float64(c.Shape.Positions()) / m.seconds(confOf(s, c.Candidate), *c.Shape)
					if v < 0.9*actual {
						t.Errorf("%s at %+v: %.3g tok/s, it is %.3g", c.Candidate, *c.Shape, v, actual)
					}
				}
			}
			if got := strings.Join(untimed(r), "; "); (tt.untimed == "") != (got == "") || !strings.HasPrefix(got, tt.untimed) {
				t.Errorf("not timed: %q, want %q", got, tt.untimed)
			}
		})
	}
}

func confOf(s Study, p Point) trainer.Config {
	return (&run{Study: s}).config(p)
}

func TestNothingCouldBeTimed(t *testing.T) {
	m := gpu()
	m.brief = func(trainer.Config) bool { return true }
	r, err := study(m, 8<<30).Run(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if r.Verdict != Impossible || !strings.Contains(r.Problem, "12.5 s to compile") || !strings.Contains(r.Hint, "--budget") || m.calls != 2 {
		t.Fatalf("%s after %d bursts: %s (%s)", r.Verdict, m.calls, r.Problem, r.Hint)
	}
}

// The first step of a shape counts only where nothing is compiled.
func TestOnlyStepOfAShape(t *testing.T) {
	for compiled, want := range map[bool]float64{false: 12.5, true: 0} {
		events := []trainer.Event{{Payload: trainer.Hello{Compiled: compiled}},
			{Step: 1, Payload: trainer.Step{Shape: trainer.Shape{Batch: 1, Width: 33}, Seconds: 12.5, Memory: trainer.Memory{Peak: trainer.Some[int64](7)}}}}
		got := samplesOf(trainer.Burst{Summary: trainer.Summarize(events)}, Point{Rank: 8})
		if len(got) != 1 || got[0].Seconds != want || got[0].PeakBytes != 7 {
			t.Errorf("compiled %t: %+v, want %g s", compiled, got, want)
		}
	}
}
