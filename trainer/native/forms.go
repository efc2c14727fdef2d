package native

import (
	"runtime"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/native/decoder"
	"github.com/mlxdyno/mlxdyno/trainer/native/tape"
)

// forms chooses how a backend computes, as measured there (docs/benchmarks.md):
// dense products of quantized bases, and the low-rank path in the activations'
// dtype, on CPUs and on CUDA. Metal keeps mlx-lm's kernels, which have not been
// measured against these, until somebody asks for others.
func forms(p trainer.Plan, device string, parity bool) decoder.Forms {
	if parity {
		return decoder.Forms{}
	}
	chosen := func(knob, fast string) bool {
		return knob == fast || (knob == "" || knob == "auto") && device != "metal"
	}
	return decoder.Forms{
		Dequantize:    chosen(p.Matmul, trainer.MatmulDequantized),
		LowRankInHalf: chosen(p.LowRank, trainer.LowRankActivation),
		PowersOfTwo:   device == "cpu" && runtime.GOARCH == "amd64",
	}
}

// chunkRows are positions whose scores are computed at once. Fewer than the
// hundreds that keep a GPU's products full make these slower; a quantized base
// on a CPU says that memory is short.
const (
	chunkRows    = 512
	chunkRowsLow = 64
)

// scheme chooses how a step is computed.
func (o *learnerOptions) scheme(c trainer.Config, device string, quantized bool) {
	p := c.Plan
	o.blocks = !c.Parity && p.StepBy != trainer.StepByWhole
	o.async = device != "cpu"
	o.keep = tape.Products
	if p.Keep == trainer.KeepResults {
		o.keep = tape.Results
	}
	o.checkpointNth = max(p.CheckpointNth, 1)
	o.chunk = p.LossRows
	if o.chunk == 0 {
		o.chunk = chunkRows
		if device == "cpu" && quantized {
			o.chunk = chunkRowsLow
		}
	}
}

// supervisedOnly reports whether scores are computed only where they count. That
// is faster everywhere, but a compiled step is traced anew for every number of
// them, up to eight times a shape, which takes long on a GPU: there it is asked for.
func supervisedOnly(c trainer.Config, compiled bool) bool {
	if c.Parity || c.Plan.LossPositions == trainer.LossAll {
		return false
	}
	return c.Plan.LossPositions == trainer.LossSupervised || !compiled
}
