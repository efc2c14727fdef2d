package worker

import (
	"fmt"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// ending is everything that the verdict on a worker rests on.
type ending struct {
	seen
	foreign bool // does not speak the protocol: its exit status is its last word
	why     reason
	rung    rung
	status  syscall.WaitStatus
	before  kills
	after   kills
	tail    string
	logErr  error
	lasted  time.Duration
}

// firstSteps is how many steps a process must have done before its death by a
// signal no longer looks like a lack of memory: by then it has run at its peak.
const firstSteps = 3

func (e ending) result() trainer.Result {
	r := trainer.Result{
		Failure: e.failure, Done: e.done, Hello: e.hello, Ready: e.ready,
		LastStep: e.lastStep, Checkpoint: e.checkpoint,
		LogTail: e.tail, Elapsed: e.lasted,
	}
	if e.status.Exited() {
		r.ExitCode = trainer.Some(e.status.ExitStatus())
	}
	if e.status.Signaled() {
		r.Signal = unix.SignalName(e.status.Signal())
	}
	r.Outcome, r.Evidence = e.verdict()
	if e.rung <= told && (r.Outcome == trainer.Crashed || r.Outcome == trainer.Killed) {
		suspicion := e.suspicion()
		r.SuspectedOOM = len(suspicion) > 0
		r.Evidence = append(r.Evidence, suspicion...)
	}
	if e.logErr != nil {
		r.Evidence = append(r.Evidence, observed("log", "incomplete: "+e.logErr.Error(), "worker log"))
	}
	return r
}

func observed(name, what, source string) trainer.Evidence {
	return trainer.Evidence{Name: name, Observed: what, Source: source}
}

func (e ending) verdict() (trainer.Outcome, []trainer.Evidence) {
	var stall []trainer.Evidence
	if e.why == stalled {
		stall = append(stall, observed("silence", fmt.Sprintf("no event after step %d for too long; the longest silence before was %s", e.lastStep, e.slowest.Round(time.Millisecond)), "events"))
	}
	switch {
	case e.breach != nil:
		return trainer.Broken, []trainer.Evidence{observed("protocol", e.breach.Error(), "events"), e.exit()}
	case e.failure != nil && e.failure.FailKind == trainer.FailOOM:
		return trainer.OOM, append(stall, observed("error event", e.failure.Text, "worker"))
	case e.failure != nil:
		return trainer.Failed, append(stall, observed("error event", e.failure.Text, "worker"))
	case e.done != nil && e.done.Reason != trainer.DoneStop:
		return trainer.Finished, e.oddExit()
	case e.why == stalled:
		return trainer.Stalled, append(stall, e.exit())
	case e.done != nil:
		return trainer.Stopped, e.oddExit()
	case e.why == lingering:
		return trainer.Broken, []trainer.Evidence{observed("protocol", "it closed its events and ran on", "events"), e.exit()}
	case e.foreign && e.why == byItself && e.status.Exited() && e.status.ExitStatus() == 0:
		return trainer.Finished, []trainer.Evidence{e.exit()}
	}
	return e.withoutAWord()
}

// withoutAWord judges a worker that ended without a terminal event.
func (e ending) withoutAWord() (trainer.Outcome, []trainer.Evidence) {
	evidence := []trainer.Evidence{e.exit()}
	if e.torn != "" {
		evidence = append(evidence, observed("last event", e.torn, "events"))
	}
	if e.status.Signaled() {
		switch e.status.Signal() {
		case syscall.SIGKILL:
			if rose := e.after.inGroup(e.before); e.rung != killed && len(rose) > 0 {
				return trainer.OOM, append(evidence, rose...)
			}
			return trainer.Killed, evidence
		case syscall.SIGINT:
			if e.rung == interrupted {
				return trainer.Stopped, evidence
			}
			return trainer.Killed, evidence
		case syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGXCPU:
			return trainer.Killed, evidence
		}
		return trainer.Crashed, evidence
	}
	// Leaving without a word is what a worker promises at the end of its
	// input, and all that SIGINT may leave it time for.
	if e.rung == closed && e.status.ExitStatus() == 0 || e.rung == interrupted {
		return trainer.Stopped, evidence
	}
	return trainer.Crashed, append(evidence, observed("terminal event", "none: it ended without a word", "events"))
}

// exit says how the process ended and what we did to it.
func (e ending) exit() trainer.Evidence {
	var what string
	if e.status.Signaled() {
		what = "ended by " + unix.SignalName(e.status.Signal())
	} else {
		what = fmt.Sprintf("exit status %d", e.status.ExitStatus())
	}
	switch e.rung {
	case told:
		what += " after it was asked to stop"
	case closed:
		what += " after the end of its input"
	case interrupted:
		what += " after we interrupted it"
	case killed:
		what += ", by us: it heeded neither stop, nor the end of its input, nor SIGINT"
	}
	return observed("exit", what, "process")
}

// oddExit is evidence for an end that did not go with the worker's last word.
func (e ending) oddExit() []trainer.Evidence {
	if e.status.Exited() && e.status.ExitStatus() == 0 && e.rung <= told {
		return nil
	}
	return []trainer.Evidence{e.exit()}
}

// outOfMemory are words by which allocators, MLX and Python tell that memory
// was not to be had, in lower case.
var outOfMemory = []string{
	"out of memory", "outofmemory", "bad_alloc", "insufficient memory", "cannot allocate memory", "unable to allocate",
	"[metal::malloc]", "memoryerror",
}

// suspicion collects what makes a death look like one for want of memory.
func (e ending) suspicion() []trainer.Evidence {
	var out []trainer.Evidence
	for line := range strings.Lines(e.tail) {
		lower := strings.ToLower(line)
		for _, words := range outOfMemory {
			if strings.Contains(lower, words) {
				out = append(out, observed("log line", strings.TrimSpace(line), "worker log"))
				break
			}
		}
	}
	if len(out) > 1 {
		out = out[len(out)-1:]
	}
	if e.status.Signaled() && e.status.Signal() == syscall.SIGKILL {
		out = append(out, e.after.onMachine(e.before)...)
	}
	if e.steps > firstSteps || !e.status.Signaled() || !fatalWhenStarved(e.status.Signal()) {
		return out
	}
	when := fmt.Sprintf("%s after %d steps of this process", unix.SignalName(e.status.Signal()), e.steps)
	if e.ready == nil {
		when = unix.SignalName(e.status.Signal()) + " before it was ready"
	}
	out = append(out, observed("early death", when+"; failed allocations often end so", "process"))
	if !e.after.known() {
		out = append(out, observed("oom_kill", "unknown: this system does not count such kills", "kernel"))
	}
	return out
}

func fatalWhenStarved(s syscall.Signal) bool {
	switch s {
	case syscall.SIGKILL, syscall.SIGSEGV, syscall.SIGABRT, syscall.SIGBUS, syscall.SIGTRAP, syscall.SIGILL:
		return true
	}
	return false
}
