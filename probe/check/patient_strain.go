package check

import (
	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/trainer"
)

const swapOutTolerated = 64 << 20 // bytes while we looked

var patientStrain = Check{
	Code: "patient.swaps", DependsOn: []string{"patient.leak", "patient.binding-leak"},
	Story: Story{
		Title: "Swapping while it trains",
		Means: "The machine wrote memory to disk while the training ran, or reported pressure: steps wait for pages, and on a Mac a panic may follow.",
		How:   "What was swapped out, and the pressure, while its processes were sampled.",
		Do:    "A smaller batch, shorter sequences, checkpointing or 4-bit weights; close large programs.",
	},
	run: func(in Input) probe.Finding {
		if in.Patient == nil || in.Patient.Report.Usage == nil {
			return probe.Finding{}
		}
		u := in.Patient.Report.Usage
		out, known := u.SwapOut.Get()
		var evidence []probe.Evidence
		if known {
			evidence = append(evidence, size("swapped out meanwhile", out, "≤ "+trainer.FormatBytes(swapOutTolerated), "system counters"))
		}
		if u.Pressure != "" {
			evidence = append(evidence, said("worst pressure", u.Pressure, "normal", "system"))
		}
		switch {
		case len(evidence) == 0:
			return unclear("Whether the machine swapped is unknown", "neither swapping nor pressure could be read")
		case out <= swapOutTolerated && (u.Pressure == "" || u.Pressure == string(probe.PressureNormal)):
			return pass("The machine did not swap while it ran", evidence...)
		}
		f := finding(probe.Warn, "The machine was short of memory while it ran", "steps wait for pages that come back from disk", evidence...)
		f.Fix = []probe.Fix{{Text: "Make its steps smaller (batch, length, checkpointing), or close large programs (see memory.others)"}}
		return f
	},
}
