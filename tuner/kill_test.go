package tuner

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
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
	"github.com/mlxdyno/mlxdyno/trainer/worker"
	"github.com/mlxdyno/mlxdyno/trainer/worker/fake"
)

var kills = flag.Int("kills", 50, "searches and workers that TestKills kills")

// studyEnv names the directory of the search that this process shall do.
const studyEnv = "MLXDYNO_TEST_STUDY"

func TestMain(m *testing.M) {
	fake.Main()
	if dir, ok := os.LookupEnv(studyEnv); ok {
		if err := searchIn(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// searchIn searches with real worker processes, whose steps take no time worth
// mentioning and report that they do.
func searchIn(dir string) error {
	m := laptop()
	s := study(m, 2<<30)
	s.Bursts = worker.Bench{Engine: named{dir, fake.Engine(fake.Script{LoadTime: 20 * time.Millisecond, Pause: time.Millisecond,
		Cost: fake.Cost{StepSeconds: 5, PositionSeconds: 0.01, Bytes: 100 << 20, PositionBytes: 170e3, CheckpointingTime: 1.4, CheckpointingBytes: 0.4, ReportedSpread: 0.05}})}}
	s.Wishes.Budget = 2 * time.Hour // of which little is really spent, so that it decides nothing
	s.Journal = filepath.Join(dir, "journal.jsonl")
	r, err := s.Run(context.Background())
	if err != nil {
		return err
	}
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "report.json"), text, 0o644)
}

// named is an engine whose workers leave their process ids behind.
type named struct {
	dir string
	trainer.Engine
}

func (e named) Process(job trainer.Job) (trainer.Process, error) {
	p, err := e.Engine.Process(job)
	p.Argv = append([]string{"/bin/sh", "-c", `echo $$ > "$0"; exec "$@"`, filepath.Join(e.dir, "worker")}, p.Argv...)
	return p, err
}

// searching is a search in a process of its own.
type searching struct {
	dir  string
	cmd  *exec.Cmd
	said bytes.Buffer
	done chan error
}

func start(t *testing.T, dir string) *searching {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s := &searching{dir: dir, cmd: exec.CommandContext(t.Context(), self), done: make(chan error, 1)}
	s.cmd.Env = append(os.Environ(), studyEnv+"="+dir)
	s.cmd.Stdout, s.cmd.Stderr = &s.said, &s.said
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { s.done <- s.cmd.Wait() }()
	return s
}

// parentOf is the parent of a process; 0 when it is over.
func parentOf(pid int) int {
	out, err := exec.Command("ps", "-o", "ppid=", "-p", strconv.Itoa(pid)).Output() //nolint:gosec // a number
	if err != nil {
		return 0
	}
	parent, _ := strconv.Atoi(strings.TrimSpace(string(out)))
	return parent
}

// killWorker kills the worker that runs now, and reports whether there was one.
func (s *searching) killWorker() bool {
	text, err := os.ReadFile(filepath.Join(s.dir, "worker"))
	if err != nil {
		return false
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || parentOf(pid) != s.cmd.Process.Pid {
		return false // it is over, and its number may be another's
	}
	return syscall.Kill(pid, syscall.SIGKILL) == nil
}

// kept are the keys of the bursts in a journal, in order.
func kept(t *testing.T, dir string) []string {
	t.Helper()
	var keys []string
	err := journal.Read(filepath.Join(dir, "journal.jsonl"), func(r journal.Record) error {
		if r.Kind == recordKind {
			var b burstRecord
			if err := json.Unmarshal(r.Data, &b); err != nil {
				return err
			}
			keys = append(keys, b.Key)
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return keys
}

func found(t *testing.T, dir string) *Report {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "report.json"))
	if err != nil {
		t.Fatal(err)
	}
	var r Report
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	return &r
}

// TestKills kills searches, or their workers, at random moments. Whoever searches
// again repeats no finished burst, loses none, and comes to the same end.
func TestKills(t *testing.T) {
	undisturbed := t.TempDir()
	began := time.Now()
	if s := start(t, undisturbed); <-s.done != nil {
		t.Fatalf("a search that nobody disturbs: %s", &s.said)
	}
	lasts := time.Since(began)
	want, bursts := found(t, undisturbed), kept(t, undisturbed)
	if want.Verdict != Confirmed || len(bursts) < 4 {
		t.Fatalf("%s after %d bursts: %s", want.Verdict, len(bursts), want.Problem)
	}
	const each = 2
	for i := range (*kills + each - 1) / each {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(uint64(i), 7))
			dir := t.TempDir()
			var finished []string
			s := start(t, dir)
			for n := 0; n < each; {
				workers := rng.IntN(2) == 0
				select {
				case err := <-s.done:
					if err != nil {
						t.Fatalf("%v: %s", err, &s.said)
					}
					// It was over before its end came: again from the beginning.
					dir, finished = t.TempDir(), nil
					s = start(t, dir)
					continue
				case <-time.After(time.Duration(rng.Float64() * float64(lasts))):
				}
				if workers {
					if s.killWorker() {
						n++
					}
					// The next one to be killed is another search's.
					if err := <-s.done; err != nil {
						t.Fatalf("after its worker was killed: %v: %s", err, &s.said)
					}
					check(t, dir, want, bursts)
					dir, finished = t.TempDir(), nil
				} else {
					if s.cmd.Process.Kill() == nil {
						n++
					}
					t.Log(<-s.done) // that it was killed, or that it was over
					now := kept(t, dir)
					if len(now) < len(finished) || !slices.Equal(now[:len(finished)], finished) {
						t.Fatalf("bursts %q became %q", finished, now)
					}
					finished = now
				}
				s = start(t, dir)
			}
			if err := <-s.done; err != nil {
				t.Fatalf("%v: %s", err, &s.said)
			}
			r := check(t, dir, want, bursts)
			replayed := 0
			for _, b := range r.Bursts {
				if b.Replayed {
					replayed++
				}
			}
			if replayed < len(finished) {
				t.Errorf("%d bursts were finished before, and %d were taken from the journal", len(finished), replayed)
			}
		})
	}
}

// check compares a search that was disturbed with one that was not.
func check(t *testing.T, dir string, want *Report, bursts []string) *Report {
	t.Helper()
	r := found(t, dir)
	if d := cmp.Diff(bursts, kept(t, dir)); d != "" {
		t.Errorf("other bursts than without a kill (-want +got):\n%s", d)
	}
	opts := cmp.AllowUnexported(trainer.Opt[int64]{}, trainer.Opt[float64]{})
	if d := cmp.Diff(want.Config, r.Config); d != "" || r.Verdict != want.Verdict {
		t.Errorf("%s, another configuration than without a kill: %s", r.Verdict, d)
	}
	if d := cmp.Diff(want.Expected, r.Expected, opts); d != "" {
		t.Errorf("other promises than without a kill: %s", d)
	}
	return r
}
