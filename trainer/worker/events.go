package worker

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/wire"
)

// seen is what a worker's events have told so far.
type seen struct {
	hello      *trainer.Hello
	ready      *trainer.Ready
	done       *trainer.Done
	failure    *trainer.Failure
	checkpoint *trainer.CheckpointRef

	events    int64
	lastSeq   int64
	lastStep  int // of the training
	steps     int // by this process
	evaluated bool
	elapsed   time.Duration // of the newest event
	slowest   time.Duration // longest silence since it was ready

	delivering bool   // the sink has an event in hand
	torn       string // what is known of a last line without an end
	breach     error  // the first breach of the protocol
	sinkErr    error
}

func (s seen) terminal() bool { return s.done != nil || s.failure != nil }

// listener reads a worker's events, holds them against the protocol, and
// delivers them.
type listener struct {
	job     trainer.Job
	sink    Sink
	next    func() ([]trainer.Event, error)
	foreign bool // a decoded engine numbers nothing and says no hello
	began   time.Time

	trouble chan struct{} // gets one value when the worker must be ended
	over    chan struct{} // closed after the terminal event or the end of the pipe
	ended   chan struct{} // closed when nothing more is delivered

	mu sync.Mutex
	s  seen
}

func newListener(r io.Reader, decode func([]byte) ([]trainer.Event, error), job trainer.Job, began time.Time, sink Sink) *listener {
	l := &listener{
		job: job, sink: sink, began: began, foreign: decode != nil,
		trouble: make(chan struct{}, 1), over: make(chan struct{}), ended: make(chan struct{}),
	}
	if job.From != nil {
		l.s.lastStep = job.From.Step
	}
	if decode == nil {
		in := wire.NewReader(r)
		l.next = func() ([]trainer.Event, error) {
			e, err := in.Next()
			return []trainer.Event{e}, err
		}
		return l
	}
	lines := wire.NewLines(r)
	l.next = func() ([]trainer.Event, error) {
		line, err := lines.Next()
		if err != nil {
			return nil, err
		}
		events, err := decode(line)
		if err != nil {
			return nil, fmt.Errorf("decode %.80q: %w", line, err)
		}
		return events, nil
	}
	return l
}

func (l *listener) snapshot() seen {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.s
}

// listen reads until the pipe's end. After a breach it goes on reading, so that
// the worker is not held up, but believes nothing any more.
func (l *listener) listen(r io.Reader) {
	defer close(l.ended)
	for l.deliverNext() {
	}
	io.Copy(io.Discard, r) //nolint:errcheck // nothing is wanted of it
	if !l.snapshot().terminal() {
		close(l.over)
	}
}

// deliverNext reports whether there may be more.
func (l *listener) deliverNext() bool {
	events, err := l.next()
	var line *wire.LineError
	switch {
	case errors.Is(err, io.EOF):
		return false
	case errors.As(err, &line) && line.Torn && !l.snapshot().terminal():
		// It died in mid-word, which its end tells more about.
		l.mu.Lock()
		l.s.torn = line.Error()
		l.mu.Unlock()
		return false
	case err != nil:
		l.broke(err)
		return false
	}
	for _, e := range events {
		if err := l.take(&e); err != nil {
			l.broke(err)
			return false
		}
		l.deliver(e)
		if isLast(e) {
			close(l.over)
		}
	}
	return true
}

func isLast(e trainer.Event) bool {
	switch e.Payload.(type) {
	case trainer.Done, trainer.Failure:
		return true
	}
	return false
}

// take holds an event against the protocol and remembers what it tells.
func (l *listener) take(e *trainer.Event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &l.s
	since := time.Since(l.began)
	e.Segment = l.job.Segment // a worker learns of it only after its hello
	if l.foreign {
		e.Seq, e.Elapsed = s.events, since
	}
	if err := l.check(*e); err != nil {
		return err
	}
	if s.ready != nil {
		// By the worker's clock, since ours includes a slow sink; but no more than can be true.
		s.slowest = max(s.slowest, min(e.Elapsed-s.elapsed, since))
	}
	s.events++
	s.lastSeq, s.elapsed, s.lastStep = e.Seq, e.Elapsed, max(s.lastStep, e.Step)
	switch p := e.Payload.(type) {
	case trainer.Hello:
		s.hello = &p
	case trainer.Ready:
		s.ready = &p
	case trainer.Step:
		s.steps++
	case trainer.Eval:
		s.evaluated = true
	case trainer.Checkpoint:
		s.checkpoint = &p.Ref
	case trainer.Done:
		s.done = &p
	case trainer.Failure:
		s.failure = &p
	}
	return nil
}

func (l *listener) check(e trainer.Event) error {
	kind := e.Payload.Kind()
	switch {
	case l.s.done != nil:
		return fmt.Errorf("a %s event after its last, %s", kind, trainer.KindDone)
	case l.s.failure != nil:
		return fmt.Errorf("a %s event after its last, %s", kind, trainer.KindError)
	case l.foreign:
		return nil
	case l.s.events > 0 && e.Seq != l.s.lastSeq+1:
		return fmt.Errorf("%s event %d follows event %d: events were lost", kind, e.Seq, l.s.lastSeq)
	case l.s.events == 0 && kind != trainer.KindHello && kind != trainer.KindError:
		return fmt.Errorf("its first event is %s, not %s", kind, trainer.KindHello)
	case l.s.events > 0 && kind == trainer.KindHello:
		return errors.New("it said hello twice")
	}
	return nil
}

// deliver hands an event to the sink. After the sink's first error it gets no more.
func (l *listener) deliver(e trainer.Event) {
	if l.sink == nil || l.snapshot().sinkErr != nil {
		return
	}
	l.setDelivering(true)
	err := l.sink(e)
	l.setDelivering(false)
	if err != nil {
		l.mu.Lock()
		l.s.sinkErr = fmt.Errorf("deliver %s event %d: %w", e.Payload.Kind(), e.Seq, err)
		l.mu.Unlock()
		l.alarm()
	}
}

func (l *listener) setDelivering(on bool) {
	l.mu.Lock()
	l.s.delivering = on
	l.mu.Unlock()
}

func (l *listener) broke(err error) {
	l.mu.Lock()
	l.s.breach = err
	l.mu.Unlock()
	l.alarm()
}

func (l *listener) alarm() {
	select {
	case l.trouble <- struct{}{}:
	default:
	}
}
