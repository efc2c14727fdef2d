package trainer

import "time"

// Event is one thing that a worker says. Events of a worker are numbered by
// Seq without gaps; Elapsed counts from the start of that worker.
type Event struct {
	Segment int
	Seq     int64
	Elapsed time.Duration
	Step    int // steps of the training done so far
	Payload Payload
}

// Kind names a payload on the wire.
type Kind string

// Payload is what an event carries; its concrete type tells the kind.
type Payload interface{ Kind() Kind }

const (
	KindHello      Kind = "hello"
	KindReady      Kind = "ready"
	KindStep       Kind = "step"
	KindPhases     Kind = "phases"
	KindSpan       Kind = "span"
	KindHeld       Kind = "held"
	KindProfile    Kind = "profile"
	KindEval       Kind = "eval"
	KindCheckpoint Kind = "checkpoint"
	KindWarning    Kind = "warning"
	KindDone       Kind = "done"
	KindError      Kind = "error"
)

// ProtocolMajor and ProtocolMinor number the worker protocol. Another major
// version is refused; what a newer minor version adds is passed through.
const (
	ProtocolMajor = 1
	ProtocolMinor = 2
)

// Hello is a worker's first word, said before it loads a model. A worker that
// cannot load MLX says Failure instead.
type Hello struct {
	Protocol [2]int            `json:"protocol"` // major, minor
	Engine   string            `json:"engine"`
	PID      int               `json:"pid"`
	Versions map[string]string `json:"versions"` // mlx, mlx-lm, python, …
	Device   Device            `json:"device"`
	BLAS     string            `json:"blas,omitempty"`   // library that serves float32 matrix products on a CPU
	Threads  Opt[int]          `json:"threads,omitzero"` // threads of that library
	Compiled bool              `json:"compiled"`         // whether steps are compiled
	Mode     Mode              `json:"mode,omitempty"`   // as asked for
}

// Device is what MLX computes on, in MLX's own words.
type Device struct {
	Kind            string     `json:"kind"` // cpu, metal or cuda
	Name            string     `json:"name,omitempty"`
	Architecture    string     `json:"architecture,omitempty"`
	MemoryBytes     Opt[int64] `json:"memory_bytes,omitzero"`
	WorkingSetBytes Opt[int64] `json:"working_set_bytes,omitzero"` // max_recommended_working_set_size
	MaxBufferBytes  Opt[int64] `json:"max_buffer_bytes,omitzero"`
	ResourceLimit   Opt[int64] `json:"resource_limit,omitzero"` // live buffers
}

// Ready says that model and data are loaded and adapters are in place.
type Ready struct {
	LoadSeconds      float64    `json:"load_seconds"`
	Architecture     string     `json:"architecture"`
	Layers           int        `json:"layers"`
	Parameters       int64      `json:"parameters"` // of the base, quantized weights counted unpacked
	Trainable        int64      `json:"trainable"`  // parameters of the adapters
	WeightBytes      int64      `json:"weight_bytes"`
	TrainableBytes   int64      `json:"trainable_bytes"`
	AdaptedModules   int        `json:"adapted_modules"`
	QuantizedModules int        `json:"quantized_modules"` // linear and embedding modules that are quantized
	LinearModules    int        `json:"linear_modules"`    // linear and embedding modules in all
	TrainRows        int        `json:"train_rows"`
	ValidRows        int        `json:"valid_rows"`
	Memory           Memory     `json:"memory"`
	MemoryLimit      Opt[int64] `json:"memory_limit,omitzero"` // in force, bytes
	CacheLimit       Opt[int64] `json:"cache_limit,omitzero"`
	WiredLimit       Opt[int64] `json:"wired_limit,omitzero"`
}

// Memory is a reading of MLX's counters and of the process, in bytes.
type Memory struct {
	Active    Opt[int64] `json:"active,omitzero"`    // live buffers
	Peak      Opt[int64] `json:"peak,omitzero"`      // highest Active since the step (or load) began
	Cache     Opt[int64] `json:"cache,omitzero"`     // freed buffers kept for reuse, before a clearing at the end of the step
	Footprint Opt[int64] `json:"footprint,omitzero"` // what the system charges the process with: phys_footprint on macOS, the resident set on Linux
}

// Step is one finished training step.
type Step struct {
	Loss         Float        `json:"loss"` // mean over supervised tokens
	LearningRate Opt[Float]   `json:"learning_rate,omitzero"`
	Shape        Shape        `json:"shape"`
	Tokens       int64        `json:"tokens"`     // real tokens that went through, padding not counted
	Supervised   int64        `json:"supervised"` // tokens that counted in the loss
	Seconds      float64      `json:"seconds"`    // the step, data not included
	DataSeconds  float64      `json:"data_seconds"`
	Memory       Memory       `json:"memory"`             // read after the update; Peak within this step
	Traces       Opt[int]     `json:"traces,omitzero"`    // compiled shapes so far; unknown when nothing is compiled
	Live         Opt[int]     `json:"live,omitzero"`      // array handles held by the worker
	EmitWait     Opt[float64] `json:"emit_wait,omitzero"` // seconds in which a full event queue held the step up
}

// Phases splits one step's time, as measured; Profile mode only.
type Phases struct {
	Seconds map[string]float64 `json:"seconds"` // by phase: data, forward, loss, backward, optimizer
}

// Span is one leaf of a profile, summed over all profiled steps. Spans and
// Helds are said when the last profiled step is done, then their Profiled,
// and only then the checkpoint or the end of the job.
type Span struct {
	// Path is outermost first: the phase (data, forward, loss, backward,
	// optimizer), then the block ("embedding", "block 12", "head"), the layer
	// ("self_attn.q_proj", "input_layernorm") and MLX's own name of the
	// operation ("Matmul"). A leaf that belongs to no block or layer leaves the
	// element empty, or ends before it; no two spans have the same path.
	Path     []string   `json:"path"`
	Seconds  float64    `json:"seconds"` // its own, so that the spans add up to the total
	Calls    int64      `json:"calls"`
	GFLOP    Opt[Float] `json:"gflop,omitzero"` // counted from shapes
	Bytes    Opt[int64] `json:"bytes,omitzero"` // that it writes
	Modelled bool       `json:"modelled"`       // Seconds are its share of a measured piece
}

// Held is memory that was held when a profile's steps were at their peak. Helds
// add up to that peak.
type Held struct {
	// Path is outermost first: the kind (weights, adapters, optimizer,
	// activations, gradients, loss, temporary), then block and layer as in Span.
	Path     []string `json:"path"`
	Bytes    int64    `json:"bytes"`
	Modelled bool     `json:"modelled"` // shared out or computed from shapes, not read off
}

// Profiled ends a profile and says what its spans add up to.
type Profiled struct {
	Steps         int        `json:"steps"`
	Seconds       float64    `json:"seconds"`                 // of all spans
	Tokens        int64      `json:"tokens"`                  // real tokens that went through
	Positions     int64      `json:"positions"`               // tokens that went through, padding included
	Supervised    int64      `json:"supervised"`              // tokens that counted in the loss
	CeilingGFLOPS Opt[Float] `json:"ceiling_gflops,omitzero"` // GFLOP/s of a large float matrix product, measured in this process
	PeakBytes     int64      `json:"peak_bytes"`
	Spans         int        `json:"spans"` // how many were said
	Helds         int        `json:"helds"`
}

// Eval is one pass over validation rows.
type Eval struct {
	Loss    Float   `json:"loss"` // mean over supervised tokens
	Batches int     `json:"batches"`
	Seconds float64 `json:"seconds"`

	// Losses are the means of the batches one by one, and Tokens how many supervised
	// tokens each has: from them follows how sure Loss is. Empty where an engine does
	// not tell, or with more than MaxEvalBatches.
	Losses []Float `json:"losses,omitempty"`
	Tokens []int   `json:"tokens,omitempty"`
}

// MaxEvalBatches is of how many batches an Eval tells the losses.
const MaxEvalBatches = 1024

// Checkpoint says that a state is on disk and durable.
type Checkpoint struct {
	Ref     CheckpointRef `json:"ref"`
	Bytes   int64         `json:"bytes"`
	Seconds float64       `json:"seconds"`
}

// Warning is something a person should know that stopped nothing.
type Warning struct {
	Code string `json:"code"`
	Text string `json:"text"`
}

// Done ends a job that did what it was asked to.
type Done struct {
	Reason  DoneReason `json:"reason"`
	Seconds float64    `json:"seconds"`
	Adapter string     `json:"adapter,omitempty"` // directory of the finished adapter
}

// DoneReason says why a job ended.
type DoneReason string

const (
	DoneSteps  DoneReason = "steps"  // UntilStep reached, or all shapes run
	DoneBudget DoneReason = "budget" // Budget spent
	DoneStop   DoneReason = "stop"   // asked to
)

// Failure ends a job that could not go on.
type Failure struct {
	FailKind FailKind `json:"kind"`
	Code     string   `json:"code"` // stable, dotted: "model.unknown-architecture"
	Text     string   `json:"text"` // one line for a person
	Hint     string   `json:"hint,omitempty"`
	Detail   string   `json:"detail,omitempty"` // a trace, for the log
}

// FailKind sorts failures by what to do about them.
type FailKind string

const (
	FailOOM       FailKind = "oom"
	FailNonFinite FailKind = "nonfinite"
	FailData      FailKind = "data"
	FailConfig    FailKind = "config"
	FailInternal  FailKind = "internal"
)

// Unknown carries an event of a kind that this version does not know.
type Unknown struct {
	Name Kind
	Raw  []byte // the payload as it came
}

func (Hello) Kind() Kind      { return KindHello }
func (Ready) Kind() Kind      { return KindReady }
func (Step) Kind() Kind       { return KindStep }
func (Phases) Kind() Kind     { return KindPhases }
func (Span) Kind() Kind       { return KindSpan }
func (Held) Kind() Kind       { return KindHeld }
func (Profiled) Kind() Kind   { return KindProfile }
func (Eval) Kind() Kind       { return KindEval }
func (Checkpoint) Kind() Kind { return KindCheckpoint }
func (Warning) Kind() Kind    { return KindWarning }
func (Done) Kind() Kind       { return KindDone }
func (Failure) Kind() Kind    { return KindError }
func (u Unknown) Kind() Kind  { return u.Name }
