package worker

import (
	"errors"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// exited and died are wait statuses as Linux and macOS both encode them.
func exited(status int) syscall.WaitStatus     { return syscall.WaitStatus(status << 8) }
func died(s syscall.Signal) syscall.WaitStatus { return syscall.WaitStatus(s) }

func counted(group, machine int64) kills {
	return kills{group: trainer.Some(group), machine: trainer.Some(machine), groupFile: "/group", machineFile: "/machine"}
}

func ungrouped(machine int64) kills {
	return kills{machine: trainer.Some(machine), machineFile: "/machine"}
}

// TestVerdict covers the ends that cannot be brought about at will.
func TestVerdict(t *testing.T) {
	ready := seen{hello: &trainer.Hello{}, ready: &trainer.Ready{}, steps: 50, lastStep: 50}
	with := func(change func(*seen)) seen {
		s := ready
		change(&s)
		return s
	}
	stop := with(func(s *seen) { s.done = &trainer.Done{Reason: trainer.DoneStop} })
	steps := with(func(s *seen) { s.done = &trainer.Done{Reason: trainer.DoneSteps} })
	failed := with(func(s *seen) { s.failure = &trainer.Failure{FailKind: trainer.FailInternal, Text: "why"} })
	none := kills{}
	tests := []struct {
		name      string
		end       ending
		want      trainer.Outcome
		suspected bool
		evidence  string
	}{
		{"killed, and the group's counter rose", ending{seen: ready, status: died(syscall.SIGKILL), before: counted(1, 5), after: counted(2, 6)}, trainer.OOM, false, "rose from 1 to 2"},
		{"killed, and only the machine's counter rose", ending{seen: ready, status: died(syscall.SIGKILL), before: counted(1, 5), after: counted(1, 6)}, trainer.Killed, true, "whole machine rose from 5 to 6"},
		{"killed, and the machine's counter rose where no group counts", ending{seen: ready, status: died(syscall.SIGKILL), before: ungrouped(5), after: ungrouped(6)}, trainer.Killed, true, "whole machine rose from 5 to 6"},
		{"killed, and nothing rose where no group counts", ending{seen: ready, status: died(syscall.SIGKILL), before: ungrouped(5), after: ungrouped(5)}, trainer.Killed, false, "SIGKILL"},
		{"another's death on the machine while ours crashed", ending{seen: ready, status: died(syscall.SIGSEGV), before: counted(1, 5), after: counted(1, 6)}, trainer.Crashed, false, ""},
		{"killed, and no counter rose", ending{seen: ready, status: died(syscall.SIGKILL), before: counted(1, 5), after: counted(1, 5)}, trainer.Killed, false, "SIGKILL"},
		{"killed early, no counters", ending{seen: seen{}, status: died(syscall.SIGKILL), before: none, after: none}, trainer.Killed, true, "unknown"},
		{"a counter that appeared proves nothing", ending{seen: ready, status: died(syscall.SIGKILL), before: none, after: counted(9, 9)}, trainer.Killed, false, ""},
		{"another's death while ours crashed", ending{seen: ready, status: died(syscall.SIGSEGV), before: counted(1, 5), after: counted(2, 6)}, trainer.Crashed, false, ""},
		{"killed by us while a counter rose", ending{seen: ready, why: asked, rung: killed, status: died(syscall.SIGKILL), before: counted(1, 5), after: counted(1, 6)}, trainer.Killed, false, "by us"},
		{"killed while it was asked to stop", ending{seen: ready, why: asked, rung: told, status: died(syscall.SIGKILL), before: counted(1, 5), after: counted(2, 6)}, trainer.OOM, false, "rose"},
		{"abort with a word about memory", ending{seen: ready, status: died(syscall.SIGABRT), tail: "libc++abi: terminating\n[METAL] Command buffer execution failed: Insufficient Memory (00000008)"}, trainer.Crashed, true, "Insufficient Memory"},
		{"Python's trace of MemoryError", ending{seen: ready, status: exited(1), tail: "Traceback\nMemoryError"}, trainer.Crashed, true, "MemoryError"},
		{"crash when asked to stop", ending{seen: ready, why: asked, rung: told, status: exited(1)}, trainer.Crashed, false, "asked to stop"},
		{"left at the end of its input", ending{seen: ready, why: asked, rung: closed, status: exited(0)}, trainer.Stopped, false, "end of its input"},
		{"crash at the end of its input", ending{seen: ready, why: asked, rung: closed, status: exited(1)}, trainer.Crashed, false, ""},
		{"left by itself at SIGINT", ending{seen: ready, why: asked, rung: interrupted, status: exited(130)}, trainer.Stopped, false, "interrupted"},
		{"stopped, then crashed on the way out", ending{seen: stop, why: asked, rung: told, status: died(syscall.SIGSEGV)}, trainer.Stopped, false, "SIGSEGV"},
		{"finished before it heard the stop", ending{seen: steps, why: asked, rung: told, status: exited(0)}, trainer.Finished, false, ""},
		{"failed after it was asked to stop", ending{seen: failed, why: asked, rung: told, status: exited(1)}, trainer.Failed, false, "why"},
		{"stalled, then stopped", ending{seen: stop, why: stalled, rung: told, status: exited(0)}, trainer.Stalled, false, "no event after step 50"},
		{"stalled, then finished after all", ending{seen: steps, why: stalled, rung: told, status: exited(0)}, trainer.Finished, false, ""},
		{"stalled, then said why", ending{seen: failed, why: stalled, rung: told, status: exited(1)}, trainer.Failed, false, "no event"},
		{"stalled, and had to be killed", ending{seen: ready, why: stalled, rung: killed, status: died(syscall.SIGKILL)}, trainer.Stalled, false, "by us"},
		{"the log's disk is full", ending{seen: steps, status: exited(0), logErr: errors.New("no space")}, trainer.Finished, false, "no space"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := tt.end.result()
			var text strings.Builder
			for _, e := range got.Evidence {
				text.WriteString(e.Name + ": " + e.Observed + "\n")
			}
			if got.Outcome != tt.want || got.SuspectedOOM != tt.suspected || !strings.Contains(text.String(), tt.evidence) {
				t.Errorf("got %s (suspected oom: %v) with\n%s", got.Outcome, got.SuspectedOOM, text.String())
			}
			if !got.Outcome.Good() && len(got.Evidence) == 0 {
				t.Error("a verdict without evidence")
			}
		})
	}
}

func TestKillsIn(t *testing.T) {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	const (
		v2mount = "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
		v1mount = "31 24 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n32 24 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
		nested  = "30 24 0:26 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup ro\n"
		vmstat  = "nr_free_pages 1\noom_kill 7\n"
		events  = "low 0\nhigh 0\nmax 4\noom 3\noom_kill 2\noom_group_kill 1\n"
		control = "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n"
	)
	tests := []struct {
		name           string
		files          fstest.MapFS
		group, machine trainer.Opt[int64]
		source         string
	}{
		{"version 2", fstest.MapFS{"proc/vmstat": file(vmstat), "proc/self/cgroup": file("0::/user.slice/a.scope\n"), "proc/self/mountinfo": file(v2mount),
			"sys/fs/cgroup/user.slice/a.scope/memory.events": file(events)}, trainer.Some[int64](2), trainer.Some[int64](7), "/sys/fs/cgroup/user.slice/a.scope/memory.events"},
		{"version 1 beside an empty version 2", fstest.MapFS{"proc/vmstat": file(vmstat), "proc/self/cgroup": file("4:memory:/job\n0::/\n"), "proc/self/mountinfo": file(v2mount + v1mount),
			"sys/fs/cgroup/memory/job/memory.oom_control": file(control)}, trainer.Some[int64](4), trainer.Some[int64](7), "/sys/fs/cgroup/memory/job/memory.oom_control"},
		{"container that sees its own group as the root", fstest.MapFS{"proc/vmstat": file(vmstat), "proc/self/cgroup": file("0::/docker/abc\n"), "proc/self/mountinfo": file(nested),
			"sys/fs/cgroup/memory.events": file(events)}, trainer.Some[int64](2), trainer.Some[int64](7), "/sys/fs/cgroup/memory.events"},
		{"container that sees its path from outside", fstest.MapFS{"proc/self/cgroup": file("0::/kube/pod\n"), "proc/self/mountinfo": file(v2mount),
			"sys/fs/cgroup/memory.events": file(events)}, trainer.Some[int64](2), trainer.Opt[int64]{}, "/sys/fs/cgroup/memory.events"},
		{"root group, which has no counter", fstest.MapFS{"proc/vmstat": file(vmstat), "proc/self/cgroup": file("0::/\n"), "proc/self/mountinfo": file(v2mount)}, trainer.Opt[int64]{}, trainer.Some[int64](7), ""},
		{"kernel without the counter", fstest.MapFS{"proc/vmstat": file("nr_free_pages 1\n")}, trainer.Opt[int64]{}, trainer.Opt[int64]{}, ""},
		{"garbage", fstest.MapFS{"proc/vmstat": file("oom_kill many\n"), "proc/self/cgroup": file("::\nx\n0::../../..\n"), "proc/self/mountinfo": file("- -\n\n" + v2mount)}, trainer.Opt[int64]{}, trainer.Opt[int64]{}, ""},
		{"nothing", fstest.MapFS{}, trainer.Opt[int64]{}, trainer.Opt[int64]{}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := killsIn(tt.files)
			if got.group != tt.group || got.machine != tt.machine || got.groupFile != tt.source {
				t.Errorf("got %v of %q, machine %v; want %v of %q, %v", got.group, got.groupFile, got.machine, tt.group, tt.source, tt.machine)
			}
		})
	}
}

func TestWatch(t *testing.T) {
	limits := Stall{Start: 10 * time.Minute, Evaluation: time.Hour, Step: time.Minute}
	config := trainer.DefaultConfig()
	config.Schedule.EvalEvery = 10
	working := seen{ready: &trainer.Ready{}, steps: 5, lastStep: 5, slowest: time.Second}
	tests := []struct {
		name string
		job  trainer.Job
		seen seen
		want time.Duration
	}{
		{"loading", trainer.Job{}, seen{}, 10 * time.Minute},
		{"loading, with an evaluation to come", trainer.Job{Evaluate: true, Config: config}, seen{}, 10 * time.Minute},
		{"first evaluation", trainer.Job{Evaluate: true, Config: config}, seen{ready: &trainer.Ready{}}, time.Hour},
		{"after the first evaluation", trainer.Job{Evaluate: true, Config: config}, seen{ready: &trainer.Ready{}, evaluated: true}, 10 * time.Minute},
		{"quick steps", trainer.Job{}, working, time.Minute},
		{"slow steps", trainer.Job{}, seen{ready: &trainer.Ready{}, steps: 1, slowest: 30 * time.Second}, 5 * time.Minute},
		{"between evaluations", trainer.Job{Evaluate: true, Config: config}, working, time.Minute},
		{"first evaluation of a continued training", trainer.Job{Evaluate: true, Config: config}, seen{ready: &trainer.Ready{}, steps: 5, lastStep: 20}, time.Hour},
		{"evaluation at the end", trainer.Job{Evaluate: true, Config: config, UntilStep: 25}, seen{ready: &trainer.Ready{}, steps: 5, lastStep: 25}, time.Hour},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWatch(limits, tt.job)
			var silent time.Duration
			for !w.stalled(tt.seen) {
				silent += w.tick
			}
			if got := silent + w.tick; got != tt.want {
				t.Errorf("stalled after %s, want %s", got, tt.want)
			}
		})
	}
}

func TestWatchHearsEventsAndTheSink(t *testing.T) {
	w := newWatch(Stall{Start: time.Second, Step: time.Second}, trainer.Job{})
	var s seen
	for range 1000 {
		s.events++
		if w.stalled(s) {
			t.Fatal("stalled while events came")
		}
	}
	s.delivering = true
	for range 1000 {
		if w.stalled(s) {
			t.Fatal("stalled while the sink was at work")
		}
	}
}

func TestLadderScales(t *testing.T) {
	tests := []struct {
		name    string
		ladder  Ladder
		slowest time.Duration
		want    Ladder
	}{
		{"nothing seen yet", Ladder{}, 0, Ladder{Stop: 30 * time.Second, Close: 15 * time.Second, Interrupt: 10 * time.Second, Exit: 30 * time.Second}},
		{"slow steps", Ladder{}, time.Minute, Ladder{Stop: 3 * time.Minute, Close: 185 * time.Second, Interrupt: 10 * time.Second, Exit: 30 * time.Second}},
		{"as given", Ladder{1, 2, 3, 4}, time.Minute, Ladder{1, 2, 3, 4}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, tt.ladder.scaledTo(tt.slowest)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestTheLogsTailIsBounded(t *testing.T) {
	l := &logbook{}
	line := strings.Repeat("é", 600) + "\n"
	for range 10_000 {
		if n, err := l.Write([]byte(line)); n != len(line) || err != nil {
			t.Fatal(n, err)
		}
	}
	if len(l.end) > 2*tailBytes {
		t.Errorf("%d bytes are kept", len(l.end))
	}
	if got := strings.Split(l.tail(), "\n"); len(got) != tailLines || got[0]+"\n" != line || got[tailLines-1]+"\n" != line {
		t.Errorf("%d lines of tail", len(got))
	}
}

// TestSlowestIsNoLongerThanTheProcess: a worker whose clock is nonsense does
// not get for ever to be silent.
func TestSlowestIsNoLongerThanTheProcess(t *testing.T) {
	l := newListener(strings.NewReader(""), nil, trainer.Job{}, time.Now(), nil)
	for i, p := range []trainer.Payload{trainer.Hello{}, trainer.Ready{}, trainer.Step{}} {
		if err := l.take(&trainer.Event{Seq: int64(i), Elapsed: time.Duration(i) * 1000 * time.Hour, Payload: p}); err != nil {
			t.Fatal(err)
		}
	}
	if got := l.snapshot().slowest; got > time.Hour {
		t.Errorf("slowest %s", got)
	}
}
