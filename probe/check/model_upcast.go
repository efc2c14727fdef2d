package check

import (
	"fmt"
	"math"
	"strings"

	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/probe/budget"
	"github.com/mlxdyno/mlxdyno/trainer"
)

const (
	upcastFactor = 1.6        // of what the weights should take
	upcastNear   = 0.06       // of 4 bytes a parameter
	upcastLeast  = 64_000_000 // bytes too many; a small model's are lost among other arrays
)

var modelUpcast = Check{
	Code: "model.upcast", DependsOn: []string{"model.readable", "burst.outcome"},
	Story: Story{
		Title: "Weights in wider numbers than stored",
		Means: "The loaded weights take far more memory than their files say: they were converted to float32, 4 bytes a parameter, or not quantized as asked.",
		How:   "The sum over the loaded arrays, and MLX's active memory once the model is loaded, are compared with what files and --quantize give, and with 4 bytes a parameter.",
		Do:    "Load in the stored type or quantized. Look for float32 in the trainer's conversion, and for layers that quantizing leaves out.",
	},
	run: func(in Input) probe.Finding {
		m := in.Snapshot.Model
		if in.Burst == nil || in.Burst.Summary.Ready == nil || m == nil || m.Facts == nil || in.Budget == nil {
			return probe.Finding{}
		}
		r := in.Burst.Summary.Ready
		want, ok := in.Budget.Line(budget.Weights).Estimated.Get()
		if !ok || want == 0 || r.WeightBytes == 0 {
			return probe.Finding{}
		}
		have, source := r.WeightBytes, "sum over the loaded arrays"
		if active, ok := r.Memory.Active.Get(); ok && active > have+4*r.TrainableBytes { // adapters, gradients and the optimizer's state
			have, source = active, "MLX's active memory after loading"
		}
		full := 4 * m.Facts.Parameters
		evidence := []probe.Evidence{
			size("weights as loaded", have, "about "+trainer.FormatBytes(want), source),
			size("4 bytes a parameter", full, "", fmt.Sprintf("%s of parameters", large(m.Facts.Parameters))),
			said("stored as", strings.ToLower(m.Facts.DType), "", "safetensors headers"),
		}
		if float64(have) < upcastFactor*float64(want) || have-want < upcastLeast {
			return pass("The weights take the memory of their files", evidence...)
		}
		what := "they are held in wider numbers than stored, or twice"
		if math.Abs(float64(have)/float64(full)-1) < upcastNear {
			what = "they take 4 bytes a parameter: they were converted to float32"
		}
		f := finding(probe.Warn, "The weights take "+trainer.FormatBytes(have)+" instead of "+trainer.FormatBytes(want), what, evidence...)
		switch {
		case in.config().Model.Quantize > 0:
			f.Fix = []probe.Fix{{Text: "Use a model that is stored quantized"}}
		case m.Facts.Quant == nil:
			f.Fix = []probe.Fix{{Text: "Quantize at load, if what is learned may be a little worse", Command: Command("doctor", in.Settings, Change{"quantize", "8"})}}
		default:
			f.Fix = []probe.Fix{{Text: "Look for a conversion to float32 in the trainer"}}
		}
		return f
	},
}
