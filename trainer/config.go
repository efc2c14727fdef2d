package trainer

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
)

// Config says everything that shapes a training: two runs with equal Key on
// the same machine and versions do the same work.
type Config struct {
	Engine   string   `json:"engine"`
	Parity   bool     `json:"parity,omitempty"` // reproduce mlx-lm step by step, its defects included
	Model    Model    `json:"model"`
	Data     Data     `json:"data"`
	Quality  Quality  `json:"quality"`
	Plan     Plan     `json:"plan"`
	Schedule Schedule `json:"schedule"`
	Seed     uint64   `json:"seed"`
	Output   Output   `json:"output"`
}

// Model names the base weights.
type Model struct {
	Path      string `json:"path"`       // directory in Hugging Face / mlx-lm layout
	Quantize  int    `json:"quantize"`   // bits of affine quantization applied at load; 0 keeps the weights as stored
	GroupSize int    `json:"group_size"` // weights that share one scale when quantizing at load
}

// Data names the text and how it is cut.
type Data struct {
	Path          string `json:"path"`            // directory with train/valid/test.jsonl, or one .jsonl file
	MaskPrompt    bool   `json:"mask_prompt"`     // only the completion counts in the loss
	MaxSeqLength  int    `json:"max_seq_length"`  // tokens; longer rows are cut
	GroupByLength bool   `json:"group_by_length"` // rows of like length share a batch
}

// Engines by name.
const (
	EngineNative = "native" // our own trainer on MLX
	EngineMLXLM  = "mlx-lm" // mlx-lm's train()

	// DefaultEngine trains when nobody says otherwise.
	DefaultEngine = EngineNative
)

// Quality holds what changes what is learned. In JSON, what came later than the
// first six is left out where it has its default: a configuration that does not
// use it keeps its key.
type Quality struct {
	Rank         int        `json:"rank"`
	Scale        float64    `json:"scale"` // raw factor on the low-rank path, as mlx-lm's; alpha = scale × rank
	Dropout      float64    `json:"dropout"`
	Layers       int        `json:"layers"`        // last N blocks get adapters; -1 means all
	LearningRate float64    `json:"learning_rate"` // the highest, at the end of the warm-up
	Optimizer    string     `json:"optimizer"`
	LRSchedule   LRSchedule `json:"lr_schedule,omitzero"`
	Warmup       int        `json:"warmup,omitempty"`       // optimizer updates over which the rate rises from 0
	LREnd        float64    `json:"lr_end,omitempty"`       // rate at the end of a cosine or linear schedule
	GradClip     float64    `json:"grad_clip,omitempty"`    // largest global norm of the gradients; 0 is none
	WeightDecay  Decay      `json:"weight_decay,omitzero"`  // of adamw
	Modules      string     `json:"lora_modules,omitempty"` // names inside a block, sorted, with commas between; empty for all linear ones
}

// UnmarshalJSON gives what is left out its default.
func (q *Quality) UnmarshalJSON(b []byte) error {
	type members Quality
	m := members{LRSchedule: ConstantRate, WeightDecay: DefaultWeightDecay}
	if err := json.Unmarshal(b, &m); err != nil {
		return err
	}
	*q = Quality(m)
	return nil
}

// ModuleNames returns the modules inside a block that get adapters; none means
// all linear ones.
func (q Quality) ModuleNames() []string {
	if q.Modules == "" {
		return nil
	}
	return strings.Split(q.Modules, ",")
}

// Decay is a weight decay.
type Decay float64

// DefaultWeightDecay is that of MLX's AdamW.
const DefaultWeightDecay Decay = 0.01

// IsZero makes `json:",omitzero"` leave the default out.
func (d Decay) IsZero() bool { return d == DefaultWeightDecay }

// Plan holds what changes speed, memory or stability and not, beyond the
// order of additions, what is learned.
type Plan struct {
	Batch         int    `json:"batch"`        // rows a step
	Accumulation  int    `json:"accumulation"` // steps to one optimizer update
	Checkpointing bool   `json:"checkpointing"`
	Compile       string `json:"compile"`                  // auto, on or off
	Matmul        string `json:"matmul,omitempty"`         // of a quantized base; empty is auto
	LowRank       string `json:"low_rank,omitempty"`       // dtype of the low-rank path; empty is auto
	LossPositions string `json:"loss_positions,omitempty"` // where scores are computed; empty is auto
	StepBy        string `json:"step_by,omitempty"`        // blocks or whole; empty is auto
	Keep          string `json:"keep,omitempty"`           // for the backward pass: results or products; empty is auto
	CheckpointNth int    `json:"checkpoint_nth,omitempty"` // with Checkpointing: every so many blocks; 0 is each
	LossRows      int    `json:"loss_rows,omitempty"`      // positions whose scores are computed at once; 0 is auto
	Packing       string `json:"packing,omitempty"`        // on, off or auto; empty is auto
	MaxShapes     Shapes `json:"max_shapes,omitzero"`      // widths that grouped batches may have; 0 is any number
	MemoryLimit   Limit  `json:"memory_limit"`
	CacheLimit    Limit  `json:"cache_limit"`
	WiredLimit    Limit  `json:"wired_limit"`
}

// UnmarshalJSON gives what is left out its default.
func (p *Plan) UnmarshalJSON(b []byte) error {
	type members Plan
	m := members{MaxShapes: DefaultMaxShapes}
	if err := json.Unmarshal(b, &m); err != nil {
		return err
	}
	*p = Plan(m)
	return nil
}

// Shapes is a number of batch shapes. In JSON it is left out where it is
// DefaultMaxShapes: a configuration from before there was a bound keeps its key.
type Shapes int

// DefaultMaxShapes costs a few percent of padding, and bounds the traces that
// MLX keeps of a compiled step: it never drops one.
const DefaultMaxShapes Shapes = 8

// IsZero makes `json:",omitzero"` leave the default out.
func (s Shapes) IsZero() bool { return s == DefaultMaxShapes }

// Compiles reports whether steps are compiled on a device of that kind: cpu,
// metal or cuda. On a CPU each shape costs seconds of a C++ compiler and gains
// nothing.
func (c Config) Compiles(device string) bool {
	switch c.Plan.Compile {
	case "on":
		return true
	case "off":
		return false
	}
	return device != "cpu"
}

// Values of Plan.StepBy and Plan.Keep; empty is auto.
const (
	StepByBlocks = "blocks"
	StepByWhole  = "whole"
	KeepResults  = "results"
	KeepProducts = "products"
)

// Values of Plan.Packing; empty is auto.
const (
	PackingOn  = "on"
	PackingOff = "off"
)

// Values of Plan.Matmul, Plan.LowRank and Plan.LossPositions.
const (
	MatmulQuantized   = "quantized"
	MatmulDequantized = "dequantized"
	LowRankActivation = "activation"
	LowRankFloat32    = "float32"
	LossSupervised    = "supervised"
	LossAll           = "all"
)

// Schedule holds when things happen. Steps are mlx-lm's iterations: one batch
// through the model; optimizer updates are Steps / Plan.Accumulation.
type Schedule struct {
	Steps          int `json:"steps"`
	EvalEvery      int `json:"eval_every"`
	ValBatches     int `json:"val_batches"` // -1 means the whole validation set
	SaveEvery      int `json:"save_every"`
	ReloadInterval int `json:"reload_interval"` // steps to a worker process; 0 means one process for all
}

// Output says where results go. It does not take part in Config.Key.
type Output struct {
	AdapterPath string `json:"adapter_path"`
}

// DefaultConfig returns mlx-lm's defaults, except that adapters go on all
// blocks and rows are grouped by length.
func DefaultConfig() Config {
	return Config{
		Engine: DefaultEngine,
		Model:  Model{GroupSize: 64},
		Data:   Data{MaxSeqLength: 2048, GroupByLength: true},
		Quality: Quality{Rank: 8, Scale: 20, Layers: -1, LearningRate: 1e-5, Optimizer: "adam",
			LRSchedule: ConstantRate, WeightDecay: DefaultWeightDecay},
		Plan:     Plan{Batch: 4, Accumulation: 1, Compile: "auto", MaxShapes: DefaultMaxShapes},
		Schedule: Schedule{Steps: 1000, EvalEvery: 200, ValBatches: 25, SaveEvery: 100},
		Output:   Output{AdapterPath: "adapters"},
	}
}

// Key identifies the configuration: 16 hex digits of a hash over its canonical
// form. Where results are written does not matter to it.
func (c Config) Key() string {
	c.Output = Output{}
	b, err := json.Marshal(c)
	if err != nil {
		panic(fmt.Sprintf("trainer: config does not marshal: %v", err)) // only finite numbers and strings inside
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}

// Alpha is scale × rank, which stays the same when the rank changes.
func (c Config) Alpha() float64 { return c.Quality.Scale * float64(c.Quality.Rank) }

// WithRank returns c with another rank and the same alpha.
func (c Config) WithRank(rank int) Config {
	alpha := c.Alpha()
	c.Quality.Rank = rank
	c.Quality.Scale = alpha / float64(rank)
	return c
}

// EffectiveBatch is the number of rows behind one optimizer update.
func (c Config) EffectiveBatch() int { return c.Plan.Batch * c.Plan.Accumulation }

// ConfigError lists what is wrong with a configuration, one line a knob.
type ConfigError struct{ Problems []string }

func (e *ConfigError) Error() string {
	return "configuration: " + strings.Join(e.Problems, "; ")
}

// Validate checks every value against what any engine could do. It returns
// *ConfigError naming every problem, or nil.
func (c Config) Validate() error {
	var p []string
	need := func(ok bool, format string, args ...any) {
		if !ok {
			p = append(p, fmt.Sprintf(format, args...))
		}
	}
	need(c.Model.Path != "", "model: give --model DIR")
	need(c.Data.Path != "", "data: give --data DIR")
	switch c.Model.Quantize {
	case 0, 2, 3, 4, 5, 6, 8:
	default:
		need(false, "quantize: %d bits is not one of 2, 3, 4, 5, 6, 8 (0 keeps the weights as stored)", c.Model.Quantize)
	}
	switch c.Model.GroupSize {
	case 32, 64, 128:
	default:
		need(false, "group-size: %d is not one of 32, 64, 128", c.Model.GroupSize)
	}
	need(c.Data.MaxSeqLength >= 2, "max-seq-length: %d leaves nothing to predict; use 2 or more", c.Data.MaxSeqLength)
	need(c.Quality.Rank >= 1, "rank: %d; use 1 or more", c.Quality.Rank)
	need(c.Quality.Scale > 0, "scale: %g; use more than 0", c.Quality.Scale)
	need(c.Quality.Dropout >= 0 && c.Quality.Dropout < 1, "dropout: %g is not in [0, 1)", c.Quality.Dropout)
	need(c.Quality.Layers == -1 || c.Quality.Layers >= 1, "num-layers: %d; use 1 or more, or -1 for all", c.Quality.Layers)
	need(c.Quality.LearningRate > 0, "learning-rate: %g; use more than 0", c.Quality.LearningRate)
	need(c.Quality.LREnd >= 0, "lr-end: %g; use 0 or more", c.Quality.LREnd)
	need(c.Quality.LREnd == 0 || c.Quality.LRSchedule.Decays(), "lr-end: %g; it goes with --lr-schedule cosine or linear", c.Quality.LREnd)
	need(c.Quality.Warmup >= 0, "warmup: %d; use 0 or more", c.Quality.Warmup)
	need(c.Quality.Warmup <= 0 || c.Quality.Warmup < c.Updates(), "warmup: %d updates, and the training has %d (iters / grad-accumulation-steps); use fewer", c.Quality.Warmup, c.Updates())
	need(c.Quality.GradClip >= 0, "grad-clip: %g; use more than 0, or 0 for none", c.Quality.GradClip)
	need(c.Quality.WeightDecay >= 0, "weight-decay: %g; use 0 or more", float64(c.Quality.WeightDecay))
	need(c.Quality.WeightDecay == DefaultWeightDecay || c.Quality.Optimizer == "adamw", "weight-decay: %g; it goes with --optimizer adamw", float64(c.Quality.WeightDecay))
	need(c.Plan.Batch >= 1, "batch-size: %d; use 1 or more", c.Plan.Batch)
	need(c.Plan.Accumulation >= 1, "grad-accumulation-steps: %d; use 1 or more", c.Plan.Accumulation)
	need(c.Plan.Packing != PackingOn || c.Plan.StepBy != StepByWhole, "packing: rows end to end need --step-by blocks")
	need(c.Plan.CheckpointNth >= 0, "grad-checkpoint-nth: %d; use 1 or more, or 0 for each", c.Plan.CheckpointNth)
	need(c.Plan.LossRows >= 0, "loss-rows: %d; use 1 or more, or 0 for the engine's choice", c.Plan.LossRows)
	need(c.Plan.MaxShapes >= 0, "max-shapes: %d; use 1 or more, or 0 for any number", c.Plan.MaxShapes)
	need(c.Schedule.Steps >= 1, "iters: %d; use 1 or more", c.Schedule.Steps)
	need(c.Schedule.EvalEvery >= 1, "steps-per-eval: %d; use 1 or more", c.Schedule.EvalEvery)
	need(c.Schedule.ValBatches >= -1, "val-batches: %d; use 0 or more, or -1 for all", c.Schedule.ValBatches)
	need(c.Schedule.SaveEvery >= 1, "save-every: %d; use 1 or more", c.Schedule.SaveEvery)
	need(c.Schedule.ReloadInterval >= 0, "reload-interval: %d; use 0 or more", c.Schedule.ReloadInterval)
	if len(p) > 0 {
		return &ConfigError{Problems: p}
	}
	return nil
}
