package budget

import (
	"fmt"
	"math"
	"testing"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// Peaks of our own trainer's steps by blocks, in MB (mlxdyno bench --engines native,
// MLX 0.32.4 on a CPU): a llama of 512 × 8 with a vocabulary of 8,192.
var measuredByBlocks = []struct {
	bits, batch, length, rank int
	dtype                     string
	checkpointing             bool
	megabytes                 float64
}{
	{0, 1, 64, 8, "F32", false, 158.7}, {4, 1, 64, 8, "F32", false, 84.1},
	{0, 1, 256, 8, "F32", false, 242.0}, {4, 1, 256, 8, "F32", false, 135.9},
	{0, 4, 256, 8, "F32", false, 473.6}, {4, 4, 256, 8, "F32", false, 370.8},
	{0, 1, 1024, 8, "F32", false, 748.5}, {4, 1, 1024, 8, "F32", false, 645.6},
	{0, 8, 128, 8, "F32", false, 440.1}, {4, 8, 128, 8, "F32", false, 337.2},
	{0, 2, 256, 64, "F32", false, 405.6}, {4, 2, 256, 64, "F32", false, 270.7},
	{0, 4, 256, 8, "F32", true, 275.8}, {4, 4, 256, 8, "F32", true, 193.8},
	{0, 1, 1024, 8, "F32", true, 356.6}, {4, 1, 1024, 8, "F32", true, 274.6},
}

func TestStepsByBlocksAgainstMeasured(t *testing.T) {
	for _, c := range measuredByBlocks {
		t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) {
			k := config(func(k *trainer.Config) {
				k.Quality.Rank, k.Plan.Checkpointing, k.Model.Quantize = c.rank, c.checkpointing, c.bits
			})
			got := float64(StepsOf(llama(512, 1408, 8, 8, 4, 8192, c.dtype), k, "cpu").Peak(trainer.Shape{Batch: c.batch, Width: c.length + 1})) / 1e6
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
