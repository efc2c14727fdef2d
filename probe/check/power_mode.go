package check

import "github.com/mlxdyno/mlxdyno/probe"

var powerMode = Check{
	Code: "power.mode",
	Story: Story{
		Title: "Power mode",
		Means: "Low power mode lowers the clocks of CPU and GPU; training is slower by a third and more.",
		How:   "The energy setting is read from the system.",
		Do:    "Turn low power mode off while training and connect the charger.",
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
		if mode != probe.PowerLow {
			return pass("The power mode is "+string(mode), evidence)
		}
		f := finding(probe.Warn, "The machine is in low power mode", "the clocks of CPU and GPU are held down", evidence)
		f.Fix = []probe.Fix{{Text: "Turn it off", Command: "sudo pmset -a lowpowermode 0", NeedsSudo: true, Undo: "sudo pmset -a lowpowermode 1",
			Risk: "more heat, and a battery that empties faster"}}
		return f
	},
}
