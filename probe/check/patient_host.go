package check

import (
	"fmt"

	"github.com/mlxdyno/mlxdyno/probe"
)

const (
	gpuReadings = 5   // that a verdict needs
	gpuIdle     = 50. // percent, below which the GPU waits more than it computes
	gpuUsed     = 10  // percent, that one reading at least shows of a GPU which is trained on
	hostBusy    = 0.8 // cores, of a program that has work to do at all times
)

var patientHost = Check{
	Code: "patient.host-bound", DependsOn: []string{"patient.swaps"},
	Story: Story{
		Title: "Steps that wait for the program",
		Means: "The GPU stands idle for more than half of the time while steps are taken: the program that feeds it, or what it waits for, sets the pace.",
		How:   "How busy the GPU is, by all programs together, and how many cores its processes use, sampled while it takes steps.",
		Do:    "Evaluate once a step, read no value back within it (.item(), print), prepare batches ahead, compile the step; a larger batch hides what is left.",
	},
	run: func(in Input) probe.Finding {
		if in.Patient == nil || in.Patient.Report.Usage == nil {
			return probe.Finding{}
		}
		u := in.Patient.Report.Usage
		busy, ok := u.GPUBusy.Get()
		if !ok || u.GPUReads < gpuReadings || u.GPUMost < gpuUsed { // it may train on the CPU
			return probe.Finding{}
		}
		evidence := []probe.Evidence{said("GPU busy", fmt.Sprintf("%.0f %% on average", busy), fmt.Sprintf("≥ %.0f %%", gpuIdle), fmt.Sprintf("%d readings, all programs together", u.GPUReads))}
		cores, known := u.CPUs.Get()
		if known {
			evidence = append(evidence, said("cores that it uses", fmt.Sprintf("%.2f", cores), "", "processor time of its processes"))
		}
		if busy >= gpuIdle {
			return pass("The GPU is busy while it takes steps", evidence...)
		}
		f := finding(probe.Warn, fmt.Sprintf("The GPU stands idle for %.0f %% of the time", 100-busy), "", evidence...)
		switch {
		case !known:
			f.Why = "what it waits for is unknown: the processor time of its processes could not be read"
		case cores >= hostBusy:
			f.Why = "a core works all the time meanwhile: the program cannot prepare work as fast as the GPU does it"
		default:
			f.Why = "its processes hardly work either: it waits for data, the disk or the network"
		}
		f.Confidence = probe.Likely
		f.Fix = []probe.Fix{{Text: "Evaluate once a step and read no value back within it (.item(), print, np.array); prepare batches ahead; compile the step"},
			{Text: "See whether it is the data: time a step on one batch that is kept"}}
		return f
	},
}
