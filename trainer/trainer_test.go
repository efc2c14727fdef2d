package trainer

import (
	"encoding/json"
	"math"
	"os/exec"
	"slices"
	"strings"
	"testing"

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
	c.Plan.Batch = rapid.IntRange(1, 256).Draw(t, "batch")
	c.Plan.Accumulation = rapid.IntRange(1, 64).Draw(t, "accumulation")
	c.Plan.Checkpointing = rapid.Bool().Draw(t, "checkpointing")
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
		{"grad-checkpoint", "perhaps"}, {"optimizer", "lion"}, {"seed", "4294967296"}, {"compile", ""}, {"no-such-knob", "1"},
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
		{Shape: Shape{2, 33, 2}, StepSeconds: 1.5, PeakBytes: Some(int64(50))},
		{Shape: Shape{2, 65, 2}, StepSeconds: 1.5, PeakBytes: Some(int64(70))},
	}
	if diff := cmp.Diff(want, s.Shapes, cmp.AllowUnexported(Opt[int64]{})); diff != "" {
		t.Error(diff)
	}
}
