package native

import (
	"strconv"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/native/tape"
)

// Otherwise lists the knobs that would have a training's steps computed in another
// way than they are, one turn each: they learn the same, and only time and memory differ.
func Otherwise(c trainer.Config, a About) []trainer.Turn {
	if c.Parity {
		return nil
	}
	compiled := c.Compiles(a.Device)
	var o learnerOptions
	o.scheme(c, a.Device, a.Quantized)
	f := forms(c.Plan, a.Device, false)

	var out []trainer.Turn
	either := func(knob string, is bool, here, other string) {
		if is {
			here = other
		}
		out = append(out, trainer.Turn{Knob: knob, Value: here})
	}
	either("step-by", o.blocks, trainer.StepByBlocks, trainer.StepByWhole)
	if o.blocks {
		if o.keep != tape.Results {
			out = append(out, trainer.Turn{Knob: "keep", Value: trainer.KeepResults})
		}
		if o.keep != tape.Products {
			out = append(out, trainer.Turn{Knob: "keep", Value: trainer.KeepProducts})
		}
	}
	if a.Quantized {
		either("matmul", f.DenseFrom > 0, trainer.MatmulDequantized, trainer.MatmulQuantized)
	}
	if a.Half {
		either("low-rank", f.LowRankInHalf, trainer.LowRankActivation, trainer.LowRankFloat32)
	}
	either("loss-positions", supervisedOnly(c, compiled), trainer.LossSupervised, trainer.LossAll)
	if a.Device != "cpu" { // where every shape would have a compiler started
		either("compile", compiled, "on", "off")
	}
	if c.Plan.Checkpointing && o.blocks {
		out = append(out, trainer.Turn{Knob: "grad-checkpoint-nth", Value: strconv.Itoa(o.checkpointNth + 1)})
	}
	return out
}
