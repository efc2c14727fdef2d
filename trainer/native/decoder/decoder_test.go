package decoder

import (
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/mlxdyno/mlxdyno/mlxbind"
)

// with is base with some keys replaced.
func with(base job, more job) job {
	out := maps.Clone(base)
	maps.Copy(out, more)
	return out
}

// Sizes are odd on purpose: nothing is a power of two, and no two are equal.
var llamaConfig = job{
	"model_type": "llama", "hidden_size": 96, "num_hidden_layers": 3, "intermediate_size": 160, "num_attention_heads": 6, "num_key_value_heads": 2,
	"head_dim": 16, "rms_norm_eps": 1e-5, "vocab_size": 323, "rope_theta": 10000.0, "tie_word_embeddings": false, "max_position_embeddings": 512,
}

var llama3Scaling = job{"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}

// families are the models that are compared, one or more a family.
var modelConfigs = map[string]job{
	"llama2":          llamaConfig,
	"llama3.1":        with(llamaConfig, job{"rope_scaling": llama3Scaling, "rope_theta": 500000.0}),
	"llama3.2 tied":   with(llamaConfig, job{"rope_scaling": llama3Scaling, "tie_word_embeddings": true, "num_key_value_heads": 3}),
	"llama linear":    with(llamaConfig, job{"rope_scaling": job{"type": "linear", "factor": 2.0}, "num_key_value_heads": 6}),
	"llama biases":    with(llamaConfig, job{"attention_bias": true, "mlp_bias": true, "rope_traditional": true}),
	"mistral":         with(llamaConfig, job{"model_type": "mistral", "sliding_window": 16}),
	"mistral sliding": with(llamaConfig, job{"model_type": "mistral", "sliding_window": 16, "layer_types": []string{"sliding_attention", "full_attention", "sliding_attention"}}),
	"qwen2":           with(llamaConfig, job{"model_type": "qwen2", "tie_word_embeddings": true}),
	"qwen3":           with(llamaConfig, job{"model_type": "qwen3", "head_dim": 32, "tie_word_embeddings": true}),
	"gemma2": with(llamaConfig, job{"model_type": "gemma2", "query_pre_attn_scalar": 24, "attn_logit_softcapping": 20.0,
		"final_logit_softcapping": 15.0, "head_dim": 32}),
	"gemma3": with(llamaConfig, job{"model_type": "gemma3_text", "query_pre_attn_scalar": 24, "sliding_window": 16, "sliding_window_pattern": 3,
		"rope_local_base_freq": 10000.0, "rope_theta": 1000000.0, "head_dim": 32, "rope_scaling": job{"rope_type": "linear", "factor": 8.0}, "tie_word_embeddings": true}),
	"gemma3 head": with(llamaConfig, job{"model_type": "gemma3_text", "query_pre_attn_scalar": 24, "sliding_window": 16, "sliding_window_pattern": 2,
		"head_dim": 32}),
	"phi3": with(llamaConfig, job{"model_type": "phi3", "partial_rotary_factor": 0.5}),
	"phi3 long": with(llamaConfig, job{"model_type": "phi3", "max_position_embeddings": 512, "original_max_position_embeddings": 64,
		"rope_scaling": job{"type": "longrope", "long_factor": []float64{1, 1.5, 2, 2.5, 3, 4, 5, 8}, "short_factor": []float64{1, 1, 1, 1, 1, 1, 1, 1}}}),
}

var someTokens = func() [][]int32 {
	rows := make([][]int32, 2)
	for i := range rows {
		for j := range 37 {
			rows[i] = append(rows[i], int32((i*131+j*j*17+j*5)%323))
		}
	}
	return rows
}()

// logitsOf computes someTokens with the model in dir.
func logitsOf(t *testing.T, dir string, q Quantize) []float32 {
	f, spec := facts(t, dir)
	var out []float32
	do(t, func(s *mlxbind.Scope) error {
		m, err := Load(s, f, spec, q)
		if err != nil {
			return err
		}
		var flat []int32
		for _, row := range someTokens {
			flat = append(flat, row...)
		}
		tokens := s.Int32s(flat, len(someTokens), len(someTokens[0]))
		out, err = s.ReadFloat32s(m.Logits(s, tokens, nil, Pass{}))
		return err
	})
	return out
}

// logitsOfMLXLM are the same from mlx-lm.
func logitsOfMLXLM(t *testing.T, dir string, more job) []float32 {
	out := filepath.Join(t.TempDir(), "logits.safetensors")
	python.ask(t, with(job{"do": "logits", "dir": dir, "tokens": someTokens, "out": out}, more))
	var v []float32
	do(t, func(s *mlxbind.Scope) error {
		all, err := s.LoadSafetensors(out)
		if err != nil {
			return err
		}
		v, err = s.ReadFloat32s(all["logits"])
		return err
	})
	return v
}

// relative is the largest difference over the largest value.
func relative(t *testing.T, got, want []float32) float64 {
	t.Helper()
	if len(got) != len(want) || len(got) == 0 {
		t.Fatalf("%d values instead of %d", len(got), len(want))
	}
	var worst, largest float64
	for i := range got {
		d := math.Abs(float64(got[i]) - float64(want[i]))
		if math.IsNaN(d) {
			t.Fatal("NaN")
		}
		worst, largest = max(worst, d), max(largest, math.Abs(float64(want[i])))
	}
	return worst / largest
}

func TestLogitsEqualMLXLM(t *testing.T) {
	forms := []struct {
		name, dtype string
		bits        int
	}{{"float32", "float32", 0}, {"bfloat16", "bfloat16", 0}, {"float16", "float16", 0}, {"4 bits", "float32", 4}, {"4 bits of bfloat16", "bfloat16", 4}}
	var table strings.Builder
	fmt.Fprintf(&table, "largest difference of logits\n%-16s", "")
	for _, f := range forms {
		fmt.Fprintf(&table, "%20s", f.name)
	}
	for _, name := range slices.Sorted(maps.Keys(modelConfigs)) {
		fmt.Fprintf(&table, "\n%-16s", name)
		for _, f := range forms {
			t.Run(name+"/"+f.name, func(t *testing.T) {
				dir := makeModel(t, modelConfigs[name], f.dtype, job{"bits": f.bits, "group": 32})
				d := relative(t, logitsOf(t, dir, Quantize{}), logitsOfMLXLM(t, dir, nil))
				fmt.Fprintf(&table, "%20.3g", d)
				if d != 0 {
					t.Errorf("logits differ by %.3g", d)
				}
			})
		}
	}
	t.Log(table.String())
}

func TestAdaptersStartAsMLXLMs(t *testing.T) {
	for name, config := range modelConfigs {
		t.Run(name, func(t *testing.T) {
			dir := makeModel(t, config, "float32", nil)
			f, spec := facts(t, dir)
			out := filepath.Join(t.TempDir(), "adapters.safetensors")
			python.ask(t, job{"do": "adapters", "dir": dir, "seed": 7, "rank": 4, "layers": 2, "out": out})
			do(t, func(s *mlxbind.Scope) error {
				m, err := Load(s, f, spec, Quantize{})
				if err != nil {
					return err
				}
				values, key, err := m.AddAdapters(s, LoRA{Rank: 4, Scale: 20, Layers: 2, Seed: 7})
				if err != nil {
					return err
				}
				want, err := s.LoadSafetensors(out)
				if err != nil {
					return err
				}
				names := m.AdapterNames()
				if len(want) != len(names)+1 {
					t.Errorf("%d arrays instead of %d", len(names), len(want)-1)
				}
				for i, name := range append(names, "key") {
					a := key
					if i < len(values) {
						a = values[i]
					}
					got, err := s.ReadFloat32s(a)
					if err != nil {
						return err
					}
					w, err := s.ReadFloat32s(want[name])
					if err != nil {
						return fmt.Errorf("%s: %w", name, err)
					}
					if diff := cmp.Diff(w, got); diff != "" {
						t.Fatalf("%s:\n%s", name, diff)
					}
				}
				return nil
			})
		})
	}
}
