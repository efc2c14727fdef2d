package trainer

import "time"

// Job is one piece of work for one worker process: a calibration burst, a
// stretch of a training, or a whole training.
type Job struct {
	Config Config `json:"config"`

	// Tokens are the token files (package trainer/data) of the splits.
	Tokens TokenFiles `json:"tokens"`

	// Dir is where the worker may write: checkpoints/NNNNNNN below it, and the
	// finished adapter in adapter/ when the job reaches Config.Schedule.Steps.
	// Empty forbids writing: a burst.
	Dir string `json:"dir,omitempty"`

	// From continues a training from a checkpoint; nil starts at step 0.
	From *CheckpointRef `json:"from,omitempty"`

	// Segment numbers the worker processes of one training, from 0.
	Segment int `json:"segment"`

	// UntilStep ends the job when that many steps of the training are done,
	// counted from step 0 of the training. 0 leaves it to Shapes or Budget.
	UntilStep int `json:"until_step"`

	// Budget ends the job at the first step boundary after this much time
	// since the first step ended, which may have compiled kernels for minutes;
	// 0 is no limit. Rounded to milliseconds.
	Budget time.Duration `json:"-"`

	// MaxPeakBytes ends a burst soon after the first step whose peak is above, as if
	// it had run out of memory: with shapes in rising order that is before much more
	// is taken than was meant. 0 is no limit. The parent watches it.
	MaxPeakBytes int64 `json:"-"`

	// Shapes, when there are any, replace the data's own batches: each runs
	// for its Steps in the order given, filled with rows of the training
	// split cut and repeated to the exact shape, with the allocator's cache
	// cleared and its peak reset in between. They train no usable adapter.
	Shapes []Shape `json:"shapes,omitempty"`

	// ShapeSeconds ends each shape early, when LeastSteps of its steps are done and
	// all but the first, which may compile, took that long; 0 runs all of them.
	ShapeSeconds float64 `json:"shape_seconds,omitempty"`

	// Limits changes MLX's limits between steps, so that one process tells what
	// they cost.
	Limits []StepLimits `json:"limits,omitempty"`

	// SaveOnStop writes a checkpoint when the job is asked to stop.
	SaveOnStop bool `json:"save_on_stop"`

	// Evaluate validates before the first step, every Config.Schedule.EvalEvery
	// steps, and after the last.
	Evaluate bool `json:"evaluate"`

	Mode Mode `json:"mode"`
}

// LeastSteps are the steps of a shape that ShapeSeconds leaves.
const LeastSteps = 3

// StepLimits are limits of MLX from a step of a job on; one that is absent stays as
// it is.
type StepLimits struct {
	After       int        `json:"after"` // steps that are done by then
	MemoryBytes Opt[int64] `json:"memory_bytes,omitzero"`
	CacheBytes  Opt[int64] `json:"cache_bytes,omitzero"`
}

// Shape is a batch of Batch rows of Width tokens each, Width-1 of which are
// predicted, run for Steps steps. In a packed batch rows lie end to end, each as
// long as it is: Width is then that of the longest.
type Shape struct {
	Batch  int `json:"batch"`
	Width  int `json:"width"`
	Packed int `json:"packed,omitempty"` // positions of a packed batch; 0 for rows padded to Width
	Steps  int `json:"steps,omitempty"`
}

// Positions is the number of tokens that go through the model in one step.
func (s Shape) Positions() int64 {
	if s.Packed > 0 {
		return int64(s.Packed)
	}
	return int64(s.Batch) * int64(s.Width-1)
}

// Even is the shape as bursts can run it: rows of one width with as many positions
// as the batch has, rounded up to whole tokens.
func (s Shape) Even() Shape {
	out := Shape{Batch: s.Batch, Width: s.Width}
	if s.Packed > 0 {
		out.Width = 1 + (s.Packed+s.Batch-1)/s.Batch
	}
	return out
}

// TokenFiles are paths of tokenized splits; Valid may be empty.
type TokenFiles struct {
	Train string `json:"train"`
	Valid string `json:"valid,omitempty"`
}

// CheckpointRef names a durable state of a training.
type CheckpointRef struct {
	Step int    `json:"step"` // steps done when it was written
	Dir  string `json:"dir"`
}

// Mode says how much a worker measures.
type Mode string

const (
	// Normal measures what costs nothing: losses, times and counters.
	Normal Mode = "normal"
	// Profile also separates phases, which changes both time and peak memory.
	Profile Mode = "profile"
)
