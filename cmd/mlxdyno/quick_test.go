package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mlxdyno/mlxdyno/probe/diagnose"
)

// quick runs doctor --quick, with a home of its own unless it is given one.
func quick(t testing.TB, home string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "mlxdyno", append([]string{"doctor", "--quick", "--json", "--fail-on", "never"}, args...)...)
	cmd.Env = append(os.Environ(), "MLXDYNO_HOME="+home, "LC_ALL=C.UTF-8")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return out
}

// TestQuickStartsNoPython gives the environment an interpreter that notes when
// it is started.
func TestQuickStartsNoPython(t *testing.T) {
	w := theWorld()
	home := t.TempDir()
	if err := w.prepare(home); err != nil {
		t.Fatal(err)
	}
	noted := filepath.Join(home, "started")
	python := filepath.Join(home, "python")
	script := "#!/bin/sh\necho started >> " + noted + "\nexec " + w.env.Python + " \"$@\"\n"
	if err := os.WriteFile(python, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	stamp := bytes.ReplaceAll(w.stamp, []byte(`"`+w.env.Python+`"`), []byte(`"`+python+`"`))
	if bytes.Equal(stamp, w.stamp) {
		t.Fatal("the stamp does not name its interpreter")
	}
	if err := os.WriteFile(filepath.Join(home, "stamp.json"), stamp, 0o644); err != nil {
		t.Fatal(err)
	}
	subject := []string{"--model", w.paths.Model, "--data", w.paths.Completions}
	out := quick(t, home, subject...)
	if _, err := os.Stat(noted); err == nil || !bytes.Contains(out, []byte(`"state": "ready"`)) || bytes.Contains(out, []byte(`"p99"`)) {
		t.Errorf("python started: %v; report: %.2000s", err == nil, out)
	}
	// Text that was tokenized before is taken as it is; tokenizing it starts one.
	cmd, said := w.mlxdyno(t, home, append([]string{"doctor", "--burst", "1s", "--no-prove"}, subject...)...)
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	if _, err := os.Stat(noted); err != nil {
		t.Fatalf("the interpreter is not the one that is used: %v", err)
	}
	if err := os.Remove(noted); err != nil {
		t.Fatal(err)
	}
	out = quick(t, home, subject...)
	if _, err := os.Stat(noted); err == nil || !bytes.Contains(out, []byte(`"p99"`)) {
		t.Errorf("python started: %v; report: %.2000s", err == nil, out)
	}
}

// BenchmarkDoctorQuick is a whole process, from its start to its end: with
// nothing but the machine to look at, and with a model and tokenized data.
func BenchmarkDoctorQuick(b *testing.B) {
	w := theWorld()
	home := b.TempDir()
	if err := w.prepare(home); err != nil {
		b.Fatal(err)
	}
	subject := []string{"--model", w.paths.Model, "--data", w.paths.Completions}
	cmd := exec.CommandContext(b.Context(), "mlxdyno", append([]string{"doctor", "--burst", "1s", "--no-prove", "-q"}, subject...)...)
	cmd.Env = append(os.Environ(), "MLXDYNO_HOME="+home)
	if out, err := cmd.CombinedOutput(); err != nil { // tokenizes
		b.Fatalf("%v: %s", err, out)
	}
	for name, args := range map[string][]string{"machine": nil, "subject": subject} {
		b.Run(name, func(b *testing.B) {
			var took []time.Duration
			for b.Loop() {
				began := time.Now()
				quick(b, home, args...)
				took = append(took, time.Since(began))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "ms-median")
			b.ReportMetric(float64(took[len(took)*95/100].Microseconds())/1000, "ms-p95")
		})
	}
}

// TestRecordedMacs diagnoses Macs from their snapshots, on whatever system this
// is: what is wrong with each, worst first, and nothing else.
func TestRecordedMacs(t *testing.T) {
	for name, want := range map[string][]string{
		"mac-m1-16gb-pressure": {"warn memory.swap", "warn memory.pressure", "warn crash.kernel-panic", "warn crash.jetsam", "warn power.mode", "warn power.thermal", "info memory.others"},
		"mac-m3-ultra-96gb":    {},
		"mac-m4-max-128gb-wired": {"fail mlx.version-minimum", "warn memory.wired-limit", "warn gpu.resources", "warn power.thermal", "info memory.others", "info power.mode",
			"skipped mlx.known-leaks"},
	} {
		t.Run(name, func(t *testing.T) {
			out := quick(t, t.TempDir(), "--snapshot", filepath.Join("..", "..", "probe", "testdata", "snapshots", name+".json"))
			var r diagnose.Report
			if err := json.Unmarshal(out, &r); err != nil {
				t.Fatal(err)
			}
			got := []string{}
			for _, f := range r.Findings {
				got = append(got, string(f.Severity)+" "+f.Code)
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("findings (-want +got):\n%s", d)
			}
		})
	}
}
