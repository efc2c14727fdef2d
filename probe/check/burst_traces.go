package check

import (
	"fmt"
	"strconv"

	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/probe/leak"
)

var burstTraces = Check{
	Code: "burst.traces", DependsOn: []string{"burst.outcome"},
	Story: Story{
		Title: "Steps compiled again and again",
		Means: "MLX compiles the step anew although its shape has been compiled before, and never drops a compiled step. Time is lost with each, and the process dies at Metal's limit of live buffers (mlx #4464, #3964).",
		How:   "The trainer's count of compiled steps is followed: over steps of one shape it must not rise after the first, and over the data it must end with the shapes.",
		Do:    "Update mlxdyno and MLX; until then train uncompiled (--compile off) or restart the worker process in time. In a trainer of your own, pass numbers that change as arrays: each new Python number is a new trace.",
	},
	run: func(in Input) probe.Finding {
		if in.Burst == nil || !in.compiles() {
			return probe.Finding{}
		}
		steps := in.Burst.Summary.Steps
		if len(steps) < leak.WarmUp+leak.MinDifferences {
			return probe.Finding{}
		}
		first, ok1 := steps[leak.WarmUp-1].Traces.Get()
		last, ok2 := steps[len(steps)-1].Traces.Get()
		if !ok1 || !ok2 {
			return probe.Finding{}
		}
		evidence := []probe.Evidence{
			count("compiled steps after warm-up", first, "", "", "trainer"),
			count("compiled steps at the end", last, "", strconv.Itoa(first), fmt.Sprintf("%d steps of one shape", len(steps))),
		}
		more := last - first
		why := "the shape was the same all the time"
		if j, ok := in.judgement(in.Data, leak.CompileCache); ok && more == 0 && j.State == leak.Leaking {
			more = 1
			why = j.Reason
			evidence = append(evidence, number("compiled steps a step, over the data", j.Rate.BytesAStep, "", "0 in the end", "trainer"))
		}
		if more == 0 {
			return pass("Each shape is compiled once", evidence...)
		}
		f := finding(probe.Warn, "Steps are compiled again and again", why+", and what was compiled is never dropped", evidence...)
		f.Fix = []probe.Fix{
			{Text: "Train uncompiled", Command: Command("doctor", in.Settings, Change{"compile", "off"})},
			{Text: "Or restart the worker process in time", Command: Command("doctor", in.Settings, Change{"reload-interval", strconv.Itoa(max(in.config().Schedule.SaveEvery, 1))})},
		}
		return f
	},
}
