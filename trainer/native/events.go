package native

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/wire"
)

// events numbers events and writes them at once: the pipe is the bounded queue.
// When it is full the writer waits, and the next step says for how long.
type events struct {
	out     *wire.Writer
	began   time.Time
	seq     int64
	step    int
	segment int
	waited  time.Duration
}

func newEvents(w io.Writer) *events { return &events{out: wire.NewWriter(w), began: time.Now()} }

// emit writes one event. That nobody listens is an error that ends the worker.
func (e *events) emit(p trainer.Payload) error {
	began := time.Now()
	err := e.out.Write(trainer.Event{Segment: e.segment, Seq: e.seq, Elapsed: time.Since(e.began), Step: e.step, Payload: p})
	e.seq++
	e.waited += time.Since(began)
	return err
}

func (e *events) warn(code, format string, args ...any) error {
	return e.emit(trainer.Warning{Code: code, Text: fmt.Sprintf(format, args...)})
}

func (e *events) takeWait() float64 {
	w := e.waited
	e.waited = 0
	return w.Seconds()
}

// commands is what the parent says, and whether it is still there.
type commands struct {
	lines *wire.Lines

	mu      sync.Mutex
	stop    bool // asked to leave
	save    bool // and to save before
	gone    bool // input has ended: there is no parent any more
	slowest time.Duration
}

// leastGrace is how long a worker without a parent may take to reach the end of
// its step, at least.
const leastGrace = 10 * time.Second

func newCommands(r io.Reader) *commands { return &commands{lines: wire.NewLines(r)} }

// job returns the job, or nil when the parent went away before it gave one.
func (c *commands) job() (*trainer.Job, error) {
	for {
		line, err := c.lines.Next()
		if err != nil {
			return nil, nil //nolint:nilerr // the end of the input is no error here
		}
		command, err := wire.DecodeCommand(line)
		if err != nil {
			return nil, err
		}
		if command.Name == wire.CommandJob {
			return &command.Job, nil
		}
	}
}

// listen takes commands until the input ends, and then sees to it that the
// process ends too, whatever it is at.
func (c *commands) listen() {
	for {
		line, err := c.lines.Next()
		if err != nil {
			break
		}
		if command, err := wire.DecodeCommand(line); err == nil && command.Name == wire.CommandStop {
			c.mu.Lock()
			c.stop, c.save = true, command.Checkpoint
			c.mu.Unlock()
		}
	}
	c.mu.Lock()
	c.gone = true
	grace := max(leastGrace, 3*c.slowest)
	c.mu.Unlock()
	time.Sleep(grace)
	fmt.Fprintln(os.Stderr, "the parent is gone, and the step does not end")
	os.Exit(1)
}

// state returns what was said so far.
func (c *commands) state() (stop, save, gone bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stop, c.save, c.gone
}

// leaving reports whether there is a reason to leave.
func (c *commands) leaving() bool {
	stop, _, gone := c.state()
	return stop || gone
}

func (c *commands) took(step time.Duration) {
	c.mu.Lock()
	c.slowest = max(c.slowest, step)
	c.mu.Unlock()
}
