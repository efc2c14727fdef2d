package tuner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/mlxdyno/mlxdyno/trainer"
)

func anyMachine(t *rapid.T) *machine {
	m := laptop()
	m.alpha[0] = rapid.Float64Range(50e3, 800e3).Draw(t, "alpha")
	m.alpha[1] = m.alpha[0] * rapid.Float64Range(0.2, 0.8).Draw(t, "kept with checkpointing")
	m.mu[0] = rapid.Float64Range(0, 500).Draw(t, "mu")
	m.mu[1] = m.mu[0] * 0.3
	m.t0 = rapid.Float64Range(0, 0.3).Draw(t, "t0")
	m.recompute = rapid.Float64Range(1, 1.6).Draw(t, "recompute")
	m.noise = rapid.Float64Range(0, 0.1).Draw(t, "noise")
	m.lengths, _ = docstrings(rapid.IntRange(10, 300).Draw(t, "rows"), rapid.Uint64().Draw(t, "text"))
	return m
}

// offDefault are values that users may set knobs to, none of them the default. Those
// whose names end alike exclude each other or go together: what does not validate is
// not drawn.
var offDefault = map[string][]string{
	"mask-prompt": {"true"}, "group-by-length": {"false"}, "quantize": {"8", "4"}, "group-size": {"32"}, "max-seq-length": {"200", "90"},
	"rank": {"24", "4"}, "scale": {"3.5"}, "dropout": {"0.1"}, "num-layers": {"2"}, "learning-rate": {"0.001"}, "optimizer": {"adamw", "sgd"},
	"lr-schedule": {"cosine"}, "warmup": {"2"}, "lr-end": {"1e-6"}, "weight-decay": {"0.1"}, "grad-clip": {"1"},
	"batch-size": {"2", "1"}, "grad-accumulation-steps": {"3", "2"}, "grad-checkpoint": {"true"}, "compile": {"off"}, "matmul": {"dequantized"},
	"low-rank": {"float32"}, "loss-positions": {"all"}, "step-by": {"whole", "blocks"}, "keep": {"products"}, "grad-checkpoint-nth": {"2"}, "loss-rows": {"64"},
	"packing": {"off"}, "max-shapes": {"4"}, "memory-limit": {"50GB"}, "cache-limit": {"5MB"}, "wired-limit": {"1GB"},
	"iters": {"77"}, "steps-per-eval": {"11"}, "val-batches": {"3"}, "save-every": {"13"}, "reload-interval": {"40"}, "seed": {"9"},
}

// fixed draws knobs that the user sets, with values off the defaults.
func fixed(t *rapid.T, s *Study) map[string]string {
	names := slices.Sorted(maps.Keys(offDefault))
	out := map[string]string{}
	for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom(names), 0, 8, rapid.ID[string]).Draw(t, "fixed") {
		before := s.Base
		s.Base.Origins = maps.Clone(before.Origins)
		value := rapid.SampledFrom(offDefault[name]).Draw(t, name)
		if err := s.Base.Set(name, value, rapid.SampledFrom([]trainer.Origin{trainer.FromFlag, trainer.FromFile}).Draw(t, "origin")); err != nil {
			t.Fatal(err)
		}
		if s.Base.Config.Validate() != nil {
			s.Base = before
			continue
		}
		k, _ := trainer.FindKnob(name)
		out[name] = k.Get(&s.Base.Config)
	}
	return out
}

// anyStudy draws a machine, what is asked of a study on it, and knobs that are set.
func anyStudy(t *rapid.T) (*machine, Study, map[string]string) {
	m := anyMachine(t)
	m.device = rapid.SampledFrom([]string{"cpu", "metal", "cuda"}).Draw(t, "device")
	limit := rapid.Int64Range(400<<20, 8<<30).Draw(t, "limit")
	s := study(m, limit)
	s.Wishes = Wishes{
		MinBits:        rapid.SampledFrom([]int{0, 4, 8, 16}).Draw(t, "min bits"),
		Prefer:         rapid.SampledFrom([]Preference{"", Speed, Memory, Quality}).Draw(t, "prefer"),
		Ranks:          rapid.SampledFrom([][]int{nil, {16}, {8, 32}}).Draw(t, "ranks"),
		EffectiveBatch: rapid.SampledFrom([]int{0, 0, 2, 6, 8}).Draw(t, "effective batch"),
		MaxMemory:      rapid.SampledFrom([]int64{0, 0, 600 << 20, 2 << 30}).Draw(t, "most memory"),
		Budget:         time.Duration(rapid.SampledFrom([]int{0, 20, 300}).Draw(t, "budget")) * time.Second,
	}
	m.kill = float64(limit)
	return m, s, fixed(t, &s)
}

// Every knob that the engine's configuration has is tried, but for names.
func TestEveryKnobIsSetInProperties(t *testing.T) {
	for _, k := range trainer.Knobs {
		switch k.Name {
		case "model", "data", "engine", "parity", "lora-modules", "adapter-path":
			continue // names, and what another engine or mode makes of the rest
		}
		if len(offDefault[k.Name]) == 0 {
			t.Errorf("no value of %s is tried", k.Name)
		}
	}
}

func TestFloorsAndWishesHold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, s, set := anyStudy(t)
		var stages []Stage
		s.Progress = func(st Stage) { stages = append(stages, st) }
		r, err := s.Run(context.Background())
		if err != nil {
			var wish *WishError
			if errors.As(err, &wish) {
				if m.calls > 0 || wish.Hint() == "" {
					t.Fatalf("%v after %d bursts, hint %q", err, m.calls, wish.Hint())
				}
				return // such as an effective batch of 4 in 3 parts
			}
			t.Fatal(err)
		}
		if len(stages) != len(r.Bursts) || r.Processes != m.calls {
			t.Fatalf("%d stages, %d bursts, %d processes, %d calls", len(stages), len(r.Bursts), r.Processes, m.calls)
		}
		if r.Verdict == Impossible {
			if r.Problem == "" || r.Hint == "" {
				t.Fatal("no configuration, and no word why")
			}
			return
		}
		for name, want := range set {
			k, _ := trainer.FindKnob(name)
			if got := k.Get(&r.Config); got != want {
				t.Fatalf("%s was set to %s and came out as %s", name, want, got)
			}
		}
		if len(r.Choices) != len(trainer.Knobs) {
			t.Fatalf("%d choices for %d knobs", len(r.Choices), len(trainer.Knobs))
		}
		for _, c := range r.Choices {
			if c.Reason == "" {
				t.Fatalf("no reason for %s", c.Knob)
			}
			k, _ := trainer.FindKnob(c.Knob)
			start := trainer.DefaultConfig()
			start.Model.Path, start.Data.Path = "model", "data"
			if c.Origin == trainer.FromDefault && k.Get(&r.Config) != k.Get(&start) {
				t.Fatalf("%s is %s, said to be the default", c.Knob, k.Get(&r.Config))
			}
		}
		c := r.Config
		if err := c.Validate(); err != nil {
			t.Fatal(err)
		}
		free := func(name string) bool { _, ok := set[name]; return !ok }
		if free("quantize") && c.Model.Quantize != 0 && c.Model.Quantize < max(s.Wishes.MinBits, 4) {
			t.Fatalf("%d bits, at least %d were asked for", c.Model.Quantize, s.Wishes.MinBits)
		}
		if free("rank") && (c.Quality.Rank < minRank || len(s.Wishes.Ranks) > 0 && !slices.Contains(s.Wishes.Ranks, c.Quality.Rank)) {
			t.Fatalf("rank %d of %v", c.Quality.Rank, s.Wishes.Ranks)
		}
		if free("rank") && free("scale") && c.Alpha() != s.Base.Config.Alpha() {
			t.Fatalf("alpha %g became %g", s.Base.Config.Alpha(), c.Alpha())
		}
		if free("max-seq-length") {
			if rows, share := cut(m.lengths, c.Data.MaxSeqLength); share >= maxCut || rows*100 > len(m.lengths) {
				t.Fatalf("length %d cuts %d of %d rows, %.2g of the tokens", c.Data.MaxSeqLength, rows, len(m.lengths), share)
			}
		}
		if want := s.Wishes.EffectiveBatch; want > 0 && (free("batch-size") || free("grad-accumulation-steps")) && c.EffectiveBatch() != want {
			t.Fatalf("%d rows to an update, asked for %d", c.EffectiveBatch(), want)
		}
		if most := s.Wishes.MaxMemory; most > 0 && (r.Limit.Bytes > most || free("memory-limit") && c.Plan.MemoryLimit.Bytes > max(most, int64(1.3*m.loaded(c.Model.Quantize)))) { // never below the weights
			t.Fatalf("limit %v of %s, at most %d was asked for", c.Plan.MemoryLimit, r.Limit.Source, most)
		}
		// What is recommended fits, if it was measured.
		if _, _, peak := m.truth(c, s.Prompts); r.Verdict == Confirmed && peak > float64(r.Limit.Bytes) {
			t.Fatalf("it takes %.4g of %d bytes", peak, r.Limit.Bytes)
		}
		if free("iters") && c.Schedule.Steps*c.Plan.Batch < 1000*s.Base.Config.Plan.Batch {
			t.Fatalf("%d steps of %d rows see less than was asked", c.Schedule.Steps, c.Plan.Batch)
		}
		if free("save-every") && c.Schedule.SaveEvery%c.Plan.Accumulation != 0 || free("iters") && c.Schedule.Steps%c.Plan.Accumulation != 0 {
			t.Fatalf("%d steps, saved every %d, with updates of %d", c.Schedule.Steps, c.Schedule.SaveEvery, c.Plan.Accumulation)
		}
		for _, p := range r.Pareto {
			for _, q := range slices.Concat(r.Pareto, r.Candidates) {
				if q.SecondsPerUsefulToken <= p.SecondsPerUsefulToken && q.PeakBytes <= p.PeakBytes &&
					(q.SecondsPerUsefulToken < p.SecondsPerUsefulToken || q.PeakBytes < p.PeakBytes) {
					t.Fatalf("%+v is on the front, beaten by %+v", p, q)
				}
			}
		}
		if _, err := json.Marshal(r); err != nil {
			t.Fatalf("%v in %+v", err, r)
		}
	})
}

func TestSameStudySameResult(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, s, _ := anyStudy(t)
		run := func() string {
			m.calls, m.ran = 0, nil
			r, err := s.Run(context.Background())
			if err != nil {
				return err.Error()
			}
			return text(t, r)
		}
		if a, b := run(), run(); a != b {
			t.Fatal(cmp.Diff(a, b))
		}
	})
}

func text(t interface{ Fatal(...any) }, r *Report) string {
	b, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

var errKilled = errors.New("killed")

func TestResumeRepeatsNoFinishedBurst(t *testing.T) {
	uninterrupted := laptop()
	want, err := study(uninterrupted, 900<<20).Run(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for kill := 1; kill <= uninterrupted.calls; kill++ {
		t.Run(fmt.Sprintf("burst %d", kill), func(t *testing.T) {
			m := laptop()
			s := study(m, 900<<20)
			s.Journal = filepath.Join(t.TempDir(), "journal.jsonl")
			m.onCall = func(n int) error {
				if n == kill {
					return errKilled
				}
				return nil
			}
			if _, err := s.Run(context.Background()); !errors.Is(err, errKilled) {
				t.Fatalf("error %v", err)
			}
			before := m.ran
			m.ran, m.onCall = nil, nil
			got, err := s.Run(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			for id := range m.ran {
				if before[id] > 0 {
					t.Errorf("ran again: %s", id)
				}
			}
			if len(before)+len(m.ran) != uninterrupted.calls || got.Processes != len(m.ran) {
				t.Errorf("%d bursts before and %d after, uninterrupted %d", len(before), len(m.ran), uninterrupted.calls)
			}
			if d := cmp.Diff(want.Config, got.Config); d != "" {
				t.Error(d)
			}
			if d := cmp.Diff(want.Expected, got.Expected, cmp.AllowUnexported(trainer.Opt[int64]{}, trainer.Opt[float64]{})); d != "" {
				t.Error(d)
			}

			s.Keys.Versions = map[string]string{"mlx": "1"} // another MLX: nothing holds any more
			m.ran = nil
			if again, err := s.Run(context.Background()); err != nil || again.Processes != uninterrupted.calls {
				t.Errorf("with another version %v processes, %v", again, err)
			}
		})
	}
}

func TestCancelledBurstIsNotKept(t *testing.T) {
	m := laptop()
	s := study(m, 900<<20)
	s.Journal = filepath.Join(t.TempDir(), "journal.jsonl")
	ctx, cancel := context.WithCancel(context.Background())
	m.onCall = func(n int) error {
		if n == 2 {
			cancel()
		}
		return nil
	}
	if _, err := s.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v", err)
	}
	m.calls, m.onCall = 0, nil
	r, err := s.Run(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if !r.Bursts[0].Replayed || r.Bursts[1].Replayed {
		t.Fatalf("%+v", r.Bursts[:2])
	}
}

func TestLeak(t *testing.T) {
	tests := []struct {
		name    string
		leak    int64
		verdict Verdict
		reload  bool
	}{
		{"none", 0, Confirmed, false},
		{"too small to matter", 1000, Confirmed, false},
		{"one that needs reloads", 20 << 20, Confirmed, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := laptop()
			m.leak = tt.leak
			s := study(m, 8<<30)
			r, err := s.Run(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			n := r.Config.Schedule.ReloadInterval
			if r.Verdict != tt.verdict || (n > 0) != tt.reload {
				t.Fatalf("%s, reload every %d: %s", r.Verdict, n, r.Problem)
			}
			if got := r.Expected.LeakBytesAStep.Or(-1); got != float64(tt.leak) {
				t.Errorf("leak of %g bytes a step, planted %d", got, tt.leak)
			}
			if n > 0 {
				_, _, peak := m.truth(r.Config, s.Prompts)
				if total := peak + float64(int64(n)*tt.leak) + float64(m.host); total > 8<<30 {
					t.Errorf("after %d steps %g bytes are needed", n, total)
				}
				if total := peak + float64(int64(n)*tt.leak)*1.3 + float64(m.host); total < 8<<30 {
					t.Errorf("%d steps use little of the headroom", n)
				}
			}
		})
	}
}

func TestWhatCannotBe(t *testing.T) {
	tests := []struct {
		name    string
		change  func(*machine, *Study)
		problem string
	}{
		{"nothing fits", func(m *machine, s *Study) { s.Limit.Bytes = 310 << 20; m.kill = 310 << 20 }, "nothing above the floors fits 325 MB (test): the smallest step (1 × "},
		{"less than the process itself takes", func(m *machine, s *Study) { s.Wishes.MaxMemory = 290 << 20; m.kill = 330 << 20 }, "and the process " + trainer.FormatBytes(375<<20+1<<20) + " beside it"},
		{"the worker refuses", func(m *machine, s *Study) {
			m.fail = &trainer.Failure{FailKind: trainer.FailConfig, Text: "architecture whale is not supported", Hint: "another base"}
		}, "architecture whale"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := laptop()
			s := study(m, 8<<30)
			tt.change(m, &s)
			r, err := s.Run(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			if r.Verdict != Impossible || !strings.Contains(r.Problem, tt.problem) || r.Hint == "" {
				t.Fatalf("%s: %s (%s)", r.Verdict, r.Problem, r.Hint)
			}
			if err := WriteConfig(filepath.Join(t.TempDir(), "x.yaml"), r); err == nil {
				t.Error("wrote a configuration that there is none of")
			}
		})
	}
}

func TestLongRowsAreNotCutSilently(t *testing.T) {
	m := laptop()
	m.facts.MaxPositions = 128
	_, err := study(m, 8<<30).Run(context.Background())
	if err == nil || !strings.Contains(err.Error(), "128 positions") {
		t.Fatalf("error %v", err)
	}
}

func TestQuantizesOnlyToFit(t *testing.T) {
	m := laptop()
	m.facts = llama(12, 2048, 5632) // 2.2 GB as stored
	m.weights = float64(m.facts.WeightBytes)
	m.alpha = [2]float64{2e6, 0.4e6}
	m.floor = 0
	tests := []struct {
		name   string
		limit  int64
		wishes Wishes
		want   int
	}{
		{"fits as stored", 16 << 30, Wishes{}, 0},
		{"fits at 8 bits", 2 << 30, Wishes{}, 8},
		{"not allowed", 16 << 30, Wishes{MinBits: 16, Prefer: Memory}, 0},
		{"wanted for memory", 16 << 30, Wishes{Prefer: Memory}, 4},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m.kill = float64(tt.limit)
			s := study(m, tt.limit)
			s.Wishes = tt.wishes
			r, err := s.Run(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			if r.Verdict == Impossible || r.Config.Model.Quantize != tt.want {
				t.Fatalf("%s %s: %d bits, want %d", r.Verdict, r.Problem, r.Config.Model.Quantize, tt.want)
			}
		})
	}
}

func TestWriteConfigIsReadBack(t *testing.T) {
	m := laptop()
	s := study(m, 8<<30)
	if err := s.Base.Set("learning-rate", "3e-4", trainer.FromFlag); err != nil {
		t.Fatal(err)
	}
	r, err := s.Run(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "mlxdyno.yaml")
	if err := WriteConfig(path, r); err != nil {
		t.Fatal(err)
	}
	f, err := trainer.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	opts := cmp.AllowUnexported(trainer.Opt[int64]{}, trainer.Opt[float64]{})
	if d := cmp.Diff(r.Config, f.Settings.Config); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(&r.Expected, f.Expected, opts); d != "" {
		t.Error(d)
	}
	for name, want := range map[string]trainer.Origin{"learning-rate": trainer.FromFile, "batch-size": trainer.FromTuned, "optimizer": trainer.FromDefault} {
		if got := f.Settings.Origin(name); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
}

// Values printed by numpy 2: np.random.seed(s); np.random.permutation(n), twice.
func TestPermutationIsNumpys(t *testing.T) {
	tests := []struct {
		seed          uint32
		n             int
		first, second []int
	}{
		{0, 10, []int{2, 8, 4, 9, 1, 6, 7, 3, 0, 5}, []int{3, 5, 1, 2, 9, 8, 0, 6, 7, 4}},
		{42, 7, []int{0, 1, 5, 2, 4, 3, 6}, []int{5, 0, 3, 2, 1, 6, 4}},
		{4294967295, 13, []int{9, 5, 10, 12, 8, 1, 11, 6, 0, 4, 7, 2, 3}, []int{2, 0, 3, 4, 1, 5, 8, 12, 9, 7, 6, 10, 11}},
	}
	for _, tt := range tests {
		rng := newTwister(tt.seed)
		if got := rng.permutation(tt.n); !slices.Equal(got, tt.first) {
			t.Errorf("seed %d: %v", tt.seed, got)
		}
		if got := rng.permutation(tt.n); !slices.Equal(got, tt.second) {
			t.Errorf("seed %d, again: %v", tt.seed, got)
		}
	}
	if got := newTwister(7).permutation(2000); got[0] != 1072 || got[1999] != 175 {
		t.Errorf("seed 7, 2000: %d … %d", got[0], got[1999])
	}
}

// A short training is promised the batches it will meet, or a range when the
// engine has an order of its own.
func TestShortTrainingIsForeseen(t *testing.T) {
	tests := []struct {
		name     string
		shuffles bool
		misses   int // a range holds nine times of ten
	}{{"numpy's order", false, 0}, {"an order of its own", true, 4}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			missed := 0
			for seed := range 20 {
				m := laptop()
				m.shuffles, m.noise = tt.shuffles, 0
				s := study(m, 8<<30)
				for knob, v := range map[string]string{"iters": "20", "batch-size": "4", "seed": fmt.Sprint(seed)} {
					if err := s.Base.Set(knob, v, trainer.FromFlag); err != nil {
						t.Fatal(err)
					}
				}
				r, err := s.Run(context.Background())
				if err != nil {
					t.Fatal(err)
				}
				b, err := m.Burst(context.Background(), trainer.Job{Config: r.Config, UntilStep: 20})
				if err != nil {
					t.Fatal(err)
				}
				got, want := b.Summary.Figures, r.Expected
				peak := float64(got.PeakBytes.Or(0))/float64(want.PeakBytes.Or(1)) - 1
				speed := got.TokensPerSecond.Or(0)/want.TokensPerSecond.Or(1) - 1
				if math.Abs(peak) > want.PeakError || math.Abs(speed) > want.TokensError {
					missed++
					t.Logf("seed %d: peak off by %.1f %%, stated %.1f %%; speed off by %.1f %%, stated %.1f %%", seed, 100*peak, 100*want.PeakError, 100*speed, 100*want.TokensError)
				}
				if !tt.shuffles && want.PeakError > 0.05 {
					t.Errorf("seed %d: a known order, and ±%.0f %% for the peak", seed, 100*want.PeakError)
				}
			}
			if missed > tt.misses {
				t.Errorf("%d of 20 promises broken", missed)
			}
		})
	}
}

func TestWidestSeen(t *testing.T) {
	m := laptop()
	s := study(m, 8<<30)
	r, err := s.prepare()
	if err != nil {
		t.Fatal(err)
	}
	e := r.epoch(4, 1025)
	rng := rand.New(rand.NewPCG(1, 1))
	for _, n := range []int{1, 10, 60, len(e.batches)} {
		var widths []int
		for range 2000 {
			widest := 0
			for _, i := range rng.Perm(len(e.batches))[:n] {
				widest = max(widest, e.batches[i].Shape.Width)
			}
			widths = append(widths, widest)
		}
		slices.Sort(widths)
		for _, q := range []float64{0.05, 0.5, 0.95} {
			got := e.widestSeen(n, q).Width
			low, high := widths[int((q-0.04)*2000)], widths[int(min(q+0.04, 0.999)*2000)]
			if got < low || got > high {
				t.Errorf("%d draws, %.0f %%: width %d, simulated %d to %d", n, 100*q, got, low, high)
			}
		}
	}
}
