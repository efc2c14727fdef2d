package check

import (
	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/probe/budget"
	"github.com/mlxdyno/mlxdyno/probe/leak"
	"github.com/mlxdyno/mlxdyno/trainer"
)

var burstFootprint = Check{
	Code: "burst.footprint-growth", DependsOn: []string{"burst.outcome", "burst.leak", "burst.traces", "burst.cache-growth"},
	Story: Story{
		Title: "Growth of the process",
		Means: "The process grows although MLX's own memory does not: something on the host side, in the driver or in a cache of compiled steps is kept.",
		How:   "The footprint of at least 200 steps is judged by a robust slope with an interval; shorter series get no verdict.",
		Do:    "Bound the number of distinct shapes, and restart the worker process with --reload-interval.",
	},
	run: func(in Input) probe.Finding {
		if in.Burst == nil {
			return probe.Finding{}
		}
		var series []float64
		for _, s := range in.Burst.Summary.Steps {
			if n, ok := s.Memory.Footprint.Get(); ok {
				series = append(series, float64(n))
			}
		}
		if len(series) < leak.MinSamples {
			return probe.Finding{}
		}
		t := leak.Noise(leak.Series{Values: series})
		samples := count("samples", t.Samples, "", "", "footprint after each step")
		switch t.State {
		case leak.None:
			return pass("The process does not grow", samples, size("growth that would have been seen", int64(t.Detectable), "", "a step"))
		case leak.Inconclusive:
			f := unclear("Whether the process grows is unknown", t.Reason)
			f.Evidence = []probe.Evidence{samples}
			return f
		}
		f := finding(probe.Warn, "The process grows by "+trainer.FormatBytes(int64(t.Slope))+" a step beside MLX", t.Reason, samples,
			size("growth a step, at least", int64(t.Low), "0 B", "footprint after each step"))
		f.Confidence = probe.Likely
		f.Fix = []probe.Fix{{Text: "Let the tuner measure how often a restart pays", Command: Command("tune", in.Settings)}}
		return f
	},
}

const (
	gapShare = 0.25          // of the footprint
	gapBytes = 2_000_000_000 // an interpreter with its libraries stays well below
)

var burstFootprintGap = Check{
	Code: "burst.footprint-gap", DependsOn: []string{"burst.outcome"},
	Story: Story{
		Title: "Memory outside MLX",
		Means: "The process holds much memory that MLX's counters do not show: copies on the host, the driver, or data. A limit on MLX alone does not bound it.",
		How:   "Footprint minus active and cached MLX memory, after a step.",
		Do:    "Plan with the footprint, not with MLX's counters; leave that much more headroom.",
	},
	run: func(in Input) probe.Finding {
		if in.Burst == nil || in.Budget == nil || in.backend() == "cuda" {
			return probe.Finding{}
		}
		footprint, ok1 := in.Burst.Summary.Figures.FootprintBytes.Get()
		line := in.Budget.Line(budget.Others)
		gap, ok2 := line.Measured.Get()
		if !ok1 || !ok2 {
			return unclear("How much memory lies outside MLX is unknown", "the footprint of the process was not measured, or does not include MLX's memory")
		}
		evidence := []probe.Evidence{
			size("outside MLX", gap, "", line.Source),
			size("footprint", footprint, "", "process"),
		}
		if gap < gapBytes || float64(gap) < gapShare*float64(footprint) {
			return pass("MLX's counters explain the process's memory", evidence...)
		}
		return finding(probe.Warn, trainer.FormatBytes(gap)+" of the process lie outside MLX", "MLX's counters and limits do not cover that memory", evidence...)
	},
}
