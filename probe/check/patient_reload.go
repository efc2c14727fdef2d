package check

import (
	"fmt"
	"slices"

	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/probe/patient"
)

const patientReloadTolerated = 0.10 // of the time

var patientReload = Check{
	Code: "patient.reload-cost",
	Story: Story{
		Title: "Reloads that cost too much",
		Means: "The trainer reloads its model so often that the time, and what it writes each time, are a good part of the work.",
		How:   "The steps in which it says that it reloads take longer than the others: the excess, against all the time.",
		Do:    "Reload less often. In a binding that leaks, reloading inside the process frees nothing: leave it out, and restart the process instead.",
	},
	run: func(in Input) probe.Finding {
		if in.Patient == nil {
			return probe.Finding{}
		}
		reloads := 0
		for _, n := range in.Patient.Record.Notices {
			if n.Code == "your_ai.reload" {
				reloads += n.Times
			}
		}
		if reloads == 0 {
			return probe.Finding{}
		}
		excess, all, ok := slowest(in.Patient.Record.Points, reloads)
		evidence := []probe.Evidence{count("reloads", reloads, "", "", in.printed())}
		if !ok {
			return unclear("What its reloads cost is unknown", "its steps have no times that are fine enough")
		}
		evidence = append(evidence, number("time that they take", excess, "s", "", in.printed()), share("share of all time", excess/all, "≤ 10 %", in.printed()))
		if excess <= patientReloadTolerated*all {
			return pass("Its reloads cost little", evidence...)
		}
		f := finding(probe.Warn, fmt.Sprintf("Its %d reloads take %s of the time", reloads, percent(excess/all)), "each also writes the whole state to disk", evidence...)
		f.Confidence = probe.Likely
		f.Fix = []probe.Fix{{Text: "Reload less often, or not at all when its memory does not grow"}}
		return f
	},
}

// slowest adds up by how much the n slowest stretches between two reports take
// longer than usual.
func slowest(points []patient.Point, n int) (excess, all float64, ok bool) {
	var rates, spans, steps []float64
	for i := 1; i < len(points); i++ {
		a, ok1 := points[i-1].Elapsed.Get()
		b, ok2 := points[i].Elapsed.Get()
		k := float64(points[i].Step - points[i-1].Step)
		span := (b.Time - a.Time).Seconds()
		if !ok1 || !ok2 || k <= 0 || span <= 0 || b.Resolution.Seconds() > 0.05*span {
			continue
		}
		rates, spans, steps = append(rates, span/k), append(spans, span), append(steps, k)
	}
	if len(rates) < 2*n+1 {
		return 0, 0, false
	}
	usual := slices.Sorted(slices.Values(rates))[len(rates)/2]
	var over []float64
	for i := range rates {
		all += spans[i]
		over = append(over, max(spans[i]-usual*steps[i], 0))
	}
	slices.Sort(over)
	for _, v := range over[len(over)-n:] {
		excess += v
	}
	return excess, all, all > 0
}
