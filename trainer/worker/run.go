package worker

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/wire"
)

// Run runs one worker from its start to its end. When ctx is cancelled the
// worker is asked to stop, after a checkpoint if job.SaveOnStop, and Run comes
// back when it has. The Result is as full as it can be also beside an error
// that comes after the start.
func Run(ctx context.Context, p trainer.Process, job trainer.Job, o Options, sink Sink) (trainer.Result, error) {
	o = o.withDefaults()
	line, err := wire.EncodeJob(job)
	if err != nil {
		return trainer.Result{}, fmt.Errorf("start worker: %w", err)
	}
	if ctx.Err() != nil {
		return notStarted(job), nil
	}
	before := readKills()
	w, err := start(p, o)
	if err != nil {
		return trainer.Result{}, err
	}
	w.input.send(line)
	l := newListener(w.events, p.Decode, job, w.began, sink)
	go l.listen(w.events)

	end := ending{foreign: p.Decode != nil, why: attend(ctx, w, l, newWatch(o.Stall, job), o.Ladder)}
	if end.why != byItself {
		if end.rung, err = descend(w, l, end.why, job, o.Ladder); err != nil {
			w.abandon()
			<-l.ended
			return trainer.Result{Outcome: trainer.Stalled, LastStep: l.snapshot().lastStep}, err
		}
	}
	end.lasted = time.Since(w.began)
	w.finish(l.ended)

	end.seen, end.logErr, end.tail = l.snapshot(), w.log.err, w.log.tail()
	end.before, end.after = before, readKills()
	if status, ok := w.cmd.ProcessState.Sys().(syscall.WaitStatus); ok {
		end.status = status
	}
	return end.result(), end.sinkErr
}

func notStarted(job trainer.Job) trainer.Result {
	r := trainer.Result{Outcome: trainer.Stopped, Evidence: []trainer.Evidence{
		{Name: "start", Observed: "not started: asked to stop before", Source: "supervisor"}}}
	if job.From != nil {
		r.LastStep = job.From.Step
	}
	return r
}

// reason is why a worker's end began.
type reason int

const (
	byItself  reason = iota
	asked            // the caller's context
	stalled          // it was silent for too long
	broke            // it broke the protocol
	unheard          // the sink failed
	lingering        // it said its last word and stayed
)

// attend waits until the worker has ended or must be ended.
func attend(ctx context.Context, w *process, l *listener, watch *watch, ladder Ladder) reason {
	tick := time.NewTicker(watch.tick)
	defer tick.Stop()
	over, ticks := l.over, tick.C
	var late <-chan time.Time
	for {
		select {
		case <-w.exited:
			return byItself
		case <-ctx.Done():
			return asked
		case <-l.trouble:
			if l.snapshot().breach != nil {
				return broke
			}
			return unheard
		case <-over:
			timer := time.NewTimer(ladder.scaledTo(0).Exit)
			defer timer.Stop()
			over, ticks, late = nil, nil, timer.C
		case <-late:
			return lingering
		case <-ticks:
			if watch.stalled(l.snapshot()) {
				return stalled
			}
		}
	}
}

// rung is a step of the ladder that ends a worker.
type rung int

const (
	untouched   rung = iota
	told             // by a stop command
	closed           // the end of its input
	interrupted      // SIGINT
	killed           // SIGKILL
)

// killWait is for a kernel that is slow to free a large process.
const killWait = 2 * time.Minute

// descend ends the worker and returns the rung that did it. A worker that has
// broken the protocol, or is done, is not asked first.
func descend(w *process, l *listener, why reason, job trainer.Job, ladder Ladder) (rung, error) {
	scaled := func() Ladder { return ladder.scaledTo(l.snapshot().slowest) }
	if why != broke && why != lingering {
		w.input.send(wire.EncodeStop(job.SaveOnStop))
		if w.gone(scaled().Stop) {
			return told, nil
		}
	}
	w.input.close()
	if w.gone(scaled().Close) {
		return closed, nil
	}
	w.signal(syscall.SIGINT)
	if w.gone(scaled().Interrupt) {
		return interrupted, nil
	}
	w.signal(syscall.SIGKILL)
	if w.gone(killWait) {
		return killed, nil
	}
	return killed, fmt.Errorf("end worker: process %d survives SIGKILL, which means that it hangs inside the kernel or a driver: restart the machine before another training", w.cmd.Process.Pid)
}

// gone waits for the worker's end.
func (w *process) gone(within time.Duration) bool {
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-w.exited:
		return true
	case <-timer.C:
		return false
	}
}
