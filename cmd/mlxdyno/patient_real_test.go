package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/probe/diagnose"
	"github.com/mlxdyno/mlxdyno/probe/leak"
	"github.com/mlxdyno/mlxdyno/probe/model"
	"github.com/mlxdyno/mlxdyno/probe/patient"
	"github.com/mlxdyno/mlxdyno/report"
)

// ofTheMachine are findings that rest on what others do on it meanwhile.
var ofTheMachine = map[string]bool{"patient.slows-down": true, "patient.swaps": true, "patient.host-bound": true}

// TestRealPatients runs trainers that are not ours on real MLX: what is wrong
// with each must come first, and a healthy one is not blamed. How fast they go is
// not judged here, where others use the machine.
func TestRealPatients(t *testing.T) {
	w := theWorld()
	if w.err != nil {
		t.Fatalf("tests with real MLX need make setup: %v", w.err)
	}
	facts, err := model.Read(w.paths.Model)
	if err != nil {
		t.Fatal(err)
	}
	gradients := 4 * facts.AdapterParameters(8, 0)
	for _, c := range []struct {
		how, code string // what is wrong, and the finding that must come first
		says      []string
		exact     int64 // growth of active memory a step; 0 when not exact, or none
	}{
		{"healthy", "", nil, 0},
		{"gradients", "patient.leak", []string{"size of: float32 gradients of LoRA, rank 8, on all linear layers", "equal to the byte"}, gradients},
		{"gradient", "patient.leak", []string{"a step, exactly", "size of: one float32 gradient of ", "lora_a"}, -1},
		{"optimizer", "patient.leak", []string{"of: a copy of Adam's state of LoRA, rank 8, on all linear layers", "equal to the byte"}, 2 * gradients},
		{"host", "patient.footprint-growth", []string{"the host, the driver or compiled steps keep it"}, 0},
		{"cache", "patient.cache-growth", []string{"mx.set_cache_limit", "with a limit it does not grow", `"proven"`}, 0},
		{"shapes", "patient.shape-growth", []string{"Pad batches"}, 0},
		{"traces", "patient.shape-growth", []string{"with MLX's compilation off", "uncompiled, its processes stay as they are", `"proven"`}, 0},
	} {
		t.Run(c.how, func(t *testing.T) {
			var out, progress bytes.Buffer
			steps := "40"
			switch c.how {
			case "host":
				steps = "150" // samples come by time
			case "traces":
				steps = "200" // a compiled step is small beside what memory does at first
			}
			a := &app{stdout: &out, stderr: &progress, color: "never"}
			a.execute(t.Context(), []string{"doctor", "--json", "--again", "--steps", steps, "--model", w.paths.Model, "--rank", "8", "--",
				w.env.Python, filepath.Join("testdata", "patients", "lora.py"), c.how, w.paths.Model, "100000"})
			if err := report.Validate("doctor", out.Bytes()); err != nil {
				t.Fatalf("%v\n%s\n%s", err, out.Bytes(), progress.Bytes())
			}
			var r diagnose.Report
			if err := json.Unmarshal(out.Bytes(), &r); err != nil {
				t.Fatal(err)
			}
			if r.Patient.EndedFor != "steps" || r.Patient.Reports < 40 || r.Patient.Adapter.Name != "jsonl" || r.Patient.Left != 0 {
				t.Fatalf("%+v", r.Patient)
			}
			var blamed []probe.Finding
			for _, f := range r.Findings {
				if (f.Severity == probe.Fail || f.Severity == probe.Warn) && strings.HasPrefix(f.Code, "patient.") && !ofTheMachine[f.Code] {
					blamed = append(blamed, f)
				}
			}
			if c.code == "" {
				if len(blamed) > 0 {
					t.Errorf("it is healthy, and yet %+v", blamed)
				}
				return
			}
			if len(blamed) != 1 || blamed[0].Code != c.code {
				t.Fatalf("%+v, want %s and nothing else", blamed, c.code)
			}
			text, err := json.Marshal(blamed[0])
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range c.says {
				if !strings.Contains(string(text), s) {
					t.Errorf("it does not say %q: %s", s, text)
				}
			}
			g := r.Patient.Of(patient.Active)
			switch {
			case c.exact != 0 && (g == nil || g.State != leak.Leaking || !g.Rate.IsExact):
				t.Errorf("active memory: %+v, want an exact growth", g)
			case c.exact > 0 && int64(g.Rate.BytesAStep) != c.exact:
				t.Errorf("%v bytes a step, want %d", g.Rate.BytesAStep, c.exact)
			}
		})
	}
}

// TestWatchedProcesses watches two that print nothing: what the system charges
// them with is all there is to see.
func TestWatchedProcesses(t *testing.T) {
	w := theWorld()
	if w.err != nil {
		t.Fatalf("tests with real MLX need make setup: %v", w.err)
	}
	for name, c := range map[string]struct {
		script string
		grows  bool
	}{
		"grows":    {"import time\nkept = []\nwhile True:\n    kept.append(bytearray(2_000_000))\n    time.sleep(0.05)", true},
		"is level": {"import time\nkept = bytearray(50_000_000)\nwhile True:\n    time.sleep(0.05)", false},
	} {
		t.Run(name, func(t *testing.T) {
			child := exec.Command(w.env.Python, "-c", c.script)
			if err := child.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() {
				child.Process.Kill() //nolint:errcheck // it has ended then
				child.Wait()         //nolint:errcheck // killed
			}()
			var out, progress bytes.Buffer
			a := &app{stdout: &out, stderr: &progress, color: "never"}
			a.execute(t.Context(), []string{"doctor", "--json", "--pid", strconv.Itoa(child.Process.Pid), "--for", "5s"})
			var r diagnose.Report
			if err := json.Unmarshal(out.Bytes(), &r); err != nil {
				t.Fatalf("%v\n%s\n%s", err, out.Bytes(), progress.Bytes())
			}
			grows := slices.ContainsFunc(r.Findings, func(f probe.Finding) bool { return f.Code == "patient.footprint-growth" && f.Severity == probe.Warn })
			if grows != c.grows || r.Patient.Usage == nil || r.Patient.Usage.Samples < 10 {
				t.Errorf("grows: %v, want %v: %+v", grows, c.grows, r.Patient)
			}
		})
	}
}

// TestInterruptedWatch ends a command that would go on: what was seen is
// reported, and nothing of it is left.
func TestInterruptedWatch(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "train.sh"), []byte("i=0\nwhile true; do i=$((i+1)); echo step $i loss 2.5; test $i = 10 && echo $$ > part && mv part pid; sleep 0.05; done\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "mlxdyno", "doctor", "--", "sh", "train.sh")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "MLXDYNO_HOME="+filepath.Join(dir, "home"))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, io.Discard
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	until(t, "it had taken some steps", func() bool {
		b, _ := os.ReadFile(filepath.Join(dir, "pid"))
		pid, _ = strconv.Atoi(strings.TrimSpace(string(b)))
		return pid != 0
	})
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, out.String())
	}
	if !strings.Contains(out.String(), "ended by us: cancelled") || !strings.Contains(out.String(), "read as") {
		t.Errorf("no report:\n%s", out.String())
	}
	if err := syscall.Kill(pid, 0); err == nil && !probe.UsageOf(pid).Ended {
		t.Errorf("process %d is still there", pid)
	}
}
