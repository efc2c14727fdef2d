package check

import (
	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/probe/budget"
	"github.com/mlxdyno/mlxdyno/trainer"
)

var memoryLimitAboveRAM = Check{
	Code: "memory.limit-above-ram",
	Story: Story{
		Title: "Memory limit above the machine's memory",
		Means: "The configured memory limit is larger than what the machine can hold, so that it never takes effect and the system swaps first.",
		How:   "--memory-limit is compared with the machine's memory, or the GPU's.",
		Do:    "Lower --memory-limit, or leave it at default.",
	},
	run: func(in Input) probe.Finding {
		set := in.config().Plan.MemoryLimit
		if !set.IsSet {
			return probe.Finding{}
		}
		holds, what := in.Snapshot.Memory.TotalBytes, "physical memory"
		if in.backend() == "cuda" {
			holds, what = in.Snapshot.GPU.MemoryBytes, "GPU memory"
		}
		total, ok := holds.Get()
		if !ok {
			return notRead("Whether the memory limit is real is unknown", holds)
		}
		if set.Bytes <= total {
			return pass("The memory limit is within the "+what, size("memory limit", set.Bytes, "", "--memory-limit"))
		}
		f := finding(probe.Warn, "The memory limit is above the "+what, "it never takes effect: memory runs out before it is reached",
			size("memory limit", set.Bytes, "≤ "+trainer.FormatBytes(total), "--memory-limit"), size(what, total, "", holds.Source()))
		f.Fix = []probe.Fix{{Text: "Leave the limit to MLX", Command: Command("doctor", in.Settings, Change{"memory-limit", "default"})}}
		return f
	},
}

var memoryLimitBelowWeights = Check{
	Code: "memory.limit-below-weights", DependsOn: []string{"memory.limit-unit"},
	Story: Story{
		Title: "Memory limit below the weights",
		Means: "The configured memory limit is smaller than the model's weights alone. MLX's limit is a guideline: nothing fails, but every step waits and drops its cache, which costs a factor of two and more.",
		How:   "--memory-limit is compared with the weights, as measured or as the files say.",
		Do:    "Raise --memory-limit above the peak, or leave it at default.",
	},
	run: func(in Input) probe.Finding {
		set := in.config().Plan.MemoryLimit
		if !set.IsSet || in.Budget == nil {
			return probe.Finding{}
		}
		line := in.Budget.Line(budget.Weights)
		weights, ok := line.Best().Get()
		if !ok {
			return unclear("Whether the memory limit leaves room for the weights is unknown", "the size of the weights is unknown")
		}
		source := "model files"
		if line.Measured.Known() {
			source = line.Source
		}
		if set.Bytes >= weights {
			return pass("The memory limit leaves room for the weights", size("memory limit", set.Bytes, "≥ "+trainer.FormatBytes(weights), "--memory-limit"))
		}
		f := finding(probe.Warn, "The memory limit is below the weights",
			"MLX waits for running work and drops its cache at every allocation above the limit",
			size("memory limit", set.Bytes, "≥ "+trainer.FormatBytes(weights), "--memory-limit"), size("weights", weights, "", source))
		value, text := "default", "Leave the limit to MLX"
		if peak, ok := in.Budget.Peak.Best().Get(); ok {
			value, text = megabytes(peak*11/10), "Put the limit 10 % above the peak"
		}
		f.Fix = []probe.Fix{{Text: text, Command: Command("doctor", in.Settings, Change{"memory-limit", value})}}
		return f
	},
	prove: func(Input) (Experiment, bool) {
		return Experiment{Changes: []Change{{"memory-limit", "default"}}, Timed: true, Symptom: "step", Unit: "s", Measure: stepSeconds, Ratio: 0.8}, true
	},
}
