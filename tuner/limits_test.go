package tuner

import (
	"context"
	"strings"
	"testing"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// The memory limit goes down to where steps begin to wait, and no further; the promise
// is of what it then takes.
func TestMemoryLimitIsMeasured(t *testing.T) {
	tests := []struct {
		name    string
		change  func(*machine, *Study)
		lowered bool
		says    string
	}{
		{"much is there for running ahead", func(m *machine, _ *Study) { m.ahead = 0.3 }, true, "take as long under it"},
		{"all of it is needed", func(*machine, *Study) {}, false, "% longer"},
		{"steps of one limit differ", func(m *machine, _ *Study) { m.ahead, m.noise = 0.3, 0.3 }, false, "could not be told"},
		{"what leaks has to fit", func(m *machine, _ *Study) { m.ahead, m.leak = 0.3, 64<<10 }, false, "what leaks has to fit"},
		{"memory is plenty", func(m *machine, s *Study) { m.ahead, s.Limit.Bytes = 0.3, 1<<40 }, false, "margin"},
		{"memory is plenty, but little is asked for", func(m *machine, s *Study) { m.ahead, s.Limit.Bytes, s.Wishes.Prefer = 0.3, 1<<40, Memory }, true, "take as long under it"},
		{"it is set", func(m *machine, s *Study) {
			m.ahead = 0.3
			if err := s.Base.Set("memory-limit", "10GB", trainer.FromFlag); err != nil {
				t.Fatal(err)
			}
		}, false, setByUser},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := laptop()
			m.noise = 0.002
			s := study(m, 900<<20)
			tt.change(m, &s)
			r, err := s.Run(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			why := ""
			for _, c := range r.Choices {
				if c.Knob == "memory-limit" {
					why = c.Reason
				}
			}
			free := r.Config
			free.Plan.MemoryLimit = trainer.Limit{}
			_, _, peak := m.truth(free, s.Prompts)
			limit := r.Config.Plan.MemoryLimit
			held, longer := m.limited(peak, float64(limit.Bytes))
			t.Logf("limit %v, peak %.4g, %.4g under it, promised %v: %s", limit, peak, held, r.Expected.PeakBytes, why)
			if !strings.Contains(why, tt.says) {
				t.Errorf("it says nothing of %q", tt.says)
			}
			if longer > 1 {
				t.Errorf("steps take %.2f times as long", longer)
			}
			if lowered := float64(limit.Bytes) < peak; lowered != tt.lowered {
				t.Errorf("lowered: %v", lowered)
			}
			if e := float64(r.Expected.PeakBytes.Or(0)); tt.lowered && (e > 1.02*held || e < 0.9*held) {
				t.Errorf("promised a peak of %.4g bytes, it is %.4g", e, held)
			}
		})
	}
}

// A burst that was cut off in the middle of the stairs tells nothing of limits, and
// loses nothing of what came before.
func TestStairsThatAreCutOff(t *testing.T) {
	s := stairs{plan: make([]LimitStair, 3), jobs: []trainer.StepLimits{{After: 2}, {After: 4}, {After: 6}}, first: 2, each: 2}
	for n, want := range map[int]struct {
		left int
		ok   bool
	}{0: {0, false}, 2: {2, false}, 3: {2, false}, 7: {2, false}, 8: {2, true}} {
		b := trainer.Burst{Summary: trainer.Summary{Steps: make([]trainer.StepRecord, n)}}
		for i := range b.Summary.Steps {
			b.Summary.Steps[i].Memory = trainer.Memory{Peak: trainer.Some[int64](1), Cache: trainer.Some[int64](0)}
		}
		out, ok := s.read(&b)
		if ok != want.ok || len(b.Summary.Steps) != want.left || ok && len(out) != 3 {
			t.Errorf("%d steps: %v, %d stairs, %d steps left", n, ok, len(out), len(b.Summary.Steps))
		}
	}
	silent := trainer.Burst{Summary: trainer.Summary{Steps: make([]trainer.StepRecord, 8)}}
	if _, ok := s.read(&silent); ok || len(silent.Summary.Steps) != 2 {
		t.Error("steps without a peak tell something of limits")
	}
}
