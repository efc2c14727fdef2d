package run

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// below puts a plan's run below a home.
func below(home, name string, p Plan) Plan {
	p.Dir = filepath.Join(home, "runs", name)
	return p
}

// cutOff takes the end off a journal and some of the events, as a crash of the
// machine does.
func cutOff(t *testing.T, dir, from string, events int) {
	t.Helper()
	path := filepath.Join(dir, journalName)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	i := strings.Index(string(text), `{"kind":"`+from+`"`)
	if i < 0 {
		t.Fatalf("no %q in %s", from, text)
	}
	if err := os.WriteFile(path, text[:i], 0o644); err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, eventsName)
	if text, err = os.ReadFile(path); err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(text), "\n")
	if err := os.WriteFile(path, []byte(strings.Join(lines[:min(events, len(lines))], "")+`{"kind":"st`), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestLastWords(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	if w, err := Last(home); w != nil || err != nil {
		t.Errorf("without runs: %+v, %v", w, err)
	}
	old := below(home, "2026-01-01-000000-a", plan(t, "batch-size", "2"))
	must(t, context.Background(), old, &sim{})
	if w, err := Last(home); w != nil || err != nil {
		t.Errorf("of one that ended well: %+v, %v", w, err)
	}

	failing := below(home, "2026-01-02-000000-b", plan(t))
	must(t, context.Background(), failing, &sim{fate: func(_ trainer.Job, step int) *trainer.Result {
		if step == 8 {
			return &trainer.Result{Outcome: trainer.Failed, LastStep: 7, Failure: &trainer.Failure{FailKind: trainer.FailConfig, Code: "x", Text: "no such layer"}}
		}
		return nil
	}})
	w, err := Last(home)
	if err != nil || w == nil {
		t.Fatalf("%+v, %v", w, err)
	}
	if w.State != StateFailed || w.Failure == nil || !strings.Contains(w.Failure.Text, "no such layer") || w.Step != 7 || w.Steps != 20 || w.At.IsZero() || !strings.Contains(w.Resume, failing.Dir) {
		t.Errorf("%+v", w)
	}

	dying := below(home, "2026-01-03-000000-c", plan(t, "batch-size", "3"))
	must(t, context.Background(), dying, &sim{})
	cutOff(t, dying.Dir, didEnd, 6)
	if err := os.MkdirAll(filepath.Join(home, "runs", "2026-01-04-000000-no-run"), 0o755); err != nil {
		t.Fatal(err)
	}
	if w, err = Last(home); err != nil || w == nil {
		t.Fatalf("%+v, %v", w, err)
	}
	if w.State != StateDied || w.Dir != dying.Dir || !strings.HasPrefix(w.Doing, "ran step ") || w.Step == 0 || w.Step >= 20 || !w.Memory.Peak.Known() ||
		w.Settings.Config.Plan.Batch != 3 || w.Resume == "" {
		t.Errorf("%+v", w)
	}

	// Everything but its first record lost: still something to say.
	if err := os.Remove(filepath.Join(dying.Dir, eventsName)); err != nil {
		t.Fatal(err)
	}
	if w, err = Last(home); err != nil || w == nil || w.Doing != "was starting its worker" {
		t.Errorf("%+v, %v", w, err)
	}
}
