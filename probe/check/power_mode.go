package check

import (
	"strings"

	"github.com/mlxdyno/mlxdyno/probe"
)

var powerMode = Check{
	Code: "power.mode",
	Story: Story{
		Title: "Power mode",
		Means: "Low power mode lowers the clocks of CPU and GPU; training is slower by a third and more. On Macs that have a high power mode, the automatic one lowers them too under a long load, by 15 to 65 % as people measured.",
		How:   "The energy setting is read from the system.",
		Do:    "Turn low power mode off while training and connect the charger; where there is a high power mode, train with it.",
	},
	run: func(in Input) probe.Finding {
		if in.Snapshot.Host.OS != "darwin" {
			return probe.Finding{}
		}
		v := in.Snapshot.Host.PowerMode
		mode, ok := v.Get()
		if !ok {
			return notRead("The power mode is unknown", v)
		}
		evidence := said("power mode", string(mode), "normal or high", v.Source())
		if mode == probe.PowerNormal && strings.HasSuffix(v.Source(), " powermode") { // only Macs with a high mode have that setting
			f := finding(probe.Info, "The power mode is automatic, and this Mac has a high one", "the automatic mode may lower the clocks under a long load", evidence)
			f.Confidence = probe.Likely
			f.Fix = []probe.Fix{{Text: "Train with the high one, if the fans may be heard", Command: "sudo pmset -a powermode 2", NeedsSudo: true, Undo: "sudo pmset -a powermode 0",
				Risk: "more heat and noise, and a battery that empties faster"}}
			return f
		}
		if mode != probe.PowerLow {
			return pass("The power mode is "+string(mode), evidence)
		}
		f := finding(probe.Warn, "The machine is in low power mode", "the clocks of CPU and GPU are held down", evidence)
		f.Fix = []probe.Fix{{Text: "Turn it off", Command: "sudo pmset -a lowpowermode 0", NeedsSudo: true, Undo: "sudo pmset -a lowpowermode 1",
			Risk: "more heat, and a battery that empties faster"}}
		return f
	},
}
