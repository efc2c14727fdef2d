package check

import (
	"fmt"

	"github.com/mlxdyno/mlxdyno/probe"
)

const countTolerance = 0.01 // of a count that is printed in millions

var patientLoRA = Check{
	Code: "patient.lora-not-wired",
	Story: Story{
		Title: "Are its adapters in place",
		Means: "What is trained is not what LoRA of this rank has: the adapters exist but no forward pass reads them, or the base itself is trained.",
		How:   "The trainable parameters that the trainer prints, against rank × (inputs + outputs) over the linear modules. Where it prints none: the gradients that a leak keeps, which are those of what is trained.",
		Do:    "Count the trainable parameters in the trainer, and check that the adapted layers are those that the forward pass calls.",
	},
	run: func(in Input) probe.Finding {
		if in.Patient == nil {
			return probe.Finding{}
		}
		f, rank := in.facts(), in.rank()
		if f == nil || rank == 0 {
			return probe.Finding{}
		}
		all, attention := adapterParameters(f, rank)
		if all == 0 {
			return unclear("Whether its adapters are in place is unknown", "the files show no linear modules")
		}
		formula := []probe.Evidence{
			count(fmt.Sprintf("LoRA, rank %d, on attention", rank), attention, "parameters", "", "model files"),
			count(fmt.Sprintf("LoRA, rank %d, on all linear layers", rank), all, "parameters", "", "model files"),
		}
		if n, ok := in.trainable(); ok {
			evidence := append([]probe.Evidence{count("trainable parameters", n, "", fmt.Sprintf("%d or %d", attention, all), in.printed())}, formula...)
			for _, want := range []int64{attention, all} {
				if abs(float64(n)/float64(want)-1) <= countTolerance {
					return pass("Its adapters have as many parameters as LoRA", evidence...)
				}
			}
			if n < all && n > attention/int64(max(f.Layers, 1))/8 { // on some blocks or modules
				return unclear("Whether its adapters are in place is unknown", "it may adapt some blocks or modules only: fewer parameters are trained than LoRA has on all")
			}
			return in.notWired(fmt.Sprintf("%d parameters are trained; LoRA of rank %d has %d on attention and %d on all linear layers", n, rank, attention, all), evidence)
		}
		g := in.heldGrows()
		if g == nil {
			return probe.Finding{}
		}
		best := in.attributions(g)
		if len(best) == 0 || !best[0].fits || best[0].grads != ofHead && best[0].grads != ofAll {
			return probe.Finding{}
		}
		for _, a := range best {
			if a.fits && a.grads == ofAdapters {
				return probe.Finding{}
			}
		}
		evidence := append([]probe.Evidence{best[0].evidence(g)}, formula...)
		for _, a := range best {
			if a.grads == ofAdapters {
				evidence = append(evidence, a.evidence(g))
			}
		}
		return in.notWired("what is kept at every step has the size of the "+best[0].name+", and not of LoRA's gradients: what is trained is not the adapters", evidence)
	},
}

func (in Input) notWired(why string, evidence []probe.Evidence) probe.Finding {
	f := finding(probe.Warn, "Its LoRA adapters are not what is trained", why+"; adapters that no forward pass reads change nothing, whatever their rank", evidence...)
	f.Confidence = probe.Likely
	f.Fix = []probe.Fix{{Text: "Print the names and the number of the trainable parameters, and call the adapted layers in the forward pass; until then rank and alpha have no effect"}}
	return f
}
