package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mlxdyno/mlxdyno/mlxbind/install"
	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/probe/diagnose"
	"github.com/mlxdyno/mlxdyno/report"
	"github.com/mlxdyno/mlxdyno/trainer/demo"
	"github.com/mlxdyno/mlxdyno/trainer/run"
	"github.com/rogpeppe/go-internal/testscript"
)

// world is what tests with real MLX share: the environment that `make setup`
// made, the small demo, and two models that it does not resemble.
type world struct {
	env            install.Env
	paths          demo.Paths
	qwen3, mistral string
	stamp          []byte
	err            error
}

var theWorld = sync.OnceValue(func() world {
	var w world
	home, err := install.Home()
	if err != nil {
		return world{err: err}
	}
	if w.env, err = install.Find(home); err != nil {
		return world{err: err}
	}
	if w.stamp, err = os.ReadFile(filepath.Join(home, "stamp.json")); err != nil {
		return world{err: err}
	}
	ctx := context.Background()
	o := demo.Options{Python: w.env.Python, Environ: w.env.Environ(), Dir: filepath.Join(home, "test-models"), Size: demo.Small}
	if w.paths, err = demo.Make(ctx, o); err != nil {
		return world{err: err}
	}
	// Odd sizes: not all widths are multiples of a quantization group.
	w.qwen3, err = demo.MakeModel(ctx, o, demo.Shape{Arch: "qwen3", Hidden: 192, Intermediate: 328, Layers: 3, Heads: 6, KVHeads: 2, HeadDim: 32, DType: "bfloat16", Bits: 8})
	if err != nil {
		return world{err: err}
	}
	w.mistral, err = demo.MakeModel(ctx, o, demo.Shape{Arch: "mistral", Hidden: 120, Intermediate: 232, Layers: 3, Heads: 5, KVHeads: 1, HeadDim: 24})
	return world{w.env, w.paths, w.qwen3, w.mistral, w.stamp, err}
})

// prepare gives a home of its own to a test, with the shared environment.
func (w world) prepare(home string) error {
	if w.err != nil {
		return errors.Join(errors.New("tests with real MLX need make setup"), w.err)
	}
	if err := os.MkdirAll(home, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(home, "stamp.json"), w.stamp, 0o644)
}

// TestRealScripts runs the command line on real models with real MLX.
func TestRealScripts(t *testing.T) {
	w := theWorld()
	testscript.Run(t, scripts("testdata/real", func(e *testscript.Env) error {
		for name, value := range map[string]string{
			"PYTHON": w.env.Python, "MODEL": w.paths.Model, "MODEL4": w.paths.Model4bit, "DATA": w.paths.Completions,
			"CHAT": w.paths.Chat, "CHATSYSTEM": w.paths.ChatSystem, "TEXT": w.paths.Text, "QWEN3": w.qwen3, "MISTRAL": w.mistral,
			"OPENBLAS_NUM_THREADS": "1",
		} {
			e.Setenv(name, value)
		}
		return w.prepare(e.Getenv("MLXDYNO_HOME"))
	}))
}

// mlxdyno starts the program with a home of its own.
func (w world) mlxdyno(t *testing.T, home string, args ...string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "mlxdyno", args...)
	cmd.Env = append(os.Environ(), "MLXDYNO_HOME="+home, "OPENBLAS_NUM_THREADS=1", "LC_ALL=C.UTF-8")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, &out
}

// until waits for what the file system or a process shows; the test's own
// deadline ends it.
func until(t *testing.T, what string, seen func() bool) {
	t.Helper()
	for !seen() {
		select {
		case <-t.Context().Done():
			t.Fatalf("the test ended before %s", what)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// workerOf returns the process id of the worker that trains in dir.
func workerOf(dir string) (int, bool) {
	b, err := os.ReadFile(filepath.Join(dir, "events.jsonl"))
	if err != nil {
		return 0, false
	}
	pid := 0
	for line := range strings.Lines(string(b)) {
		var e struct {
			Kind    string
			Payload struct{ PID int }
		}
		if json.Unmarshal([]byte(line), &e) == nil && e.Kind == "hello" {
			pid = e.Payload.PID
		}
	}
	return pid, pid != 0
}

func gone(pid int) bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

func (w world) trainArgs(dir string, steps int) []string {
	return []string{"train", "--model", w.paths.Model, "--data", w.paths.Completions, "--iters", strconv.Itoa(steps), "--save-every", "2",
		"--steps-per-eval", "1000", "--val-batches", "1", "--max-seq-length", "65", "--batch-size", "2", "--run-dir", dir}
}

func saved(dir string) bool {
	found, _ := filepath.Glob(filepath.Join(dir, "checkpoints", "0*", "manifest.json"))
	return len(found) > 0
}

// TestWorkerIsKilled: the supervisor starts another one from the last
// checkpoint, and says that it did.
func TestWorkerIsKilled(t *testing.T) {
	w, home, dir := theWorld(), t.TempDir(), filepath.Join(t.TempDir(), "run")
	if err := w.prepare(home); err != nil {
		t.Fatal(err)
	}
	cmd, out := w.mlxdyno(t, home, w.trainArgs(dir, 60)...)
	until(t, "a checkpoint was saved", func() bool { return saved(dir) || cmd.ProcessState != nil })
	pid, ok := workerOf(dir)
	if !ok {
		t.Fatalf("no worker: %s", out)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	r, err := run.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if r.State != run.StateFinished || r.StepsDone != 60 || len(r.Segments) != 2 || r.Segments[0].Signal == "" {
		t.Errorf("state %s, %d steps, segments %+v", r.State, r.StepsDone, r.Segments)
	}
	if !strings.Contains(out.String(), "killed") {
		t.Errorf("the report does not say that a worker was killed:\n%s", out)
	}
}

// TestParentIsKilled: the worker leaves within its promise, the last checkpoint
// stays, and train --resume goes on to the end.
func TestParentIsKilled(t *testing.T) {
	w, home, dir := theWorld(), t.TempDir(), filepath.Join(t.TempDir(), "run")
	if err := w.prepare(home); err != nil {
		t.Fatal(err)
	}
	cmd, out := w.mlxdyno(t, home, w.trainArgs(dir, 40)...)
	until(t, "a checkpoint was saved", func() bool { return saved(dir) })
	pid, ok := workerOf(dir)
	if !ok {
		t.Fatalf("no worker: %s", out)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // says that it was killed, which is known
	until(t, "the worker left", func() bool { return gone(pid) })

	r, err := run.Load(dir)
	if err != nil || r.State != run.StateDied || r.ResumeCommand == "" {
		t.Fatalf("state %s, resume command %q, %v", r.State, r.ResumeCommand, err)
	}
	cmd, out = w.mlxdyno(t, home, "train", "--resume", dir)
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if r, err = run.Load(dir); err != nil || r.State != run.StateFinished || r.StepsDone != 40 {
		t.Errorf("state %s, %d steps, %v", r.State, r.StepsDone, err)
	}
}

// TestInterrupt: Ctrl-C saves the state and leaves with status 130.
func TestInterrupt(t *testing.T) {
	w, home, dir := theWorld(), t.TempDir(), filepath.Join(t.TempDir(), "run")
	if err := w.prepare(home); err != nil {
		t.Fatal(err)
	}
	cmd, out := w.mlxdyno(t, home, w.trainArgs(dir, 5000)...)
	until(t, "a checkpoint was saved", func() bool { return saved(dir) })
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	err := cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != statusInterrupted {
		t.Fatalf("ended with %v, want status %d\n%s", err, statusInterrupted, out)
	}
	if !strings.Contains(out.String(), "train --resume") {
		t.Errorf("the way to go on is not told:\n%s", out)
	}
	if pid, _ := workerOf(dir); !gone(pid) {
		t.Error("the worker outlived the program")
	}
}

// A cause that a burst can take away is proven by one: products with packed
// weights take more than twice as long on a CPU as with dense ones made of them.
// Scripts run side by side, which is no way to measure; this runs alone.
func TestRealProof(t *testing.T) {
	w := theWorld()
	home := t.TempDir()
	if err := w.prepare(home); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "mlxdyno", "doctor", "--model", w.paths.Model4bit, "--data", w.paths.Completions, "--burst", "6s", "--matmul", "quantized", "--prove", "--json", "-q")
	cmd.Env = append(os.Environ(), "MLXDYNO_HOME="+home, "OPENBLAS_NUM_THREADS=1", "LC_ALL=C.UTF-8")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := report.Validate("doctor", out); err != nil {
		t.Fatal(err)
	}
	var r diagnose.Report
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatal(err)
	}
	for _, f := range r.Findings {
		if f.Code != "config.matmul" {
			continue
		}
		if p := f.Proof; p == nil || p.Verdict != probe.ProofHolds || f.Confidence != probe.Proven || p.Bursts != 4 || p.Before <= p.After || p.Changed != "--matmul quantized → auto" {
			t.Errorf("confidence %s, proof %+v", f.Confidence, p)
		}
		return
	}
	t.Errorf("no finding of packed weights in %s", out)
}
