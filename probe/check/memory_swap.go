package check

import (
	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/trainer"
)

const swapTolerated = 0.05 // of physical memory

var memorySwap = Check{
	Code: "memory.swap",
	Story: Story{
		Title: "Swap in use",
		Means: "A good part of memory has been swapped out. Steps stall whenever a page of weights or activations has to be read back.",
		How:   "Swap in use is compared with 5 % of physical memory.",
		Do:    "Close large programs before training, or restart the machine; a smaller configuration needs less.",
	},
	run: func(in Input) probe.Finding {
		s, m := in.Snapshot.Swap, in.Snapshot.Memory
		used, ok := s.UsedBytes.Get()
		if !ok {
			return notRead("Whether the machine swaps is unknown", s.UsedBytes)
		}
		total, ok := m.TotalBytes.Get()
		if !ok {
			return notRead("How much swap is much is unknown", m.TotalBytes)
		}
		tolerated := int64(swapTolerated * float64(total))
		evidence := []probe.Evidence{size("swap in use", used, "≤ "+trainer.FormatBytes(tolerated), s.UsedBytes.Source())}
		if used <= tolerated {
			return pass("The machine hardly swaps", evidence...)
		}
		f := finding(probe.Warn, trainer.FormatBytes(used)+" of memory are swapped out", "memory was short before training began, and pages that come back from disk stall steps", evidence...)
		f.Fix = []probe.Fix{{Text: "Close large programs (see memory.others), or restart the machine"}}
		return f
	},
}
