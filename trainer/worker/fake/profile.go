package fake

import (
	"cmp"
	"fmt"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// profiled is what the steps of a profile add up to.
type profiled struct {
	steps             int
	seconds           float64
	positions, tokens int64
	peak              int64
	spans, helds      int // said
}

// A profile's phases and leaves, with the shares that they take.
var (
	phases = []struct {
		name     string
		share    float64
		modelled bool
	}{{"data", 0.05, false}, {"forward", 0.25, false}, {"loss", 0.1, false}, {"backward", 0.5, true}, {"optimizer", 0.1, false}}
	leaves = []struct {
		layer, op string
		share     float64
	}{{"self_attn.q_proj", "Matmul", 0.25}, {"mlp.down_proj", "Matmul", 0.65}, {"input_layernorm", "RMSNorm", 0.1}}
)

// addStep takes a step of a profile in and says its phases.
func (p *player) addStep(s trainer.Step) {
	sum := &p.profiled
	sum.steps++
	sum.seconds += s.Seconds
	sum.positions += s.Shape.Positions()
	sum.tokens += s.Tokens
	sum.peak = max(sum.peak, s.Memory.Peak.Or(0))
	split := map[string]float64{}
	for _, phase := range phases {
		split[phase.name] = s.Seconds * phase.share
	}
	p.emit(trainer.Phases{Seconds: split})
}

// profile says where the time of the steps went, and the memory of their peak.
// Later blocks take longer than earlier ones.
func (p *player) profile() {
	sum := &p.profiled
	blocks := cmp.Or(p.script.Blocks, 2)
	weight := 2 / float64(blocks*(blocks+1))
	for _, phase := range phases {
		seconds := sum.seconds * phase.share
		if phase.name != "forward" && phase.name != "backward" {
			p.span(trainer.Span{Path: []string{phase.name, "", "", "Add"}, Seconds: seconds})
			continue
		}
		for _, end := range []string{"embedding", "head"} {
			p.span(trainer.Span{Path: []string{phase.name, end, "", "Matmul"}, Seconds: 0.1 * seconds, Modelled: phase.modelled})
		}
		for block := range blocks {
			for _, leaf := range leaves {
				p.span(trainer.Span{Path: []string{phase.name, fmt.Sprint("block ", block), leaf.layer, leaf.op}, Seconds: 0.8 * seconds * leaf.share * weight * float64(block+1), Modelled: phase.modelled})
			}
		}
	}
	weights := min(p.script.Cost.Bytes, sum.peak)
	p.held(trainer.Held{Path: []string{"weights"}, Bytes: weights})
	p.held(trainer.Held{Path: []string{"activations", "block 0", "mlp.down_proj"}, Bytes: (sum.peak - weights) / 2, Modelled: true})
	p.held(trainer.Held{Path: []string{"temporary"}, Bytes: sum.peak - weights - (sum.peak-weights)/2})
	p.emit(trainer.Profiled{Steps: sum.steps, Seconds: sum.seconds, Tokens: sum.tokens, Positions: sum.positions, Supervised: sum.tokens,
		CeilingGFLOPS: trainer.Some(trainer.Float(100)), PeakBytes: sum.peak, Spans: sum.spans, Helds: sum.helds})
}

// span says a leaf. Products run at 50 GFLOP/s.
func (p *player) span(s trainer.Span) {
	s.Calls = int64(p.profiled.steps)
	if s.Path[3] == "Matmul" {
		s.GFLOP = trainer.Some(trainer.Float(50 * s.Seconds))
	}
	s.Bytes = trainer.Some(p.profiled.positions * 4)
	p.profiled.spans++
	p.emit(s)
}

func (p *player) held(h trainer.Held) {
	p.profiled.helds++
	p.emit(h)
}
