package command

import (
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// end is everything that the verdict on a patient rests on.
type end struct {
	why           Reason
	rung          rung
	status        syscall.WaitStatus
	before, after trainer.Opt[int64] // oom_kill
	left          int
	lasted        time.Duration
}

func countKills(o Options) trainer.Opt[int64] {
	if o.OOMKills == nil {
		return trainer.Opt[int64]{}
	}
	return o.OOMKills()
}

func (e end) result(l *listener) trainer.Result {
	r := trainer.Result{LastStep: l.step.Or(0), LogTail: l.last.String(), Elapsed: e.lasted}
	if e.status.Exited() {
		r.ExitCode = trainer.Some(e.status.ExitStatus())
	}
	if e.status.Signaled() {
		r.Signal = unix.SignalName(e.status.Signal())
	}
	var fatal bool
	r.Failure, fatal = failure(l.seen.Notices)
	r.Outcome = e.outcome(r.Failure, fatal)
	r.Evidence = append(r.Evidence, e.exit())
	if rose := e.starved(); rose != nil {
		r.Evidence = append(r.Evidence, *rose)
	}
	if r.Failure != nil {
		r.Evidence = append(r.Evidence, trainer.Evidence{Name: "error", Observed: r.Failure.Text, Source: "what it printed"})
	}
	if e.left > 0 {
		r.Evidence = append(r.Evidence, trainer.Evidence{Name: "processes left behind", Observed: fmt.Sprint(e.left), Source: "process table"})
	}
	died := r.Outcome == trainer.Crashed || r.Outcome == trainer.Killed
	r.SuspectedOOM = died && e.rung == untouched && e.status.Signaled() && e.status.Signal() == syscall.SIGKILL
	return r
}

// failure is what the patient said of its own end: the last fatal notice, or
// else the last error.
func failure(notices []Said) (out *trainer.Failure, fatal bool) {
	for _, n := range notices {
		if n.Level != ErrorNotice || fatal && !n.Fatal {
			continue
		}
		kind := n.Fail
		if kind == "" {
			kind = trainer.FailInternal
		}
		out, fatal = &trainer.Failure{FailKind: kind, Code: n.Code, Text: n.Text}, n.Fatal
	}
	return out, fatal
}

// outcome is what became of it. What we ended because its burst was over did
// what was asked.
func (e end) outcome(f *trainer.Failure, fatal bool) trainer.Outcome {
	switch e.why {
	case ForSteps, ForBudget:
		return trainer.Finished
	case ForCaller, ForError:
		return trainer.Stopped
	case ForStall:
		return trainer.Stalled
	}
	if e.status.Signaled() {
		switch e.status.Signal() {
		case syscall.SIGKILL:
			if e.starved() != nil {
				return trainer.OOM
			}
			return trainer.Killed
		case syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGXCPU:
			return trainer.Killed
		}
	}
	clean := e.status.Exited() && e.status.ExitStatus() == 0
	switch {
	case clean && !fatal: // an error that it went on from is none of its end
		return trainer.Finished
	case f != nil && f.FailKind == trainer.FailOOM:
		return trainer.OOM
	case f != nil && e.status.Exited():
		return trainer.Failed
	}
	return trainer.Crashed
}

// exit says how the process ended and what we did to it.
func (e end) exit() trainer.Evidence {
	what := fmt.Sprintf("exit status %d", e.status.ExitStatus())
	if e.status.Signaled() {
		what = "ended by " + unix.SignalName(e.status.Signal())
	}
	rung := e.rung
	if rung == killed && e.status.Signaled() && e.status.Signal() == syscall.SIGTERM {
		rung = terminated // it took its time
	}
	switch rung {
	case interrupted:
		what += " after we interrupted it"
	case terminated:
		what += ", by us: it did not heed SIGINT"
	case killed:
		what += ", by us: it heeded neither SIGINT nor SIGTERM"
	}
	if e.why != ByItself {
		what += " (" + string(e.why) + ")"
	}
	return trainer.Evidence{Name: "exit", Observed: what, Source: "process"}
}

// starved is evidence that the kernel killed somebody of its group for want of
// memory while it ran.
func (e end) starved() *trainer.Evidence {
	b, ok1 := e.before.Get()
	a, ok2 := e.after.Get()
	if !ok1 || !ok2 || a <= b {
		return nil
	}
	return &trainer.Evidence{Name: "oom_kill", Observed: fmt.Sprintf("rose from %d to %d", b, a), Source: "kernel"}
}
