package trainer

import "time"

// Outcome is what became of the subject of a run.
type Outcome string

const (
	Finished Outcome = "finished" // did what the job asked for
	Stopped  Outcome = "stopped"  // ended early because it was asked to
	Failed   Outcome = "failed"   // said what went wrong and ended
	Crashed  Outcome = "crashed"  // ended without a word, by itself
	Killed   Outcome = "killed"   // ended by a signal from outside; cause unknown
	OOM      Outcome = "oom"      // ran out of memory, with evidence
	Stalled  Outcome = "stalled"  // stopped making progress and was ended
	Broken   Outcome = "broken"   // broke the protocol and was ended
)

// Good reports whether the subject did what it was asked to.
func (o Outcome) Good() bool { return o == Finished || o == Stopped }

// Result is what is known after a worker process has ended.
type Result struct {
	Outcome      Outcome        `json:"outcome"`
	SuspectedOOM bool           `json:"suspected_oom,omitempty"` // death fits, but nothing proves it
	Evidence     []Evidence     `json:"evidence,omitempty"`
	Failure      *Failure       `json:"failure,omitempty"` // the worker's own words, when it had any
	Done         *Done          `json:"done,omitempty"`
	Hello        *Hello         `json:"hello,omitempty"`
	Ready        *Ready         `json:"ready,omitempty"`
	LastStep     int            `json:"last_step"`            // steps of the training done when it ended
	Checkpoint   *CheckpointRef `json:"checkpoint,omitempty"` // newest durable state that it wrote
	ExitCode     Opt[int]       `json:"exit_code,omitzero"`
	Signal       string         `json:"signal,omitempty"`
	LogTail      string         `json:"log_tail,omitempty"` // last lines of what it printed
	Elapsed      time.Duration  `json:"elapsed_ns"`
}

// Evidence is one observation behind a verdict.
type Evidence struct {
	Name     string `json:"name"`
	Observed string `json:"observed"`
	Source   string `json:"source"`
}

// Figures are the numbers to which a training is held.
type Figures struct {
	PeakBytes       Opt[int64]   `json:"peak_bytes,omitzero"`        // MLX's peak of active memory
	FootprintBytes  Opt[int64]   `json:"footprint_bytes,omitzero"`   // highest footprint of the process
	TokensPerSecond Opt[float64] `json:"tokens_per_second,omitzero"` // real tokens over step and data time
	StepSeconds     Opt[float64] `json:"step_seconds,omitzero"`      // mean, data time included
	TotalSeconds    Opt[float64] `json:"total_seconds,omitzero"`     // the whole training, evaluation and reloads included
	ValLoss         Opt[float64] `json:"val_loss,omitzero"`
	LeakBytesAStep  Opt[float64] `json:"leak_bytes_a_step,omitzero"` // of active memory
}

// Expected are figures promised before a training, each with the relative
// error that its maker states.
type Expected struct {
	Figures
	PeakError   float64 `json:"peak_error"`   // e.g. 0.03 for ±3 %
	TokensError float64 `json:"tokens_error"` // e.g. 0.15
	Basis       string  `json:"basis"`        // what was measured to promise this
}
