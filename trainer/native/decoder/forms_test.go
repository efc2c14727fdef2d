package decoder

import (
	"slices"
	"testing"

	"github.com/mlxdyno/mlxdyno/mlxbind"
)

// lossAndGradients computes the mean loss of someTokens and its gradients with
// respect to adapters whose B is not zero, in the given forms.
func lossAndGradients(t *testing.T, dir string, o Forms, pass Pass) [][]float32 {
	t.Helper()
	f, spec := facts(t, dir)
	var out [][]float32
	do(t, func(s *mlxbind.Scope) error {
		m, err := Load(s, f, spec, Quantize{})
		if err != nil {
			return err
		}
		m.Forms = o
		values, key, err := m.AddAdapters(s, LoRA{Rank: 4, Scale: 2, Seed: 3})
		if err != nil {
			return err
		}
		for i := 1; i < len(values); i += 2 {
			values[i] = s.Normal(key, 0, 0.1, mlxbind.Float32, s.Shape(values[i])...)
		}
		width := len(someTokens[0])
		tokens := s.Int32s(slices.Concat(someTokens...), len(someTokens), width)
		argnums := make([]int, len(values))
		for i := range argnums {
			argnums[i] = i
		}
		gradient := s.ValueAndGrad(func(s *mlxbind.Scope, in []mlxbind.Array) []mlxbind.Array {
			logits := s.AsType(m.Logits(s, s.Slice(tokens, 1, 0, width-1), in, pass), mlxbind.Float32)
			targets := s.ExpandDims(s.Slice(tokens, 1, 1, width), -1)
			score := s.Squeeze(s.TakeAlongAxis(logits, targets, -1), -1)
			return []mlxbind.Array{s.MeanAll(s.Sub(s.LogSumExp(logits, -1, false), score))}
		}, argnums...)
		for _, a := range gradient.Call(s, values...) {
			v, err := s.ReadFloat32s(a)
			if err != nil {
				return err
			}
			out = append(out, v)
		}
		return s.Err()
	})
	return out
}

// furthest is the largest relative difference of corresponding arrays.
func furthest(t *testing.T, got, want [][]float32) float64 {
	t.Helper()
	if len(got) != len(want) || len(got) < 3 {
		t.Fatalf("%d arrays instead of %d", len(got), len(want))
	}
	worst := 0.0
	for i := range got {
		worst = max(worst, relative(t, got[i], want[i]))
	}
	return worst
}

func TestFastFormsComputeTheSame(t *testing.T) {
	for name, config := range modelConfigs {
		t.Run(name+"/dequantized", func(t *testing.T) {
			dir := makeModel(t, config, "float32", job{"bits": 4, "group": 32})
			plain := lossAndGradients(t, dir, Forms{}, Pass{})
			if d := furthest(t, lossAndGradients(t, dir, Forms{DenseFrom: 2}, Pass{}), plain); d > 1e-5 {
				t.Errorf("differs by %.3g", d)
			}
			if d := furthest(t, lossAndGradients(t, dir, Forms{DenseFrom: 2}, Pass{Checkpoint: true}), plain); d > 1e-5 {
				t.Errorf("under checkpointing it differs by %.3g", d)
			}
		})
	}
	for _, dtype := range []string{"float32", "bfloat16"} {
		t.Run("low rank/"+dtype, func(t *testing.T) {
			dir := makeModel(t, llamaConfig, dtype, nil)
			bound := map[string]float64{"float32": 1e-5, "bfloat16": 0.1}[dtype]
			if d := furthest(t, lossAndGradients(t, dir, Forms{LowRankInHalf: true}, Pass{}), lossAndGradients(t, dir, Forms{}, Pass{})); d > bound {
				t.Errorf("differs by %.3g", d)
			} else {
				t.Logf("differs by %.3g", d)
			}
		})
	}
}
