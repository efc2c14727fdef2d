package predict

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/mlxdyno/mlxdyno/probe/budget"
	"github.com/mlxdyno/mlxdyno/trainer"
)

// Constant is one number of the model, for people.
type Constant struct {
	Name   string
	Value  float64
	Unit   string
	Doc    string
	Fitted bool // else known from the model's files or by arithmetic
}

// Constants lists what the model consists of, condition by condition.
func (m *Model) Constants() []Constant {
	conditions := make([]Condition, 0, len(m.times))
	for c := range m.times {
		conditions = append(conditions, c)
	}
	slices.SortFunc(conditions, func(a, b Condition) int {
		return cmp.Or(cmp.Compare(a.Bits, b.Bits), cmp.Compare(a.Rank, b.Rank), boolInt(a.Checkpointing)-boolInt(b.Checkpointing))
	})
	var out []Constant
	var bits []int
	for _, c := range conditions {
		if !slices.Contains(bits, c.Bits) {
			bits = append(bits, c.Bits)
			out = append(out, m.memory(Condition{c.Bits, m.anchor.Rank, false})...)
		}
	}
	for _, c := range conditions {
		at := fmt.Sprintf("[bits %s, rank %d, checkpointing %s]", bitsName(c.Bits), c.Rank, onOff(c.Checkpointing))
		seconds := m.times[c]
		out = append(out,
			Constant{"host " + at, seconds.host, "s", "a step at least, which waits for its host; 0 where none does", true},
			Constant{"t0 " + at, seconds.x[0], "s", "a step of no positions", true},
			Constant{"β " + at, seconds.x[1], "s/position", "linear layers and loss", true},
			Constant{"γ " + at, seconds.x[2], "s/position²", "attention", true},
			Constant{"σ time " + at, seconds.relErr, "1", fmt.Sprintf("relative residual of %d shapes", seconds.points), true},
		)
	}
	on := m.anchor
	on.Checkpointing = true
	if a, b := m.times[plain(m.anchor)], m.times[on]; a.x != nil && b.x != nil {
		w := Work{Steps: 1, Positions: a.largest}
		if base := a.of([]Work{w}); base > 0 {
			out = append(out, Constant{"m", b.of([]Work{w}) / base, "1", fmt.Sprintf("seconds with checkpointing over seconds without, at %.0f positions", a.largest), true})
		}
	}
	return out
}

// parts say what the parts of a step's memory are, and per what they are counted.
var parts = [budget.Parts]struct{ name, unit, doc string }{
	budget.PartKept:         {"kept", "B/position", "kept by all blocks for the backward pass"},
	budget.PartKeptScores:   {"kept scores", "B/position²", "of attention, kept by all blocks"},
	budget.PartBlock:        {"block", "B/position", "arrays of the one block whose backward pass it is"},
	budget.PartBlockScores:  {"block scores", "B/position²", "of attention, computed at once"},
	budget.PartFewScores:    {"few scores", "B/position²", "of attention, computed for some rows at once"},
	budget.PartAgain:        {"again", "B/position", "a block that is computed again"},
	budget.PartAgainScores:  {"again scores", "B/position²", "of attention, computed again"},
	budget.PartDense:        {"dense", "B", "a block's matrices made of quantized ones"},
	budget.PartHead:         {"dense head", "B", "the head's matrix made of a quantized one"},
	budget.PartLoss:         {"loss", "B/position", "scores of the vocabulary, of positions scored at once"},
	budget.PartStates:       {"states", "B/position", "last hidden states and their gradients"},
	budget.PartUpdate:       {"update", "B/parameter", "gradient, new weight and new optimizer state of an adapter parameter"},
	budget.PartGradients:    {"gradients", "B/parameter", "of adapters, that are there before the update"},
	budget.PartRest:         {"rest", "B", "what no formula knows of and does not grow"},
	budget.PartRestPosition: {"rest of positions", "B/position", "what no formula knows of"},
	budget.PartRestSquare:   {"rest of scores", "B/position²", "what no formula knows of"},
}

// memory lists what the peak at one width of weights consists of, as far as a
// formula or a sample speaks of it.
func (m *Model) memory(c Condition) []Constant {
	f := m.peaks[c.Bits]
	at := fmt.Sprintf(" [bits %s, rank %d]", bitsName(c.Bits), c.Rank)
	parameters := float64(m.known.AdapterParameters(c.Rank))
	all := m.known.Stages(c)
	out := []Constant{
		{"W" + at, float64(m.known.WeightBytes(c.Bits)), "B", "base weights as loaded", false},
		{"P" + at, parameters, "parameters", "of the adapters", false},
		{"between steps" + at, all.Resident + f.extra, "B", "weights, adapters, optimizer state, and what was measured beside them", true},
	}
	const length = 32.0
	per := map[string]float64{"B": 1, "B/position": length, "B/position²": length * length, "B/parameter": parameters}
	for p, part := range parts {
		bytes := 0.0
		for _, gc := range []bool{false, true} {
			c.Checkpointing = gc
			stages := m.known.Stages(c).At(trainer.Shape{Batch: 1, Width: 1 + length})
			for i := len(stages) - 1; i >= 0 && bytes == 0; i-- {
				bytes = stages[i].Parts[p]
			}
		}
		if v := f.factors[p] * bytes / per[part.unit]; v > 0 {
			out = append(out, Constant{part.name + at, v, part.unit, fmt.Sprintf("%s: %.2f times its formula", part.doc, f.factors[p]), true})
		}
	}
	return append(out, Constant{"σ memory" + at, f.sigma, "1", fmt.Sprintf("relative residual of %d shapes", f.points), true})
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

func bitsName(bits int) string {
	if bits == 0 {
		return "as stored"
	}
	return fmt.Sprint(bits)
}

func onOff(b bool) string {
	if b {
		return "on"
	}
	return "off"
}
