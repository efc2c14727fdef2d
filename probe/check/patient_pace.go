package check

import (
	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/probe/pace"
)

var patientPace = Check{
	Code: "patient.slows-down", DependsOn: []string{"patient.leak", "patient.binding-leak", "patient.cache-growth", "patient.shape-growth"},
	Story: Story{
		Title: "Steps that get slower",
		Means: "Steps take longer at the end than at first: the machine gets hot, swaps, or something grows.",
		How:   "The times of at least 40 steps of like shape, by a slope that single slow steps do not move.",
		Do:    "Look at what grows, at memory pressure, and at the power mode and cooling.",
	},
	run: func(in Input) probe.Finding {
		if in.Patient == nil || in.Patient.Report.Speed.Pace == nil {
			return probe.Finding{}
		}
		d := in.Patient.Report.Speed.Pace.Drift
		evidence := said("change of a step's time", d.Reason, "none", in.Patient.Report.Speed.Basis)
		switch d.State {
		case pace.Slower:
			f := finding(probe.Warn, "Its steps get slower: "+percent(d.Change)+" by the end", d.Reason, evidence)
			f.Confidence = in.grade(true)
			return f
		case pace.Unclear:
			return probe.Finding{}
		}
		return pass("Its steps do not get slower", evidence)
	},
}
