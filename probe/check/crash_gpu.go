package check

import (
	"strings"

	"github.com/mlxdyno/mlxdyno/probe"
)

// xids are errors of NVIDIA's driver that a training meets.
var xids = map[string]string{
	"13": "a kernel on the GPU did something forbidden", "31": "a kernel on the GPU touched memory that is not there", "43": "the GPU stopped working on a program's behalf",
	"48": "memory of the GPU has an error that cannot be corrected", "63": "a part of the GPU's memory is being replaced", "74": "the link between GPUs failed", "79": "the GPU has fallen off the bus",
	"94": "memory of the GPU had an error, and its program was ended", "95": "memory of the GPU had an error that may have spread",
}

var crashGPU = Check{
	Code: "crash.gpu",
	Story: Story{
		Title: "Errors of NVIDIA's driver",
		Means: "The driver noted errors (Xid) of the GPU in the last 14 days: a defective kernel, or failing hardware.",
		How:   "The kernel's log is read where that is allowed.",
		Do:    "13, 31 and 43 come from programs: update MLX. 48, 63, 74, 79, 94 and 95 are hardware: have the GPU looked at.",
	},
	run: func(in Input) probe.Finding {
		all := in.crashes(probe.CrashGPU)
		if len(all) == 0 {
			if in.Snapshot.GPU.Kind != "cuda" || !in.Snapshot.CrashesFound.Known() {
				return probe.Finding{}
			}
			return pass("NVIDIA's driver noted no errors")
		}
		c := all[0]
		why := "the driver's own documents tell what the number means"
		if _, rest, ok := strings.Cut(c.Text, "): "); ok {
			number, _, _ := strings.Cut(rest, ",")
			if text, ok := xids[strings.TrimSpace(number)]; ok {
				why = text
			}
		}
		return finding(probe.Warn, "NVIDIA's driver noted an error", why, append(crashEvidence(c), count("errors", len(all), "", "0", c.Source))...)
	},
}
