package check

import (
	"fmt"

	"github.com/mlxdyno/mlxdyno/probe"
)

const resourcesTolerated = 0.5 // of the limit

var gpuResources = Check{
	Code: "gpu.resources",
	Story: Story{
		Title: "GPU buffers in use",
		Means: "Programs already hold a good part of the buffers that may live on the GPU. A process that passes the limit dies with \"Resource limit exceeded\", however few bytes it uses; many compiled shapes take many buffers.",
		How:   "ioclasscount AGXResource counts the live buffers of all programs; the limit is iogpu.rsrc_limit, or MLX's own of 499,000.",
		Do:    "End trainings and other programs on the GPU that run already, or restart the machine.",
	},
	run: func(in Input) probe.Finding {
		g := in.Snapshot.GPU
		used, ok1 := g.ResourcesInUse.Get()
		limit, ok2 := g.ResourceLimit.Get()
		if in.backend() != "metal" || !ok1 || !ok2 || limit == 0 {
			return probe.Finding{} // macOS's own count is a tool that may be missing; MLX tells when it is too late
		}
		evidence := count("live buffers of all programs", used, "", fmt.Sprintf("≤ %d", int64(resourcesTolerated*float64(limit))), g.ResourcesInUse.Source())
		if float64(used) <= resourcesTolerated*float64(limit) {
			return pass("Few GPU buffers are in use", evidence)
		}
		f := finding(probe.Warn, fmt.Sprintf("%d GPU buffers are in use already, of %d", used, limit), "some program keeps very many buffers, such as a training that compiled many shapes", evidence,
			count("limit", limit, "", "", g.ResourceLimit.Source()))
		f.Fix = []probe.Fix{{Text: "End what else uses the GPU (see memory.others), or restart the machine"}}
		return f
	},
}
