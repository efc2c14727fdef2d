package budget

import (
	"fmt"
	"math"
	"testing"

	"github.com/mlxdyno/mlxdyno/probe/model"
	"github.com/mlxdyno/mlxdyno/trainer"
)

type measuredStep struct {
	bits, batch, length, rank int
	dtype                     string
	checkpointing             bool
	megabytes                 float64
}

// Peaks of our own trainer's steps by blocks, in MB (mlxdyno bench --engines native,
// MLX 0.32.4 on a CPU): a llama of 512 × 8 with a vocabulary of 8,192, which the
// formula's constants were read from.
var measuredByBlocks = []measuredStep{
	{0, 1, 64, 8, "F32", false, 161.6}, {4, 1, 64, 8, "F32", false, 73.1},
	{0, 1, 256, 8, "F32", false, 253.6}, {4, 1, 256, 8, "F32", false, 122.6},
	{0, 4, 256, 8, "F32", false, 519.7}, {4, 4, 256, 8, "F32", false, 359.5},
	{0, 1, 1024, 8, "F32", false, 793.6}, {4, 1, 1024, 8, "F32", false, 698.1},
	{0, 8, 128, 8, "F32", false, 486.2}, {4, 8, 128, 8, "F32", false, 326.0},
	{0, 2, 256, 64, "F32", false, 428.7}, {4, 2, 256, 64, "F32", false, 262.5},
	{0, 4, 256, 8, "F32", true, 266.7}, {4, 4, 256, 8, "F32", true, 170.9},
	{0, 1, 1024, 8, "F32", true, 356.3}, {4, 1, 1024, 8, "F32", true, 260.4},
}

// The same, of shapes that were measured afterwards: other bits and dtypes, and a
// llama of 192 × 4 with a vocabulary of 1,024.
var heldOutByBlocks = []measuredStep{
	{8, 4, 256, 8, "F32", false, 375.8},
	{0, 4, 256, 8, "BF16", false, 261.0}, {4, 4, 256, 8, "BF16", false, 198.2}, {0, 1, 512, 8, "BF16", false, 203.8},
}

var heldOutSmall = []measuredStep{
	{0, 4, 128, 8, "F32", false, 50.9}, {4, 4, 128, 8, "F32", false, 41.3},
	{0, 8, 64, 8, "F32", false, 48.0}, {4, 8, 64, 8, "F32", false, 38.4},
	{0, 1, 512, 8, "F32", false, 68.8}, {4, 1, 512, 8, "F32", false, 59.8},
	{0, 4, 512, 8, "F32", false, 224.7}, {4, 4, 512, 8, "F32", false, 202.6},
	{0, 4, 128, 32, "F32", false, 56.7}, {8, 4, 128, 8, "F32", false, 42.3},
	{0, 4, 128, 8, "F32", true, 32.9}, {4, 4, 128, 8, "F32", true, 27.5},
}

func TestStepsByBlocksAgainstMeasured(t *testing.T) {
	for _, set := range []struct {
		name  string
		steps []measuredStep
		facts func(dtype string) model.Facts
	}{
		{"read from", measuredByBlocks, func(dtype string) model.Facts { return llama(512, 1408, 8, 8, 4, 8192, dtype) }},
		{"held out", heldOutByBlocks, func(dtype string) model.Facts { return llama(512, 1408, 8, 8, 4, 8192, dtype) }},
		{"held out, small", heldOutSmall, func(dtype string) model.Facts { return llama(192, 512, 4, 3, 3, 1024, dtype) }},
	} {
		t.Run(set.name, func(t *testing.T) { againstMeasured(t, set.steps, set.facts) })
	}
}

func againstMeasured(t *testing.T, steps []measuredStep, facts func(dtype string) model.Facts) {
	for _, c := range steps {
		t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) {
			k := config(func(k *trainer.Config) {
				k.Quality.Rank, k.Plan.Checkpointing, k.Model.Quantize = c.rank, c.checkpointing, c.bits
			})
			got := float64(StepsOf(facts(c.dtype), k, "cpu").Peak(trainer.Shape{Batch: c.batch, Width: c.length + 1})) / 1e6
			off := got/c.megabytes - 1
			t.Logf("computed %.1f MB (%+.1f %%)", got, 100*off)
			if math.Abs(off) > 0.12 {
				t.Errorf("computed %.1f MB, measured %.1f (%+.1f %%)", got, c.megabytes, 100*off)
			}
			if c.megabytes > got*(1+PeakError(k, "llama", "cpu")) {
				t.Errorf("measured %.1f MB, beyond the bound that is stated of %.1f", c.megabytes, got)
			}
		})
	}
}
