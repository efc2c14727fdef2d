package check

import (
	"fmt"
	"strconv"

	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/probe/patient"
)

const (
	assumedTokens = 512  // a step, where nobody tells
	rounding      = 1.05 // above a ceiling
)

var patientImpossible = Check{
	Code: "patient.impossible-speed",
	Story: Story{
		Title: "A speed beyond what the machine can do",
		Means: "The speed that is printed or claimed is above a roofline: reading the weights, or the arithmetic, alone takes longer. It is a unit error, a bogus log, or a step without a model in it.",
		How:   "A step reads all weights twice and computes 4 FLOP a parameter and token (LoRA, forward and backward); against the chip's bandwidth and arithmetic, of the largest variant of its name.",
		Do:    "Compare by tokens a second, measured over steps and time, and plan with the ceiling.",
	},
	run: func(in Input) probe.Finding {
		if in.Patient == nil {
			return probe.Finding{}
		}
		f, s := in.facts(), in.Patient.Report.Speed
		chip, known := patient.ChipNamed(in.Snapshot.Host.Chip.Or(""))
		if f == nil || f.Parameters == 0 || !known {
			return probe.Finding{}
		}
		tokens, told := in.tokensAStep()
		reading, computing := chip.StepSeconds(f.Parameters, f.WeightBytes, tokens)
		best := 1 / max(reading, computing)
		source := fmt.Sprintf("%.1f TFLOP/s and %.0f GB/s of %s", chip.FLOPS/1e12, chip.Bandwidth/1e9, in.Snapshot.Host.Chip.Or(""))
		basis := fmt.Sprintf("%.0f tokens a step", tokens)
		if !told {
			basis += ", assumed: give --batch-size and --max-seq-length"
		}
		evidence := []probe.Evidence{
			number("reading the weights twice takes", reading, "s", "", source),
			number("the arithmetic takes", computing, "s", "", source+"; "+basis),
			number("steps a second at best", best, "", "", basis),
			number("tokens a second at best", best*tokens, "", "", basis),
		}
		// Without a number of tokens only reading the weights bounds a step.
		bound := best
		if !told {
			bound = 1 / reading
		}
		var above []string
		judge := func(what string, v, limit float64, unit string) {
			if v > rounding*limit {
				above = append(above, what)
				evidence = append(evidence, number(what, v, unit, fmt.Sprintf("≤ %.3g", limit), "told"))
			}
		}
		judge("printed", s.Printed.Or(0), bound, "steps/s")
		judge("steps over time", s.StepsPerSecond.Or(0), bound, "steps/s")
		judge("tokens a second, printed", s.TokensPerSecond.Or(0), chip.FLOPS/float64(4*f.Parameters), "tokens/s")
		for _, c := range in.Patient.Record.Claims {
			limit := bound
			if c.Unit == "tokens/s" {
				limit = chip.FLOPS / float64(4*f.Parameters)
			}
			judge("claimed: "+c.Text, c.Low, limit, c.Unit)
		}
		if v, ok := s.StepsPerSecond.Get(); ok {
			evidence = append(evidence, number("it does", v, "steps/s", fmt.Sprintf("≤ %.3g", best), s.Basis))
		}
		if len(above) == 0 {
			return pass(fmt.Sprintf("No speed is beyond what %s can do (%.3g steps/s of %s)", in.Snapshot.Host.Chip.Or("the chip"), best, basis), evidence...)
		}
		out := finding(probe.Warn, fmt.Sprintf("Impossible on this machine: %s; at best %.2g steps/s (%.0f tokens/s)", above[0], best, best*tokens),
			"reading the weights and multiplying by them alone takes longer: a unit error or a log of something else", evidence...)
		out.Confidence = probe.Likely
		out.Fix = []probe.Fix{{Text: "Measure tokens a second over steps and time, and plan with the ceiling"}}
		return out
	},
}

// tokensAStep is what the patient counts, what its command line says, or an
// assumption.
func (in Input) tokensAStep() (tokens float64, told bool) {
	if v, ok := in.Patient.Report.Speed.TokensAStep.Get(); ok && v > 0 {
		return v, true
	}
	if in.Settings.Origin("batch-size") != "default" && in.Settings.Origin("max-seq-length") != "default" {
		c := in.config()
		return float64(c.Plan.Batch * c.Data.MaxSeqLength), true
	}
	settings := in.Patient.Record.Settings
	batch, err1 := strconv.Atoi(settings["batch_size"])
	length, err2 := strconv.Atoi(settings["max_seq_length"])
	if err1 == nil && err2 == nil && batch > 0 && length > 0 {
		return float64(batch) * float64(length), true
	}
	return assumedTokens, false
}
