package check

import (
	"fmt"
	"math"
	"strconv"

	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/probe/leak"
)

const (
	reloadTolerated = 0.05 // of the time
	reloadAim       = 0.01
	reloadStretch   = 4 // times the interval, to show what a longer one gains
)

var configReload = Check{
	Code: "config.reload-interval", DependsOn: []string{"burst.outcome"},
	Story: Story{
		Title: "Restarts that cost more than they bring",
		Means: "The worker process is restarted so often that loading the model takes a good part of the time.",
		How:   "The seconds that loading took are compared with those of the steps between two restarts. What a restart is good for is a leak: without one it is not needed.",
		Do:    "Raise --reload-interval, or leave it at 0 where nothing leaks.",
	},
	run: func(in Input) probe.Finding {
		n := in.config().Schedule.ReloadInterval
		if n <= 0 || in.Burst == nil || in.Burst.Summary.Ready == nil {
			return probe.Finding{}
		}
		step, ok := in.Burst.Summary.Figures.StepSeconds.Get()
		load := in.Burst.Summary.Ready.LoadSeconds
		if !ok || step <= 0 || load <= 0 {
			return probe.Finding{}
		}
		lost := load / (load + float64(n)*step)
		evidence := []probe.Evidence{
			share("time spent on loading", lost, "≤ "+percent(reloadTolerated), fmt.Sprintf("%d steps a process", n)),
			number("to load", load, "s", "", "trainer"), number("a step", step, "s", "", "trial steps"),
		}
		if lost <= reloadTolerated {
			return pass("Restarts cost little", evidence...)
		}
		f := finding(probe.Warn, percent(lost)+" of the time goes into restarts", "each process loads the model anew", evidence...)
		enough := int(math.Ceil(load / step * (1/reloadAim - 1)))
		switch {
		case in.Leak != nil && in.Leak.State == leak.None:
			f.Why += ", and no leak was seen that would need it"
			f.Fix = []probe.Fix{{Text: "Do not restart", Command: Command("doctor", in.Settings, Change{"reload-interval", "0"})}}
		default:
			f.Fix = []probe.Fix{{Text: "Restart less often, if memory lasts that long (see burst.leak)", Command: Command("doctor", in.Settings, Change{"reload-interval", strconv.Itoa(enough)})}}
		}
		return f
	},
	prove: func(in Input) (Experiment, bool) {
		n := in.config().Schedule.ReloadInterval
		return Experiment{What: fmt.Sprintf("%d steps a process instead of %d", reloadStretch*n, n), Steps: [2]int{n, reloadStretch * n},
			Symptom: "time of a step, loading included", Unit: "s", Measure: wholeSecondsAStep, Ratio: 0.95}, in.Burst != nil
	},
}
