package check

import "github.com/mlxdyno/mlxdyno/probe"

const stallTolerated = 5.0 // percent of the last 10 seconds in which some task waited for memory

var memoryPressure = Check{
	Code: "memory.pressure",
	Story: Story{
		Title: "Memory pressure",
		Means: "The system already struggles to find memory. A training started now competes with everything else and may be killed or freeze the machine.",
		How:   "macOS: its pressure level. Linux: the share of time in which tasks waited for memory.",
		Do:    "Close large programs, then run the doctor again.",
	},
	run: func(in Input) probe.Finding {
		p := in.Snapshot.Pressure
		fix := []probe.Fix{{Text: "Close large programs (see memory.others)", Command: Command("doctor", in.Settings)}}
		if in.Snapshot.Host.OS == "darwin" {
			level, ok := p.Level.Get()
			if !ok {
				return notRead("Memory pressure is unknown", p.Level)
			}
			evidence := said("pressure level", string(level), "normal", p.Level.Source())
			if level == probe.PressureNormal {
				return pass("Memory pressure is normal", evidence)
			}
			f := finding(probe.Warn, "Memory pressure is "+string(level), "the system is compressing and swapping to find memory", evidence)
			f.Fix = fix
			return f
		}
		some, ok := p.SomeAvg10.Get()
		if !ok {
			return notRead("Memory pressure is unknown", p.SomeAvg10)
		}
		evidence := number("tasks waiting for memory", some, "% of 10 s", "≤ 5 %", p.SomeAvg10.Source())
		if some <= stallTolerated {
			return pass("Tasks do not wait for memory", evidence)
		}
		f := finding(probe.Warn, "Tasks wait for memory", "the kernel is reclaiming or swapping to find memory", evidence)
		f.Fix = fix
		return f
	},
}
