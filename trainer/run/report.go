package run

import (
	"time"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// Schema names the JSON form of a Report.
const Schema = "mlxdyno/train/1"

// State says where a training stands, as its directory tells it.
type State string

const (
	StateRunning     State = "running"     // somebody holds the lock
	StateFinished    State = "finished"    // every step done, adapter complete
	StateInterrupted State = "interrupted" // ended early on request, state saved
	StateFailed      State = "failed"      // could not go on; Report.Failure says why
	StateDied        State = "died"        // nobody runs it and nobody said goodbye: the supervising process was killed
)

// Report is a training told from its directory: finished, running or dead.
// It is plain data. Steps that a later segment replayed or threw away do not
// count in it.
type Report struct {
	Schema  string    `json:"schema"`
	State   State     `json:"state"`
	Dir     string    `json:"dir"`
	Created time.Time `json:"created"`

	Config    trainer.Config `json:"config"` // in force at the end, after any back-off
	ConfigKey string         `json:"config_key"`
	Identity  Identity       `json:"identity"`

	StepsDone   int                  `json:"steps_done"`
	Steps       int                  `json:"steps"` // planned
	Ready       *trainer.Ready       `json:"ready,omitempty"`
	Segments    []Segment            `json:"segments,omitempty"`
	Reloads     int                  `json:"reloads"` // fresh worker processes that were planned or asked for by the guard
	BackOffs    []BackOff            `json:"back_offs,omitempty"`
	Checkpoints []CheckpointRecord   `json:"checkpoints,omitempty"` // on disk, oldest first
	Losses      []LossPoint          `json:"losses,omitempty"`
	Evals       []trainer.EvalRecord `json:"evals,omitempty"`
	FirstEval   *trainer.EvalRecord  `json:"first_eval,omitempty"`
	LastEval    *trainer.EvalRecord  `json:"last_eval,omitempty"`
	BestEval    *trainer.EvalRecord  `json:"best_eval,omitempty"` // lowest finite loss

	Figures  trainer.Figures   `json:"figures"`            // measured, the profile left out
	Expected *trainer.Expected `json:"expected,omitempty"` // promised before
	Compared []Comparison      `json:"compared,omitempty"`
	Totals   Totals            `json:"totals"`
	Profile  *Profile          `json:"profile,omitempty"` // nil unless one was recorded

	AdapterPath string    `json:"adapter_path,omitempty"` // complete adapter; empty until there is one
	Failure     *Failure  `json:"failure,omitempty"`
	Notes       []Note    `json:"notes,omitempty"`    // what this program did or noticed
	Warnings    []Warning `json:"warnings,omitempty"` // what workers or the directory's state warn of

	ResumeCommand string `json:"resume_command,omitempty"` // empty when there is nothing to go on from
}

// Segment is one worker process of a training.
type Segment struct {
	Number     int                  `json:"number"`
	Started    time.Time            `json:"started"`
	ConfigKey  string               `json:"config_key"`
	FromStep   int                  `json:"from_step"`
	UntilStep  int                  `json:"until_step"`
	LastStep   int                  `json:"last_step"`         // steps of the training done when it ended
	Outcome    trainer.Outcome      `json:"outcome,omitempty"` // empty while it runs, or when nobody saw it end
	Reason     string               `json:"reason,omitempty"`  // why it was asked to end early: interrupt or guard
	Profile    bool                 `json:"profile,omitempty"` // it recorded the profile, or was to
	Seconds    trainer.Opt[float64] `json:"seconds,omitzero"`  // start of the process to its end
	SuspectOOM bool                 `json:"suspected_oom,omitempty"`
	Evidence   []trainer.Evidence   `json:"evidence,omitempty"`
	Failure    *trainer.Failure     `json:"failure,omitempty"`
	ExitCode   trainer.Opt[int]     `json:"exit_code,omitzero"`
	Signal     string               `json:"signal,omitempty"`
	LogTail    string               `json:"log_tail,omitempty"` // unless it ended well
	PeakBytes  trainer.Opt[int64]   `json:"peak_bytes,omitzero"`
	Load       trainer.Opt[float64] `json:"load_seconds,omitzero"`
	Device     *trainer.Device      `json:"device,omitempty"`
	BLAS       string               `json:"blas,omitempty"`
	Versions   map[string]string    `json:"versions,omitempty"`
	Rate       trainer.Opt[float64] `json:"tokens_per_second,omitzero"`
}

// BackOff is a change that the supervisor made to get past a failure.
type BackOff struct {
	At       time.Time      `json:"at"`
	Segment  int            `json:"segment"` // whose end asked for it
	Knob     string         `json:"knob"`
	From     string         `json:"from"`
	To       string         `json:"to"`
	Why      string         `json:"why"`
	Reorders bool           `json:"reorders_data,omitempty"` // the training sees its rows in another order than planned
	Config   trainer.Config `json:"config"`                  // in force from here
}

// CheckpointRecord is a checkpoint on disk.
type CheckpointRecord struct {
	trainer.CheckpointRef
	Bytes int64 `json:"bytes"`
}

// LossPoint is the mean training loss of a stretch of steps.
type LossPoint struct {
	Step  int           `json:"step"`  // last of the stretch
	Steps int           `json:"steps"` // how many the mean is over
	Loss  trainer.Float `json:"loss"`
}

// Comparison sets a measured figure beside the promised one.
type Comparison struct {
	Name          string               `json:"name"` // JSON name of the field of trainer.Figures
	Unit          string               `json:"unit"`
	Expected      float64              `json:"expected"`
	Actual        float64              `json:"actual"`
	RelativeError float64              `json:"relative_error"`          // (actual − expected) / expected
	Promise       trainer.Opt[float64] `json:"promise,omitzero"`        // error that was stated with the promise
	Within        trainer.Opt[bool]    `json:"within_promise,omitzero"` // unknown when no error was stated
}

// Totals are sums over the whole training, all segments together.
type Totals struct {
	Seconds           trainer.Opt[float64] `json:"seconds,omitzero"`    // worker processes from start to end; unknown when one was not seen to end
	StepSeconds       float64              `json:"step_seconds"`        // steps that count, data included
	DataSeconds       float64              `json:"data_seconds"`        // of them, waiting for data
	DataShare         trainer.Opt[float64] `json:"data_share,omitzero"` // DataSeconds of StepSeconds
	EvalSeconds       float64              `json:"eval_seconds"`
	CheckpointSeconds float64              `json:"checkpoint_seconds"`
	LoadSeconds       float64              `json:"load_seconds"`
	Tokens            int64                `json:"tokens"` // real tokens of the steps that count
	Supervised        int64                `json:"supervised"`
	ReplayedSteps     int                  `json:"replayed_steps"`   // done, lost and done again
	UnrecordedSteps   int                  `json:"unrecorded_steps"` // trained and saved, but their events were lost with the supervising process
}

// Failure is why a training could not go on and what to do about it.
type Failure struct {
	Outcome  trainer.Outcome    `json:"outcome"`
	Code     string             `json:"code,omitempty"` // the worker's own, when it had one
	Text     string             `json:"text"`
	Fix      []string           `json:"fix,omitempty"`
	Evidence []trainer.Evidence `json:"evidence,omitempty"`
	LogTail  string             `json:"log_tail,omitempty"`
}

// Note is something the supervisor did or noticed.
type Note struct {
	At   time.Time `json:"at"`
	Code string    `json:"code"` // stable: "guard.reload", "drift.speed", …
	Step int       `json:"step"`
	Text string    `json:"text"`
}

// Warning is a worker's warning, or a flaw of the directory, seen Count times.
type Warning struct {
	trainer.Warning
	Count int `json:"count"`
}

// Identity is what must be the same for a training to go on exactly. Empty
// fields are not known.
type Identity struct {
	Model    string            `json:"model"` // key of the base weights
	Data     string            `json:"data"`  // key of the token files
	Versions map[string]string `json:"versions,omitempty"`
	BLAS     string            `json:"blas,omitempty"`
	Threads  trainer.Opt[int]  `json:"threads,omitzero"`
	Device   trainer.Device    `json:"device,omitzero"`
}
