package check

import (
	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/trainer"
)

// cacheSmall is the part of the peak below which a cache can hardly serve a step.
const cacheSmall = 0.1

var memoryCacheSmall = Check{
	Code: "memory.cache-too-small", DependsOn: []string{"burst.outcome"},
	Story: Story{
		Title: "Cache that serves no step",
		Means: "--cache-limit is so small that MLX gives freed buffers back and fetches them anew in every step. On fast chips a guessed limit has cost 30 to 70 % of the speed.",
		How:   "--cache-limit is compared with a tenth of a step's peak, where MLX computes on a GPU: on a CPU fetching memory anew costs little. A burst without the limit shows what it costs.",
		Do:    "Let tune find the limit, or raise it.",
	},
	run: func(in Input) probe.Finding {
		set := in.config().Plan.CacheLimit
		if !set.IsSet || in.Burst == nil || in.backend() == "cpu" {
			return probe.Finding{}
		}
		peak, ok := in.Burst.Summary.Figures.PeakBytes.Get()
		if !ok {
			return probe.Finding{}
		}
		least := int64(cacheSmall * float64(peak))
		evidence := []probe.Evidence{
			size("cache limit", set.Bytes, "≥ "+trainer.FormatBytes(least), "--cache-limit"),
			size("peak of a step", peak, "", "MLX's counter"),
		}
		if set.Bytes >= least {
			return pass("The cache can serve a step", evidence...)
		}
		f := finding(probe.Warn, "The cache limit of "+trainer.FormatBytes(set.Bytes)+" serves no step", "buffers are fetched anew from the system in every step", evidence...)
		f.Confidence = probe.Likely
		f.Fix = []probe.Fix{
			{Text: "Let tune find how large it must be", Command: Command("tune", in.Settings, Change{"cache-limit", "default"})},
			{Text: "Or raise it by hand", Command: Command("doctor", in.Settings, Change{"cache-limit", megabytes(max(peak/4, 100_000_000))})},
		}
		return f
	},
	prove: func(in Input) (Experiment, bool) {
		peak := in.Burst.Summary.Figures.PeakBytes.Or(0)
		return Experiment{Changes: []Change{{"cache-limit", megabytes(max(peak/4, 100_000_000))}}, Timed: true, Symptom: "step", Unit: "s", Measure: stepSeconds, Ratio: 0.95}, true
	},
}
