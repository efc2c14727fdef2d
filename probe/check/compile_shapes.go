package check

import (
	"fmt"
	"strconv"

	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/trainer"
)

// shapesTolerated is how many compiled shapes one process should hold.
const shapesTolerated = 32

var compileShapes = Check{
	Code: "compile.shapes",
	Story: Story{
		Title: "Distinct batch shapes",
		Means: "MLX compiles the step anew for every batch shape and never forgets one. Many shapes cost time at first, and resources until Metal's limit of 499,000 is reached and the process dies.",
		How:   "Distinct shapes of an epoch's batches are counted where steps are compiled.",
		Do:    "Bound the shapes with --group-by-length and --max-shapes, restart the worker process in time (--reload-interval), or train uncompiled (--compile off).",
	},
	run: func(in Input) probe.Finding {
		l := in.lengths()
		if l == nil || l.Shapes == 0 || !in.compiles() {
			return probe.Finding{}
		}
		evidence := []probe.Evidence{count("distinct shapes an epoch", l.Shapes, "", fmt.Sprintf("≤ %d", shapesTolerated), "planned batches")}
		if limit, ok := in.Snapshot.GPU.ResourceLimit.Get(); ok {
			evidence = append(evidence, count("live buffers allowed", limit, "", "", in.Snapshot.GPU.ResourceLimit.Source()))
		}
		if l.Shapes <= shapesTolerated {
			return pass("Few enough shapes are compiled", evidence...)
		}
		f := finding(probe.Warn, fmt.Sprintf("An epoch has %d distinct batch shapes, each compiled and kept", l.Shapes),
			"compiled steps are never dropped while a process lives", evidence...)
		f.Confidence = probe.Likely
		if c := in.config(); !c.Data.GroupByLength || c.Plan.MaxShapes == 0 {
			f.Fix = append(f.Fix, probe.Fix{Text: fmt.Sprintf("Let batches come in at most %d shapes, for a little padding", trainer.DefaultMaxShapes),
				Command: Command("doctor", in.Settings, Change{"group-by-length", "true"}, Change{"max-shapes", itoa(int(trainer.DefaultMaxShapes))})})
		}
		f.Fix = append(f.Fix, probe.Fix{Text: "Restart the worker process now and then",
			Command: Command("doctor", in.Settings, Change{"reload-interval", strconv.Itoa(max(in.config().Schedule.SaveEvery, 1))})})
		return f
	},
	prove: func(in Input) (Experiment, bool) {
		c := in.config()
		e := Experiment{Changes: []Change{{"group-by-length", "true"}, {"max-shapes", itoa(int(trainer.DefaultMaxShapes))}}, Data: true, Before: in.Data,
			Symptom: "compiled steps", Measure: compiledSteps, Least: float64(trainer.DefaultMaxShapes)}
		return e, in.Data != nil && (!c.Data.GroupByLength || c.Plan.MaxShapes == 0)
	},
}

// compiles reports whether steps are compiled: as the worker said, else by the
// rule for auto.
func (in Input) compiles() bool {
	if in.Burst != nil && in.Burst.Summary.Hello != nil {
		return in.Burst.Summary.Hello.Compiled
	}
	switch in.config().Plan.Compile {
	case "on":
		return true
	case "off":
		return false
	}
	return in.backend() == "metal" || in.backend() == "cuda"
}
