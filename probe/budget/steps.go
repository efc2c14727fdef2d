package budget

import (
	"github.com/mlxdyno/mlxdyno/probe/model"
	"github.com/mlxdyno/mlxdyno/trainer"
)

// Steps is what the steps of one configuration need, worked out once: any number
// of shapes can then be asked for at a few multiplications each.
type Steps struct {
	resident float64 // weights, adapters, optimizer state
	update   float64 // on top, while the optimizer works

	kept  linear // by the forward pass for the backward pass
	loss  linear // on top, while scores of the vocabulary are there
	rows  float64
	score float64 // bytes of a position scored, of which at most rows are at once; 0 rows is all
	dense float64 // on top of what is kept, while a quantized head is unpacked
	back  linear  // on top of what is kept, of the block whose backward pass it is
}

// linear is a + b·positions + c·positions·length.
type linear struct{ fixed, position, square float64 }

func (l linear) at(s trainer.Shape) float64 {
	positions := float64(s.Positions())
	return l.fixed + l.position*positions + l.square*positions*float64(s.Width-1)
}

// Peak is the highest that MLX's memory gets in a step of shape s, in bytes.
func (p Steps) Peak(s trainer.Shape) int64 {
	kept := p.kept.at(s)
	return int64(p.resident + max(kept+p.dense, kept+p.lossAt(s), kept+p.back.at(s), p.update))
}

func (p Steps) lossAt(s trainer.Shape) float64 {
	positions := float64(s.Positions())
	if p.rows > 0 && positions > p.rows {
		return p.loss.at(s) + p.score*p.rows
	}
	return p.loss.at(s) + p.score*positions
}

// Of a step by blocks, as measured on llama shapes on a CPU (docs/benchmarks.md).
const (
	scoreCopies  = 5.3 // of a row of the vocabulary: logits, exponentials, and gradients of both
	hiddenCopies = 5   // of the last hidden states, their norm and the gradients of both

	// While a block's backward pass runs: arrays of the widths of its MLP and of the
	// model, and attention scores.
	backwardInner  = 8
	backwardHidden = 5
	backwardScores = 3
	againHidden    = 3 // and of a block that is computed again norms and sums

	chunkRows    = 512 // positions scored at once, unless the configuration says
	chunkRowsLow = 64  // the same on a CPU with a quantized base
)

// byBlocks reports whether steps are computed block by block.
func byBlocks(c trainer.Config) bool {
	return c.Engine == trainer.EngineNative && !c.Parity && c.Plan.StepBy != trainer.StepByWhole
}

// StepsOf works out what steps need on a kind of device: cpu, metal or cuda; empty
// is taken for cpu. On the other two attention keeps no scores, as MLX has it from
// 0.32.4 on for causal masks.
func StepsOf(f model.Facts, c trainer.Config, device string) Steps {
	e := estimate{f: f, c: c, device: device}
	weights, adapters := e.weights(), e.adapters()
	optimizer, _ := e.optimizer(adapters)
	gradients := adapters
	resident := weights + adapters + optimizer
	if c.Plan.Accumulation > 1 {
		gradients *= 2
		resident += adapters
	}
	p := Steps{resident: float64(resident), update: float64(gradients + adapters + optimizer)}
	if !byBlocks(c) {
		copies := logitCopies
		if c.Plan.Checkpointing {
			copies = logitCopiesCheckpointed
		}
		p.kept = e.wholeActivations()
		p.score = float64(copies) * float64(f.Vocab) * float64(e.width())
		return p
	}
	return e.blockwise(p)
}

// blockwise fills in a step by blocks: each block keeps its products, the loss is
// computed for some positions at a time, and of what only one block needs there is
// one block's worth.
func (e estimate) blockwise(p Steps) Steps {
	f, a := e.f, float64(e.width())
	hidden, inner, q, kv := float64(f.Hidden), float64(f.Intermediate), float64(f.QueryDim()), float64(f.KVDim())
	blocks := e.blocks()
	scores := float64(f.Heads) * a
	if e.fused() {
		scores = 0
	}
	// Input, queries, keys, values, attention's output, the sum after it, and what
	// the MLP multiplies; of each adapter its narrow product.
	products := linear{position: (2*hidden+2*q+2*kv+2*inner)*a + e.narrow()*a, square: scores}
	if !e.fused() && !e.quantized() && e.c.Plan.Keep != trainer.KeepProducts && e.c.Plan.Keep != trainer.KeepResults {
		products.position += inner * a // powers too; of scores in their place
	}
	if e.c.Plan.Keep == trainer.KeepResults { // norms, rotations, activations and scores after softmax too
		products.position += (3*hidden + q + kv + 2*inner) * a
		products.square += scores
	}
	p.back = linear{position: (backwardInner*inner + backwardHidden*hidden) * a, square: backwardScores * scores}
	dense := e.unpacks()
	if dense {
		p.back.fixed = e.blockParameters() * a
	}
	if e.c.Plan.Checkpointing {
		nth := max(e.c.Plan.CheckpointNth, 1)
		again := float64((blocks + nth - 1) / nth)
		p.kept.position = again * hidden * a
		p.kept = p.kept.plus(products, float64(blocks)-again)
		p.back = p.back.plus(products, 1)
		p.back.position += againHidden * hidden * a
	} else {
		p.kept = p.kept.plus(products, float64(blocks))
	}
	p.loss.position = hiddenCopies * hidden * a
	p.score = scoreCopies * float64(f.Vocab) * a
	p.rows = chunkRows
	if e.device != "metal" && e.device != "cuda" && e.quantized() {
		p.rows = chunkRowsLow
	}
	if n := e.c.Plan.LossRows; n > 0 {
		p.rows = float64(n)
	}
	if dense {
		p.loss.fixed = float64(f.HeadParameters()) * a
		p.dense = p.loss.fixed
		if !e.fused() {
			p.dense *= 2 // MLX's own way there needs as much again
		}
	}
	return p
}

func (l linear) plus(m linear, n float64) linear {
	return linear{l.fixed + n*m.fixed, l.position + n*m.position, l.square + n*m.square}
}

// fused reports whether attention keeps no scores.
func (e estimate) fused() bool { return e.device == "metal" || e.device == "cuda" }

func (e estimate) quantized() bool { return e.f.Quant != nil || e.c.Model.Quantize > 0 }

// unpacks reports whether products with a quantized base are made of dense matrices.
func (e estimate) unpacks() bool {
	m := e.c.Plan.Matmul
	return e.quantized() && (m == trainer.MatmulDequantized || m != trainer.MatmulQuantized && e.device != "metal")
}

// narrow is the width of all adapters' narrow products of a block together.
func (e estimate) narrow() float64 {
	modules := len(e.f.LinearModules(-1))
	if e.f.Layers == 0 {
		return 0
	}
	return float64(e.c.Quality.Rank) * float64(modules) / float64(e.f.Layers)
}

// blockParameters is how many parameters one block's linear modules have.
func (e estimate) blockParameters() float64 {
	var sum int64
	for _, m := range e.f.LinearModules(-1) {
		sum += int64(m.In) * int64(m.Out) * int64(m.Experts)
	}
	return float64(sum) / float64(max(e.f.Layers, 1))
}

// PeakError is by which share a peak of arithmetic may be exceeded. Measured were
// llamas on a CPU; of other machines and architectures only that their figures are
// of that size.
func PeakError(c trainer.Config, arch, device string) float64 {
	const measured, elsewhere = 0.15, 0.30
	if device != "" && device != "cpu" || arch != "llama" {
		return elsewhere
	}
	return measured
}
