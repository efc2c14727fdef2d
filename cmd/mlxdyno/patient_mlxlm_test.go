package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/probe/diagnose"
)

// TestRealMLXLM watches mlx-lm's own command, where adapters of an earlier
// training must survive.
func TestRealMLXLM(t *testing.T) {
	w := theWorld()
	if w.err != nil {
		t.Fatalf("tests with real MLX need make setup: %v", w.err)
	}
	dir := t.TempDir()
	adapters := filepath.Join(dir, "adapters")
	if err := os.Mkdir(adapters, 0o755); err != nil {
		t.Fatal(err)
	}
	precious := filepath.Join(adapters, "adapters.safetensors")
	if err := os.WriteFile(precious, []byte("precious"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", dir)
	t.Chdir(dir)
	var out, progress bytes.Buffer
	(&app{stdout: &out, stderr: &progress, color: "never"}).execute(t.Context(), []string{"doctor", "--json", "--steps", "20", "--",
		w.env.Python, "-m", "mlx_lm", "lora", "--model", w.paths.Model, "--train", "--data", w.paths.Completions, "--iters", "100000",
		"--steps-per-report", "1", "--steps-per-eval", "100000", "--val-batches", "1", "--num-layers", "-1", "--batch-size", "2", "--save-every", "5"})
	var r diagnose.Report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatalf("%v\n%s\n%s", err, out.Bytes(), progress.Bytes())
	}
	p := r.Patient
	if p.Adapter.Name != "mlx-lm" || p.Adapter.Sure != "certain" || p.LastStep.Or(0) < 20 || p.EndedFor != "steps" || !p.Speed.StepSeconds.Known() {
		t.Errorf("%+v", p)
	}
	if p.Usage == nil || p.Usage.Highest.Or(0) < 20<<20 || !p.Usage.Threads.Known() {
		t.Errorf("usage: %+v", p.Usage)
	}
	for _, f := range r.Findings { // how its time is spent is not judged here, where others use the machine
		if f.Code == "patient.hidden-time" {
			continue
		}
		if (f.Severity == probe.Fail || f.Severity == probe.Warn) && strings.HasPrefix(f.Code, "patient.") && f.Code != "patient.slows-down" {
			t.Errorf("it is healthy, and yet %+v", f)
		}
	}
	if b, err := os.ReadFile(precious); err != nil || string(b) != "precious" {
		t.Errorf("the adapters of an earlier training are %q (%v)", b, err)
	}
	if entries, err := os.ReadDir(adapters); err != nil || len(entries) != 1 {
		t.Errorf("%v in the adapters of an earlier training", entries)
	}
	if !strings.Contains(progress.String(), "instead (--adapter-path)") {
		t.Errorf("nobody says where its adapters go: %s", progress.String())
	}
}
