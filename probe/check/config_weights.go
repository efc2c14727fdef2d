package check

import (
	"fmt"
	"math"

	"github.com/mlxdyno/mlxdyno/probe"
)

// chanceMargin is how near the loss of a uniform guess a first loss may be.
const chanceMargin = 0.05

var configWeightsLoaded = Check{
	Code: "config.weights-loaded", DependsOn: []string{"burst.outcome", "model.readable"},
	Story: Story{
		Title: "Are the weights loaded",
		Means: "The first loss is that of guessing every token with equal chance, or worse. The model knows nothing: weights were not loaded, or are random.",
		How:   "The first loss is compared with the logarithm of the vocabulary size.",
		Do:    "Look for warnings about skipped tensors in the log, and test the model by generating text. A model that is trained from scratch starts like this rightly.",
	},
	run: func(in Input) probe.Finding {
		m := in.Snapshot.Model
		if in.Burst == nil || len(in.Burst.Summary.Steps) == 0 || m == nil || m.Facts == nil || m.Facts.Vocab < 2 {
			return probe.Finding{}
		}
		loss := float64(in.Burst.Summary.Steps[0].Loss)
		chance := math.Log(float64(m.Facts.Vocab))
		evidence := number("first loss", loss, "nats a token", fmt.Sprintf("well below %.3g", chance), "trial steps")
		if loss < (1-chanceMargin)*chance {
			return pass("The first loss is better than guessing", evidence)
		}
		f := finding(probe.Warn, fmt.Sprintf("The first loss of %.3g is no better than guessing", loss),
			fmt.Sprintf("guessing among %d tokens gives %.3g; weights were not loaded, or are random", m.Facts.Vocab, chance), evidence)
		f.Confidence = probe.Likely
		f.Fix = []probe.Fix{{Text: "Test the base model by generating text with it; download it again if that is noise"}}
		return f
	},
}
