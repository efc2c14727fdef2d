package check

import (
	"fmt"

	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/probe/patient"
	"github.com/mlxdyno/mlxdyno/trainer"
)

var patientLimit = Check{
	Code: "patient.limit-below-weights",
	Story: Story{
		Title: "A memory limit below the weights",
		Means: "The trainer's memory limit is less than the weights alone, or than what it holds: MLX waits for memory at every operation, or the trainer stops itself.",
		How:   "The limit that it prints, against the bytes of the model's files and the active memory that it prints.",
		Do:    "Set the limit from what the machine has to give, above the measured peak.",
	},
	run: func(in Input) probe.Finding {
		if in.Patient == nil {
			return probe.Finding{}
		}
		limit, ok := in.Patient.Record.Told[patient.Limit]
		if !ok {
			return probe.Finding{}
		}
		evidence := []probe.Evidence{said("memory limit", amount(limit), "", in.printed())}
		var against int64
		what := ""
		if f := in.facts(); f != nil {
			against, what = f.WeightBytes, "the weights alone"
			evidence = append(evidence, size("weights", f.WeightBytes, "", "model files"))
		}
		if g := in.held(); g != nil {
			evidence = append(evidence, size(g.Kind+" memory at first", g.First, "", in.printed()))
			if against == 0 {
				against, what = g.First, "what it holds from the start"
			}
		}
		if against == 0 {
			return unclear("Whether its memory limit is too low is unknown", "neither its model (--model) nor its active memory is known")
		}
		if limit.Binary >= against { // the reading that favours it
			return pass("Its memory limit is above "+what, evidence...)
		}
		f := finding(probe.Warn, fmt.Sprintf("Its memory limit of %s is below %s, %s", amount(limit), what, trainer.FormatBytes(against)),
			"above its limit MLX waits for other work to finish before it allocates, at every operation: steps get slow, and the limit guards nothing", evidence...)
		f.Confidence = probe.Likely
		f.Fix = []probe.Fix{in.own("--max-memory", in.safeGB(), "Set its memory limit by hand, above what it holds")}
		return f
	},
}
