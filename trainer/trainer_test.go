package trainer

import (
	"encoding/json"
	"math"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// validConfig draws configurations that Validate accepts.
func validConfig(t *rapid.T) Config {
	c := DefaultConfig()
	c.Model.Path, c.Data.Path = "/models/m", "/data/d"
	c.Model.Quantize = rapid.SampledFrom([]int{0, 2, 3, 4, 5, 6, 8}).Draw(t, "bits")
	c.Model.GroupSize = rapid.SampledFrom([]int{32, 64, 128}).Draw(t, "group")
	c.Data.MaskPrompt = rapid.Bool().Draw(t, "mask")
	c.Data.GroupByLength = rapid.Bool().Draw(t, "grouped")
	c.Data.MaxSeqLength = rapid.IntRange(2, 1<<20).Draw(t, "length")
	c.Quality.Rank = rapid.IntRange(1, 512).Draw(t, "rank")
	c.Quality.Scale = rapid.Float64Range(1e-6, 1e6).Draw(t, "scale")
	c.Quality.Dropout = rapid.Float64Range(0, 0.99).Draw(t, "dropout")
	c.Quality.LearningRate = rapid.Float64Range(1e-9, 1).Draw(t, "lr")
	c.Quality.LRSchedule = rapid.SampledFrom([]LRSchedule{ConstantRate, CosineRate, LinearRate}).Draw(t, "schedule")
	if c.Quality.LRSchedule.Decays() {
		c.Quality.LREnd = rapid.Float64Range(0, 1).Draw(t, "lr end")
	}
	if rapid.Bool().Draw(t, "adamw") {
		c.Quality.Optimizer, c.Quality.WeightDecay = "adamw", Decay(rapid.Float64Range(0, 1).Draw(t, "decay"))
	}
	c.Quality.Modules = rapid.SampledFrom([]string{"", "mlp.up_proj", "self_attn.q_proj,self_attn.v_proj"}).Draw(t, "modules")
	c.Quality.GradClip = rapid.Float64Range(0, 10).Draw(t, "clip")
	c.Parity = rapid.Bool().Draw(t, "parity")
	c.Plan.Batch = rapid.IntRange(1, 256).Draw(t, "batch")
	c.Plan.Accumulation = rapid.IntRange(1, 64).Draw(t, "accumulation")
	c.Quality.Warmup = rapid.IntRange(0, c.Updates()-1).Draw(t, "warmup")
	c.Plan.Checkpointing = rapid.Bool().Draw(t, "checkpointing")
	c.Plan.Packing = rapid.SampledFrom([]string{"", PackingOn, PackingOff}).Draw(t, "packing")
	c.Plan.MaxShapes = Shapes(rapid.IntRange(0, 16).Draw(t, "shapes"))
	for _, l := range []*Limit{&c.Plan.MemoryLimit, &c.Plan.CacheLimit, &c.Plan.WiredLimit} {
		if rapid.Bool().Draw(t, "limited") {
			*l = LimitOf(rapid.Int64Range(0, 1<<45).Draw(t, "limit"))
		}
	}
	c.Seed = uint64(rapid.Uint32().Draw(t, "seed"))
	return c
}

func TestKnobsCarryTheWholeConfig(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := validConfig(t)
		if err := want.Validate(); err != nil {
			t.Fatalf("drawn configuration is refused: %v", err)
		}
		var got Config
		for _, k := range Knobs {
			if err := k.Set(&got, k.Get(&want)); err != nil {
				t.Fatalf("%s: %v", k.Name, err)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("a value is lost between Get and Set, or has no knob:\n%s", diff)
		}
		if want.Key() != got.Key() {
			t.Fatal("equal configurations have different keys")
		}
	})
}

// TestJSONCarriesTheWholeConfig: workers get it so, and runs are kept so.
func TestJSONCarriesTheWholeConfig(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := validConfig(t)
		b, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var got Config
		if err := json.Unmarshal(b, &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("%s\nby way of %s", diff, b)
		}
	})
}

// TestKeysStay: runs and studies are found again by a key that was made before
// the later knobs were there.
func TestKeysStay(t *testing.T) {
	c := DefaultConfig()
	c.Engine, c.Model.Path, c.Data.Path = "mlx-lm", "m", "d"
	if got := c.Key(); got != "cf69e45043879dce" {
		t.Errorf("the key of the defaults is %s now", got)
	}
	c.Quality.Optimizer, c.Quality.Rank, c.Plan.CacheLimit = "adamw", 16, LimitOf(0)
	if got := c.Key(); got != "4fb1bd6db2bd1cf0" {
		t.Errorf("the key of another configuration is %s now", got)
	}
	for _, k := range Knobs {
		changed, value := c, map[string]string{"lr-schedule": "cosine", "warmup": "3", "lr-end": "0.1", "grad-clip": "1", "weight-decay": "0",
			"lora-modules": "self_attn.q_proj", "parity": "true", "packing": "off", "max-shapes": "0"}[k.Name]
		if value == "" {
			continue
		}
		if err := k.Set(&changed, value); err != nil {
			t.Fatal(err)
		}
		if changed.Key() == c.Key() {
			t.Errorf("%s=%s does not change the key", k.Name, value)
		}
	}
}

func TestKnobNamesAndKeysAreUnique(t *testing.T) {
	names, keys := map[string]bool{}, map[string]bool{}
	for _, k := range Knobs {
		if names[k.Name] || keys[k.Key()] {
			t.Errorf("knob %s (%s) stands twice", k.Name, k.Key())
		}
		names[k.Name], keys[k.Key()] = true, true
		if k.Doc == "" {
			t.Errorf("knob %s has no doc", k.Name)
		}
	}
}

func TestCommandLineIsOneWordAWord(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		words := rapid.SliceOfN(rapid.StringMatching(`[ -~äß\n]{0,12}`), 1, 4).Draw(t, "words")
		out, err := exec.Command("sh", "-c", `printf '%s\0' `+CommandLine(words...)).Output()
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00"); !slices.Equal(got, words) {
			t.Fatalf("a shell makes %q of %q", got, words)
		}
	})
	if got := CommandLine("mlxdyno", "train", "--rank=8", "./a/b"); got != "mlxdyno train --rank=8 ./a/b" {
		t.Errorf("quoted without need: %s", got)
	}
}

func TestKeyIgnoresOutputOnly(t *testing.T) {
	a := DefaultConfig()
	b := a
	b.Output.AdapterPath = "elsewhere"
	if a.Key() != b.Key() {
		t.Error("the adapter's path changes the key")
	}
	b.Quality.Rank++
	if a.Key() == b.Key() {
		t.Error("the rank does not change the key")
	}
}

func TestWithRankKeepsAlpha(t *testing.T) {
	c := DefaultConfig().WithRank(32)
	if c.Alpha() != 160 || c.Quality.Scale != 5 {
		t.Errorf("alpha %g, scale %g; want 160 and 5", c.Alpha(), c.Quality.Scale)
	}
}

func TestKnobsRefuse(t *testing.T) {
	for _, tc := range []struct{ knob, value string }{
		{"rank", "many"}, {"rank", "1.5"}, {"scale", "NaN"}, {"scale", "inf"}, {"quantize", "7"},
		{"memory-limit", "-3GB"}, {"memory-limit", "12 parsecs"}, {"memory-limit", "9e99TB"},
		{"grad-checkpoint", "perhaps"}, {"optimizer", "lion"}, {"lr-schedule", "step"}, {"warmup", "0.1"}, {"grad-clip", "inf"}, {"weight-decay", "no"}, {"lora-modules", "q,,v"}, {"lora-modules", " "}, {"parity", "some"}, {"engine", "torch"}, {"seed", "4294967296"}, {"compile", ""}, {"packing", "some"}, {"max-shapes", "few"}, {"no-such-knob", "1"},
	} {
		s := NewSettings()
		if err := s.Set(tc.knob, tc.value, FromFlag); err == nil {
			t.Errorf("%s=%q is accepted", tc.knob, tc.value)
		} else if !strings.Contains(err.Error(), tc.knob) {
			t.Errorf("%s=%q: the error does not name the knob: %v", tc.knob, tc.value, err)
		}
		if diff := cmp.Diff(NewSettings(), s); diff != "" {
			t.Errorf("%s=%q: refused and yet changed:\n%s", tc.knob, tc.value, diff)
		}
	}
}

func TestValidateNamesEveryProblem(t *testing.T) {
	c := DefaultConfig()
	c.Quality.Rank, c.Plan.Batch, c.Data.MaxSeqLength = 0, -1, 1
	err := c.Validate()
	for _, want := range []string{"model", "data", "rank", "batch-size", "max-seq-length"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not named in: %v", want, err)
		}
	}
}

func TestValidateJudgesWhatGoesTogether(t *testing.T) {
	tests := []struct {
		name   string
		change func(*Config)
		want   string // empty when it is fine
	}{
		{"an end without a way", func(c *Config) { c.Quality.LREnd = 1e-6 }, "lr-end: 1e-06; it goes with --lr-schedule cosine or linear"},
		{"an end", func(c *Config) { c.Quality.LRSchedule, c.Quality.LREnd = LinearRate, 1e-6 }, ""},
		{"an end below nothing", func(c *Config) { c.Quality.LRSchedule, c.Quality.LREnd = LinearRate, -1e-6 }, "lr-end: -1e-06; use 0 or more"},
		{"a warm-up", func(c *Config) { c.Schedule.Steps, c.Plan.Accumulation, c.Quality.Warmup = 43, 4, 9 }, ""},
		{"a warm-up to the end", func(c *Config) { c.Schedule.Steps, c.Plan.Accumulation, c.Quality.Warmup = 43, 4, 10 }, "warmup: 10 updates, and the training has 10"},
		{"a warm-up below nothing", func(c *Config) { c.Quality.Warmup = -1 }, "warmup: -1"},
		{"a clip below nothing", func(c *Config) { c.Quality.GradClip = -1 }, "grad-clip: -1"},
		{"decay with adam", func(c *Config) { c.Quality.WeightDecay = 0.1 }, "weight-decay: 0.1; it goes with --optimizer adamw"},
		{"decay with adamw", func(c *Config) { c.Quality.Optimizer, c.Quality.WeightDecay = "adamw", 0 }, ""},
		{"shapes below nothing", func(c *Config) { c.Plan.MaxShapes = -1 }, "max-shapes: -1"},
		{"any number of shapes", func(c *Config) { c.Plan.MaxShapes = 0 }, ""},
		{"decay below nothing", func(c *Config) { c.Quality.Optimizer, c.Quality.WeightDecay = "adamw", -0.1 }, "weight-decay: -0.1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := DefaultConfig()
			c.Model.Path, c.Data.Path = "m", "d"
			tt.change(&c)
			if err := c.Validate(); (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

func TestCompiles(t *testing.T) {
	for _, tt := range []struct {
		compile, device string
		want            bool
	}{{"auto", "cpu", false}, {"auto", "metal", true}, {"auto", "cuda", true}, {"on", "cpu", true}, {"off", "cuda", false}} {
		c := DefaultConfig()
		if c.Plan.Compile = tt.compile; c.Compiles(tt.device) != tt.want {
			t.Errorf("compile %s on %s: %t", tt.compile, tt.device, !tt.want)
		}
	}
}

func TestPositions(t *testing.T) {
	for shape, want := range map[Shape]int64{{Batch: 3, Width: 33}: 96, {Batch: 3, Width: 33, Packed: 50}: 50} {
		if got := shape.Positions(); got != want {
			t.Errorf("%+v has %d positions, want %d", shape, got, want)
		}
	}
}

// TestPlanWithoutMaxShapes: a configuration from before there was a bound has it,
// and one that asks for none keeps that.
func TestPlanWithoutMaxShapes(t *testing.T) {
	for text, want := range map[string]Shapes{`{"plan":{"batch":2}}`: DefaultMaxShapes, `{"plan":{"max_shapes":0}}`: 0, `{"plan":{"max_shapes":3}}`: 3} {
		var c Config
		if err := json.Unmarshal([]byte(text), &c); err != nil || c.Plan.MaxShapes != want {
			t.Errorf("%s: %d, %v", text, c.Plan.MaxShapes, err)
		}
	}
}

func TestModulesInAnyOrderAreTheSame(t *testing.T) {
	s := NewSettings()
	if err := s.Set("lora-modules", "self_attn.v_proj, self_attn.q_proj,self_attn.v_proj", FromFlag); err != nil {
		t.Fatal(err)
	}
	if got := s.Config.Quality.ModuleNames(); !slices.Equal(got, []string{"self_attn.q_proj", "self_attn.v_proj"}) {
		t.Errorf("%q", got)
	}
	if err := s.Set("lora-modules", "", FromFlag); err != nil || s.Config.Quality.ModuleNames() != nil {
		t.Errorf("%q, %v", s.Config.Quality.Modules, err)
	}
}

func TestUnsupported(t *testing.T) {
	all := Capabilities{}
	for _, k := range Knobs {
		all.Knobs = append(all.Knobs, k.Name)
	}
	some := Capabilities{Knobs: []string{"engine", "rank"}}
	c := DefaultConfig()
	if got := Unsupported(c, Capabilities{}); len(got) > 0 {
		t.Errorf("the defaults need %q", got)
	}
	c.Quality.GradClip, c.Quality.Rank, c.Data.MaskPrompt = 1, 4, true
	if got := Unsupported(c, all); len(got) > 0 {
		t.Errorf("an engine that honours everything lacks %q", got)
	}
	if got := Unsupported(c, some); !slices.Equal(got, []string{"mask-prompt", "grad-clip"}) {
		t.Errorf("%q", got)
	}
}

func TestParseBytes(t *testing.T) {
	for in, want := range map[string]int64{
		"0": 0, "17": 17, "1k": 1000, "12GB": 12e9, "11.5GiB": 12348030976, "900 MB": 900e6, "2TiB": 2 << 40, "1e3": 1000,
	} {
		got, err := ParseBytes(in)
		if err != nil || got != want {
			t.Errorf("ParseBytes(%q) = %d, %v; want %d", in, got, err, want)
		}
	}
}

func TestFormatBytes(t *testing.T) {
	for in, want := range map[int64]string{
		0: "0 B", 999: "999 B", 1000: "1.00 kB", 999_499: "999 kB", 999_500: "1.00 MB", 12_340_000_000: "12.3 GB", 1.5e12: "1.50 TB", -2000: "-2.00 kB",
	} {
		if got := FormatBytes(in); got != want {
			t.Errorf("FormatBytes(%d) = %q; want %q", in, got, want)
		}
	}
}

func FuzzParseBytes(f *testing.F) {
	for _, s := range []string{"12GB", "1e400", "-1", "GiB", "0x10", "١٢"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if n, err := ParseBytes(s); err == nil && n < 0 {
			t.Errorf("ParseBytes(%q) = %d", s, n)
		}
	})
}

func TestFloatSurvivesJSON(t *testing.T) {
	for _, v := range []float64{0, -1.5, 1e300, math.NaN(), math.Inf(1), math.Inf(-1)} {
		b, err := json.Marshal(Float(v))
		if err != nil {
			t.Fatal(err)
		}
		var got Float
		if err := json.Unmarshal(b, &got); err != nil {
			t.Fatal(err)
		}
		if math.Float64bits(float64(got)) != math.Float64bits(v) && !(math.IsNaN(v) && math.IsNaN(float64(got))) {
			t.Errorf("%v became %v by way of %s", v, got, b)
		}
	}
}

func TestOptLeavesUnknownOut(t *testing.T) {
	b, err := json.Marshal(Memory{Active: Some(int64(0))})
	if err != nil || string(b) != `{"active":0}` {
		t.Errorf("got %s, %v: zero must stay and unknown must go", b, err)
	}
}

func step(segment, number int, width int, seconds float64, peak int64) Event {
	return Event{Segment: segment, Step: number, Payload: Step{
		Loss: 1, Shape: Shape{Batch: 2, Width: width}, Tokens: 100, Seconds: seconds, DataSeconds: 0.5, Memory: Memory{Peak: Some(peak)},
	}}
}

func TestSummarize(t *testing.T) {
	s := Summarize([]Event{
		step(0, 1, 33, 9, 50), // first of its segment: in the peak, not in the rate
		step(0, 2, 33, 1.5, 40),
		step(0, 3, 65, 3.5, 80),
		step(1, 3, 65, 7, 70), // replayed: counts once, the later segment wins
		step(1, 4, 65, 1.5, 60),
		{Step: 4, Payload: Eval{Loss: 2.5}},
	})
	if len(s.Steps) != 4 || s.Steps[2].Segment != 1 {
		t.Fatalf("replayed step: %+v", s.Steps)
	}
	if got, _ := s.Figures.PeakBytes.Get(); got != 70 {
		t.Errorf("peak %d; want 70: the replayed step's reading is superseded", got)
	}
	if got, _ := s.Figures.TokensPerSecond.Get(); got != 200/4.0 {
		t.Errorf("tokens/s %g; want 50 over steps 2 and 4", got)
	}
	if got, _ := s.Figures.ValLoss.Get(); got != 2.5 {
		t.Errorf("validation loss %g", got)
	}
	want := []ShapeSummary{
		{Shape: Shape{Batch: 2, Width: 33, Steps: 2}, StepSeconds: 1.5, PeakBytes: Some(int64(50))},
		{Shape: Shape{Batch: 2, Width: 65, Steps: 2}, StepSeconds: 1.5, PeakBytes: Some(int64(70))},
	}
	if diff := cmp.Diff(want, s.Shapes, cmp.AllowUnexported(Opt[int64]{})); diff != "" {
		t.Error(diff)
	}
}

func TestProblemOfABurst(t *testing.T) {
	for want, r := range map[string]Result{
		"":         {Outcome: Finished},
		"bad data": {Outcome: Failed, Failure: &Failure{Text: "bad data"}},
		"ended without a word, as processes do that get no memory": {Outcome: Crashed, SuspectedOOM: true},
		"signal: killed (wait)":      {Outcome: Crashed, Evidence: []Evidence{{Name: "signal", Observed: "killed", Source: "wait"}}},
		"the worker process stalled": {Outcome: Stalled},
	} {
		if got := (Burst{Result: r}).Problem(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestFormatDuration(t *testing.T) {
	for want, d := range map[string]time.Duration{"45s": 45 * time.Second, "1m15s": 75 * time.Second, "5m": 5 * time.Minute, "1h": time.Hour, "2h10m": 130 * time.Minute, "29s": 28655734641, "0s": 0, "10m": 10 * time.Minute} {
		got := FormatDuration(d)
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
		if back, err := time.ParseDuration(got); err != nil || back != d.Round(time.Second) {
			t.Errorf("%q reads as %v, %v", got, back, err)
		}
	}
	if Count(1, "row")+Count(2, "row")+Count(0, "row") != "1 row2 rows0 rows" {
		t.Error("rows are miscounted")
	}
}
