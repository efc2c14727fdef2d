package command

import (
	"context"
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// Run runs a patient to its end or until its burst is over, and comes back when
// nothing of it is left: neither what it started nor what left its session. When
// ctx is cancelled it is ended, which is no error. An error after the start
// means that we failed; the Report is as full as it can be beside it. Guard is
// the caller's to call first.
func Run(ctx context.Context, argv []string, o Options) (Report, error) {
	o = o.withDefaults()
	if ctx.Err() != nil {
		return Report{EndedFor: ForCaller, Result: trainer.Result{Outcome: trainer.Stopped,
			Evidence: []trainer.Evidence{{Name: "start", Observed: "not started: asked to stop before", Source: "supervisor"}}}}, nil
	}
	log, err := openTranscript(o.LogPath, o.LogLimit)
	if err != nil {
		return Report{}, err
	}
	kills := countKills(o)
	c, err := start(argv, o)
	if err != nil {
		log.close()
		return Report{}, err
	}
	l := newListener(c, log, o)
	go l.listen()

	s := &supervisor{Options: o, child: c, listener: l}
	e := end{why: s.attend(ctx), before: kills}
	if e.why != ByItself {
		e.rung, err = s.descend()
	}
	survivors := err != nil
	if !survivors {
		e.left, err = s.sweep()
	}
	e.after, e.lasted = countKills(o), time.Since(c.began)
	c.screen.ended.Store(true)
	<-l.over
	c.screen.f.Close()
	logErr := log.close()

	r := Report{Detected: l.detector.Detected(), Lines: l.lines.Stats(), Observations: l.seen, Samples: s.taken.kept, Left: e.left, EndedFor: e.why}
	if c.note != "" {
		r.Notes = append(r.Notes, c.note)
	}
	if logErr != nil {
		r.Notes = append(r.Notes, fmt.Sprintf("its output is not kept whole: %v", logErr))
	}
	if !survivors {
		e.status, _ = c.cmd.ProcessState.Sys().(syscall.WaitStatus)
	}
	r.Result = e.result(l)
	if err == nil && l.err != nil {
		err = l.err
	}
	return r, err
}

// supervisor looks after one patient.
type supervisor struct {
	Options
	*child
	listener *listener
	taken    samples
	known    []int     // processes, by the last look at the table
	works    bool      // it has reported a step
	working  int       // samples taken since a step was reported
	lookAt   time.Time // of the next look at the table, and of the next sample
	meterAt  time.Time
	looking  cost
	metering cost
	silent   time.Duration
	heard    int64 // bytes by the last look
}

// look is how often silence and new processes are looked for, at least.
const look = 200 * time.Millisecond

// attend waits until the patient has ended or must be ended.
func (s *supervisor) attend(ctx context.Context) Reason {
	every := min(s.SampleEvery, look)
	tick := time.NewTicker(every)
	defer tick.Stop()
	var late <-chan time.Time
	if s.Budget > 0 {
		timer := time.NewTimer(s.Budget)
		defer timer.Stop()
		late = timer.C
	}
	s.sample()
	enough := s.listener.enough
	for {
		if enough == nil && (s.Meter == nil || s.working >= s.Samples || s.MostSteps > 0 && s.listener.took() >= s.MostSteps) {
			return ForSteps
		}
		select {
		case <-s.exited:
			return ByItself
		case <-ctx.Done():
			return ForCaller
		case <-enough:
			enough = nil
		case <-s.listener.failed:
			return ForError
		case <-late:
			return ForBudget
		case sig := <-s.Signals:
			if n, ok := sig.(syscall.Signal); ok {
				s.tree.signalGroup(n)
			}
		case <-tick.C:
			s.sample()
			if s.silence(every) {
				return ForStall
			}
		}
	}
}

// silence counts in ticks and not by a clock, so that a suspended machine does
// not look like a stalled patient.
func (s *supervisor) silence(tick time.Duration) bool {
	_, bytes := s.listener.heard()
	if bytes != s.heard {
		s.heard, s.silent = bytes, 0
		return false
	}
	s.silent += tick
	return s.Silence > 0 && s.silent >= s.Silence
}

// cost is what something took, the last times. On a busy machine any one of them
// may be long by chance.
type cost [5]time.Duration

// pause is how long to wait until the next time, so that it takes at most a
// hundredth of all time.
func (c *cost) pause(last time.Duration) time.Duration {
	copy(c[1:], c[:])
	c[0] = last
	return 100 * slices.Min(c[:])
}

// sample reads what the patient's processes use when it is time. Which these are
// the table says, which takes longer and is read less often on a busy machine.
func (s *supervisor) sample() {
	now := time.Now()
	step, _ := s.listener.heard()
	if step > 0 && !s.works {
		s.works, s.lookAt = true, now // what it started while it loaded is there by now
	}
	if !now.Before(s.lookAt) {
		table, err := processes()
		if err != nil {
			s.working++ // there is none to wait for
			return
		}
		s.known = s.tree.update(table)
		s.lookAt = now.Add(s.looking.pause(time.Since(now)))
	}
	if s.Meter == nil || len(s.known) == 0 || now.Before(s.meterAt) {
		return
	}
	if step > 0 {
		s.working++
	}
	at := time.Now()
	v := Sample{At: at.Sub(s.began), Step: step, Processes: len(s.known), Usage: s.Meter.Read(s.known)}
	s.meterAt = now.Add(max(s.SampleEvery-s.SampleEvery/10, s.metering.pause(time.Since(at)))) // a tick may come a little early
	s.taken.add(v)
	s.listener.weigh(v.Footprint)
}
