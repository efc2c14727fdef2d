package native

import (
	"testing"

	"github.com/mlxdyno/mlxdyno/probe/budget"
	"github.com/mlxdyno/mlxdyno/probe/model"
	"github.com/mlxdyno/mlxdyno/trainer"
)

// The estimate of a step's memory counts dense matrices from as many positions on as they
// are made for.
func TestTheEstimateKnowsWhenMatricesAreDense(t *testing.T) {
	facts := model.Facts{Arch: "llama", Layers: 1, Hidden: 64, Intermediate: 128, Heads: 2, KVHeads: 2, HeadDim: 32, Vocab: 320, DType: "F32"}
	for _, m := range []struct {
		name    string
		out, in int
	}{{"model.embed_tokens", 320, 64}, {"lm_head", 320, 64}, {"model.layers.0.mlp.up_proj", 128, 64}} {
		facts.Tensors = append(facts.Tensors, model.Tensor{Name: m.name + ".weight", DType: "F32", Shape: []int{m.out, m.in}, Bytes: int64(4 * m.out * m.in)})
		facts.Parameters += int64(m.out * m.in)
		facts.WeightBytes += int64(4 * m.out * m.in)
	}
	c := trainer.DefaultConfig()
	c.Model.Quantize = 4
	for _, device := range []string{"cpu", "cuda"} {
		from := forms(c.Plan, device, false).DenseFrom
		stages := budget.StagesOf(facts, c, device)
		dense := func(positions int) float64 {
			return stages.At(trainer.Shape{Batch: 1, Width: positions + 1})[budget.StageBackward].Parts[budget.PartDense]
		}
		if from < 2 || dense(from-1) != 0 || dense(from) == 0 {
			t.Errorf("%s: made from %d positions on, estimated %.0f B for one fewer and %.0f B for so many", device, from, dense(from-1), dense(from))
		}
	}
}
