package command

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// Each sample is read without being told whose it is.
func TestSamples(t *testing.T) {
	for _, tc := range []struct {
		file, adapter string
		sure          Sureness
	}{
		{"mlx-lm-text.log", "mlx-lm", Certain},
		{"mlx-lm-text-terminal.log", "mlx-lm", Certain},
		{"mlx-lm-rich.log", "mlx-lm", Certain},
		{"mlx-lm-terminal.log", "mlx-lm", Certain},
		{"your_ai.log", "your_ai", Certain},
		{"your_ai-metrics.jsonl", "your_ai", Certain},
		{"your_ai-debug.jsonl", "your_ai", Certain},
		{"steps.log", "steps", Guessed},
		{"metrics.jsonl", "jsonl", Guessed},
	} {
		t.Run(tc.file, func(t *testing.T) {
			readings, report := read(t, filepath.Join("testdata", tc.file))
			if d := report.Detected; d.Name != tc.adapter || d.Sure != tc.sure {
				t.Errorf("detected %s, %s (%s); want %s, %s", d.Name, d.Sure, d.Why, tc.adapter, tc.sure)
			}
			golden(t, tc.file+".golden", readings+outline(t, report))
		})
	}
}

// outline is what a report says beside its readings.
func outline(t *testing.T, r LogReport) string {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s: %s, %s\n", r.Detected.Name, r.Detected.Sure, r.Detected.Why)
	for _, n := range r.Notes {
		fmt.Fprintln(&b, "note:", n)
	}
	s := r.Observations.Summary()
	for _, step := range s.Steps {
		text, err := json.Marshal(step)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s\n", text)
	}
	for _, e := range s.Evals {
		fmt.Fprintf(&b, "after %d: %v\n", e.AfterStep, e.Loss)
	}
	for _, n := range r.Observations.Notices {
		fmt.Fprintf(&b, "%d × %s %s at step %d, line %d\n", n.Times, n.Level, n.Code, n.Step, n.Line)
	}
	figures, err := json.Marshal(s.Figures)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&b, "%s\n", figures)
	return b.String()
}

func TestDescribedSample(t *testing.T) {
	text, err := os.ReadFile("testdata/described.yaml")
	if err != nil {
		t.Fatal(err)
	}
	a, err := ParseAdapter(text)
	if err != nil {
		t.Fatal(err)
	}
	readings, report := read(t, "testdata/described.log", a)
	if report.Detected.Sure != Chosen {
		t.Errorf("detected %+v", report.Detected)
	}
	golden(t, "described.log.golden", readings+outline(t, report))
}

func TestMistakesInDescriptions(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		{"nothing", "", "no documents in stream"},
		{"no mapping", "[1]", "line 1: adapter: want keys and values"},
		{"no name", "patterns:\n  - match: '(?P<loss>x)'\n", "line 1: name is missing"},
		{"no patterns", "name: a\n", "line 1: patterns are missing"},
		{"an empty list", "name: a\npatterns: []\n", "line 2: patterns: want a list of patterns"},
		{"an unknown key", "name: a\nregex: b\n", `line 2: "regex" is not known: want name or patterns`},
		{"a key twice", "name: a\nname: b\n", `"name"`},
		{"an unknown key of a pattern", "name: a\npatterns:\n  - match: '(?P<loss>x)'\n    flags: i\n", `line 4: "flags" is not known: want match or units`},
		{"no match", "name: a\npatterns:\n  - units: {}\n", "line 3: match is missing"},
		{"a broken expression", "name: a\npatterns:\n  - match: '(?P<loss>x'\n", "line 3: match: missing closing )"},
		{"a look-ahead", "name: a\npatterns:\n  - match: '(?=x)(?P<loss>x)'\n", "line 3: match: invalid or unsupported Perl syntax"},
		{"no group", "name: a\npatterns:\n  - match: 'loss'\n", "line 3: match: it has no named group"},
		{"an unknown group", "name: a\npatterns:\n  - match: '(?P<los>x)'\n", `line 3: match: the group "los" is not known: want active, `},
		{"a size without unit", "name: a\npatterns:\n  - match: '(?P<peak>x)'\n", "line 3: peak needs a unit: add units: {peak: GB}"},
		{"a unit that is none", "name: a\npatterns:\n  - match: '(?P<peak>x)'\n    units: {peak: s}\n", `line 4: units: peak cannot be in "s": want GB, `},
		{"a unit of nothing", "name: a\npatterns:\n  - match: '(?P<loss>x)'\n    units: {peak: GB}\n", `line 4: units: the pattern has no group "peak"`},
		{"a unit of a plain number", "name: a\npatterns:\n  - match: '(?P<loss>x)'\n    units: {loss: GB}\n", "line 4: units: loss has no unit"},
		{"an alias", "name: &n a\npatterns: *n\n", "line 2: patterns: aliases are not supported"},
		{"too much repetition", "name: a\npatterns:\n  - match: '(?P<loss>((x{1000}){1000}){1000})'\n", "line 3: match: "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := ParseAdapter([]byte(tc.text))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

func TestPartialReports(t *testing.T) {
	line := func(step int) string {
		return fmt.Sprintf("Iter %d: Train loss 1.000, Learning Rate 1.000e-05, It/sec 2.000, Tokens/sec 9.000, Trained Tokens 1, Peak mem 0.004 GB", step)
	}
	for _, tc := range []struct {
		name  string
		lines []string
		want  []bool // which reports are doubted
	}{
		{"the last is short", []string{"Starting training..., iters: 25", line(10), line(20), line(25)}, []bool{false, false, true}},
		{"all are full", []string{"Starting training..., iters: 20", line(10), line(20)}, []bool{false, false}},
		{"the only one is the last", []string{"Starting training..., iters: 5", line(5)}, []bool{true}},
		{"nobody said how many", []string{line(10), line(13)}, []bool{false, true}},
		{"a second training", []string{line(10), line(13), line(5), line(10)}, []bool{false, true, false, false}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got []bool
			p := MLXLM().New()
			for _, l := range tc.lines {
				readings, _ := p.Parse(l)
				for _, r := range readings {
					if r.Loss.Known() {
						got = append(got, r.Doubtful(FieldStepsPerSecond) != "")
					}
				}
			}
			if fmt.Sprint(got) != fmt.Sprint(tc.want) {
				t.Errorf("doubted %v, want %v", got, tc.want)
			}
		})
	}
}

func TestNumbers(t *testing.T) {
	for text, want := range map[string]string{
		"1": "1", "1,234.5": "1234.5", "12,34": "no", "1,2": "no", ",5": "no", "-1,000": "-1000", "1e-5": "1e-05", "nan": "NaN", "-inf": "-Inf",
		"0x10": "no", "1_000": "no", "": "no", "1e999": "+Inf", "Infinity": "+Inf",
	} {
		v, ok := number(text)
		got := fmt.Sprint(v)
		if !ok {
			got = "no"
		}
		if got != want {
			t.Errorf("number(%q) = %s, want %s", text, got, want)
		}
	}
	for text, want := range map[string]string{
		"12s": "12s 1s", "1m": "1m0s 1m0s", "1h2m": "1h2m0s 1m0s", "00:12": "12s 1s", "1:02:03": "1h2m3s 1s", "2d": "48h0m0s 24h0m0s", "12.5s": "12.5s 100ms",
		"x": "no", "12": "no", "1:2:3:4:5": "no", "": "no", "999999999999h": "no", "1:nan": "no",
	} {
		c, ok := clock(text)
		got := fmt.Sprint(c.Time, c.Resolution)
		if !ok {
			got = "no"
		}
		if got != want {
			t.Errorf("clock(%q) = %s, want %s", text, got, want)
		}
	}
}

// A unit that may mean either keeps both readings.
func TestUnits(t *testing.T) {
	for _, tc := range []struct {
		value, unit   string
		exact         bool
		bytes, binary trainer.Opt[int64]
		resolution    float64
	}{
		{"1.5", "GB", false, trainer.Some[int64](1_500_000_000), trainer.Some[int64](1_610_612_736), 1e8},
		{"1.5", "GB", true, trainer.Some[int64](1_500_000_000), trainer.Opt[int64]{}, 1e8},
		{"1.5", "GiB", false, trainer.Some[int64](1_610_612_736), trainer.Opt[int64]{}, 107374182.4},
		{"7", "", false, trainer.Opt[int64]{}, trainer.Opt[int64]{}, 0},
	} {
		m, ok := memory(PeakMemory, tc.value, tc.unit, tc.exact)
		if !ok || m.Bytes != tc.bytes || m.Binary != tc.binary || m.Resolution != tc.resolution {
			t.Errorf("%s %s: %+v", tc.value, tc.unit, m)
		}
	}
	for _, bad := range []string{"nan", "-1", "1e300", "x"} {
		if m, ok := memory(PeakMemory, bad, "GB", false); ok {
			t.Errorf("%s is taken for %+v", bad, m)
		}
	}
}
