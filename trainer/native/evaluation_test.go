package native

import (
	"math"
	"testing"
)

// What an evaluation tells of its batches adds up to its loss, and is the same
// however often the same adapters are evaluated.
func TestAnEvaluationTellsItsBatches(t *testing.T) {
	j := job(t, plain, 2)
	j.Evaluate, j.Config.Plan.Batch = true, 1
	_, s := finish(t, ours(t), j)
	if len(s.Evals) == 0 {
		t.Fatal("no evaluation")
	}
	for _, e := range s.Evals {
		if len(e.Losses) != e.Batches || len(e.Tokens) != e.Batches || e.Batches < 2 {
			t.Fatalf("%d losses and %d counts of %d batches", len(e.Losses), len(e.Tokens), e.Batches)
		}
		var sum, tokens float64
		for i, n := range e.Tokens {
			sum, tokens = sum+float64(e.Losses[i])*float64(n), tokens+float64(n)
		}
		if off := math.Abs(sum/tokens - float64(e.Loss)); off > 1e-9*float64(e.Loss) {
			t.Errorf("batches add up to %.12g, the loss is %.12g", sum/tokens, float64(e.Loss))
		}
	}
}
