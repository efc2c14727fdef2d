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
	f := decoder.Forms{
		LowRankInHalf: chosen(p.LowRank, trainer.LowRankActivation),
		PowersOfTwo:   device == "cpu" && runtime.GOARCH == "amd64",
	}
	if device == "cpu" {
		f.ScoreBytes = scoreBytes
	}
	if chosen(p.Matmul, trainer.MatmulDequantized) {
		f.DenseFrom = denseFrom
		if device == "cpu" {
			f.DenseFrom = denseFromCPU
		}
	}
	return f
}

// From so many rows on a product with a dense matrix is faster, its making included.
// On a CPU steps take as long at 4 (256 × 704 to 1024 × 2816, 4 and 8 bits), and at 14 a
// third.
const (
	denseFrom    = 16
	denseFromCPU = 5
)

// scoreBytes are the scores of attention that packed rows hold at once on a CPU:
// what its caches hold, and little beside a step's peak.
const scoreBytes = 6 << 20

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
	switch {
	case p.Keep == trainer.KeepResults:
		o.keep = tape.Results
	case device == "cpu" && !quantized && p.Keep != trainer.KeepProducts:
		o.keep = tape.Costly
	default:
		o.keep = tape.Products
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

// cacheLimit is how much freed memory MLX may keep; unknown leaves MLX's own
// limit. mlx-lm clears it after every step, which costs a GPU a seventh to a
// quarter of its speed; without a limit MLX keeps twice a step's peak, for
// nothing. A CPU's own limit is 32 MB.
func cacheLimit(c trainer.Config, device trainer.Device) trainer.Opt[int64] {
	const share, least, most = 32, 512 << 20, 4 << 30
	switch l := c.Plan.CacheLimit; {
	case l.IsSet:
		return trainer.Some(l.Bytes)
	case c.Parity || device.Kind == "cpu":
		return trainer.Opt[int64]{}
	}
	room, known := device.WorkingSetBytes.Get()
	if !known {
		room = device.MemoryBytes.Or(0)
	}
	return trainer.Some(min(max(room/share, least), most))
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
