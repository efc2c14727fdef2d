package worker

import (
	"os"
	"time"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// Sink takes the events of a worker, in order, from one goroutine. Its error is
// ours, not the worker's: it ends the worker and comes back from Run.
type Sink func(trainer.Event) error

// Options say how a worker is supervised. The zero value is for use.
type Options struct {
	// LogPath is where what the worker prints is appended; empty keeps only
	// the last lines, for Result.LogTail.
	LogPath string
	// LogLimit is the size at which the log file is cut; 0 means 64 MiB.
	LogLimit int64
	// Lock, when not nil, is inherited by the worker as its descriptor 4.
	Lock *os.File

	Ladder Ladder
	Stall  Stall
}

func (o Options) withDefaults() Options {
	o.LogLimit = orElse(o.LogLimit, 64<<20)
	o.Stall.Start = orElse(o.Stall.Start, 10*time.Minute)
	o.Stall.Evaluation = orElse(o.Stall.Evaluation, time.Hour)
	o.Stall.Step = orElse(o.Stall.Step, time.Minute)
	return o
}

// Ladder is how long each way to end a worker is given before the next one is
// taken. What is zero follows the slowest step seen.
type Ladder struct {
	Stop      time.Duration // after the stop command; default max(30 s, 3 × slowest)
	Close     time.Duration // after the end of its input; default max(10 s, 3 × slowest) + 5 s, more than workers promise to need
	Interrupt time.Duration // after SIGINT; default 10 s
	Exit      time.Duration // to be gone after the last event; default 30 s
}

func (l Ladder) scaledTo(slowest time.Duration) Ladder {
	return Ladder{
		Stop:      orElse(l.Stop, max(30*time.Second, 3*slowest)),
		Close:     orElse(l.Close, max(10*time.Second, 3*slowest)+5*time.Second),
		Interrupt: orElse(l.Interrupt, 10*time.Second),
		Exit:      orElse(l.Exit, 30*time.Second),
	}
}

func orElse[T comparable](v, fallback T) T {
	if v == *new(T) {
		return fallback
	}
	return v
}
