package check

import (
	"fmt"
	"math"

	"github.com/mlxdyno/mlxdyno/probe"
)

const earlySteps = 10 // in which a first loss is still that of the base model

var patientWeights = Check{
	Code: "patient.weights-not-loaded",
	Story: Story{
		Title: "Are its weights loaded",
		Means: "The first loss is that of guessing every token with equal chance, or the trainer says that it skips tensors: what it trains is noise.",
		How:   "The first loss against the logarithm of the vocabulary's size, and the trainer's own warnings.",
		Do:    "Convert the weights to a type that the trainer loads (bfloat16, float16 or float32), and generate text with the base model before training.",
	},
	run: func(in Input) probe.Finding {
		if in.Patient == nil {
			return probe.Finding{}
		}
		var evidence []probe.Evidence
		skipped := false
		for _, n := range in.Patient.Record.Notices {
			if n.Code == "your_ai.skipped-tensor" {
				skipped = true
				evidence = append(evidence, said("skipped tensors", fmt.Sprintf("%d × %s", n.Times, n.Text), "none", in.printed()))
			}
		}
		guessing, judged := false, false
		f := in.facts()
		for _, p := range in.Patient.Record.Points {
			loss, ok := p.Loss.Get()
			if !ok || !loss.Finite() {
				continue
			}
			if f == nil || f.Vocab < 2 || p.Step > earlySteps {
				break
			}
			chance := math.Log(float64(f.Vocab))
			guessing, judged = float64(loss) >= (1-chanceMargin)*chance, true
			evidence = append(evidence, number("first loss", float64(loss), "nats a token", fmt.Sprintf("well below ln(%d) = %.4g", f.Vocab, chance), in.printed()))
			break
		}
		if !guessing && !skipped {
			if judged {
				return pass("Its first loss is better than guessing", evidence...)
			}
			return probe.Finding{}
		}
		title, why := "It skips tensors of the model", "what is skipped stays random or zero"
		if guessing {
			title, why = "Its weights are not loaded: the first loss is that of guessing", "a model that knows its language starts far below the logarithm of its vocabulary"
		}
		if guessing && skipped {
			why += "; it says itself that it skips tensors"
		}
		out := finding(probe.Warn, title, why, evidence...)
		out.Confidence = probe.Likely
		out.Fix = []probe.Fix{{Text: "Give it weights of a type that it loads, and generate text with the base model before training"}}
		return out
	},
}
