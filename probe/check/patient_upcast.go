package check

import (
	"fmt"

	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/trainer"
)

const (
	patientUpcastLeast = 0.95 // of 4 bytes a parameter, that it holds at first
	patientUpcastMost  = 1.35 // activations and gradients on top
	patientUpcastOver  = 1.6  // times the bytes of the files
)

var patientUpcast = Check{
	Code: "patient.float32-weights",
	Story: Story{
		Title: "Weights in float32",
		Means: "The trainer holds four bytes for every parameter although the files have two or less: the weights were cast to float32 when they were loaded.",
		How:   "What it holds at first, against four bytes a parameter and the bytes of the files.",
		Do:    "Load the weights as they are (bfloat16), or quantized.",
	},
	run: func(in Input) probe.Finding {
		f := in.facts()
		if in.Patient == nil || f == nil || f.Parameters == 0 || in.held() == nil {
			return probe.Finding{}
		}
		g := in.held()
		single := float64(4 * f.Parameters)
		evidence := []probe.Evidence{size(g.Kind+" memory at first", g.First, "", in.printed()),
			size("4 bytes a parameter", 4*f.Parameters, "", "model files"), size("weights as stored", f.WeightBytes, "", "model files")}
		first := float64(g.First)
		if ambiguous(g) {
			first *= g.Binary.BytesAStep / g.Rate.BytesAStep
		}
		if first < patientUpcastLeast*single || first > patientUpcastMost*single || first < patientUpcastOver*float64(f.WeightBytes) {
			return probe.Finding{}
		}
		out := finding(probe.Warn, fmt.Sprintf("It holds %s at first: four bytes for each of %.1f billion parameters", trainer.FormatBytes(int64(first)), float64(f.Parameters)/1e9),
			"the files have "+f.DType+"; cast to float32 the weights take twice the memory and are read twice as long at every step", evidence...)
		out.Confidence = probe.Likely
		out.Fix = []probe.Fix{{Text: "Load the weights as stored, without a cast to float32"}}
		return out
	},
}
