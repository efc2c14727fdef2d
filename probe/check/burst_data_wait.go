package check

import "github.com/mlxdyno/mlxdyno/probe"

const dataWaitTolerated = 0.10 // of step and data time

var burstDataWait = Check{
	Code: "burst.data-wait", DependsOn: []string{"burst.outcome"},
	Story: Story{
		Title: "Waiting for data",
		Means: "A good part of the time goes into preparing batches while the device idles. mlx-lm's own tokens/s does not show it, since its timer starts afterwards.",
		How:   "Seconds spent on fetching batches are compared with all seconds, over the data's own batches.",
		Do:    "Train from the token cache that mlxdyno makes, and keep the data on a local disk.",
	},
	run: func(in Input) probe.Finding {
		if in.Data == nil {
			return probe.Finding{}
		}
		var data, all float64
		for i, s := range in.Data.Summary.Steps {
			if i > 0 || len(in.Data.Summary.Steps) == 1 {
				data += s.DataSeconds
				all += s.Seconds + s.DataSeconds
			}
		}
		if all == 0 {
			return probe.Finding{}
		}
		evidence := share("time spent on data", data/all, "≤ "+percent(dataWaitTolerated), "trial over the data's own batches")
		if data/all <= dataWaitTolerated {
			return pass("Batches are ready in time", evidence)
		}
		f := finding(probe.Warn, percent(data/all)+" of the time goes into fetching batches", "the device idles while a batch is prepared", evidence)
		f.Fix = []probe.Fix{{Text: "Keep the data and mlxdyno's home on a local disk, and close programs that use the CPU"}}
		return f
	},
	prove: func(in Input) (Experiment, bool) {
		return Experiment{What: "batches made once, instead of the data's own", Before: in.Data, After: in.Burst,
			Symptom: "time spent on data", Unit: "share", Measure: dataShare, Least: dataWaitTolerated}, in.Burst != nil
	},
}
