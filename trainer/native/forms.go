package native

import (
	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/native/decoder"
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
