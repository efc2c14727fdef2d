package check

import (
	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/trainer"
)

const wiredTolerated = 0.80 // of physical memory

var memoryWiredLimit = Check{
	Code: "memory.wired-limit",
	Story: Story{
		Title: "Raised wired limit",
		Means: "The limit on memory that the GPU may keep from being paged out was raised by hand. Too high, the system has nothing left to work with: Macs froze and panicked that way.",
		How:   "sysctl iogpu.wired_limit_mb is read; 0 is the system's own policy.",
		Do:    "Set it back to 0 and choose a smaller configuration. It also resets at every restart.",
	},
	run: func(in Input) probe.Finding {
		if in.backend() != "metal" || in.Snapshot.Host.OS != "darwin" {
			return probe.Finding{}
		}
		v := in.Snapshot.GPU.WiredLimitBytes
		limit, ok := v.Get()
		if !ok {
			return notRead("The GPU's wired limit is unknown", v)
		}
		if limit == 0 {
			return pass("The GPU's wired limit is the system's own", said("wired limit", "default", "", v.Source()))
		}
		total, ok := in.Snapshot.Memory.TotalBytes.Get()
		if !ok {
			return notRead("Whether the raised wired limit is safe is unknown", in.Snapshot.Memory.TotalBytes)
		}
		severity := probe.Info
		tolerated := int64(wiredTolerated * float64(total))
		if limit > tolerated {
			severity = probe.Warn
		}
		f := finding(severity, "The GPU's wired limit was raised to "+trainer.FormatBytes(limit),
			"memory that is wired cannot be paged out; the system may freeze or panic when too little is left to it",
			size("wired limit", limit, "≤ "+trainer.FormatBytes(tolerated), v.Source()), size("physical memory", total, "", in.Snapshot.Memory.TotalBytes.Source()))
		f.Fix = []probe.Fix{{Text: "Return to the system's own policy", Command: "sudo sysctl iogpu.wired_limit_mb=0", NeedsSudo: true,
			Undo: "sudo sysctl iogpu.wired_limit_mb=" + megabytesBinary(limit),
			Risk: "a run that relies on the raised limit slows down or fails; end it first"}}
		return f
	},
}
