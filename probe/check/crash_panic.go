package check

import (
	"strings"

	"github.com/mlxdyno/mlxdyno/probe"
)

var crashPanic = Check{
	Code: "crash.kernel-panic",
	Story: Story{
		Title: "Kernel panics",
		Means: "The machine stopped and restarted. A panic in IOGPUMemory.cpp or AGX is the GPU's driver: trainings on MLX have caused it, above all with a raised wired limit or with more memory wired than the system can spare (mlx #3186, #3346, mlx-lm #883, #1666).",
		How:   "macOS's reports panic-full-*.panic of the last 14 days are read.",
		Do:    "Return the wired limit to 0, keep MLX up to date, and use a smaller configuration. Nothing protects against a panic but a state on disk: save often (--save-every).",
	},
	run: func(in Input) probe.Finding {
		if in.Snapshot.Host.OS != "darwin" {
			return probe.Finding{}
		}
		all := in.crashes(probe.CrashPanic)
		if len(all) == 0 {
			if v := in.Snapshot.CrashesFound; !v.Known() && v.Source() != "" {
				return notRead("Whether the machine has crashed is unknown", v)
			}
			return pass("No kernel panic in 14 days")
		}
		c := all[0]
		for _, other := range all { // one of the GPU's driver says more
			if byGPU(other) {
				c = other
				break
			}
		}
		evidence := append(crashEvidence(c), count("panics in 14 days", len(all), "", "0", "DiagnosticReports"))
		if !byGPU(c) {
			return finding(probe.Info, "The kernel panicked", "not in the GPU's driver; a training need not be the cause", evidence...)
		}
		f := finding(probe.Warn, "The kernel panicked in "+c.Component, "that is the GPU's driver; what was wired or allocated on the GPU was more than it could manage", evidence...)
		f.Confidence = probe.Likely
		if limit, ok := in.Snapshot.GPU.WiredLimitBytes.Get(); ok && limit > 0 {
			f.Fix = append(f.Fix, probe.Fix{Text: "Return the wired limit to the system's own policy", Command: "sudo sysctl iogpu.wired_limit_mb=0", NeedsSudo: true,
				Undo: "sudo sysctl iogpu.wired_limit_mb=" + megabytesBinary(limit), Risk: "a run that relies on the raised limit slows down or fails; end it first"})
		}
		f.Fix = append(f.Fix, probe.Fix{Text: "Let tune find a configuration with room to spare, and save often", Command: Command("tune", in.Settings)})
		return f
	},
}

func byGPU(c probe.Crash) bool {
	return strings.Contains(c.Component, "IOGPU") || strings.Contains(c.Component, "AGX") || strings.Contains(c.Text, "IOGPU")
}
