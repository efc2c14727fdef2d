package tuner

import (
	"context"
	"math"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/data"
)

// truth is what a configuration really takes on m.
func (m *machine) truth(c trainer.Config, prompts []int32) (secondsPerUseful, tokensPerSecond, peak float64) {
	var seconds float64
	var tokens, useful int64
	for _, b := range data.PlanBatches(m.lengths, m.batching(c)) {
		seconds += m.seconds(c, b.Shape) + m.update/float64(c.Plan.Accumulation)
		tokens += b.Tokens
		for _, row := range b.Rows {
			useful += data.Supervised(m.lengths[row], prompts[row], c.Data.MaxSeqLength)
		}
		peak = math.Max(peak, m.peak(c, b.Shape))
	}
	return seconds / float64(useful), float64(tokens) / (seconds * 1.01), peak // a hundredth is data time
}

// optimum is the best true time of a useful token that fits, over the whole
// space of batch and checkpointing.
func (m *machine) optimum(s Study, found trainer.Config, limit int64) float64 {
	best := math.Inf(1)
	for _, b := range []struct{ batch, accumulation int }{{1, 4}, {2, 2}, {4, 1}, {8, 1}} {
		for _, gc := range []bool{false, true} {
			c := found
			c.Plan.Batch, c.Plan.Accumulation, c.Plan.Checkpointing = b.batch, b.accumulation, gc
			t, _, peak := m.truth(c, s.Prompts)
			if peak+float64(m.host) <= float64(limit)*0.97 { // what fits with hardly a margin is no fair demand
				best = math.Min(best, t)
			}
		}
	}
	return best
}

func TestChoiceIsNearTheOptimum(t *testing.T) {
	tests := []struct {
		name   string
		limit  int64
		change func(*machine)
	}{
		{"plenty of memory", 64 << 30, func(*machine) {}},
		{"little memory", 900 << 20, func(*machine) {}},
		{"hardly any memory", 700 << 20, func(*machine) {}},
		{"costly steps favour large batches", 64 << 30, func(m *machine) { m.t0 = 0.2 }},
		{"costly steps, little memory", 1 << 30, func(m *machine) { m.t0 = 0.2 }},
		{"costly attention", 2 << 30, func(m *machine) { m.gamma = 300e-9; m.mu[0] = 800 }},
		{"cheap recomputation", 1 << 30, func(m *machine) { m.recompute = 1.02 }},
		{"noisy", 64 << 30, func(m *machine) { m.noise = 0.10; m.t0 = 0.1 }},
		{"needs far more than estimated", 1500 << 20, func(m *machine) { m.alpha = [2]float64{600e3, 200e3} }},
		{"a graphics processor", 64 << 30, func(m *machine) { m.device = "metal" }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := laptop()
			tt.change(m)
			m.kill = float64(tt.limit)
			s := study(m, tt.limit)
			r, err := s.Run(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			if r.Verdict != Confirmed {
				t.Fatalf("verdict %s: %s\n%+v", r.Verdict, r.Problem, r.Bursts)
			}
			got, rate, peak := m.truth(r.Config, s.Prompts)
			best := m.optimum(s, r.Config, tt.limit)
			t.Logf("%d processes, %.0f s; %+v; %.1f %% above the optimum", r.Processes, r.Seconds, r.Config.Plan, 100*(got/best-1))
			// Ties within 5 % go to less memory; measuring adds its noise.
			if allowed := 1.05 + m.noise; got > best*allowed {
				t.Errorf("%.3g s a useful token, the optimum is %.3g", got, best)
			}
			e := r.Expected
			if p := float64(e.PeakBytes.Or(0)); math.Abs(p/peak-1) > math.Max(e.PeakError, 0.05) {
				t.Errorf("expected peak %.4g, true %.4g", p, peak)
			}
			if v := e.TokensPerSecond.Or(0); math.Abs(v/rate-1) > math.Max(e.TokensError, 0.10) {
				t.Errorf("expected %.4g tok/s, true %.4g (stated error %.2g)", v, rate, e.TokensError)
			}
			if r.Processes > 8 {
				t.Errorf("%d processes", r.Processes)
			}
			if limit := r.Config.Plan.MemoryLimit; !limit.IsSet || float64(limit.Bytes) < peak || limit.Bytes > tt.limit {
				t.Errorf("memory limit %v, true peak %.4g", limit, peak)
			}
			if err := r.Config.Validate(); err != nil {
				t.Error(err)
			}
		})
	}
}

// MLX's checkpointing draws dropout's masks anew when it recomputes.
func TestDropoutForbidsCheckpointing(t *testing.T) {
	s := study(laptop(), 1<<40)
	s.Base.Config.Quality.Dropout = 0.1
	a, err := s.axes()
	if err != nil || len(a.gc) != 1 || a.gc[0] {
		t.Errorf("checkpointing %v, %v", a.gc, err)
	}
}

// Whatever decides a burst's numbers is part of its identity; the time that it
// may take is not.
func TestBurstsAreToldApart(t *testing.T) {
	key := func(change func(*Study, *trainer.Job)) string {
		s := study(laptop(), 8<<30)
		s.Keys = Keys{Program: "v1.0.0", Machine: "m", Model: "model", Data: "data", Versions: map[string]string{"mlx": "1"}}
		job := trainer.Job{Config: s.Base.Config, Shapes: []trainer.Shape{{Batch: 1, Width: 33, Steps: 3}}}
		change(&s, &job)
		return (&bench{study: &s}).key(job)
	}
	same := key(func(*Study, *trainer.Job) {})
	if got := key(func(_ *Study, j *trainer.Job) { j.Budget = time.Minute }); got != same {
		t.Error("another budget makes another burst")
	}
	for name, change := range map[string]func(*Study, *trainer.Job){
		"mlxdyno":       func(s *Study, _ *trainer.Job) { s.Keys.Program = "v1.0.1" },
		"MLX":           func(s *Study, _ *trainer.Job) { s.Keys.Versions = map[string]string{"mlx": "2"} },
		"machine":       func(s *Study, _ *trainer.Job) { s.Keys.Machine = "n" },
		"model":         func(s *Study, _ *trainer.Job) { s.Keys.Model = "other" },
		"data":          func(s *Study, _ *trainer.Job) { s.Keys.Data = "other" },
		"engine":        func(_ *Study, j *trainer.Job) { j.Config.Engine = trainer.EngineMLXLM },
		"knob":          func(_ *Study, j *trainer.Job) { j.Config.Plan.Packing = trainer.PackingOff },
		"shape":         func(_ *Study, j *trainer.Job) { j.Shapes[0].Width = 65 },
		"steps":         func(_ *Study, j *trainer.Job) { j.Shapes[0].Steps = 4 },
		"what it loads": func(_ *Study, j *trainer.Job) { j.Config.Model.Quantize = 4 },
	} {
		if key(change) == same {
			t.Errorf("%s: another one, and the burst is taken for the same", name)
		}
	}
}

func TestJournalSaysItsKeys(t *testing.T) {
	s := study(laptop(), 8<<30)
	s.Journal = filepath.Join(t.TempDir(), "journal.jsonl")
	s.Keys.Program, s.Keys.Model = "v1.0.0", "model"
	if _, ok := KeysOf(s.Journal); ok {
		t.Error("there is no journal, and yet it has keys")
	}
	for range 2 {
		if _, err := s.Run(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	if got, ok := KeysOf(s.Journal); !ok || cmp.Diff(got, s.Keys) != "" {
		t.Errorf("%+v, want %+v", got, s.Keys)
	}
}
