package check

import (
	"fmt"
	"math"
	"strconv"

	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/probe/leak"
)

var burstHandles = Check{
	Code: "burst.handles", DependsOn: []string{"burst.outcome"},
	Story: Story{
		Title: "Arrays that are never given back",
		Means: "The trainer holds more arrays after every step, large or small. Bytes may look flat, but Metal allows only so many live buffers, 499,000 by default, and ends the process at that number (mlx-lm #1185: 1,200 a step).",
		How:   "The trainer counts the arrays that it holds; over steps of one shape the count must stay.",
		Do:    "Restart the worker process in time with --reload-interval, and report it: this is a defect of the trainer.",
	},
	run: func(in Input) probe.Finding {
		if in.Burst == nil {
			return probe.Finding{}
		}
		var held []int64
		for _, s := range in.Burst.Summary.Steps {
			n, ok := s.Live.Get()
			if !ok {
				return probe.Finding{}
			}
			held = append(held, int64(n))
		}
		v := leak.Exact(held, in.config().Plan.Accumulation)
		switch v.State {
		case leak.None:
			return pass("The trainer holds as many arrays after every step", count("arrays held", held[len(held)-1], "", "", "trainer"))
		case leak.Inconclusive:
			return probe.Finding{} // too short, or they come and go
		}
		f := finding(probe.Warn, fmt.Sprintf("The trainer keeps %.3g arrays more with every step", v.BytesAStep), "whatever their size, the system allows only so many",
			number("arrays kept a step", v.BytesAStep, "", "0", "trainer"), count("arrays held", held[len(held)-1], "", "", "trainer"))
		limit := in.Snapshot.GPU.ResourceLimit
		if n, ok := limit.Get(); ok && n > held[len(held)-1] {
			steps := int(math.Min(float64(n-held[len(held)-1])/v.BytesAStep, math.MaxInt32))
			f.Evidence = append(f.Evidence, count("steps until the limit", steps, "steps", fmt.Sprintf("≥ %d steps", in.config().Schedule.Steps), limit.Source()))
			if steps > 1 && steps < in.config().Schedule.Steps {
				f.Fix = []probe.Fix{{Text: "Restart the worker process before the limit is reached",
					Command: Command("doctor", in.Settings, Change{"reload-interval", strconv.Itoa(max(1, steps*8/10))})}}
			}
		}
		return f
	},
}
