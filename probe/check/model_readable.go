package check

import (
	"fmt"

	"github.com/mlxdyno/mlxdyno/probe"
)

var modelReadable = Check{
	Code: "model.readable", Required: true,
	Story: Story{
		Title: "Model files",
		Means: "config.json or a weight file is missing, cut short or not in the layout of Hugging Face and mlx-lm.",
		How:   "config.json and the headers of all safetensors files are read and their lengths compared; no weight is loaded.",
		Do:    "Name a directory that holds the model, or download it again: hf download NAME.",
	},
	run: func(in Input) probe.Finding {
		m := in.Snapshot.Model
		switch {
		case m == nil:
			return probe.Finding{}
		case m.Problem != "":
			f := finding(probe.Fail, "The model cannot be read", m.Problem, said("model", m.Path, "", "--model"))
			f.Fix = []probe.Fix{{Text: "Name the model's directory, or download the model (hf download NAME) and name where it went"}}
			return f
		case m.Facts == nil:
			return unclear("The model was not read", "no reason was given")
		}
		f := m.Facts
		return pass(fmt.Sprintf("The model is a %s of %s parameters", f.Arch, large(f.Parameters)),
			size("weights", f.WeightBytes, "", "safetensors headers"),
			count("blocks", f.Layers, "", "", "config.json"))
	},
}

// large renders a count of parameters.
func large(n int64) string {
	if n < 1e9 {
		return fmt.Sprintf("%.3g million", float64(n)/1e6)
	}
	return fmt.Sprintf("%.3g billion", float64(n)/1e9)
}
