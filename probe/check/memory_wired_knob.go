package check

import (
	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/trainer"
)

// wiredKnobShare leaves a Mac a third of its memory: machines of 16 GB froze
// with the whole working set wired (vmlx-swift #421).
const wiredKnobShare = 0.65

var memoryWiredKnob = Check{
	Code: "memory.wired-knob",
	Story: Story{
		Title: "Wiring too much",
		Means: "--wired-limit asks MLX to keep more memory from being paged out than the system can spare, or more than it allows. Macs with 16 GB froze that way, and above the recommended working set MLX refuses.",
		How:   "--wired-limit is compared with 65 % of memory, and with the working set that MLX recommends once a worker has said it.",
		Do:    "Lower --wired-limit, or leave it out.",
	},
	run: func(in Input) probe.Finding {
		set := in.config().Plan.WiredLimit
		if !set.IsSet || in.backend() != "metal" {
			return probe.Finding{}
		}
		total, ok := in.Snapshot.Memory.TotalBytes.Get()
		if !ok {
			return notRead("Whether the system can spare what is to be wired is unknown", in.Snapshot.Memory.TotalBytes)
		}
		spare := int64(wiredKnobShare * float64(total))
		limit, why := spare, "what is wired cannot be paged out, and the system freezes when too little is left to it"
		if w, ok := in.Snapshot.GPU.WorkingSetBytes.Get(); ok && set.Bytes > w {
			limit, why = min(spare, w), "it is above the working set that MLX recommends, which it refuses"
		}
		evidence := []probe.Evidence{
			size("to be wired", set.Bytes, "≤ "+trainer.FormatBytes(limit), "--wired-limit"),
			size("physical memory", total, "", in.Snapshot.Memory.TotalBytes.Source()),
		}
		if set.Bytes <= limit {
			return pass("The system can spare what is to be wired", evidence...)
		}
		f := finding(probe.Warn, "--wired-limit "+trainer.FormatBytes(set.Bytes)+" leaves the system too little", why, evidence...)
		f.Fix = []probe.Fix{{Text: "Wire less", Command: Command("doctor", in.Settings, Change{"wired-limit", megabytes(limit)})}}
		return f
	},
}
