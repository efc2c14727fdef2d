package main

import (
	"encoding/json"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/journal"
	"github.com/mlxdyno/mlxdyno/tuner"
)

// TestTuneIsKilled: the search and its workers are killed on the way, with real
// MLX. What was finished is not measured again, and what is found in the end is what
// the bursts in the journal say. Package tuner does this many times without MLX.
func TestTuneIsKilled(t *testing.T) {
	w, home := theWorld(), t.TempDir()
	if err := w.prepare(home); err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(7, 1))
	output := filepath.Join(home, "mlxdyno.yaml")
	args := []string{"tune", "--model", w.paths.Model, "--data", w.paths.Completions, "--iters", "12", "--max-seq-length", "129", "--budget", "15s", "--output", output, "-q", "--json"}
	var finished []string
	for _, victim := range []string{"search", "worker", "search", "search"} {
		cmd, out := w.mlxdyno(t, home, args...)
		ended := make(chan struct{})
		go func() {
			_ = cmd.Wait() // says that it was killed, or that it was done
			close(ended)
		}()
		over := func() bool {
			select {
			case <-ended:
				return true
			default:
				return false
			}
		}
		until(t, "another burst was kept", func() bool { return len(burstsIn(t, home)) > len(finished) || over() })
		time.Sleep(time.Duration(rng.IntN(1500)) * time.Millisecond) // at any moment of the next one
		now := burstsIn(t, home)
		if victim == "worker" {
			until(t, "a worker ran", func() bool { return killChild(cmd.Process.Pid) || over() })
			until(t, "the next burst was kept", func() bool { return len(burstsIn(t, home)) > len(now) || over() })
		}
		_ = cmd.Process.Kill() // unless it is over
		<-ended
		if now = burstsIn(t, home); len(now) < len(finished) || !slices.Equal(now[:len(finished)], finished) {
			t.Fatalf("bursts %q became %q\n%s", finished, now, out)
		}
		finished = now
	}
	search := func() tuner.Report {
		cmd, out := w.mlxdyno(t, home, args...)
		if err := cmd.Wait(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		var r tuner.Report
		if err := json.Unmarshal(out.Bytes(), &r); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return r
	}
	found := search()
	all := burstsIn(t, home)
	if !slices.Equal(all[:len(finished)], finished) || len(slices.Compact(slices.Sorted(slices.Values(all)))) != len(all) {
		t.Errorf("of the bursts %q some were run again: %q", finished, all)
	}
	if found.Verdict == tuner.Impossible || found.Processes > len(all)-len(finished) {
		t.Errorf("%s after %d processes for %d bursts: %s", found.Verdict, found.Processes, len(all)-len(finished), found.Problem)
	}
	again := search()
	opts := cmp.AllowUnexported(trainer.Opt[int64]{}, trainer.Opt[float64]{})
	if d := cmp.Diff(found.Config, again.Config); d != "" || again.Processes != 0 {
		t.Errorf("%d processes, and another configuration: %s", again.Processes, d)
	}
	if d := cmp.Diff(found.Expected, again.Expected, opts); d != "" {
		t.Errorf("other promises: %s", d)
	}
}

// burstsIn are the keys of the bursts that a home keeps.
func burstsIn(t *testing.T, home string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(home, "tune", "*", "journal.jsonl"))
	if err != nil || len(paths) > 1 {
		t.Fatalf("journals %q, %v", paths, err)
	}
	var keys []string
	for _, path := range paths {
		err := journal.Read(path, func(r journal.Record) error {
			if r.Kind != "burst" {
				return nil
			}
			var b struct{ Key string }
			err := json.Unmarshal(r.Data, &b)
			keys = append(keys, b.Key)
			return err
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	return keys
}

// killChild kills the worker of a process, if it has one now.
func killChild(parent int) bool {
	out, err := exec.Command("pgrep", "-P", strconv.Itoa(parent), "-f", "worker").Output()
	if err != nil {
		return false
	}
	pid, err := strconv.Atoi(strings.Fields(string(out))[0])
	return err == nil && syscall.Kill(pid, syscall.SIGKILL) == nil
}
