package check

import (
	"fmt"
	"math"

	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/probe/leak"
	"github.com/mlxdyno/mlxdyno/probe/patient"
	"github.com/mlxdyno/mlxdyno/trainer"
)

var patientGrowth = Check{
	Code: "patient.footprint-growth", DependsOn: []string{"patient.leak", "patient.binding-leak", "patient.cache-growth", "patient.shape-growth"},
	Story: Story{
		Title: "Growth of its processes",
		Means: "What the system charges its processes with grows. If MLX's counters stay level meanwhile, the host keeps it: lists, the driver, or compiled steps.",
		How:   "The footprint of all its processes, sampled while it runs: by statistics from 200 samples on, else only if every reading rises by much the same.",
		Do:    "Make the trainer print mx.get_active_memory() and mx.get_cache_memory() a step: they tell a leak of arrays from a growing cache and from the host.",
	},
	run: func(in Input) probe.Finding {
		if in.Patient == nil {
			return probe.Finding{}
		}
		g := in.Patient.Report.Of(patient.Footprint)
		if g == nil {
			return probe.Finding{}
		}
		by := "a step"
		if g.PerSteps == 0 {
			by = "a second"
		}
		switch g.State {
		case leak.None:
			return pass("Its processes do not grow", said("footprint", g.Reason, "", "samples"))
		case leak.Inconclusive:
			f := unclear("Whether its processes grow is unknown", g.Reason)
			f.Evidence = []probe.Evidence{said("footprint", fmt.Sprintf("%s → %s", trainer.FormatBytes(g.First), trainer.FormatBytes(g.Last)), "", "samples")}
			return f
		}
		f := finding(probe.Warn, "Its processes grow by "+trainer.FormatBytes(int64(math.Round(g.Rate.BytesAStep)))+" "+by, g.Reason,
			said("footprint", fmt.Sprintf("%s → %s", trainer.FormatBytes(g.First), trainer.FormatBytes(g.Last)), "level", "samples"))
		if in.Patient.Report.Of(patient.Active) != nil {
			f.Why += "; what MLX counts as live does not grow with it: the host, the driver or compiled steps keep it"
		} else {
			f.Why += "; what keeps it cannot be told: the trainer does not print MLX's counters"
			f.Fix = append(f.Fix, probe.Fix{Text: "Print mx.get_active_memory() and mx.get_cache_memory() at every step, as active_bytes and cache_bytes of a JSON object"})
		}
		f.Confidence = probe.Likely
		if g.PerSteps > 0 {
			f.Fix = append(f.Fix, in.restartFix(g, &f)...)
		}
		return f
	},
}
