package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// quickLadder is for patients that heed nothing.
var quickLadder = Ladder{Interrupt: 300 * time.Millisecond, Terminate: 300 * time.Millisecond}

func runPatient(t *testing.T, script string, o Options) Report {
	t.Helper()
	r, err := runPatientIn(t.Context(), script, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func runPatientIn(ctx context.Context, script string, o Options) (Report, error) {
	if script == "" {
		return Report{}, errors.New("an empty script would run the tests again")
	}
	o.Env = append(os.Environ(), sawPatient+"="+script)
	if o.Ladder == (Ladder{}) {
		o.Ladder = quickLadder
	}
	return Run(ctx, []string{os.Args[0]}, o)
}

func TestRunToItsEnd(t *testing.T) {
	for name, c := range map[string]struct {
		script  string
		outcome trainer.Outcome
		failed  string // code of its failure
	}{
		"finishes":                    {"steps=5", trainer.Finished, ""},
		"prints nothing":              {"nothing", trainer.Finished, ""},
		"exits with a status":         {"steps=2 exit=3", trainer.Crashed, ""},
		"says why":                    {"say=ValueError:_no_such_layer exit=1", trainer.Failed, "patient.exception"},
		"says that memory is out":     {"steps=1 say=RuntimeError:_[metal::malloc]_Unable_to_allocate_9_bytes exit=1", trainer.OOM, "patient.out-of-memory"},
		"goes on after an error":      {"say=Error:_retrying steps=3", trainer.Finished, "patient.error"},
		"diverges and exits with 0":   {"say=Training_diverged:_loss_is_NaN_at_step_41", trainer.Failed, "your_ai.diverged"},
		"is killed from outside":      {"steps=2 kill=9", trainer.Killed, ""},
		"is terminated from outside":  {"steps=2 kill=15", trainer.Killed, ""},
		"crashes":                     {"steps=2 kill=11", trainer.Crashed, ""},
		"is interrupted from outside": {"steps=2 kill=2", trainer.Killed, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := runPatient(t, c.script, Options{})
			code := ""
			if r.Result.Failure != nil {
				code = r.Result.Failure.Code
			}
			if r.Result.Outcome != c.outcome || code != c.failed || r.EndedFor != ByItself || len(r.Result.Evidence) == 0 {
				t.Errorf("%s %q %q, want %s %q\n%s", r.Result.Outcome, code, r.EndedFor, c.outcome, c.failed, r.Result.LogTail)
			}
			if suspected := strings.Contains(c.script, "kill=9"); r.Result.SuspectedOOM != suspected {
				t.Errorf("a lack of memory is suspected: %v", r.Result.SuspectedOOM)
			}
		})
	}
}

func TestRunInATerminal(t *testing.T) {
	r := runPatient(t, "tty bar=30", Options{})
	if r.Detected.Name != "your_ai" || r.Observations.LastStep.Or(0) != 30 || len(r.Observations.Points) != 30 {
		t.Errorf("%+v, %d points up to %v", r.Detected, len(r.Observations.Points), r.Observations.LastStep)
	}
	if !strings.Contains(r.Result.LogTail, "a terminal: true true true") {
		t.Errorf("it had no terminal: %q", r.Result.LogTail)
	}
	if p := r.Observations.Points[29]; !p.At.Known() || p.At.Or(0) <= r.Observations.Points[0].At.Or(0) {
		t.Errorf("no time at %+v", p)
	}
	r = runPatient(t, "tty steps=3", Options{Pipes: true})
	if !strings.Contains(r.Result.LogTail, "a terminal: false false false") || r.Observations.LastStep.Or(0) != 3 {
		t.Errorf("through a pipe: %q", r.Result.LogTail)
	}
}

func TestRunEndsABurst(t *testing.T) {
	r := runPatient(t, "steps=10000", Options{Steps: 20})
	if last := r.Observations.LastStep.Or(0); r.EndedFor != ForSteps || last < 20 || last > 1000 || r.Result.Outcome != trainer.Finished {
		t.Errorf("%s %s after step %d", r.Result.Outcome, r.EndedFor, last)
	}
	// Steps count before it is sure whose lines they are.
	r = runPatient(t, "plain=6 sleep=60000", Options{Steps: 5, Budget: 20 * time.Second})
	if r.EndedFor != ForSteps || r.Detected.Name != "steps" {
		t.Errorf("%s, %+v", r.EndedFor, r.Detected)
	}
	r = runPatient(t, "steps=10000", Options{Budget: 300 * time.Millisecond})
	if last := r.Observations.LastStep.Or(0); r.EndedFor != ForBudget || last == 0 || last == 10000 || r.Result.Outcome != trainer.Finished {
		t.Errorf("%s %s after step %d", r.Result.Outcome, r.EndedFor, last)
	}
	r = runPatient(t, "steps=3 sleep=60000", Options{Silence: 400 * time.Millisecond})
	if r.EndedFor != ForStall || r.Result.Outcome != trainer.Stalled || r.Observations.LastStep.Or(0) != 3 {
		t.Errorf("%s %s", r.Result.Outcome, r.EndedFor)
	}
	// A training that goes on from far behind the burst's steps is counted from there.
	r = runPatient(t, "steps=10000", Options{Steps: 5, FromStep: -7})
	if last := r.Observations.LastStep.Or(0); r.EndedFor != ForSteps || last < 6 {
		t.Errorf("%s after step %d", r.EndedFor, last)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r, err := runPatientIn(ctx, "steps=10000", Options{OnReading: func(Reading) error { cancel(); return nil }})
	if err != nil || r.EndedFor != ForCaller || r.Result.Outcome != trainer.Stopped {
		t.Errorf("%s %s %v", r.Result.Outcome, r.EndedFor, err)
	}
	if r, err := runPatientIn(ctx, "steps=1", Options{}); err != nil || r.Lines.Bytes != 0 || r.Result.Outcome != trainer.Stopped {
		t.Errorf("started although cancelled: %+v %v", r, err)
	}
	full := errors.New("full")
	if r, err := runPatientIn(t.Context(), "steps=10000", Options{OnReading: func(Reading) error { return full }}); !errors.Is(err, full) || r.EndedFor != ForError {
		t.Errorf("%s %v", r.EndedFor, err)
	}
}

func TestRunGoesDownTheLadder(t *testing.T) {
	const patient, soon = 30 * time.Second, 300 * time.Millisecond
	for name, c := range map[string]struct {
		script, says string
		ladder       Ladder
	}{
		"heeds SIGINT":  {"steps=10000", "after we interrupted it", Ladder{patient, patient}},
		"heeds SIGTERM": {"stubborn steps=10000", "it did not heed SIGINT", Ladder{soon, patient}},
		"heeds nothing": {"deaf steps=10000", "neither SIGINT nor SIGTERM", Ladder{soon, soon}},
	} {
		t.Run(name, func(t *testing.T) {
			r := runPatient(t, c.script, Options{Steps: 3, Ladder: c.ladder})
			if exit := r.Result.Evidence[0].Observed; !strings.Contains(exit, c.says) {
				t.Errorf("%q, want %q", exit, c.says)
			}
		})
	}
}

func TestRunPassesSignalsOn(t *testing.T) {
	signals := make(chan os.Signal, 1)
	r := runPatient(t, "steps=10000", Options{Signals: signals, OnReading: func(r Reading) error {
		if r.Step.Or(0) == 3 {
			signals <- syscall.SIGTERM
		}
		return nil
	}})
	if r.Result.Signal != "SIGTERM" || r.EndedFor != ByItself {
		t.Errorf("%q %q", r.Result.Signal, r.EndedFor)
	}
}

// TestRunLeavesNothingBehind has children that heed no signal: in the patient's
// session, and in one of their own whose parent has ended.
func TestRunLeavesNothingBehind(t *testing.T) {
	for _, word := range []string{"child", "runaway"} {
		for _, ends := range []string{"sleep=100", "steps=10000"} {
			t.Run(word+" "+ends, func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "pid")
				r := runPatient(t, fmt.Sprintf("%s=%s steps=4 %s", word, path, ends), Options{Steps: 100})
				b, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				pid, _ := strconv.Atoi(string(b))
				table, err := processes()
				if err != nil {
					t.Fatal(err)
				}
				for _, p := range table {
					if p.pid == pid && !p.gone {
						syscall.Kill(pid, syscall.SIGKILL) //nolint:errcheck // a test's
						t.Errorf("process %d is still there", pid)
					}
				}
				if r.Left < 1 {
					t.Errorf("%d processes were left behind, want it counted", r.Left)
				}
			})
		}
	}
}

// counting is a Meter that weighs a process with its number.
type counting struct{ most int }

func (c *counting) Read(pids []int) Usage {
	c.most = max(c.most, len(pids))
	return Usage{Footprint: trainer.Some(int64(1000 * len(pids))), Threads: trainer.Some(1)}
}

func TestRunSamplesTheTree(t *testing.T) {
	meter := &counting{}
	path := filepath.Join(t.TempDir(), "pid")
	r := runPatient(t, "child="+path+" steps=100000", Options{Meter: meter, SampleEvery: 20 * time.Millisecond, Steps: 1, Samples: 8})
	var working int
	for _, s := range r.Samples {
		if s.Step > 0 {
			working++
		}
	}
	if meter.most != 2 || working < 8 || r.EndedFor != ForSteps {
		t.Fatalf("%d samples while it took steps, of at most %d processes, ended for %q; want 8 and more of 2 for the steps", working, meter.most, r.EndedFor)
	}
	last := r.Samples[len(r.Samples)-1]
	if last.Processes != 2 || last.Footprint.Or(0) != 2000 || last.Step == 0 || last.At <= r.Samples[0].At {
		t.Errorf("%+v", last)
	}
	if p := r.Observations.Points[len(r.Observations.Points)-1]; p.Memory[FootprintMemory].Bytes.Or(0) != 2000 {
		t.Errorf("the last step's footprint is %+v", p.Memory)
	}
}

func TestRunKeepsABoundedTranscript(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	r := runPatient(t, "say=begins flood=64 say=ends", Options{LogPath: path, LogLimit: 100 << 10})
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if r.Lines.Bytes < 6<<20 || len(b) > 101<<10 || !strings.HasPrefix(string(b), "begins") || !strings.Contains(string(b[len(b)-10:]), "ends") {
		t.Errorf("%d of %d bytes kept: %.20q … %.20q", len(b), r.Lines.Bytes, b, b[max(len(b)-20, 0):])
	}
	if !strings.Contains(string(b), "bytes are left out here") {
		t.Error("nothing says what is missing")
	}
}

func TestRunThatCannotStart(t *testing.T) {
	for name, c := range map[string]struct {
		argv []string
		o    Options
		says string
	}{
		"no command":     {nil, Options{}, "no command"},
		"no program":     {[]string{"/no/such/program"}, Options{}, "start patient /no/such/program"},
		"no directory":   {[]string{os.Args[0]}, Options{Dir: "/no/such/dir"}, "working directory is missing"},
		"no log":         {[]string{os.Args[0]}, Options{LogPath: "/no/such/dir/log"}, "open the patient's log"},
		"not executable": {[]string{"run_test.go"}, Options{}, "start patient run_test.go"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Run(t.Context(), c.argv, c.o); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, want %q", err, c.says)
			}
		})
	}
}

// TestRunSeesKernelKills stands in for the kernel with a counter.
func TestRunSeesKernelKills(t *testing.T) {
	kills := int64(3)
	r := runPatient(t, "steps=2 kill=9", Options{OOMKills: func() trainer.Opt[int64] { kills++; return trainer.Some(kills) }})
	if r.Result.Outcome != trainer.OOM || r.Result.SuspectedOOM {
		t.Errorf("%s, want oom with evidence: %+v", r.Result.Outcome, r.Result.Evidence)
	}
}

func TestSamplesAreBounded(t *testing.T) {
	var s samples
	for i := range 10 * maxSamples {
		s.add(Sample{At: time.Duration(i)})
	}
	if len(s.kept) > maxSamples || len(s.kept) < maxSamples/2 {
		t.Fatalf("%d kept", len(s.kept))
	}
	for i := 1; i < len(s.kept); i++ {
		if s.kept[i].At-s.kept[i-1].At != time.Duration(s.every) {
			t.Fatalf("sample %d is at %d after %d, want %d apart", i, s.kept[i].At, s.kept[i-1].At, s.every)
		}
	}
}

func TestOneSlowLookDoesNotBlind(t *testing.T) {
	var c cost
	for range 5 {
		c.pause(time.Millisecond)
	}
	if got := c.pause(time.Second); got != 100*time.Millisecond {
		t.Errorf("after a slow look it pauses for %s", got)
	}
	for range 4 {
		c.pause(time.Second)
	}
	if got := c.pause(time.Second); got != 100*time.Second {
		t.Errorf("when all looks are slow it pauses for %s", got)
	}
}
