package decoder

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/mlxdyno/mlxdyno/mlxbind"
)

// wideConfig has widths that every group divides.
var wideConfig = job{
	"model_type": "qwen3", "hidden_size": 128, "num_hidden_layers": 2, "intermediate_size": 256, "num_attention_heads": 4, "num_key_value_heads": 2,
	"head_dim": 32, "rms_norm_eps": 1e-6, "vocab_size": 323, "rope_theta": 10000.0, "tie_word_embeddings": true, "max_position_embeddings": 512,
}

func TestEveryPackingEqualsMLXLM(t *testing.T) {
	for _, bits := range []int{2, 3, 4, 5, 6, 8} {
		for _, group := range []int{32, 64, 128} {
			t.Run(fmt.Sprintf("%d bits in groups of %d", bits, group), func(t *testing.T) {
				dir := makeModel(t, wideConfig, "float32", job{"bits": bits, "group": group})
				equalLogits(t, "stored", logitsOf(t, dir, Quantize{}), logitsOfMLXLM(t, dir, nil))
			})
		}
	}
}

// TestMixedPackings: some modules at 8 bits in groups of 32, the others otherwise.
func TestMixedPackings(t *testing.T) {
	for _, name := range oneOfEach {
		for _, bits := range []int{2, 4, 6} {
			t.Run(fmt.Sprintf("%s/%d", name, bits), func(t *testing.T) {
				dir := makeModel(t, modelConfigs[name], "bfloat16", job{"bits": bits, "group": 32, "mixed": true})
				if f, _ := facts(t, dir); f.Quant == nil || !f.Quant.Mixed && name != "phi3" && bits != 8 {
					t.Errorf("the model is not mixed: %+v", f.Quant)
				}
				equalLogits(t, "stored", logitsOf(t, dir, Quantize{}), logitsOfMLXLM(t, dir, nil))
			})
		}
	}
}

func TestQuantizeAtLoad(t *testing.T) {
	odd := with(wideConfig, job{"intermediate_size": 160}) // which 64 and 128 do not divide
	for name, c := range map[string]struct {
		config      job
		bits, group int
		plain       []string
	}{
		"all":                   {wideConfig, 4, 64, nil},
		"3 bits":                {wideConfig, 3, 32, nil},
		"8 bits":                {wideConfig, 8, 128, nil},
		"one width is odd":      {odd, 4, 64, []string{"model.layers.0.mlp.down_proj", "model.layers.1.mlp.down_proj"}},
		"a head of its own":     {with(odd, job{"tie_word_embeddings": false}), 6, 128, []string{"model.layers.0.mlp.down_proj", "model.layers.1.mlp.down_proj"}},
		"gemma3 whose scale":    {with(odd, job{"model_type": "gemma3_text", "sliding_window": 16, "sliding_window_pattern": 2}), 4, 32, nil},
		"phi3 with fused ones":  {with(odd, job{"model_type": "phi3"}), 4, 32, nil},
		"qwen2 with biases":     {with(odd, job{"model_type": "qwen2"}), 5, 32, nil},
		"gemma2":                {with(odd, job{"model_type": "gemma2"}), 4, 32, nil},
		"mistral in bfloat16":   {with(odd, job{"model_type": "mistral"}), 4, 32, nil},
		"llama of 4 bits in 32": {with(odd, job{"model_type": "llama"}), 4, 32, nil},
	} {
		t.Run(name, func(t *testing.T) {
			dtype := "float32"
			if name == "mistral in bfloat16" {
				dtype = "bfloat16"
			}
			dir := makeModel(t, c.config, dtype, nil)
			q := Quantize{c.bits, c.group}
			equalLogits(t, "packed at load", logitsOf(t, dir, q), logitsOfMLXLM(t, dir, job{"quantize": c.bits, "group": c.group}))
			f, spec := facts(t, dir)
			do(t, func(s *mlxbind.Scope) error {
				m, err := Load(s, f, spec, q)
				if err != nil {
					return err
				}
				slices.Sort(m.Plain)
				if diff := cmp.Diff(c.plain, m.Plain); diff != "" {
					t.Errorf("not packed: %s", diff)
				}
				if m.Quantized+len(m.Plain) != m.Linear || m.Linear < 9 {
					t.Errorf("%d of %d are packed, %d are not", m.Quantized, m.Linear, len(m.Plain))
				}
				return nil
			})
		})
	}
	t.Run("packed already", func(t *testing.T) {
		dir := makeModel(t, wideConfig, "float32", job{"bits": 4, "group": 32})
		f, spec := facts(t, dir)
		do(t, func(s *mlxbind.Scope) error {
			if _, err := Load(s, f, spec, Quantize{4, 32}); !errors.Is(err, ErrQuantized) {
				t.Errorf("%v", err)
			}
			return nil
		})
	})
}
