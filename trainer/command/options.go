package command

import (
	"os"
	"time"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// Options say how a patient is run. The zero value runs it to its end.
type Options struct {
	Dir string   // its working directory; empty for ours
	Env []string // its environment; nil for ours

	Adapters  []Adapter           // to pick from; default Adapters()
	OnReading func(Reading) error // gets every reading, from one goroutine; its error ends the patient

	// A burst ends when that many steps were reported, counted from FromStep or
	// from the first that is reported when that is beyond all of them, or after
	// that much time, whichever comes first. 0 is no limit.
	Steps    int
	FromStep int
	Budget   time.Duration
	// Samples of its processes, read after a step was reported, are taken before
	// Steps end a burst: quick steps would be over before memory was looked at.
	// MostSteps end it all the same; 0 is no bound.
	Samples   int
	MostSteps int
	// Silence ends a patient that has printed nothing for this long, as
	// stalled. 0 waits for ever.
	Silence time.Duration

	// Signals are passed on to the patient as they come: a terminal's Ctrl-C
	// reaches mlxdyno and not the patient, which has a terminal of its own.
	Signals <-chan os.Signal

	// LogPath is where its output is kept as it came; empty keeps the last
	// lines only. Of more than LogLimit bytes (default 64 MiB) the first and
	// the last halves are kept, of which the last is at most 4 MiB.
	LogPath  string
	LogLimit int64

	Meter       Meter         // reads its processes; nil reads none
	SampleEvery time.Duration // default 1 s
	// OOMKills counts processes that the kernel has killed for want of memory
	// in the patient's control group; nil when nobody counts them.
	OOMKills func() trainer.Opt[int64]

	Pipes         bool   // print into a pipe instead of a terminal of its own
	Columns, Rows uint16 // of its terminal; default 200 × 40
	Ladder        Ladder
}

// Ladder is how long each way to end a patient is given before the next.
type Ladder struct {
	Interrupt time.Duration // after SIGINT, in which trainers may save; default 15 s
	Terminate time.Duration // after SIGTERM; default 5 s
}

func (o Options) withDefaults() Options {
	if o.Adapters == nil {
		o.Adapters = Adapters()
	}
	o.LogLimit = orElse(o.LogLimit, 64<<20)
	o.SampleEvery = orElse(o.SampleEvery, time.Second)
	o.Columns, o.Rows = orElse(o.Columns, 200), orElse(o.Rows, 40)
	o.Ladder.Interrupt = orElse(o.Ladder.Interrupt, 15*time.Second)
	o.Ladder.Terminate = orElse(o.Ladder.Terminate, 5*time.Second)
	return o
}

func orElse[T comparable](v, fallback T) T {
	if v == *new(T) {
		return fallback
	}
	return v
}

// Meter reads what processes use, together. It is called once a SampleEvery and
// must come back soon.
type Meter interface {
	Read(pids []int) Usage
}

// Usage is what a patient's processes use at one time, and how the machine is.
type Usage struct {
	Footprint trainer.Opt[int64]         // bytes that the system charges them with
	Resident  trainer.Opt[int64]         // bytes
	Threads   trainer.Opt[int]           //
	CPU       trainer.Opt[time.Duration] // that those which are alive have used

	GPUBusy  trainer.Opt[int]   // percent, of the whole machine's GPU
	SwapOut  trainer.Opt[int64] // bytes of the whole machine, since boot
	Pressure string             // of the whole machine: normal, warn or critical; empty when unknown
}

// Sample is a Usage with its time and place.
type Sample struct {
	At        time.Duration // since the start
	Step      int           // that was reported last
	Processes int
	Usage
}

// Report is what is known after a patient has ended.
type Report struct {
	Result       trainer.Result // LogTail has its last lines
	Detected     Detected
	Lines        LineStats
	Observations Observations
	Samples      []Sample // thinned out when there are many
	Left         int      // processes that it left behind, which were ended
	EndedFor     Reason
	Notes        []string // what a reader should know, in sentences
}

// Reason is why a patient was ended.
type Reason string

const (
	ByItself  Reason = ""          // it was not
	ForSteps  Reason = "steps"     // the burst's steps were reported
	ForBudget Reason = "budget"    // its time was over
	ForCaller Reason = "cancelled" // the caller's context
	ForStall  Reason = "stalled"   // it printed nothing for too long
	ForError  Reason = "error"     // ours
)

const maxSamples = 4096

// samples keeps a bounded number of samples of equal distance.
type samples struct {
	kept  []Sample
	every int
	seen  int
}

func (s *samples) add(v Sample) {
	s.every = max(s.every, 1)
	if s.seen%s.every == 0 {
		if len(s.kept) == maxSamples {
			for i := range maxSamples / 2 {
				s.kept[i] = s.kept[2*i]
			}
			s.kept, s.every = s.kept[:maxSamples/2], 2*s.every
		}
		if s.seen%s.every == 0 {
			s.kept = append(s.kept, v)
		}
	}
	s.seen++
}
