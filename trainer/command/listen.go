package command

import (
	"errors"
	"io"
	"sync"
	"time"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// listener reads a patient's lines from one goroutine; others ask it what is
// known by now.
type listener struct {
	o        Options
	began    time.Time
	lines    *Lines
	detector *Detector

	enough chan struct{} // closed when the burst's steps were reported
	failed chan struct{} // closed when the caller's OnReading failed
	over   chan struct{} // closed when nothing is left to read

	mu        sync.Mutex
	seen      Observations
	last      ending
	bytes     int64
	step      trainer.Opt[int] // reported last, whoever's adapter it will be
	from      trainer.Opt[int] // that steps are counted from
	footprint trainer.Opt[int64]
	err       error
}

func newListener(c *child, log *transcript, o Options) *listener {
	return &listener{o: o, began: c.began, lines: NewLines(io.TeeReader(c.screen, log)), detector: NewDetector(o.Adapters...),
		enough: make(chan struct{}), failed: make(chan struct{}), over: make(chan struct{})}
}

func (l *listener) listen() {
	defer close(l.over)
	for {
		line, err := l.lines.Next()
		if err != nil {
			l.finish(err)
			return
		}
		l.take(line)
	}
}

func (l *listener) take(line Line) {
	l.mu.Lock()
	defer l.mu.Unlock()
	line.At, line.Footprint = trainer.Some(time.Since(l.began)), l.footprint
	l.bytes = l.lines.Stats().Bytes
	l.last.add(line)
	l.add(l.detector.Parse(line))
	for _, r := range l.detector.Leading() {
		l.count(r)
	}
}

func (l *listener) finish(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.add(l.detector.Finish())
	l.seen.Close()
	if !errors.Is(err, io.EOF) && l.err == nil {
		l.err = err
	}
}

func (l *listener) add(readings []Reading) {
	for _, r := range readings {
		l.count(r)
		l.seen.Add(r)
		if l.o.OnReading == nil || l.err != nil {
			continue
		}
		if l.err = l.o.OnReading(r); l.err != nil {
			close(l.failed)
		}
	}
}

// count notes how far the patient has come. Readings that are held back count
// too, and again when they are passed on, which changes nothing.
func (l *listener) count(r Reading) {
	step, ok := r.Step.Get()
	if !ok {
		return
	}
	l.step = r.Step
	if l.o.Steps <= 0 {
		return
	}
	if !l.from.Known() {
		l.from = trainer.Some(l.o.FromStep)
		if step >= l.o.FromStep+l.o.Steps {
			l.from = r.Step
		}
	}
	if step-l.from.Or(0) >= l.o.Steps {
		select {
		case <-l.enough:
		default:
			close(l.enough)
		}
	}
}

// heard is what is known by now.
func (l *listener) heard() (step int, bytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.step.Or(0), l.bytes
}

// took is how many steps of the burst were reported.
func (l *listener) took() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.step.Or(0) - l.from.Or(0)
}

// weigh takes a sample's footprint for the lines to come.
func (l *listener) weigh(bytes trainer.Opt[int64]) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.footprint = bytes
}
