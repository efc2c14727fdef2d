package check

import (
	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/trainer"
)

var configMatmul = Check{
	Code: "config.matmul", DependsOn: []string{"burst.outcome"},
	Story: Story{
		Title: "How a quantized base is multiplied with",
		Means: "Products with quantized weights were told to run on the packed weights, which on a CPU, and in the wide batches of a training, is many times slower than on dense matrices made of them for the moment.",
		How:   "--matmul is looked at where the base is quantized; on Metal, packed weights are the default until this machine's own burst says otherwise. A burst the other way shows which is faster on this machine.",
		Do:    "Leave --matmul at auto, or let tune measure it.",
	},
	run: func(in Input) probe.Finding {
		m, c := in.Snapshot.Model, in.config()
		if m == nil || m.Facts == nil || in.backend() == "metal" || c.Plan.Matmul != trainer.MatmulQuantized || m.Facts.Quant == nil && c.Model.Quantize == 0 {
			return probe.Finding{}
		}
		f := finding(probe.Warn, "Products run on packed weights", "on dense matrices, made of them for the moment, a training's wide products are usually faster, and the memory is given back at once",
			said("matmul", c.Plan.Matmul, "auto", "configuration"))
		f.Confidence = probe.Likely
		f.Fix = []probe.Fix{{Text: "Leave the choice to the engine", Command: Command("doctor", in.Settings, Change{"matmul", "auto"})}}
		return f
	},
	prove: func(Input) (Experiment, bool) {
		return Experiment{Changes: []Change{{"matmul", "auto"}}, Timed: true, Symptom: "step", Unit: "s", Measure: stepSeconds, Ratio: 0.92}, true
	},
}
