package check

import (
	"strconv"

	"github.com/mlxdyno/mlxdyno/probe"
)

// leastLimit is less than anybody means by a limit on memory.
const leastLimit = 1_000_000 // bytes

var memoryLimitUnit = Check{
	Code: "memory.limit-unit",
	Story: Story{
		Title: "Limit without a unit",
		Means: "A limit of a few bytes was given, most likely a number of gigabytes or megabytes without its unit. MLX then waits and drops its cache at every allocation.",
		How:   "--memory-limit and --wired-limit below 1 MB are questioned.",
		Do:    "Give the unit: --memory-limit 70GB.",
	},
	run: func(in Input) probe.Finding {
		p := in.config().Plan
		asked := false
		for _, l := range []struct {
			knob  string
			bytes int64
			set   bool
		}{{"memory-limit", p.MemoryLimit.Bytes, p.MemoryLimit.IsSet}, {"wired-limit", p.WiredLimit.Bytes, p.WiredLimit.IsSet}} {
			asked = asked || l.set
			if !l.set || l.bytes == 0 || l.bytes >= leastLimit {
				continue
			}
			unit := "GB"
			if l.bytes > 1024 {
				unit = "MB"
			}
			value := strconv.FormatInt(l.bytes, 10)
			f := finding(probe.Warn, "--"+l.knob+" is "+value+" bytes", "a number without a unit counts bytes",
				size(l.knob, l.bytes, "≥ 1.00 MB", "--"+l.knob))
			f.Fix = []probe.Fix{{Text: "Give the unit", Command: Command("doctor", in.Settings, Change{l.knob, value + unit})}}
			return f
		}
		if !asked {
			return probe.Finding{}
		}
		return pass("Limits have sensible units")
	},
}
