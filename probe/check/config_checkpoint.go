package check

import (
	"strconv"

	"github.com/mlxdyno/mlxdyno/probe"
)

// wrongWithDropout is the version of MLX with which the gradients were compared.
const wrongWithDropout = "0.32.4"

var configCheckpointDropout = Check{
	Code: "config.checkpoint-dropout",
	Story: Story{
		Title: "Gradient checkpointing with dropout",
		Means: "The gradients are wrong. Gradient checkpointing computes a block's activations again in the backward pass, and dropout then draws other masks than those with which the loss was computed.",
		How:   "Both knobs are looked at. With MLX " + wrongWithDropout + ", plain and compiled, the same seed gives the same loss with and without checkpointing, but gradients that differ as much as they are large; without dropout they are equal.",
		Do:    "Train without dropout, or without gradient checkpointing. A smaller batch or a shorter --max-seq-length saves memory too.",
	},
	run: func(in Input) probe.Finding {
		c := in.config()
		if !c.Plan.Checkpointing || c.Quality.Dropout == 0 {
			return probe.Finding{}
		}
		f := finding(probe.Warn, "Gradient checkpointing with dropout gives wrong gradients",
			"the backward pass computes activations again with other dropout masks than those behind the loss",
			said("grad-checkpoint", "true", "false with dropout", "configuration"),
			said("dropout", strconv.FormatFloat(c.Quality.Dropout, 'g', -1, 64), "0 with gradient checkpointing", "configuration"))
		if v := in.Snapshot.Install.Versions["mlx"]; v != wrongWithDropout {
			f.Confidence = probe.Likely
			f.Why += "; seen with mlx " + wrongWithDropout + ", and not tried with the one here"
		}
		f.Fix = []probe.Fix{
			{Text: "Train without dropout", Command: Command("doctor", in.Settings, Change{"dropout", "0"})},
			{Text: "Or keep activations, which takes more memory", Command: Command("doctor", in.Settings, Change{"grad-checkpoint", "false"})},
		}
		return f
	},
}
