package budget

import (
	"fmt"
	"strings"

	"github.com/mlxdyno/mlxdyno/probe/model"
	"github.com/mlxdyno/mlxdyno/trainer"
)

// Copies of a [batch, positions, vocabulary] array that live at the peak, as
// measured with mlx-lm's loss on a CPU: logits, shifted logits, their
// exponentials, and the gradient. A GPU's fused loss needs fewer.
const (
	logitCopies             = 4
	logitCopiesCheckpointed = 3
)

// Blocks' worth of temporaries beyond the kept activations, as measured: the
// backward pass of the block at hand, and its forward pass again when
// activations are recomputed.
const (
	backwardBlocks   = 1.5
	recomputedBlocks = 2.5
)

// Estimate computes a budget from a model's files and a configuration, for one
// batch of shape s. Against mlx-lm and our own trainer on small llama models on a
// CPU its peak is within 15 %; compiled steps and fused GPU kernels need less, up
// to half.
func Estimate(f model.Facts, c trainer.Config, s trainer.Shape) Budget {
	e := estimate{f: f, c: c}
	weights, adapters := e.weights(), e.adapters()
	gradients := adapters
	gradientNote := "one float32 gradient for each adapter parameter"
	if c.Plan.Accumulation > 1 {
		gradients *= 2
		gradientNote = "float32, twice: this step's and the accumulated ones"
	}
	optimizer, optimizerNote := e.optimizer(adapters)
	activationNote, logitNote := e.notes()

	// A step is at its highest when scores of the vocabulary are there, in the
	// backward pass of a block, or in the update, which makes new adapters and a
	// new optimizer state beside the old ones.
	steps := StepsOf(f, c, "")
	activations, logits := int64(steps.kept.at(s)+steps.back.at(s)), int64(steps.lossAt(s))
	peak := steps.Peak(s)

	known := trainer.Some[int64]
	b := Budget{Shape: s, Lines: []Line{
		{Name: Weights, Estimated: known(weights), Note: e.weightNote()},
		{Name: Adapters, Estimated: known(adapters), Note: fmt.Sprintf("float32, rank %d × (inputs + outputs) of each linear module", c.Quality.Rank)},
		{Name: Gradients, Estimated: known(gradients), Note: gradientNote},
		{Name: Optimizer, Estimated: known(optimizer), Note: optimizerNote},
		{Name: Activations, Estimated: known(activations), Note: activationNote},
		{Name: Logits, Estimated: known(logits), Note: logitNote},
		cacheLine(c.Plan.CacheLimit),
		{Name: Others, Note: "interpreter, libraries and data; known once a burst was run"},
	}}
	b.Peak = Line{Name: PeakName, Estimated: known(peak),
		Note: "weights, adapters and optimizer, and the larger of the backward pass and the update"}
	return b
}

func cacheLine(limit trainer.Limit) Line {
	if limit.IsSet {
		return Line{Name: Cache, Estimated: trainer.Some(limit.Bytes), Note: "at most the cache limit"}
	}
	return Line{Name: Cache, Note: "freed buffers kept for reuse, as many as the engine allows"}
}

type estimate struct {
	f      model.Facts
	c      trainer.Config
	device string // cpu, metal, cuda, or empty when unknown
}

// adapters is the bytes of their float32 weights.
func (e estimate) adapters() int64 {
	return 4 * e.f.AdapterParameters(e.c.Quality.Rank, e.c.Quality.Layers)
}

// width is the bytes of one activation.
func (e estimate) width() int64 { return dtypeBytes(e.f.DType) }

func dtypeBytes(dtype string) int64 {
	if dtype == "BF16" || dtype == "F16" {
		return 2
	}
	return 4
}

// quantizes reports whether weights are quantized at load: stored quantization
// stays as it is.
func (e estimate) quantizes() bool { return e.c.Model.Quantize > 0 && e.f.Quant == nil }

func (e estimate) weightNote() string {
	switch {
	case e.quantizes():
		return fmt.Sprintf("linear and embedding weights at %d bits, with a scale and a bias for each %d", e.c.Model.Quantize, e.c.Model.GroupSize)
	case e.f.Quant != nil:
		return fmt.Sprintf("as stored, %d bits", e.f.Quant.Bits)
	}
	return "as stored, " + strings.ToLower(e.f.DType)
}

// weights is what the files hold, less what quantizing at load saves. A matrix
// whose rows the group size does not divide stays as it is.
func (e estimate) weights() int64 {
	bytes := e.f.LoadedBytes()
	if bytes == 0 {
		bytes = e.f.WeightBytes
	}
	if !e.quantizes() {
		return bytes
	}
	group, bits := int64(e.c.Model.GroupSize), int64(e.c.Model.Quantize)
	save := func(parameters int64, rowLength int) {
		if group > 0 && int64(rowLength)%group == 0 {
			bytes -= parameters*e.width() - parameters*bits/8 - parameters/group*2*e.width()
		}
	}
	for _, m := range e.f.LinearModules(-1) {
		save(int64(m.In)*int64(m.Out)*int64(m.Experts), m.In)
	}
	save(e.f.EmbeddingParameters(), e.f.Hidden)
	if !e.f.TiedHead {
		save(e.f.HeadParameters(), e.f.Hidden)
	}
	return bytes
}

func (e estimate) optimizer(adapters int64) (int64, string) {
	switch name := e.c.Quality.Optimizer; name {
	case "adam", "adamw":
		return 2 * adapters, "two float32 moments for each adapter parameter"
	case "adafactor":
		if e.c.Quality.Rank > 1 { // a row and a column of each matrix instead of its elements
			return adapters / int64(e.c.Quality.Rank), "a row and a column of each adapter matrix"
		}
		return adapters, "a row and a column of each adapter matrix"
	default:
		return adapters, fmt.Sprintf("one float32 moment for each adapter parameter (%s)", name)
	}
}

// wholeActivations is what the forward pass keeps for the backward pass in a step
// that is computed as a whole.
//
// A block with grouped attention and a gated MLP keeps for each position five
// arrays of the hidden width (input, both norms, both residual sums), queries,
// keys and values before and after rotation, the attention's output, and four
// of the intermediate width. Unfused attention keeps heads × positions scores
// on top. float32 adapters on narrower activations keep a float32 copy of each
// linear module's input.
func (e estimate) wholeActivations() linear {
	f := e.f
	hidden, inner, q, kv := int64(f.Hidden), int64(f.Intermediate), int64(f.QueryDim()), int64(f.KVDim())
	a := e.width()
	block := linear{position: float64((5*hidden + 4*inner + 3*q + 3*kv) * a), square: float64(int64(f.Heads) * a)}
	if a < 4 {
		block.position += float64(4 * (5*hidden + q + inner))
	}
	if e.fused() {
		block.square = 0
	}
	blocks := float64(e.blocks())
	if e.c.Plan.Checkpointing {
		return linear{position: blocks * float64(hidden*a)}.plus(block, recomputedBlocks)
	}
	return linear{}.plus(block, blocks+backwardBlocks)
}

// blocks is how many have adapters.
func (e estimate) blocks() int {
	if n := e.c.Quality.Layers; n > 0 {
		return min(n, e.f.Layers)
	}
	return e.f.Layers
}

// notes say what activations and logits consist of.
func (e estimate) notes() (activations, logits string) {
	p, blocks := e.c.Plan, e.blocks()
	if byBlocks(e.c) {
		activations = fmt.Sprintf("products of %d blocks, kept for the backward pass, and what the backward pass of one block needs", blocks)
		if p.Checkpointing {
			activations = fmt.Sprintf("%d block inputs, and one block computed again with its backward pass", blocks)
		}
		return activations, fmt.Sprintf("%.1f copies of the vocabulary for each position scored at once, %d bytes each; fewer with a fused loss", scoreCopies, e.width())
	}
	copies := logitCopies
	activations = fmt.Sprintf("what %d blocks keep for the backward pass, attention scores included", blocks)
	if p.Checkpointing {
		copies = logitCopiesCheckpointed
		activations = fmt.Sprintf("%d block inputs, and one block computed again with its backward pass", blocks)
	}
	return activations, fmt.Sprintf("%d copies of batch × positions × vocabulary, %d bytes each; fewer with a fused loss", copies, e.width())
}
