package run

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math"
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

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/wire"
	"github.com/mlxdyno/mlxdyno/trainer/worker"
	"github.com/mlxdyno/mlxdyno/trainer/worker/fake"
)

// The test binary plays the worker and the supervising process as well.
const (
	roleVar   = "MLXDYNO_RUN_TEST_ROLE"
	quickExit = "GORACE=atexit_sleep_ms=0" // else a race-built process takes a second to exit
)

func TestMain(m *testing.M) {
	fake.Main()
	switch role, arg, _ := strings.Cut(os.Getenv(roleVar), ":"); role {
	case "worker":
		os.Exit(playWorker())
	case "parent":
		os.Exit(playParent(arg))
	}
	goleak.VerifyTestMain(m)
}

// processes is an engine whose workers are real.
type processes struct{ engine }

func (processes) Process(trainer.Job) (trainer.Process, error) {
	exe, err := os.Executable()
	return trainer.Process{Argv: []string{exe}, Env: append(os.Environ(), roleVar+"=worker", quickExit)}, err
}

// playWorker trains as sim does, in real time, and speaks the protocol.
func playWorker() int {
	out := wire.NewWriter(os.NewFile(3, "events"))
	lines := wire.NewLines(os.Stdin)
	line, err := lines.Next()
	if err != nil {
		return 3
	}
	command, err := wire.DecodeCommand(line)
	if err != nil {
		return 4
	}
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		for {
			if _, err := lines.Next(); err != nil {
				os.Exit(0) // the parent is gone
			}
			stop()
		}
	}()
	var last trainer.Event
	s := &sim{after: func(trainer.Job, int) { time.Sleep(3 * time.Millisecond) }}
	r, err := s.run(ctx, trainer.Process{}, command.Job, "", nil, func(e trainer.Event) error {
		last = e
		return out.Write(e)
	})
	var word trainer.Payload
	switch {
	case err != nil:
		word = trainer.Failure{FailKind: trainer.FailInternal, Code: "test", Text: err.Error()}
	case r.Outcome == trainer.Stopped:
		word = trainer.Done{Reason: trainer.DoneStop}
	default:
		word = *r.Done
	}
	if err := out.Write(trainer.Event{Segment: last.Segment, Seq: last.Seq + 1, Elapsed: last.Elapsed, Step: r.LastStep, Payload: word}); err != nil {
		return 5
	}
	return 0
}

// playParent trains in the directory arg and prints every step it has taken in.
// A directory that is a run already is resumed.
func playParent(arg string) int {
	dir, limit, _ := strings.Cut(arg, ",")
	if limit != "" {
		n, err := strconv.ParseUint(limit, 10, 64)
		if err == nil {
			err = unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: n, Max: n})
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 2
		}
	}
	p := realPlan(dir)
	p.ProfileSteps = 5 // deaths come in the middle of a profile, too
	_, err := readSpec(dir)
	p.Resume = err == nil
	r, err := Train(context.Background(), p, printer{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	fmt.Println(r.State)
	return 0
}

type printer struct{}

func (printer) Event(e trainer.Event) {
	if _, ok := e.Payload.(trainer.Step); ok {
		fmt.Println("step", e.Step)
	}
}
func (printer) Note(Note) {}

func realPlan(dir string) Plan {
	s := trainer.NewSettings()
	for _, kv := range [][2]string{{"model", "/m"}, {"grad-checkpoint", "true"}, {"data", "/d"}, {"iters", "48"}, {"save-every", "4"}, {"steps-per-eval", "10"}, {"reload-interval", "16"}, {"batch-size", "1"}} {
		if err := s.Set(kv[0], kv[1], trainer.FromFlag); err != nil {
			panic(err)
		}
	}
	return Plan{Engine: processes{}, Config: s, Dir: dir, Policy: Policy{MaxRetries: 1000}}
}

// parent is a supervising process to be started.
func parent(t *testing.T, dir, limit string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), roleVar+"=parent:"+dir+limit, quickExit)
	return cmd
}

func TestParentKilledAtAnyStep(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 1))
			dir := filepath.Join(t.TempDir(), "run")
			for kill := range 4 {
				cmd := parent(t, dir, "")
				pipe, err := cmd.StdoutPipe()
				if err != nil {
					t.Fatal(err)
				}
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				out := bufio.NewScanner(pipe)
				for steps := 1 + r.IntN(8); steps > 0 && out.Scan(); steps-- {
				}
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
				killed := cmd.Wait() != nil
				report, err := Load(dir)
				if report.State == StateFinished && (kill > 0 || !killed) { // faster than the signal
					wantWhole(t, dir, 48)
					return
				}
				if err != nil || report.State != StateDied || report.ResumeCommand == "" {
					t.Fatalf("after kill %d: %s, %v", kill, report.State, err)
				}
			}
			// Resuming takes the lock, which the orphaned worker holds until it is gone.
			p := realPlan(dir)
			p.Resume = true
			report, err := Train(context.Background(), p, &seen{})
			if err != nil || report.State != StateFinished || report.StepsDone != 48 {
				t.Fatalf("%s after %d steps, %v", report.State, report.StepsDone, err)
			}
			wantWhole(t, dir, 48)
		})
	}
}

// killer kills the worker whenever a step is in at which it should.
type killer struct {
	at  []int
	pid int
}

func (k *killer) Event(e trainer.Event) {
	switch p := e.Payload.(type) {
	case trainer.Hello:
		k.pid = p.PID
	case trainer.Step:
		if i := slices.Index(k.at, e.Step); i >= 0 {
			k.at = slices.Delete(k.at, i, i+1)
			if k.pid <= 1 || k.pid == os.Getpid() {
				panic("no worker to kill")
			}
			if err := syscall.Kill(k.pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				panic(err)
			}
		}
	}
}
func (k *killer) Note(Note) {}

func TestWorkerKilledAtAnyStep(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 2))
			k := &killer{}
			for range 5 {
				k.at = append(k.at, 1+r.IntN(48))
			}
			report, err := Train(context.Background(), realPlan(filepath.Join(t.TempDir(), "run")), k)
			if err != nil || report.State != StateFinished || report.StepsDone != 48 {
				t.Fatalf("%s after %d steps, %v", report.State, report.StepsDone, err)
			}
			wantWhole(t, report.Dir, 48)
		})
	}
}

func TestInterruptRealWorker(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	p := realPlan(filepath.Join(t.TempDir(), "run"))
	report, err := Train(ctx, p, &counting{call: func(n int) {
		if n == 9 {
			stop()
		}
	}})
	if err != nil || report.State != StateInterrupted || len(report.Checkpoints) == 0 {
		t.Fatalf("%s, %v", report.State, err)
	}
	if newest := report.Checkpoints[len(report.Checkpoints)-1].Step; newest != report.StepsDone {
		t.Errorf("saved after step %d, stopped after %d", newest, report.StepsDone)
	}
	p.Resume = true
	if report, err = Train(context.Background(), p, &seen{}); err != nil || report.State != StateFinished || report.Totals.ReplayedSteps != 0 {
		t.Fatalf("%s, %d steps again, %v", report.State, report.Totals.ReplayedSteps, err)
	}
	wantWhole(t, p.Dir, 48)
}

func TestDiskFull(t *testing.T) {
	t.Parallel()
	for _, limit := range []string{"10", "900", "2500", "6000"} { // bytes a file may have
		t.Run(limit, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "run")
			cmd := parent(t, dir, ","+limit)
			out, err := cmd.CombinedOutput()
			if cmd.ProcessState.ExitCode() != 2 || !strings.Contains(string(out), "make room") {
				t.Fatalf("%v: %s", err, out)
			}
			p := realPlan(dir)
			_, err = readSpec(dir)
			p.Resume = err == nil // at 10 bytes there was no run yet
			report, err := Train(context.Background(), p, &seen{})
			if err != nil || report.State != StateFinished {
				t.Fatalf("%s, %v", report.State, err)
			}
			wantWhole(t, dir, 48)
		})
	}
}

// TestMisbehavingWorkers trains with workers that go wrong once and must leave
// the same losses as one that did not, or fail with words.
func TestMisbehavingWorkers(t *testing.T) {
	t.Parallel()
	plan := func(t *testing.T, s fake.Script) Plan {
		p := realPlan(filepath.Join(t.TempDir(), "run"))
		s.At, s.Segments, s.Life = 10, []int{0}, time.Minute
		p.Engine = fake.Engine(s)
		p.Worker = worker.Options{Ladder: worker.Ladder{Stop: 200 * time.Millisecond, Close: 200 * time.Millisecond, Interrupt: 100 * time.Millisecond, Exit: 200 * time.Millisecond},
			Stall: worker.Stall{Start: 20 * time.Second, Evaluation: 2 * time.Second, Step: 2 * time.Second}}
		return p
	}
	undisturbed, err := Train(context.Background(), plan(t, fake.Script{}), &seen{})
	if err != nil || undisturbed.State != StateFinished || len(undisturbed.Losses) != 48 {
		t.Fatalf("undisturbed: %s, %d losses, %v", undisturbed.State, len(undisturbed.Losses), err)
	}
	p := plan(t, fake.Script{Blocks: 3, StepTime: time.Millisecond})
	p.ProfileSteps = 5
	profiling, err := Train(context.Background(), p, &seen{})
	if err != nil || profiling.Profile == nil {
		t.Fatal(err)
	}
	wantLosses(t, profiling, undisturbed)
	if p := profiling.Profile; len(p.Blocks) != 5 || len(p.Held) != 3 || math.Abs(p.Phases[3].ClockSeconds.Or(0)-p.ModelledSeconds) > 1e-9 {
		t.Errorf("profile %+v", p)
	}
	data := &trainer.Failure{FailKind: trainer.FailData, Code: "data.empty", Text: "no rows"}
	tests := []struct {
		script fake.Script
		want   trainer.Outcome // of the first segment
		state  State
	}{
		{fake.Script{Behaviour: fake.Crash}, trainer.Crashed, StateFinished},
		{fake.Script{Behaviour: fake.Signal, Signal: int(syscall.SIGSEGV)}, trainer.Crashed, StateFinished},
		{fake.Script{Behaviour: fake.Killed}, trainer.Killed, StateFinished},
		{fake.Script{Behaviour: fake.Silent}, trainer.Crashed, StateFinished},
		{fake.Script{Behaviour: fake.Torn}, trainer.Crashed, StateFinished},
		{fake.Script{Behaviour: fake.Hang}, trainer.Stalled, StateFinished},
		{fake.Script{Behaviour: fake.Mute}, trainer.Broken, StateFinished},
		{fake.Script{Behaviour: fake.Garbage}, trainer.Broken, StateFinished},
		{fake.Script{Behaviour: fake.Gap}, trainer.Broken, StateFinished},
		{fake.Script{Behaviour: fake.NaN}, trainer.Failed, StateFailed},
		{fake.Script{Behaviour: fake.Fail, Failure: data}, trainer.Failed, StateFailed},
	}
	for _, tt := range tests {
		t.Run(string(tt.script.Behaviour), func(t *testing.T) {
			t.Parallel()
			r, err := Train(context.Background(), plan(t, tt.script), &seen{})
			if err != nil {
				t.Fatal(err)
			}
			if r.State != tt.state || r.Segments[0].Outcome != tt.want {
				t.Fatalf("%s, first segment %s: %+v", r.State, r.Segments[0].Outcome, r.Segments[0].Evidence)
			}
			if tt.state == StateFailed {
				if r.Failure == nil || len(r.Failure.Fix) == 0 || len(r.Segments) != 1 {
					t.Errorf("failure %+v after %d segments", r.Failure, len(r.Segments))
				}
				return
			}
			wantLosses(t, r, undisturbed)
		})
	}
	for _, b := range []fake.Behaviour{fake.Stubborn, fake.Flood, fake.Hang} {
		t.Run("interrupted "+string(b), func(t *testing.T) {
			t.Parallel()
			ctx, stop := context.WithCancel(context.Background())
			defer stop()
			p := plan(t, fake.Script{Behaviour: b, StepTime: time.Millisecond})
			r, err := Train(ctx, p, &atStep{step: 10, call: stop})
			if err != nil || r.State != StateInterrupted || len(r.Checkpoints) == 0 || r.ResumeCommand == "" {
				t.Fatalf("%s with %d checkpoints, %v", r.State, len(r.Checkpoints), err)
			}
			p.Resume = true
			if r, err = Train(context.Background(), p, &seen{}); err != nil || r.State != StateFinished {
				t.Fatalf("%s, %v", r.State, err)
			}
			wantLosses(t, r, undisturbed)
		})
	}
}

// wantLosses checks that r has each step once with the loss of an undisturbed
// training. A worker that is not believed any more, or not heard, may have
// saved beyond what was recorded; the report must say how much.
func wantLosses(t *testing.T, r, undisturbed Report) {
	t.Helper()
	at := map[int]trainer.Float{}
	for _, p := range undisturbed.Losses {
		at[p.Step] = p.Loss
	}
	for _, p := range r.Losses {
		if want, ok := at[p.Step]; !ok || p.Loss != want {
			t.Errorf("step %d has loss %v, want %v", p.Step, p.Loss, want)
		}
		delete(at, p.Step)
	}
	if len(at) != r.Totals.UnrecordedSteps || r.StepsDone != undisturbed.StepsDone {
		t.Errorf("%d steps done, %d without a record where the report says %d", r.StepsDone, len(at), r.Totals.UnrecordedSteps)
	}
}

// atStep is an Observer that calls once, at a step.
type atStep struct {
	step int
	call func()
}

func (a *atStep) Event(e trainer.Event) {
	if _, ok := e.Payload.(trainer.Step); ok && e.Step == a.step {
		a.call()
	}
}
func (a *atStep) Note(Note) {}
