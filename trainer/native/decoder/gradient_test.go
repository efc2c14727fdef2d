package decoder

import (
	"math"
	"slices"
	"testing"

	"github.com/mlxdyno/mlxdyno/mlxbind"
)

// gradients of a loss over someTokens with respect to all adapters.
func gradients(t *testing.T, dir string, o LoRA, checkpoint bool) (loss float64, all [][]float32) {
	t.Helper()
	f, spec := facts(t, dir)
	do(t, func(s *mlxbind.Scope) error {
		m, err := Load(s, f, spec, Quantize{})
		if err != nil {
			return err
		}
		values, key, err := m.AddAdapters(s, o)
		if err != nil {
			return err
		}
		for i := range values { // B too, or A has no gradient
			var use mlxbind.Array
			key, use = s.SplitKey(key)
			values[i] = s.Normal(use, 0, 0.1, mlxbind.Float32, s.Shape(values[i])...)
		}
		var keys []mlxbind.Array
		if m.HasDropout() {
			keys, _ = m.DropoutKeys(s, key)
		}
		n := len(values)
		argnums := make([]int, n)
		for i := range argnums {
			argnums[i] = i
		}
		g := s.ValueAndGrad(func(s *mlxbind.Scope, in []mlxbind.Array) []mlxbind.Array {
			tokens := tokensIn(s)
			logits := m.Logits(s, s.Slice(tokens, 1, 0, 36), in[:n], Pass{Checkpoint: checkpoint, Keys: in[n:]})
			score := s.Squeeze(s.TakeAlongAxis(logits, s.ExpandDims(s.Slice(tokens, 1, 1, 37), -1), -1), -1)
			return []mlxbind.Array{s.MeanAll(s.Sub(s.LogSumExp(logits, -1, false), score))}
		}, argnums...)
		out := g.Call(s, slices.Concat(values, keys)...)
		if err := s.Err(); err != nil {
			return err
		}
		if loss, err = s.Item(out[0]); err != nil {
			return err
		}
		for _, a := range out[1:] {
			v, err := s.ReadFloat32s(a)
			if err != nil {
				return err
			}
			all = append(all, v)
		}
		return nil
	})
	return loss, all
}

// TestCheckpointingChangesNoGradient. With dropout, mlx-lm's checkpointing does:
// it draws from the generator's state, which has moved on when a block is computed
// again, so that the gradient is taken through other masks than the loss. Here
// masks come from keys that go into the block as arguments.
func TestCheckpointingChangesNoGradient(t *testing.T) {
	for _, name := range oneOfEach {
		for what, o := range map[string]LoRA{
			"all blocks":    {Rank: 4, Scale: 5, Seed: 1},
			"the last":      {Rank: 4, Scale: 5, Seed: 1, Layers: 1},
			"dropout":       {Rank: 4, Scale: 5, Seed: 1, Dropout: 0.3},
			"dropout, last": {Rank: 4, Scale: 5, Seed: 1, Dropout: 0.3, Layers: 2},
		} {
			for _, bits := range []int{0, 4} {
				t.Run(name+"/"+what+"/"+map[int]string{0: "plain", 4: "4 bits"}[bits], func(t *testing.T) {
					dir := makeModel(t, modelConfigs[name], "float32", job{"bits": bits, "group": 32})
					loss, want := gradients(t, dir, o, false)
					again, got := gradients(t, dir, o, true)
					if loss != again || len(want) != len(got) {
						t.Fatalf("loss %v and %v, %d gradients and %d", loss, again, len(want), len(got))
					}
					worst := 0.0
					for i := range want {
						size := 0.0
						for _, v := range want[i] {
							size = max(size, math.Abs(float64(v)))
						}
						if size == 0 || math.IsNaN(size) {
							t.Errorf("gradient %d is %v", i, size)
						}
						worst = max(worst, relative(t, got[i], want[i]))
					}
					if worst != 0 {
						t.Errorf("gradients differ by %.3g", worst)
					}
					if o.Dropout > 0 {
						dry := o
						dry.Dropout = 0
						if without, _ := gradients(t, dir, dry, true); without == loss {
							t.Error("dropout changes nothing")
						}
					}
				})
			}
		}
	}
}
