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

// What it costs to keep fewer freed buffers is told by the steps that a training has
// most of, not by its widest alone.
func TestCacheLimitsCostAtTheUsualShape(t *testing.T) {
	stair := func(cache trainer.Opt[int64], usual float64, kept int64) LimitStair {
		return LimitStair{CacheBytes: cache, StepSeconds: 0.1, UsualSeconds: trainer.Some(usual), PeakBytes: 8 << 30, KeptBytes: kept}
	}
	for _, tt := range []struct {
		usual float64
		want  int64
		says  string
	}{{0.0202, 0, "take as long"}, {0.024, 2 << 30, "20 % longer"}} {
		r, f := &run{report: &Report{}}, &finalist{}
		f.config.Plan.CacheLimit = trainer.LimitOf(2 << 30)
		r.lower(f, steadiness{}, []LimitStair{stair(trainer.Opt[int64]{}, 0.02, 1<<30), stair(trainer.Some[int64](0), tt.usual, 0), stair(trainer.Opt[int64]{}, 0.0201, 1<<30)})
		if got := f.config.Plan.CacheLimit.Bytes; got != tt.want || !strings.Contains(f.lower.cache+f.lower.keeps, tt.says) {
			t.Errorf("steps of %g s: cache limit %d, %q", tt.usual, got, f.lower.cache+f.lower.keeps)
		}
	}
}

// Each stair has steps at the widest batch and then at the usual one.
func TestStairsOfTwoShapes(t *testing.T) {
	s := stairs{plan: make([]LimitStair, 2), jobs: []trainer.StepLimits{{After: 1}, {After: 6}}, first: 1, each: 2, usual: trainer.Shape{Batch: 4, Width: 33, Steps: 3}}
	var b trainer.Burst
	for i := range 11 {
		b.Summary.Steps = append(b.Summary.Steps, trainer.StepRecord{Step: trainer.Step{Seconds: float64(i), Memory: trainer.Memory{Peak: trainer.Some(int64(i)), Cache: trainer.Some[int64](0)}}})
	}
	if got, want := s.shapes(trainer.Shape{Batch: 4, Width: 97}), 4; len(got) != want || got[1] != s.usual || got[2].Steps != 2 {
		t.Errorf("shapes %+v", got)
	}
	out, ok := s.read(&b)
	if !ok || out[0].StepSeconds != 2 || out[0].UsualSeconds != trainer.Some(4.0) || out[1].StepSeconds != 7 || out[1].UsualSeconds != trainer.Some(9.0) || out[1].PeakBytes != 7 {
		t.Errorf("%t %+v", ok, out)
	}
}

// A winner that was confirmed without a cache, as its peak was not well known, gets one
// by the peak that was measured; its speed is what the rehearsal shows with it.
func TestCacheIsResetByWhatWasMeasured(t *testing.T) {
	for _, tt := range []struct {
		name          string
		engine        string
		before, after int64
		peak          int64
		anew          bool // what was timed before does not count
	}{
		{"room that was not foreseen", trainer.EngineNative, 0, 512 << 20, 7 << 30, true},
		{"as foreseen", trainer.EngineNative, 600 << 20, 512 << 20, 7 << 30, false},
		{"less than foreseen", trainer.EngineNative, 1 << 30, 256 << 20, 7<<30 + 512<<20, true},
		{"no room", trainer.EngineNative, 1 << 30, 0, 8 << 30, true},
		{"no room, with an engine that clears its cache by itself", trainer.EngineMLXLM, 1 << 30, 0, 8 << 30, true},
	} {
		r := &run{Study: Study{Limit: Limit{Bytes: 8 << 30}, Base: trainer.Settings{Config: trainer.DefaultConfig()}}, report: &Report{}, device: "cuda"}
		f := &finalist{lower: lowering{cache: "measured before"}}
		f.config.Engine = tt.engine
		f.config.Plan.CacheLimit = trainer.LimitOf(tt.before)
		f.PeakBytes, f.peak = tt.peak, tt.peak
		r.resetCache(f)
		if got := f.config.Plan.CacheLimit; got.Bytes != tt.after || f.recached != tt.anew || f.lower.cache != "" || got.IsSet != (tt.engine == trainer.EngineNative) {
			t.Errorf("%s: a cache of %v, anew: %t, %q", tt.name, got, f.recached, f.lower.cache)
		}
	}
}
