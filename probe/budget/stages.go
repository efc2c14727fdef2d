package budget

import (
	"math"

	"github.com/mlxdyno/mlxdyno/probe/model"
	"github.com/mlxdyno/mlxdyno/trainer"
)

// Part is a kind of memory that a stage of a step is made of. How much of it
// there is follows from the model's files up to a factor, near 1, that a few
// measured steps tell: package predict fits it.
type Part int

// Parts.
const (
	PartKept        Part = iota // by the blocks for the backward pass
	PartKeptScores              // of attention, the same
	PartBlock                   // arrays of the one block whose backward pass it is
	PartBlockScores             // of attention, that are computed at once
	PartFewScores               // the same, where only some rows' are
	PartAgain                   // a block that is computed again, where a step is computed as a whole
	PartAgainScores
	PartDense        // a block's matrices made of quantized ones
	PartHead         // the head's
	PartLoss         // scores of the vocabulary
	PartStates       // last hidden states, their norm and gradients
	PartUpdate       // gradients, new adapters, new optimizer state
	PartGradients    // of the adapters, that are there before the update
	PartRest         // what no formula knows of: in blocks' weights,
	PartRestPosition // in hidden states of a position,
	PartRestSquare   // in attention scores
	Parts
)

// Known reports whether there is a formula for it; of the others there should be
// nothing.
func (p Part) Known() bool { return p < PartGradients }

// Stage is a time in a step at which its memory may be highest.
type Stage struct {
	Fixed float64        // bytes that are certain
	Parts [Parts]float64 // bytes by formula
}

// Stages of a step, in the order of At.
const (
	StageLoss     = iota // scores of the vocabulary are there
	StageUnpack          // a quantized head is made dense
	StageBackward        // a block's backward pass; of a step that is computed as a whole all of it
	StageFew             // the same, where scores of attention are bounded
	StageUpdate          // the optimizer works
	StageCount
)

// Stages is what the steps of one configuration consist of, worked out once.
type Stages struct {
	Resident float64 // bytes between steps: weights, adapters, optimizer state
	Gradient float64 // bytes of the gradients of one block's adapters

	blocks    bool    // one block after the other
	again     float64 // blocks that keep their input alone
	keeping   float64 // blocks that keep more
	products  linear  // what one keeps
	back      linear
	atOnce    float64 // bytes of scores that packed rows hold at once; 0 is no bound
	heads     float64
	dense     float64 // bytes of a block's matrices
	denseFrom float64 // positions
	head      float64 // of the head's
	unpack    float64 // while that is made
	rows      float64 // scored at once; 0 is all
	score     float64 // bytes of one
	states    float64
	hidden    float64 // bytes of a position
	scores    float64 // bytes of a pair of positions
	weights   float64 // bytes of a block's
	gradient  float64 // bytes of all adapters'
	update    float64
}

const (
	// scoreBytes is native's bound for attention scores of packed rows on a CPU.
	scoreBytes = 6 << 20
	// From so many positions on native multiplies with dense matrices made of packed ones.
	denseFrom    = 16
	denseFromCPU = 5
)

// StagesOf works out the stages of a configuration on a kind of device; empty is
// taken for cpu.
func StagesOf(f model.Facts, c trainer.Config, device string) Stages {
	if device == "" {
		device = "cpu"
	}
	e := estimate{f: f, c: c, device: device}
	c.Plan.Accumulation = 1 // what more accumulating takes is counted elsewhere
	steps := StepsOf(f, c, device)
	a := float64(e.width())
	adapters := float64(e.adapters())
	p := Stages{Resident: steps.resident, blocks: byBlocks(c), heads: float64(f.Heads), hidden: float64(f.Hidden) * a,
		scores: float64(f.Heads) * a, weights: e.blockParameters() * a, gradient: adapters, update: steps.update}
	blocks := float64(e.blocks())
	p.Gradient = adapters / blocks
	if !p.blocks {
		k := c
		k.Plan.Checkpointing = false
		p.keeping = blocks + backwardBlocks
		if c.Plan.Checkpointing {
			p.again, p.keeping = blocks, recomputedBlocks
		}
		e.c = k
		p.products = e.wholeActivations()
		p.products.position /= blocks + backwardBlocks
		p.products.square /= blocks + backwardBlocks
		p.products.position += e.narrow() * a
		p.score = steps.score
		return p
	}
	if c.Plan.Checkpointing {
		nth := float64(max(c.Plan.CheckpointNth, 1))
		p.again = math.Ceil(blocks / nth)
	}
	p.keeping = blocks - p.again
	p.denseFrom = denseFrom
	if device == "cpu" {
		p.denseFrom = denseFromCPU
	}
	plain := c
	plain.Plan.Checkpointing = false
	one := StepsOf(f, plain, device)
	p.products = linear{position: one.kept.position / blocks, square: one.kept.square / blocks}
	p.back = one.back
	p.dense, p.back.fixed = one.back.fixed, 0
	p.head, p.unpack, p.states, p.score, p.rows = one.loss.fixed, one.dense, one.loss.position, one.score, one.rows
	if device == "cpu" && (c.Plan.Packing == trainer.PackingOn || c.Plan.Packing != trainer.PackingOff && !c.Compiles(device)) {
		p.atOnce = scoreBytes
	}
	return p
}

// At returns the stages of a step of shape s.
func (p Stages) At(s trainer.Shape) [StageCount]Stage { return p.at(s, false) }

// AtMost returns what the stages are at most of steps that are not larger than s: a
// loss in two parts takes less than one of slightly fewer positions in one.
func (p Stages) AtMost(s trainer.Shape) [StageCount]Stage { return p.at(s, true) }

func (p Stages) at(s trainer.Shape, most bool) (out [StageCount]Stage) {
	length := float64(s.Width - 1)
	positions := float64(s.Batch) * length
	if s.Packed > 0 {
		positions = float64(s.Packed)
		length = positions / float64(s.Batch)
	}
	squares := positions * length
	if p.blocks {
		p.byBlocks(&out, positions, length, squares, most)
	} else {
		p.whole(&out, positions, squares)
	}
	out[StageUpdate].Parts[PartUpdate] = p.update
	for _, stage := range []int{StageBackward, StageFew} {
		if rest := &out[stage].Parts; out[stage] != (Stage{}) {
			rest[PartRest], rest[PartRestPosition], rest[PartRestSquare] = p.weights, p.hidden*positions, p.scores*squares
		}
	}
	return out
}

func (p Stages) byBlocks(out *[StageCount]Stage, positions, length, squares float64, most bool) {
	loss, unpack, back := &out[StageLoss], &out[StageUnpack], &out[StageBackward]
	inputs := p.again * p.hidden * positions
	for _, s := range []*Stage{loss, unpack, back} {
		s.Fixed = inputs
		s.Parts[PartKept] = p.keeping * p.products.position * positions
		s.Parts[PartKeptScores] = p.keeping * p.products.square * squares
	}
	scored := positions
	if p.rows > 0 && positions > p.rows {
		scored = math.Ceil(positions / math.Ceil(positions/p.rows)) // in parts of equal size
		if most {
			scored = p.rows
		}
	}
	loss.Parts[PartLoss], loss.Parts[PartStates] = p.score*scored, p.states*positions
	if scored >= p.denseFrom {
		loss.Parts[PartHead], unpack.Parts[PartHead] = p.head, p.unpack
	}
	if p.again > 0 {
		// Inputs go as gradients come: what is left of both is most at one end.
		back.Fixed = math.Max(inputs, p.gradient+inputs/p.again)
		back.Parts[PartKept] += p.products.position * positions
		back.Parts[PartKeptScores] += p.products.square * squares
	} else {
		back.Parts[PartGradients] = p.gradient
	}
	back.Parts[PartBlock] = p.back.position * positions
	if positions >= p.denseFrom {
		back.Parts[PartDense] = p.dense
	}
	once := squares
	if p.atOnce > 0 {
		rows := p.atOnce / (4 * p.heads * length * length) // at most
		if !most {
			all := squares / (length * length)
			rows = math.Ceil(all / math.Ceil(all/math.Max(math.Floor(rows), 1))) // the same number each time
		}
		once = math.Min(squares, math.Max(rows, 1)*length*length)
	}
	if once < squares {
		few := &out[StageFew]
		*few = *back
		few.Parts[PartFewScores] = p.back.square * once
		if !most {
			*back = Stage{}
			return
		}
	}
	back.Parts[PartBlockScores] = p.back.square * once
}

func (p Stages) whole(out *[StageCount]Stage, positions, squares float64) {
	step := &out[StageBackward]
	kept, scores := PartKept, PartKeptScores
	if p.again > 0 {
		kept, scores = PartAgain, PartAgainScores
		step.Fixed = p.again * p.hidden * positions
	} else {
		step.Parts[PartGradients] = p.gradient
	}
	step.Parts[kept] = p.keeping * p.products.position * positions
	step.Parts[scores] = p.keeping * p.products.square * squares
	step.Parts[PartLoss] = p.score * positions
}
