package command

import (
	"time"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// Reading is what one line says. What it does not say is absent.
type Reading struct {
	Line int64                      // of the log, from 1
	At   trainer.Opt[time.Duration] // since the patient was started, by our clock; absent in a log

	Step  trainer.Opt[int] // steps of the training done
	Steps trainer.Opt[int] // steps that it is to do

	Loss         trainer.Opt[trainer.Float] // of the step, or the mean since the last report
	AverageLoss  trainer.Opt[trainer.Float] // smoothed in the patient's own way
	ValLoss      trainer.Opt[trainer.Float]
	ValSeconds   trainer.Opt[float64]
	LearningRate trainer.Opt[trainer.Float]

	TokensPerSecond trainer.Opt[float64]
	StepsPerSecond  trainer.Opt[float64]
	TrainedTokens   trainer.Opt[int64] // since the start
	Positions       trainer.Opt[int64] // of the step, padding included: the size of its shape
	Elapsed         trainer.Opt[Clock] // since the start, by the patient's clock
	Phase           string             // part of the step in which memory was read

	Memory   []Memory
	Notice   *Notice
	Settings []Setting
	Doubts   []Doubt
}

// Clock is a time that a patient printed, known to a multiple of Resolution.
type Clock struct {
	Time       time.Duration
	Resolution time.Duration
}

// MemoryKind says what a memory number counts.
type MemoryKind string

const (
	ActiveMemory    MemoryKind = "active"    // MLX's live buffers
	PeakMemory      MemoryKind = "peak"      // highest of them
	CacheMemory     MemoryKind = "cache"     // MLX's buffers kept for reuse
	ResidentMemory  MemoryKind = "resident"  // resident set, blind to GPU memory on a Mac
	AvailableMemory MemoryKind = "available" // of the machine, as the patient believes
	MemoryLimit     MemoryKind = "limit"     // that the patient set itself
	LeakedMemory    MemoryKind = "leaked"    // a step, as the patient believes
	SomeMemory      MemoryKind = "memory"    // it does not say which
	FootprintMemory MemoryKind = "footprint" // of all its processes, read by us
)

// Memory is a memory number in the patient's own unit.
type Memory struct {
	Kind       MemoryKind
	Value      float64
	Unit       string             // as printed, empty when it printed none
	Bytes      trainer.Opt[int64] // GB taken as 10⁹ and GiB as 2³⁰ bytes; absent without a unit
	Binary     trainer.Opt[int64] // bytes if a decimal unit was written for the binary one, as many programs do
	Resolution float64            // bytes of a one in the last printed digit; 0 when unknown
}

// Notice is something that a patient says in words.
type Notice struct {
	Level NoticeLevel
	Code  string // stable, dotted
	Text  string
	Fail  trainer.FailKind // of an error
	Fatal bool             // the training ends here, whatever the exit status says
}

// NoticeLevel sorts notices.
type NoticeLevel string

const (
	InfoNotice    NoticeLevel = "info"
	WarningNotice NoticeLevel = "warning"
	ErrorNotice   NoticeLevel = "error"
)

// Setting is a value that a patient says it trains with, as printed.
type Setting struct{ Name, Value string }

// Doubt says why a printed value should not be relied on.
type Doubt struct {
	Field string // as in FieldSteps…
	Why   string
}

// Fields that doubts are about.
const (
	FieldStepsPerSecond  = "steps_per_second"
	FieldTokensPerSecond = "tokens_per_second"
	FieldTrainedTokens   = "trained_tokens"
	FieldElapsed         = "elapsed"
	FieldMemory          = "memory"
)

// Doubtful returns the reason to doubt a field, or nothing.
func (r Reading) Doubtful(field string) string {
	for _, d := range r.Doubts {
		if d.Field == field {
			return d.Why
		}
	}
	return ""
}

func (r *Reading) doubt(field, why string) { r.Doubts = append(r.Doubts, Doubt{field, why}) }

// measured reports whether r has anything that belongs to a step.
func (r Reading) measured() bool {
	return r.Loss.Known() || r.ValLoss.Known() || r.AverageLoss.Known() || r.LearningRate.Known() || r.Step.Known() ||
		r.TokensPerSecond.Known() || r.StepsPerSecond.Known() || r.TrainedTokens.Known() || r.Elapsed.Known() || len(r.Memory) > 0
}
