package check

import (
	"fmt"

	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/probe/model"
)

var configLoRAWiring = Check{
	Code: "config.lora-wiring", DependsOn: []string{"burst.outcome", "model.readable"},
	Story: Story{
		Title: "Are the adapters in place",
		Means: "The number of trainable parameters is not what LoRA of this rank on these blocks has. Adapters are missing, sit on other layers, or the base itself is trained.",
		How:   "Trainable parameters as the trainer counts them are compared with rank × (inputs + outputs), summed over the linear modules of the blocks.",
		Do:    "Check --rank and --num-layers, and which modules the trainer adapts.",
	},
	run: func(in Input) probe.Finding {
		m := in.Snapshot.Model
		if in.Burst == nil || in.Burst.Summary.Ready == nil {
			return probe.Finding{}
		}
		r := in.Burst.Summary.Ready
		if r.Trainable == 0 {
			return finding(probe.Warn, "Nothing is trained", "no parameter is trainable: the adapters are not wired into the model",
				count("trainable parameters", r.Trainable, "", "> 0", "trainer"))
		}
		if m == nil || m.Facts == nil {
			return probe.Finding{}
		}
		q := in.config().Quality
		want := m.Facts.AdapterParameters(q.Rank, q.Layers)
		if want == 0 {
			return unclear("Whether the adapters are in place is unknown", "the files show no linear modules of architecture "+m.Facts.Arch)
		}
		evidence := []probe.Evidence{
			count("trainable parameters", r.Trainable, "", fmt.Sprint(want), "trainer"),
			count("adapted modules", r.AdaptedModules, "", "", "trainer"),
		}
		if r.Trainable == want {
			return pass("The adapters are where LoRA puts them", evidence...)
		}
		f := finding(probe.Warn, "The adapters are not what the configuration says",
			fmt.Sprintf("LoRA of rank %d on these blocks has %d parameters; %d are trained", q.Rank, want, r.Trainable), evidence...)
		if !model.Checked(m.Facts.Arch) {
			f.Confidence = probe.Likely
			f.Why += "; the count for architecture " + m.Facts.Arch + " has not been compared with mlx-lm's own"
		}
		f.Fix = []probe.Fix{{Text: "Check rank, blocks and which modules are adapted"}}
		return f
	},
}
