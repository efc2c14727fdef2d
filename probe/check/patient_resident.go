package check

import (
	"fmt"

	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/probe/patient"
	"github.com/mlxdyno/mlxdyno/trainer"
)

var patientResident = Check{
	Code: "patient.rss-blind",
	Story: Story{
		Title: "A guard that does not see MLX",
		Means: "The trainer watches its resident set, which on a Mac has neither GPU memory nor compressed pages: it stays small while MLX's memory outgrows the machine.",
		How:   "The resident set that the trainer prints, against MLX's active memory.",
		Do:    "Guard by mx.get_active_memory() + mx.get_cache_memory(), or by the footprint (phys_footprint).",
	},
	run: func(in Input) probe.Finding {
		if in.Patient == nil {
			return probe.Finding{}
		}
		rss, active := in.Patient.Report.Of(patient.Resident), in.Patient.Report.Of(patient.Active)
		if rss == nil || active == nil || active.Highest <= 0 {
			return probe.Finding{}
		}
		evidence := []probe.Evidence{size("resident set, at most", rss.Highest, "", in.printed()), size("active memory, at most", active.Highest, "", in.printed())}
		if 2*rss.Highest >= active.Highest {
			return pass("Its resident set shows MLX's memory", evidence...)
		}
		f := finding(probe.Info, fmt.Sprintf("Its resident set shows %s of %s that MLX holds", trainer.FormatBytes(rss.Highest), trainer.FormatBytes(active.Highest)),
			"memory of the GPU is not in it: a guard on the resident set never trips", evidence...)
		f.Confidence = probe.Likely
		return f
	},
}
