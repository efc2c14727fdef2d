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
	{0, 1, 64, 8, "F32", false, 158.7}, {4, 1, 64, 8, "F32", false, 84.1},
	{0, 1, 256, 8, "F32", false, 242.0}, {4, 1, 256, 8, "F32", false, 135.9},
	{0, 4, 256, 8, "F32", false, 473.6}, {4, 4, 256, 8, "F32", false, 370.8},
	{0, 1, 1024, 8, "F32", false, 748.5}, {4, 1, 1024, 8, "F32", false, 645.6},
	{0, 8, 128, 8, "F32", false, 440.1}, {4, 8, 128, 8, "F32", false, 337.2},
	{0, 2, 256, 64, "F32", false, 405.6}, {4, 2, 256, 64, "F32", false, 270.7},
	{0, 4, 256, 8, "F32", true, 275.8}, {4, 4, 256, 8, "F32", true, 193.8},
	{0, 1, 1024, 8, "F32", true, 356.6}, {4, 1, 1024, 8, "F32", true, 274.6},
}

// The same, of shapes that were measured afterwards: other bits and dtypes, and a
// llama of 192 × 4 with a vocabulary of 1,024.
var heldOutByBlocks = []measuredStep{
	{8, 4, 256, 8, "F32", false, 388.9},
	{0, 4, 256, 8, "BF16", false, 238.0}, {4, 4, 256, 8, "BF16", false, 207.4}, {0, 1, 512, 8, "BF16", false, 192.2},
}

var heldOutSmall = []measuredStep{
	{0, 4, 128, 8, "F32", false, 46.7}, {4, 4, 128, 8, "F32", false, 39.5},
	{0, 8, 64, 8, "F32", false, 43.8}, {4, 8, 64, 8, "F32", false, 38.0},
	{0, 1, 512, 8, "F32", false, 64.6}, {4, 1, 512, 8, "F32", false, 55.0},
	{0, 4, 512, 8, "F32", false, 223.6}, {4, 4, 512, 8, "F32", false, 202.0},
	{0, 4, 128, 32, "F32", false, 52.2}, {8, 4, 128, 8, "F32", false, 40.8},
	{0, 4, 128, 8, "F32", true, 32.6}, {4, 4, 128, 8, "F32", true, 27.8},
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
