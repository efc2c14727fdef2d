package main

import (
	"encoding/json"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/pprof/profile"
	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/run"
)

// TestProfileOfARealRun: the files for go tool pprof add up to what the profiled
// steps took and held, in its own sums too, and the run is learned as it is
// without a profile.
func TestProfileOfARealRun(t *testing.T) {
	w, home, dir := theWorld(), t.TempDir(), t.TempDir()
	if err := w.prepare(home); err != nil {
		t.Fatal(err)
	}
	mlxdyno := func(args ...string) {
		t.Helper()
		if cmd, out := w.mlxdyno(t, home, args...); cmd.Wait() != nil {
			t.Fatalf("%v: %s", args, out)
		}
	}
	profiled, plain := filepath.Join(dir, "profiled"), filepath.Join(dir, "plain")
	mlxdyno(append(w.trainArgs(profiled, 6), "--profile", "4")...)
	mlxdyno(w.trainArgs(plain, 6)...)
	times, held := filepath.Join(dir, "time.pb.gz"), filepath.Join(dir, "held.pb.gz")
	mlxdyno("report", profiled, "--pprof", times, "--pprof-inuse", held)

	steps, want := stepsOf(t, profiled), stepsOf(t, plain)
	if len(steps) != 6 || !slices.EqualFunc(steps, want, func(a, b trainer.Step) bool { return a.Loss == b.Loss }) {
		t.Errorf("learned %+v\ninstead of %+v", steps, want)
	}
	var took float64
	var peak int64
	for _, s := range steps[:4] {
		took += s.Seconds + s.DataSeconds
		peak = max(peak, s.Memory.Peak.Or(0))
	}
	near := func(what string, got, want float64) {
		t.Helper()
		if !(math.Abs(got-want) <= 0.02*want) {
			t.Errorf("%s: %g instead of %g", what, got, want)
		}
	}
	r, err := run.Load(profiled)
	if err != nil || r.Profile == nil || r.Profile.Steps != 4 || r.Profile.Missing != 0 {
		t.Fatalf("profile %+v: %v", r.Profile, err)
	}
	near("seconds of the report", r.Profile.Seconds, took)
	near("samples of time", float64(sumOf(t, times))/1e9, took)
	near("samples of memory", float64(sumOf(t, held)), float64(peak))
	near("go tool pprof -top", topOf(t, times), 1000*took)
}

// stepsOf are the steps that a run's workers said.
func stepsOf(t *testing.T, dir string) (steps []trainer.Step) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "events.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		var e struct {
			Kind    trainer.Kind
			Payload trainer.Step
		}
		if json.Unmarshal([]byte(line), &e) == nil && e.Kind == trainer.KindStep {
			steps = append(steps, e.Payload)
		}
	}
	return steps
}

func sumOf(t *testing.T, path string) (sum int64) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	p, err := profile.ParseData(b)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range p.Sample {
		sum += s.Value[0]
	}
	return sum
}

// topOf is the total in milliseconds that go tool pprof prints, and adds up from
// the lines that it prints.
func topOf(t *testing.T, path string) float64 {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "tool", "pprof", "-top", "-unit=ms", "-nodefraction=0", path).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	number := func(s string) float64 {
		v, err := strconv.ParseFloat(s, 64)
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return v
	}
	total := regexp.MustCompile(`of ([0-9.]+)ms total`).FindSubmatch(out)
	if total == nil {
		t.Fatalf("no total: %s", out)
	}
	var flat float64
	for _, line := range regexp.MustCompile(`(?m)^ *([0-9.]+)(?:ms)? +[0-9.e+-]+%`).FindAllSubmatch(out, -1) {
		flat += number(string(line[1]))
	}
	if want := number(string(total[1])); !(math.Abs(flat-want) <= 0.02*want) {
		t.Errorf("lines add up to %g of %g ms:\n%s", flat, want, out)
	}
	return flat
}
