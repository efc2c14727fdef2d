package worker_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/checkpoint"
	"github.com/mlxdyno/mlxdyno/trainer/worker"
	"github.com/mlxdyno/mlxdyno/trainer/worker/fake"
)

// parentEnv makes the test binary a parent that is going to be killed.
const parentEnv = "WORKER_TEST_PARENT"

func TestMain(m *testing.M) {
	fake.Main()
	if os.Getenv(parentEnv) != "" {
		doomedParent()
	}
	goleak.VerifyTestMain(m)
}

// Ladders give a worker a moment on the rungs that it refuses, and more time
// than it can need on the one that ends it.
var (
	obeys        = worker.Ladder{Stop: time.Minute, Close: time.Minute, Interrupt: time.Minute, Exit: time.Minute}
	obeysClose   = worker.Ladder{Stop: 50 * time.Millisecond, Close: time.Minute, Interrupt: time.Minute, Exit: 50 * time.Millisecond}
	obeysSignal  = worker.Ladder{Stop: 50 * time.Millisecond, Close: 50 * time.Millisecond, Interrupt: time.Minute, Exit: 50 * time.Millisecond}
	obeysNothing = worker.Ladder{Stop: 50 * time.Millisecond, Close: 50 * time.Millisecond, Interrupt: 50 * time.Millisecond}
	impatient    = worker.Stall{Start: time.Second, Evaluation: time.Millisecond, Step: time.Second}
)

// traced runs a job and fails the test when anything is left of the worker. It
// hands the worker the write end of a pipe as its lock: the pipe ends when the
// last process that inherited it is gone.
func traced(t *testing.T, ctx context.Context, s fake.Script, job trainer.Job, o worker.Options, sink worker.Sink) (trainer.Result, error) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	o.Lock = w
	p, err := fake.Engine(s).Process(job)
	if err != nil {
		t.Fatal(err)
	}
	result, err := worker.Run(ctx, p, job, o, sink)
	w.Close()
	expectEnd(t, r)
	if _, waitErr := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); !errors.Is(waitErr, syscall.ECHILD) {
		t.Errorf("a child is left: %v", waitErr)
	}
	return result, err
}

func expectEnd(t *testing.T, r *os.File) {
	t.Helper()
	if err := r.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("a process of the worker is left: %v", err)
	}
}

func evidence(r trainer.Result) string {
	var b strings.Builder
	for _, e := range r.Evidence {
		fmt.Fprintf(&b, "%s: %s (%s)\n", e.Name, e.Observed, e.Source)
	}
	return b.String()
}

func TestOutcomes(t *testing.T) {
	oom := &trainer.Failure{FailKind: trainer.FailOOM, Code: "memory.exhausted", Text: "the allocator gave up"}
	bad := &trainer.Failure{FailKind: trainer.FailData, Code: "data.empty", Text: "no rows"}
	tests := []struct {
		name      string
		script    fake.Script
		options   worker.Options
		want      trainer.Outcome
		suspected bool
		evidence  string
		exit      trainer.Opt[int]
		signal    string
		lastStep  int
	}{
		{name: "normal", want: trainer.Finished, exit: trainer.Some(0), lastStep: 6},
		{name: "normal with a child", script: fake.Script{Child: true}, want: trainer.Finished, exit: trainer.Some(0), lastStep: 6},
		{name: "crash", script: fake.Script{Behaviour: fake.Crash, At: 4}, want: trainer.Crashed, evidence: "without a word", exit: trainer.Some(3), lastStep: 4},
		{name: "crash with a child", script: fake.Script{Behaviour: fake.Crash, At: 4, Child: true}, want: trainer.Crashed, exit: trainer.Some(3), lastStep: 4},
		{name: "crash while loading", script: fake.Script{Behaviour: fake.Crash, At: fake.Loading}, want: trainer.Crashed, exit: trainer.Some(3)},
		{name: "silent", script: fake.Script{Behaviour: fake.Silent, At: 2}, want: trainer.Crashed, evidence: "without a word", exit: trainer.Some(0), lastStep: 2},
		{name: "segmentation fault while loading", script: fake.Script{Behaviour: fake.Signal, Signal: int(syscall.SIGSEGV), At: fake.Loading},
			want: trainer.Crashed, suspected: true, evidence: "SIGSEGV before it was ready", signal: "SIGSEGV"},
		{name: "abort at the first step", script: fake.Script{Behaviour: fake.Signal, Signal: int(syscall.SIGABRT), At: 0},
			want: trainer.Crashed, suspected: true, evidence: "SIGABRT after 0 steps", signal: "SIGABRT"},
		{name: "bus error later", script: fake.Script{Behaviour: fake.Signal, Signal: int(syscall.SIGBUS), At: 5}, want: trainer.Crashed, signal: "SIGBUS", lastStep: 5},
		{name: "killed later", script: fake.Script{Behaviour: fake.Killed, At: 5}, want: trainer.Killed, evidence: "ended by SIGKILL", signal: "SIGKILL", lastStep: 5},
		{name: "killed at the first step", script: fake.Script{Behaviour: fake.Killed, At: 1}, want: trainer.Killed, suspected: true, evidence: "SIGKILL after 1 steps", signal: "SIGKILL", lastStep: 1},
		{name: "terminated", script: fake.Script{Behaviour: fake.Signal, Signal: int(syscall.SIGTERM), At: 1}, want: trainer.Killed, signal: "SIGTERM", lastStep: 1},
		{name: "interrupted from outside", script: fake.Script{Behaviour: fake.Signal, Signal: int(syscall.SIGINT), At: 1}, want: trainer.Killed, signal: "SIGINT", lastStep: 1},
		{name: "says it is out of memory", script: fake.Script{Behaviour: fake.Fail, Failure: oom, At: 2}, want: trainer.OOM, evidence: "allocator gave up", exit: trainer.Some(1), lastStep: 2},
		{name: "pretends to exceed its memory", script: fake.Script{Cost: fake.Cost{PositionBytes: 10, CapacityBytes: 400}}, want: trainer.OOM, exit: trainer.Some(1), lastStep: 1},
		{name: "fails", script: fake.Script{Behaviour: fake.Fail, Failure: bad, At: fake.Loading}, want: trainer.Failed, evidence: "no rows", exit: trainer.Some(1)},
		{name: "nan", script: fake.Script{Behaviour: fake.NaN, At: 3}, want: trainer.Failed, evidence: "NaN", exit: trainer.Some(1), lastStep: 4},
		{name: "dies after its last word", script: fake.Script{Behaviour: fake.DieDone, Signal: int(syscall.SIGSEGV)}, want: trainer.Finished, evidence: "ended by SIGSEGV", signal: "SIGSEGV", lastStep: 6},
		{name: "stays after its last word", script: fake.Script{Behaviour: fake.Linger}, options: worker.Options{Ladder: obeysClose}, want: trainer.Finished, evidence: "after the end of its input", exit: trainer.Some(0), lastStep: 6},
		{name: "torn", script: fake.Script{Behaviour: fake.Torn, At: 2}, want: trainer.Crashed, evidence: "the input ended", exit: trainer.Some(1), lastStep: 2},
		{name: "hang", script: fake.Script{Behaviour: fake.Hang, At: 2}, options: worker.Options{Stall: impatient, Ladder: obeysSignal}, want: trainer.Stalled, evidence: "no event after step 2", signal: "SIGINT", lastStep: 2},
		{name: "hang while loading", script: fake.Script{Behaviour: fake.Hang, At: fake.Loading}, options: worker.Options{Stall: impatient, Ladder: obeysSignal}, want: trainer.Stalled, signal: "SIGINT"},
		{name: "mute", script: fake.Script{Behaviour: fake.Mute, At: 2}, options: worker.Options{Ladder: obeysSignal}, want: trainer.Broken, evidence: "closed its events", signal: "SIGINT", lastStep: 2},
		{name: "garbage", script: fake.Script{Behaviour: fake.Garbage, At: 2}, want: trainer.Broken, evidence: "Traceback", lastStep: 2},
		{name: "oversized", script: fake.Script{Behaviour: fake.Oversized, At: 2}, want: trainer.Broken, evidence: "more than the limit", lastStep: 2},
		{name: "gap", script: fake.Script{Behaviour: fake.Gap, At: 2}, want: trainer.Broken, evidence: "events were lost", lastStep: 2},
		{name: "twice", script: fake.Script{Behaviour: fake.Twice}, want: trainer.Broken, evidence: "a done event after its last", lastStep: 6},
		{name: "late", script: fake.Script{Behaviour: fake.Late}, want: trainer.Broken, evidence: "a warning event after its last", lastStep: 6},
		{name: "foreign version", script: fake.Script{Behaviour: fake.Foreign}, want: trainer.Broken, evidence: "speaks protocol 2."},
		{name: "nameless", script: fake.Script{Behaviour: fake.Nameless}, want: trainer.Broken, evidence: "first event is ready"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.options.Ladder == (worker.Ladder{}) {
				tt.options.Ladder = obeys
			}
			got, err := traced(t, t.Context(), tt.script, trainer.Job{UntilStep: 6, Segment: 3}, tt.options, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got.Outcome != tt.want || got.SuspectedOOM != tt.suspected || got.LastStep != tt.lastStep || !strings.Contains(evidence(got), tt.evidence) {
				t.Errorf("got %s (suspected oom: %v) at step %d with\n%s\nwant %s (%v) at %d with %q",
					got.Outcome, got.SuspectedOOM, got.LastStep, evidence(got), tt.want, tt.suspected, tt.lastStep, tt.evidence)
			}
			if tt.want != trainer.Broken && (got.ExitCode != tt.exit || got.Signal != tt.signal) {
				t.Errorf("got exit %v, signal %q, want %v, %q", got.ExitCode, got.Signal, tt.exit, tt.signal)
			}
			if got.Elapsed <= 0 {
				t.Error("no time has passed")
			}
		})
	}
}

func TestEventsArriveInOrderAndInFull(t *testing.T) {
	dir := t.TempDir()
	config := trainer.DefaultConfig()
	config.Schedule = trainer.Schedule{Steps: 6, EvalEvery: 3, SaveEvery: 4, ValBatches: 2}
	job := trainer.Job{Config: config, Dir: dir, UntilStep: 6, Segment: 2, Evaluate: true}
	var kinds []string
	got, err := traced(t, t.Context(), fake.Script{}, job, worker.Options{}, func(e trainer.Event) error {
		if int(e.Seq) != len(kinds) || e.Segment != 2 {
			t.Errorf("event %d of segment %d came as number %d", e.Seq, e.Segment, len(kinds))
		}
		kinds = append(kinds, string(e.Payload.Kind()))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := "hello ready eval step step step eval step checkpoint step step eval checkpoint done"
	if diff := cmp.Diff(want, strings.Join(kinds, " ")); diff != "" {
		t.Error(diff)
	}
	if got.Hello == nil || got.Ready == nil || got.Done == nil || got.Done.Adapter != filepath.Join(dir, "adapter") {
		t.Errorf("got %+v", got)
	}
	if got.Checkpoint == nil || got.Checkpoint.Step != 6 {
		t.Fatalf("newest checkpoint: %+v", got.Checkpoint)
	}
	if _, err := checkpoint.Verify(got.Checkpoint.Dir); err != nil {
		t.Error(err)
	}
	var files []string
	if err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			path, err = filepath.Rel(dir, path)
			files = append(files, path)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	wantFiles := []string{
		"adapter/adapter_config.json", "adapter/adapters.safetensors",
		"checkpoints/0000004/manifest.json", "checkpoints/0000004/state.json",
		"checkpoints/0000006/manifest.json", "checkpoints/0000006/state.json",
	}
	if diff := cmp.Diff(wantFiles, files); diff != "" {
		t.Error(diff)
	}
}

// TestContinuedTraining: a training in two processes repeats one in a single
// process, which the tests of other rooms build on.
func TestContinuedTraining(t *testing.T) {
	losses := func(job trainer.Job) (out []trainer.Float, last trainer.Result) {
		last, err := traced(t, t.Context(), fake.Script{}, job, worker.Options{}, func(e trainer.Event) error {
			if s, ok := e.Payload.(trainer.Step); ok {
				out = append(out, s.Loss)
			}
			return nil
		})
		if err != nil || last.Outcome != trainer.Finished {
			t.Fatalf("%+v, %v", last, err)
		}
		return out, last
	}
	whole, _ := losses(trainer.Job{Config: trainer.DefaultConfig(), UntilStep: 8})
	first, r := losses(trainer.Job{Config: trainer.DefaultConfig(), UntilStep: 5, Dir: t.TempDir()})
	second, r := losses(trainer.Job{Config: trainer.DefaultConfig(), UntilStep: 8, From: r.Checkpoint, Segment: 1})
	if diff := cmp.Diff(whole, append(first, second...)); diff != "" || r.LastStep != 8 {
		t.Errorf("last step %d\n%s", r.LastStep, diff)
	}
}

// whenStepping cancels at the first step.
func whenStepping(cancel context.CancelFunc) worker.Sink {
	return func(e trainer.Event) error {
		if e.Payload.Kind() == trainer.KindStep || e.Payload.Kind() == trainer.KindWarning {
			cancel()
		}
		return nil
	}
}

func TestStop(t *testing.T) {
	tests := []struct {
		name     string
		script   fake.Script
		ladder   worker.Ladder
		save     bool
		want     trainer.Outcome
		saved    bool
		signal   string
		evidence string
	}{
		{name: "obeys and saves", ladder: obeys, save: true, want: trainer.Stopped, saved: true},
		{name: "obeys without saving", ladder: obeys, want: trainer.Stopped},
		{name: "heeds only the end of its input", script: fake.Script{Behaviour: fake.Hang, At: 1, Promise: time.Millisecond},
			ladder: obeysClose, want: trainer.Killed, signal: "SIGKILL", evidence: "after the end of its input"},
		{name: "heeds only SIGINT", script: fake.Script{Behaviour: fake.Hang, At: 1}, ladder: obeysSignal, save: true, want: trainer.Stopped, signal: "SIGINT", evidence: "interrupted"},
		{name: "stubborn", script: fake.Script{Behaviour: fake.Stubborn, At: 1, StepTime: time.Millisecond}, ladder: obeysNothing, save: true, want: trainer.Killed, signal: "SIGKILL", evidence: "by us"},
		{name: "flood", script: fake.Script{Behaviour: fake.Flood, At: 1}, ladder: obeys, want: trainer.Stopped},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			job := trainer.Job{Dir: t.TempDir(), SaveOnStop: tt.save}
			job.Config.Schedule.SaveEvery = 1 << 30
			if tt.script.StepTime == 0 {
				tt.script.StepTime = time.Millisecond
			}
			got, err := traced(t, ctx, tt.script, job, worker.Options{Ladder: tt.ladder}, whenStepping(cancel))
			if err != nil {
				t.Fatal(err)
			}
			if got.Outcome != tt.want || got.Signal != tt.signal || !strings.Contains(evidence(got), tt.evidence) {
				t.Errorf("got %s, %q with\n%s", got.Outcome, got.Signal, evidence(got))
			}
			if saved := got.Checkpoint != nil; saved != tt.saved || saved && got.Checkpoint.Step != got.LastStep {
				t.Errorf("got checkpoint %+v at step %d", got.Checkpoint, got.LastStep)
			}
		})
	}
}

func TestNothingIsStartedWhenStoppedBefore(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	got, err := worker.Run(ctx, trainer.Process{Argv: []string{"/does/not/exist"}}, trainer.Job{From: &trainer.CheckpointRef{Step: 7}}, worker.Options{}, nil)
	if err != nil || got.Outcome != trainer.Stopped || got.LastStep != 7 {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestTheSinksErrorIsOurs(t *testing.T) {
	full := errors.New("disk full")
	calls := 0
	got, err := traced(t, t.Context(), fake.Script{StepTime: time.Millisecond}, trainer.Job{}, worker.Options{Ladder: obeys}, func(e trainer.Event) error {
		calls++
		if e.Payload.Kind() == trainer.KindStep {
			return full
		}
		return nil
	})
	if !errors.Is(err, full) || got.Outcome != trainer.Stopped || calls != 3 {
		t.Errorf("got %v, %s after %d calls; want the sink's error, stopped, 3", err, got.Outcome, calls)
	}
}

// TestAFloodWaitsForTheSink: what the worker says beyond what the sink has
// taken is in the pipe and one read buffer, not in our memory.
func TestAFloodWaitsForTheSink(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	entered, release := make(chan struct{}), make(chan struct{})
	taken := 0
	var held, atEnd int64
	go func() {
		<-entered
		time.Sleep(300 * time.Millisecond) // in which the worker could say a lot
		cancel()
		close(release)
	}()
	got, err := traced(t, ctx, fake.Script{Behaviour: fake.Flood, At: 0}, trainer.Job{}, worker.Options{Ladder: obeys}, func(e trainer.Event) error {
		if taken++; taken == 10 {
			held = e.Seq
			close(entered)
			<-release
		}
		atEnd = e.Seq
		return nil
	})
	if err != nil || got.Outcome != trainer.Stopped {
		t.Fatalf("got %+v, %v", got, err)
	}
	// Pipe (at most 1 MiB) and buffers over events of about a kilobyte, and
	// what was said between being asked and stopping.
	if ahead := atEnd - held; ahead > 20_000 {
		t.Errorf("the worker ran %d events ahead of the sink", ahead)
	}
}

func TestStartErrorsNameThePath(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(filepath.Join(dir, "gone"), link); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name    string
		process trainer.Process
		options worker.Options
		want    string
	}{
		{"missing", trainer.Process{Argv: []string{filepath.Join(dir, "python")}}, worker.Options{}, filepath.Join(dir, "python")},
		{"not in PATH", trainer.Process{Argv: []string{"no-such-program-anywhere"}}, worker.Options{}, "no-such-program-anywhere"},
		{"not executable", trainer.Process{Argv: []string{write("plain", "", 0o644)}}, worker.Options{}, "permission denied"},
		{"no interpreter", trainer.Process{Argv: []string{write("script", "#!/gone/python\n", 0o755)}}, worker.Options{}, "interpreter"},
		{"broken link", trainer.Process{Argv: []string{link}}, worker.Options{}, "links to a file that is missing"},
		{"missing directory", trainer.Process{Argv: []string{"/bin/sh"}, Dir: filepath.Join(dir, "nowhere")}, worker.Options{}, "working directory"},
		{"no command", trainer.Process{}, worker.Options{}, "no command"},
		{"log in a missing directory", trainer.Process{Argv: []string{"/bin/sh"}}, worker.Options{LogPath: filepath.Join(dir, "no", "log")}, "open worker log"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := worker.Run(t.Context(), tt.process, trainer.Job{}, tt.options, nil)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if len(tt.process.Argv) > 0 && tt.options.LogPath == "" && !strings.Contains(err.Error(), tt.process.Argv[0]) {
				t.Errorf("%v does not name %s", err, tt.process.Argv[0])
			}
		})
	}
}

func TestLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "worker.log")
	if err := os.WriteFile(path, []byte("segment before\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := traced(t, t.Context(), fake.Script{Behaviour: fake.Crash, At: 1}, trainer.Job{}, worker.Options{LogPath: path}, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := "fake worker: panic: a crash as asked for\n\nstack of the fake"
	if got.LogTail != want {
		t.Errorf("tail %q", got.LogTail)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "segment before\n"+want+"\n" {
		t.Errorf("log %q, %v", text, err)
	}
}

func TestLogIsCutAtItsLimit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "worker.log")
	p := trainer.Process{Argv: []string{"/bin/sh", "-c", "i=0; while [ $i -lt 2000 ]; do echo line $i of a long log; i=$((i+1)); done"}}
	got, err := worker.Run(t.Context(), p, trainer.Job{}, worker.Options{LogPath: path, LogLimit: 1000}, nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(text), "line 0 of") || len(text) > 1100 || strings.Count(string(text), "cut here") != 1 {
		t.Errorf("%d bytes of log: %s", len(text), text)
	}
	lines := strings.Split(got.LogTail, "\n")
	if len(lines) != 40 || lines[39] != "line 1999 of a long log" {
		t.Errorf("%d lines of tail: %s", len(lines), got.LogTail)
	}
}

// TestAForeignEngine: lines of an engine that does not speak the protocol are
// decoded, numbered here, and its exit status is its last word.
func TestAForeignEngine(t *testing.T) {
	decode := func(line []byte) ([]trainer.Event, error) {
		var step int
		var loss float64
		if _, err := fmt.Sscanf(string(line), "step %d loss %f", &step, &loss); err != nil {
			return nil, nil
		}
		return []trainer.Event{{Step: step, Payload: trainer.Step{Loss: trainer.Float(loss)}}}, nil
	}
	tests := []struct {
		name, script string
		want         trainer.Outcome
	}{
		{"finishes", "echo starting >&3; echo step 1 loss 2.5 >&3; echo step 2 loss 2 >&3", trainer.Finished},
		{"fails", "echo step 1 loss 2.5 >&3; echo step 2 loss 2 >&3; exit 1", trainer.Crashed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var steps []int64
			p := trainer.Process{Argv: []string{"/bin/sh", "-c", tt.script}, Decode: decode}
			got, err := worker.Run(t.Context(), p, trainer.Job{}, worker.Options{}, func(e trainer.Event) error {
				steps = append(steps, e.Seq, int64(e.Step))
				return nil
			})
			if err != nil || got.Outcome != tt.want || got.LastStep != 2 {
				t.Errorf("got %+v, %v", got, err)
			}
			if diff := cmp.Diff([]int64{0, 1, 1, 2}, steps); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestADetachedChildDoesNotHoldUsUp: a process that left the group and holds
// every pipe is not ours to kill, and not waited for.
func TestADetachedChildDoesNotHoldUsUp(t *testing.T) {
	setsid, err := exec.LookPath("setsid")
	if err != nil {
		setsid = "perl -e 'use POSIX; POSIX::setsid(); exec @ARGV' --"
	}
	up := filepath.Join(t.TempDir(), "up")
	if err := syscall.Mkfifo(up, 0o600); err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p := trainer.Process{Argv: []string{"/bin/sh", "-c", setsid + ` sh -c 'echo $$; echo up >"$0"; sleep 20' "$0" & read line <"$0"; exit 3`, up}}
	got, err := worker.Run(t.Context(), p, trainer.Job{}, worker.Options{Lock: w}, nil)
	w.Close()
	if err != nil || got.Outcome != trainer.Crashed {
		t.Errorf("got %+v, %v", got, err)
	}
	if err := r.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the detached child was waited for: %v", err)
	}
	var pid int
	if _, err := fmt.Sscan(got.LogTail, &pid); err != nil {
		t.Fatalf("log %q: %v", got.LogTail, err)
	}
	if err := syscall.Kill(-pid, syscall.SIGKILL); err != nil {
		t.Error(err)
	}
	expectEnd(t, r)
}

func doomedParent() {
	script := fake.Script{Behaviour: fake.Behaviour(os.Getenv(parentEnv)), At: 2, StepTime: time.Millisecond, Promise: 50 * time.Millisecond}
	if script.Behaviour == "normal" {
		script.Behaviour = fake.Normal
	}
	p, err := fake.Engine(script).Process(trainer.Job{})
	if err == nil {
		_, err = worker.Run(context.Background(), p, trainer.Job{}, worker.Options{Lock: os.NewFile(3, "lock")}, func(e trainer.Event) error {
			_, err := fmt.Println(e.Step)
			return err
		})
	}
	fmt.Fprintln(os.Stderr, "the parent outlived its worker:", err)
	os.Exit(1)
}

// TestWhenTheParentIsKilled the worker leaves within its promise, whether it
// still works or hangs.
func TestWhenTheParentIsKilled(t *testing.T) {
	for _, behaviour := range []string{"normal", "hang"} {
		t.Run(behaviour, func(t *testing.T) {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			exe, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			parent := exec.CommandContext(t.Context(), exe)
			parent.Env = append(os.Environ(), parentEnv+"="+behaviour)
			parent.ExtraFiles = []*os.File{w}
			parent.Stderr = os.Stderr
			out, err := parent.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := parent.Start(); err != nil {
				t.Fatal(err)
			}
			w.Close()
			for lines := bufio.NewScanner(out); lines.Scan() && lines.Text() != "2"; {
			}
			if err := parent.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			if err := parent.Wait(); err == nil {
				t.Error("the parent ended by itself")
			}
			expectEnd(t, r)
		})
	}
}

func TestBurst(t *testing.T) {
	cost := fake.Cost{StepSeconds: 0.5, PositionSeconds: 0.001, Bytes: 1000, PositionBytes: 10}
	bench := worker.Bench{Engine: fake.Engine(fake.Script{Cost: cost, LeakBytes: 7})}
	job := trainer.Job{Config: trainer.DefaultConfig(), Shapes: []trainer.Shape{{Batch: 1, Width: 33, Steps: 3}, {Batch: 2, Width: 65, Steps: 2}}}
	b, err := bench.Burst(t.Context(), job)
	if err != nil {
		t.Fatal(err)
	}
	if b.Result.Outcome != trainer.Finished || len(b.Summary.Steps) != 5 || len(b.Summary.Shapes) != 2 {
		t.Fatalf("got %+v", b)
	}
	if big := b.Summary.Shapes[1]; big.StepSeconds != 0.5+0.001*128 || big.PeakBytes.Or(0) != 1000+10*128+7*5 {
		t.Errorf("got %+v", big)
	}
	if diff := cmp.Diff(job.Shapes, b.Job.Shapes); diff != "" {
		t.Error(diff)
	}

	job.Shapes, job.Budget = nil, 20*time.Millisecond
	bench.Engine = fake.Engine(fake.Script{StepTime: time.Millisecond})
	b, err = bench.Burst(t.Context(), job)
	if err != nil || b.Result.Done == nil || b.Result.Done.Reason != trainer.DoneBudget {
		t.Errorf("got %+v, %v", b.Result, err)
	}

	job.Budget, job.MaxPeakBytes = 0, 2000
	job.Shapes = []trainer.Shape{{Batch: 1, Width: 33, Steps: 3}, {Batch: 2, Width: 65, Steps: 1e6}, {Batch: 4, Width: 129, Steps: 1}}
	bench.Engine = fake.Engine(fake.Script{Cost: cost, StepTime: time.Millisecond})
	b, err = bench.Burst(t.Context(), job)
	if err != nil || b.Result.Outcome != trainer.OOM || len(b.Summary.Shapes) != 2 || !strings.Contains(evidence(b.Result), "peak memory: 2.28 kB, more than the 2.00 kB that it may take") {
		t.Errorf("%s with %v, %v", b.Result.Outcome, b.Result.Evidence, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if b, err := bench.Burst(ctx, job); err == nil && b.Result.Outcome != trainer.Stopped {
		t.Errorf("cancelled by the caller it is %s", b.Result.Outcome)
	}
}
