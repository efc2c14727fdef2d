package check

import (
	"fmt"
	"strings"

	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/probe/leak"
	"github.com/mlxdyno/mlxdyno/probe/patient"
)

// freedSince is the first mlx-rs that frees the vector of value_and_grad.
const freedSince = "0.25.3"

var patientBinding = Check{
	Code: "patient.binding-leak", Required: true,
	Story: Story{
		Title: "Leak in the MLX binding",
		Means: "mlx-rs before 0.25.3 never frees the vector that value_and_grad returns: every step keeps the loss and all gradients. An in-process reload cannot free them; only the end of the process does.",
		How:   "The version of mlx-rs in Cargo.lock (--lockfile), and the growth of memory a step against the sum of the gradients' bytes.",
		Do:    "Update mlx-rs to 0.25.3 or later. Until then end and restart the process before its headroom is used up.",
	},
	run: func(in Input) probe.Finding {
		if in.Patient == nil {
			return probe.Finding{}
		}
		version, ok := in.Patient.Record.Versions["mlx-rs"]
		if !ok {
			return probe.Finding{}
		}
		evidence := []probe.Evidence{said("mlx-rs", version, "≥ "+freedSince, "Cargo.lock")}
		if !patient.Older(version, freedSince) {
			return pass("mlx-rs "+version+" frees what value_and_grad returns", evidence...)
		}
		g := in.heldGrows()
		if g == nil {
			f := finding(probe.Warn, "mlx-rs "+version+" keeps every step's gradients", "it never frees the vector that value_and_grad returns; no growth was seen here, or too little was", evidence...)
			f.Confidence, f.Fix = probe.Likely, []probe.Fix{updateBinding}
			return f
		}
		f := finding(in.worry(g), "mlx-rs "+version+" keeps every step's gradients: "+rate(g),
			"before "+freedSince+" it never frees the vector that value_and_grad returns, so that each step keeps its loss and all gradients; reloading inside the process frees nothing",
			append(evidence, in.rateEvidence(g)...)...)
		in.attributed(&f, g)
		f.Confidence = probe.Likely // a log shows what fits, not what would be without it
		f.Fix = append([]probe.Fix{updateBinding}, in.restartFix(g, &f)...)
		return f
	},
}

var updateBinding = probe.Fix{Text: "Update the binding and build again", Command: "cargo update -p mlx-rs --precise " + freedSince,
	Undo: "restore Cargo.lock", Risk: "Cargo.toml may pin an older one: raise it there"}

// worry is Fail for a growth that ends the training, else Warn.
func (in Input) worry(g *patient.Growth) probe.Severity {
	bytes, ok := in.limit().Bytes.Get()
	planned, ok2 := in.Patient.Record.Steps.Get()
	if !ok {
		return probe.Warn
	}
	if g.Highest > bytes {
		return probe.Fail
	}
	n, grows := leak.StepsToExhaustion(g.Rate.BytesAStep, bytes-g.First)
	if grows && ok2 && n < planned {
		return probe.Fail
	}
	return probe.Warn
}

// attributed adds what has the size of the growth, competitors included.
func (in Input) attributed(f *probe.Finding, g *patient.Growth) {
	all := in.attributions(g)
	var fitting []string
	for _, a := range all {
		f.Evidence = append(f.Evidence, a.evidence(g))
		if a.fits {
			fitting = append(fitting, a.name)
		}
	}
	switch {
	case len(all) == 0:
		f.Why += "; name its model with --model to compare the growth with the sizes of its tensors"
	case len(fitting) == 0:
		f.Why += "; it has the size of nothing that is known of the model"
	case len(fitting) <= namedFits:
		f.Why += "; it has the size of: " + strings.Join(fitting, ", or of: ")
	default:
		f.Why += fmt.Sprintf("; it has the size of: %s, or of %d more, below", strings.Join(fitting[:namedFits], ", or of: "), len(fitting)-namedFits)
	}
}

// namedFits are named in words; evidence has all.
const namedFits = 3

// endless is more steps than a training of unknown length is likely to have.
const endless = 100_000

// restartFix says how often a process must be restarted.
func (in Input) restartFix(g *patient.Growth, f *probe.Finding) []probe.Fix {
	n, evidence, ok := in.restart(g)
	if !ok {
		return nil
	}
	f.Evidence = append(f.Evidence, evidence...)
	planned, known := in.Patient.Record.Steps.Get()
	if known && n >= planned || !known && n > endless {
		return nil
	}
	if n < 1 {
		return []probe.Fix{{Text: "Make it smaller: it holds more than this machine has before the first step is done"}}
	}
	return []probe.Fix{{Text: fmt.Sprintf("Until then end the process, and start it again from its checkpoint, at the latest every %d steps; reloading inside the process does not free what is kept", n)}}
}
