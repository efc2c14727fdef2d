package predict

import (
	"cmp"
	"fmt"
	"slices"
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
	conditions := make([]Condition, 0, len(m.peaks))
	for c := range m.peaks {
		conditions = append(conditions, c)
	}
	slices.SortFunc(conditions, func(a, b Condition) int {
		return cmp.Or(cmp.Compare(a.Bits, b.Bits), cmp.Compare(a.Rank, b.Rank), boolInt(a.Checkpointing)-boolInt(b.Checkpointing))
	})
	out := []Constant{{"κ", m.known.BytesAParameter, "B/parameter", "weight, gradient and optimizer state of one adapter parameter", false}}
	for _, c := range conditions {
		at := fmt.Sprintf("[bits %s, rank %d, checkpointing %s]", bitsName(c.Bits), c.Rank, onOff(c.Checkpointing))
		w, p := float64(m.known.WeightBytes(c.Bits)), float64(m.known.AdapterParameters(c.Rank))
		peak, seconds := m.peaks[c], m.times[c]
		out = append(out,
			Constant{"W " + at, w, "B", "base weights as loaded", false},
			Constant{"P " + at, p, "parameters", "of the adapters", false},
			Constant{"c0 " + at, peak.x[0] - w - m.known.BytesAParameter*p, "B", "what is left of the memory that does not grow with the batch", true},
			Constant{"α " + at, peak.x[1], "B/position", "activations of all blocks and logits", true},
			Constant{"μ " + at, peak.x[2], "B/position²", "attention scores", true},
			Constant{"σ memory " + at, peak.relErr, "1", fmt.Sprintf("relative residual of %d shapes", peak.points), true},
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
		if base := w.dot(a.x); base > 0 {
			out = append(out, Constant{"m", w.dot(b.x) / base, "1", fmt.Sprintf("seconds with checkpointing over seconds without, at %.0f positions", a.largest), true})
		}
	}
	return out
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
