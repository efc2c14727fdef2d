package command

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// seeds adds lines of all samples: from the beginning, the middle and the end of
// each. Whole samples would be mutated and made smaller for minutes each.
func seeds(f *testing.F) {
	f.Helper()
	for _, name := range []string{"mlx-lm-text.log", "mlx-lm-rich.log", "your_ai.log", "your_ai-metrics.jsonl", "your_ai-debug.jsonl", "steps.log", "metrics.jsonl", "described.log"} {
		b, err := os.ReadFile("testdata/" + name)
		if err != nil {
			f.Fatal(err)
		}
		const piece = 8
		lines := strings.SplitAfter(string(b), "\n")
		for _, from := range []int{0, len(lines) / 2, len(lines) - piece} {
			from = max(from, 0)
			f.Add(strings.Join(lines[from:min(from+piece, len(lines))], ""))
		}
	}
}

// sound fails unless what a parser made of text can be added up and written.
func sound(t *testing.T, text string, adapters ...Adapter) {
	t.Helper()
	var o Observations
	d := NewDetector(adapters...)
	lines := NewLines(strings.NewReader(text))
	take := func(rs []Reading) {
		for _, r := range rs {
			if r.Line < 1 || r.Step.Or(0) < 0 || r.TokensPerSecond.Or(0) < 0 || r.StepsPerSecond.Or(0) < 0 || r.Elapsed.Or(Clock{}).Time < 0 {
				t.Fatalf("reading %s", shown(r))
			}
			for _, m := range r.Memory {
				if m.Bytes.Or(0) < 0 || m.Kind == "" {
					t.Fatalf("reading %s", shown(r))
				}
			}
			if r.Notice != nil && (r.Notice.Code == "" || len(r.Notice.Text) > noticeText+3) {
				t.Fatalf("reading %s", shown(r))
			}
			o.Add(r)
		}
	}
	for {
		line, err := lines.Next()
		if err != nil {
			break
		}
		take(d.Parse(line))
	}
	take(d.Finish())
	o.Close()
	s := o.Summary()
	if _, err := json.Marshal(s); err != nil {
		t.Fatalf("summary: %v", err)
	}
	for _, v := range []trainer.Opt[float64]{s.Figures.StepSeconds, s.Figures.TokensPerSecond} {
		if x, ok := v.Get(); ok && !(x >= 0) {
			t.Fatalf("figures %+v", s.Figures)
		}
	}
}

func FuzzDetector(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, text string) { sound(t, text, Adapters()...) })
}

func FuzzMLXLM(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, text string) { sound(t, text, MLXLM()) })
}

func FuzzYourAI(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, text string) { sound(t, text, YourAI()) })
}

func FuzzJSONLines(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, text string) { sound(t, text, JSONLines()) })
}

func FuzzStepLines(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, text string) { sound(t, text, StepLines()) })
}

func FuzzDescribed(f *testing.F) {
	b, err := os.ReadFile("testdata/described.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b, "it 1/9: 4.5, 120.5 ms, peak 1.5 G")
	f.Add([]byte("name: a\npatterns:\n  - {match: '(?P<elapsed>.*)', units: {elapsed: h}}\n"), "1e300")
	f.Fuzz(func(t *testing.T, description []byte, text string) {
		a, err := ParseAdapter(description)
		if err != nil {
			return
		}
		sound(t, text, a)
	})
}
