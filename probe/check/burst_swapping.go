package check

import (
	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/trainer"
)

// swappedTolerated is what a system may swap out by the way while steps run.
const swappedTolerated = 64 << 20

var burstSwapping = Check{
	Code: "burst.swapping", DependsOn: []string{"burst.outcome", "memory.pressure"},
	Story: Story{
		Title: "Swapping while steps run",
		Means: "The system wrote memory to disk, or came under pressure, while the trial steps ran. A training of this size does so all the time: steps stall, and on a Mac the machine may freeze.",
		How:   "Counters of swap and the level of pressure are read right before and right after the trial steps.",
		Do:    "Close large programs, or use a smaller configuration: gradient checkpointing, a smaller batch, 4-bit weights.",
	},
	run: func(in Input) probe.Finding {
		s := in.Strain
		if s == nil || in.Burst == nil {
			return probe.Finding{}
		}
		before, ok1 := s.Before.Swap.OutBytes.Get()
		after, ok2 := s.After.Swap.OutBytes.Get()
		if !ok1 || !ok2 {
			return notRead("Whether the machine swapped while steps ran is unknown", s.After.Swap.OutBytes)
		}
		out := max(after-before, 0)
		evidence := []probe.Evidence{size("swapped out meanwhile", out, "≤ "+trainer.FormatBytes(swappedTolerated), s.After.Swap.OutBytes.Source())}
		pressed := ""
		if level, ok := s.After.Pressure.Level.Get(); ok {
			evidence = append(evidence, said("pressure level afterwards", string(level), "normal", s.After.Pressure.Level.Source()))
			if level != probe.PressureNormal {
				pressed = "Memory pressure was " + string(level) + " after the trial steps"
			}
		}
		if some, ok := s.After.Pressure.SomeAvg10.Get(); ok {
			evidence = append(evidence, number("tasks waiting for memory afterwards", some, "% of 10 s", "≤ 5 %", s.After.Pressure.SomeAvg10.Source()))
			if some > stallTolerated {
				pressed = "Tasks waited for memory while trial steps ran"
			}
		}
		if out <= swappedTolerated && pressed == "" {
			return pass("Nothing was swapped out while steps ran", evidence...)
		}
		title := pressed
		if out > swappedTolerated {
			title = trainer.FormatBytes(out) + " were swapped out while trial steps ran"
		}
		f := finding(probe.Warn, title, "the steps and what else runs need more memory than there is; the counters are the machine's, and another program may have its part", evidence...)
		f.Confidence = probe.Likely
		f.Fix = []probe.Fix{{Text: "Close large programs (see memory.others)"}}
		if peak, ok := peakOf(in); ok {
			f.Fix = append(f.Fix, in.shrink(peak/4*3)...)
		}
		return f
	},
}
