package check

import (
	"fmt"
	"slices"

	"github.com/mlxdyno/mlxdyno/probe"
)

const (
	driftSteps     = 12   // timed steps needed
	driftTolerated = 0.15 // of the early step time
)

var burstDrift = Check{
	Code: "burst.drift", DependsOn: []string{"burst.outcome", "memory.pressure", "burst.swapping", "power.thermal"},
	Story: Story{
		Title: "Steps that slow down",
		Means: "Steps of one shape take longer at the end of the trial than at its beginning: heat, memory pressure, or another program.",
		How:   "The median of the last third of the step times is compared with the first third's; the difference must exceed the scatter within both.",
		Do:    "Let the machine cool, close other programs, check the power mode, and run the doctor again.",
	},
	run: func(in Input) probe.Finding {
		if in.Burst == nil {
			return probe.Finding{}
		}
		var seconds []float64
		for i, s := range in.Burst.Summary.Steps {
			if i >= 2 { // compiling and first allocations
				seconds = append(seconds, s.Seconds)
			}
		}
		if len(seconds) < driftSteps {
			return probe.Finding{}
		}
		third := len(seconds) / 3
		first, last := slices.Sorted(slices.Values(seconds[:third])), slices.Sorted(slices.Values(seconds[len(seconds)-third:]))
		early, late := first[third/2], last[third/2]
		evidence := []probe.Evidence{
			number("step time at first", early, "s", "", "trial steps"),
			number("step time at the end", late, "s", fmt.Sprintf("≤ %.4g s", (1+driftTolerated)*early), "trial steps"),
		}
		apart := last[third/4] > first[third-1-third/4] // the middle halves do not overlap
		if late <= (1+driftTolerated)*early || !apart {
			return pass("Step times hold", evidence...)
		}
		f := finding(probe.Warn, "Steps became slower by "+percent(late/early-1), "heat, memory pressure or another program; the trial cannot tell which", evidence...)
		f.Confidence = probe.Likely
		f.Fix = []probe.Fix{{Text: "Let the machine rest, close other programs and look again", Command: Command("doctor", in.Settings)}}
		return f
	},
}
