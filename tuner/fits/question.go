package fits

import (
	"fmt"
	"slices"

	"github.com/mlxdyno/mlxdyno/probe/model"
	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/tuner/predict"
)

// Question is what to answer, and all that is known for it.
type Question struct {
	Facts  model.Facts
	Config trainer.Config // what is not varied: engine, adapted modules, how steps are computed, the planned training

	Machine string // for people
	Device  string // cpu, metal or cuda; empty is unknown and taken for cpu, which needs the most
	Limit   Limit  // memory that the training may use, all of its process

	// Rate is how fast the machine computes, by what was published; nil is unknown.
	// It is not needed where Samples tell.
	Rate *Rate

	Published string // source of Limit and Rate when they are published figures; empty when they are this machine's

	// Samples are measured steps of this model on this machine, those of the anchor
	// first; none leaves it to arithmetic.
	Samples []Sample
	Sampled string // where they are from

	Bits    []int // 0 is as stored; empty chooses
	Ranks   []int
	Batches []int
	Lengths []int
	Rows    *Rows // the user's own; nil when there are none
}

// Sample is one measured shape.
type Sample = predict.Sample

// Alike is what two configurations must share for steps measured with one to tell
// of the other: everything that changes a step's time or peak and is not a part of a
// Sample.
func Alike(c trainer.Config) string {
	p, q := c.Plan, c.Quality
	return fmt.Sprint(c.Engine, c.Parity, c.Model.GroupSize, p.Compile, p.Matmul, p.LowRank, p.LossPositions, p.StepBy, p.Keep, p.CheckpointNth,
		p.LossRows, q.Layers, q.Modules, q.Optimizer, q.Dropout)
}

// Limit is memory that may be used, and who says so.
type Limit struct {
	Bytes  int64  `json:"bytes"`
	Source string `json:"source"`
}

// Rate is how fast a machine computes steps, by what was published of it.
type Rate struct {
	Operations float64 // floating-point, a second, that steps reach
	Bandwidth  float64 // bytes a second; 0 is unknown
	Error      float64 // share that the seconds may be off
	Source     string
}

// Rows are the user's own, in tokens.
type Rows struct {
	Lengths []int32
	Prompts []int32 // leading tokens of each that are not supervised
	Valid   []int32 // which share shapes with the others; may be nil
}

const (
	// hostBytes is what a process of ours needs outside MLX, of memory that it shares
	// with MLX. Bursts showed 0.1 to 0.25 GB.
	hostBytes = 250e6

	// unit is what lengths are multiples of, as widths of batches are.
	unit = 32

	mostBatch  = 512
	mostLength = 1 << 17 // where the model names no limit
)

// settled fills in what was left open, and returns what cannot be answered.
func (q Question) settled() (Question, error) {
	if q.Limit.Bytes <= 0 {
		return q, &Unanswerable{"the memory that the training may use is unknown", "say how much with --max-memory, or name a machine with --machine"}
	}
	if len(q.Bits) == 0 {
		switch {
		case q.Facts.Quant != nil:
			q.Bits = []int{0}
		default:
			q.Bits = []int{0, 8, 4}
			if b := q.Config.Model.Quantize; !slices.Contains(q.Bits, b) {
				q.Bits = append(q.Bits, b)
			}
		}
	}
	if len(q.Ranks) == 0 {
		q.Ranks = []int{q.Config.Quality.Rank, 16, 64}
	}
	if len(q.Batches) == 0 {
		q.Batches = []int{1, 2, 4, 8, 16, q.Config.Plan.Batch}
	}
	if len(q.Lengths) == 0 {
		q.Lengths = []int{256, 512, 1024, 2048, 4096, 8192, 16384, 32768}
	}
	q.Ranks, q.Batches, q.Lengths = ordered(q.Ranks), ordered(q.Batches), ordered(q.Lengths)
	most := q.mostLength()
	q.Lengths = slices.DeleteFunc(q.Lengths, func(n int) bool { return n > most })
	if len(q.Lengths) == 0 {
		q.Lengths = []int{most}
	}
	slices.SortFunc(q.Bits, func(a, b int) int { return bitsOf(b) - bitsOf(a) })
	q.Bits = slices.Compact(q.Bits)
	for name, values := range map[string][]int{"rank": q.Ranks, "batch": q.Batches, "length": q.Lengths} {
		if values[0] < 1 {
			return q, fmt.Errorf("what fits: a %s of %d is none", name, values[0])
		}
	}
	return q, nil
}

func ordered(values []int) []int { return slices.Compact(slices.Sorted(slices.Values(values))) }

// mostLength is the longest length that is asked about.
func (q Question) mostLength() int {
	if n := q.Facts.MaxPositions; n > 0 {
		return max(n/unit*unit, unit)
	}
	return mostLength
}

// room is what MLX's live buffers may take.
func (q Question) room() int64 {
	if q.Device == "cuda" {
		return q.Limit.Bytes
	}
	return q.Limit.Bytes - hostBytes
}

// config is the configuration with other values of what is varied.
func (q Question) config(c predict.Condition) trainer.Config {
	out := q.Config.WithRank(c.Rank)
	out.Model.Quantize, out.Plan.Checkpointing = c.Bits, c.Checkpointing
	return out
}

// bitsOf orders 0, as stored, above all quantizations.
func bitsOf(b int) int {
	if b == 0 {
		return 16
	}
	return b
}

// Unanswerable says why there is no answer, and what to do.
type Unanswerable struct{ Text, Hint string }

func (e *Unanswerable) Error() string { return "what fits: " + e.Text }
