package check

import "github.com/mlxdyno/mlxdyno/probe"

var powerThermal = Check{
	Code: "power.thermal",
	Story: Story{
		Title: "Heat",
		Means: "The system holds the chip back because it is hot. What is measured now is slower than what the machine can do, and a long training will be as slow.",
		How:   "macOS: its thermal pressure, or else the speed limit that pmset -g therm tells. NVIDIA: the driver's reasons for holding clocks down.",
		Do:    "Let the machine cool, give it air, and take the ambient temperature into account: a laptop on a blanket trains slowly.",
	},
	run: func(in Input) probe.Finding {
		v := in.Snapshot.Host.Thermal
		level, ok := v.Get()
		if !ok {
			return probe.Finding{} // no documented call tells it, so that not to know is usual
		}
		evidence := said("thermal pressure", string(level), "nominal", v.Source())
		if level == probe.ThermalNominal {
			return pass("The chip is not held back by heat", evidence)
		}
		severity := probe.Warn
		if level == probe.ThermalModerate {
			severity = probe.Info
		}
		f := finding(severity, "Thermal pressure is "+string(level), "the system lowers the clocks until the chip has cooled", evidence)
		f.Fix = []probe.Fix{{Text: "Let the machine cool, then look again", Command: Command("doctor", in.Settings)}}
		return f
	},
}
