package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
)

// Shape describes a model with random weights. A zero field takes the value of
// the smallest useful model; widths need not be multiples of anything.
type Shape struct {
	Arch         string // llama, mistral, qwen2, qwen3, gemma2, gemma3_text or phi3; empty is llama
	Vocab        int    // at least 320; tokens beyond the tokenizer's are never used
	Hidden       int
	Intermediate int
	Layers       int
	Heads        int
	KVHeads      int
	HeadDim      int    // even; phi3 and qwen2 have no choice but Hidden / Heads
	Tied         bool   // the embedding is the head; always so for gemma2 and gemma3_text
	DType        string // float32 (default), bfloat16 or float16
	Bits         int    // quantize to so many; 0 does not
	GroupSize    int    // weights that share a scale; 0 is 64
	Positions    int    // max_position_embeddings; 0 is 4096
}

const (
	smallestVocab  = 320 // 256 bytes, special tokens, and some merges
	tokenizerVocab = 512 // of tokenizers that come with random weights
)

// MakeModel makes a model with seeded random weights and a real tokenizer, or
// finds it made before, and returns its directory.
func MakeModel(ctx context.Context, o Options, s Shape) (string, error) {
	s = s.withDefaults()
	if err := s.validate(); err != nil {
		return "", fmt.Errorf("make model: %w", err)
	}
	p := plan{Make: "model", Examples: 300, Vocab: min(s.Vocab, tokenizerVocab), Config: s.config(), Seed: o.Seed,
		Bits: s.Bits, GroupSize: s.GroupSize}
	dir := filepath.Join(o.Dir, s.name(o.Seed))
	if _, err := o.ensure(ctx, dir, p); err != nil {
		return "", fmt.Errorf("make model: %w", err)
	}
	return dir, nil
}

func (s Shape) withDefaults() Shape {
	set := func(v *int, fallback int) {
		if *v == 0 {
			*v = fallback
		}
	}
	if s.Arch == "" {
		s.Arch = "llama"
	}
	if s.DType == "" {
		s.DType = "float32"
	}
	s.Tied = s.Tied || s.Arch == "gemma3_text" || s.Arch == "gemma2"
	set(&s.Vocab, tokenizerVocab)
	set(&s.Hidden, 64)
	set(&s.Intermediate, 2*s.Hidden)
	set(&s.Layers, 2)
	set(&s.Heads, 2)
	set(&s.KVHeads, s.Heads)
	set(&s.HeadDim, s.Hidden/s.Heads)
	set(&s.GroupSize, 64)
	set(&s.Positions, 4096)
	return s
}

func (s Shape) validate() error {
	var p []string
	need := func(ok bool, format string, args ...any) {
		if !ok {
			p = append(p, fmt.Sprintf(format, args...))
		}
	}
	_, known := specific[s.Arch]
	need(known, "architecture %q is not one of %s", s.Arch, strings.Join(slices.Sorted(maps.Keys(specific)), ", "))
	need(s.Vocab >= smallestVocab, "vocabulary %d is below %d", s.Vocab, smallestVocab)
	need(s.Hidden > 0 && s.Intermediate > 0 && s.Layers > 0 && s.Heads > 0 && s.KVHeads > 0, "every size must be positive")
	need(s.KVHeads > 0 && s.Heads%s.KVHeads == 0, "%d heads cannot share %d key-value heads evenly", s.Heads, s.KVHeads)
	need(s.HeadDim > 0 && s.HeadDim%2 == 0, "head dimension %d is not even", s.HeadDim)
	need(s.Arch != "phi3" && s.Arch != "qwen2" || s.HeadDim*s.Heads == s.Hidden, "%s needs heads × head dimension = hidden, not %d × %d = %d", s.Arch, s.Heads, s.HeadDim, s.Hidden)
	need(slices.Contains([]string{"float32", "bfloat16", "float16"}, s.DType), "dtype %q is not one of float32, bfloat16, float16", s.DType)
	need(slices.Contains([]int{0, 2, 3, 4, 5, 6, 8}, s.Bits), "%d bits is not one of 0, 2, 3, 4, 5, 6, 8", s.Bits)
	need(slices.Contains([]int{32, 64, 128}, s.GroupSize), "group size %d is not one of 32, 64, 128", s.GroupSize)
	if len(p) > 0 {
		return fmt.Errorf("%s", strings.Join(p, "; "))
	}
	return nil
}

// name tells shapes apart in one directory.
func (s Shape) name(seed uint64) string {
	n := fmt.Sprintf("%s-v%d-h%d-i%d-l%d-a%d.%d.%d-p%d-%s", s.Arch, s.Vocab, s.Hidden, s.Intermediate, s.Layers,
		s.Heads, s.KVHeads, s.HeadDim, s.Positions, s.DType)
	if s.Tied {
		n += "-tied"
	}
	if s.Bits > 0 {
		n += fmt.Sprintf("-q%d.%d", s.Bits, s.GroupSize)
	}
	return n + fmt.Sprintf("-s%d", seed)
}

// specific is what each architecture's config.json has beside the common keys.
var specific = map[string]func(Shape) map[string]any{
	"llama":   func(Shape) map[string]any { return map[string]any{"architectures": []string{"LlamaForCausalLM"}} },
	"mistral": func(Shape) map[string]any { return map[string]any{"architectures": []string{"MistralForCausalLM"}} },
	"qwen2":   func(Shape) map[string]any { return map[string]any{"architectures": []string{"Qwen2ForCausalLM"}} },
	"qwen3":   func(Shape) map[string]any { return map[string]any{"architectures": []string{"Qwen3ForCausalLM"}} },
	"gemma2": func(s Shape) map[string]any {
		return map[string]any{
			"architectures":           []string{"Gemma2ForCausalLM"},
			"query_pre_attn_scalar":   s.HeadDim,
			"sliding_window":          256,
			"hidden_activation":       "gelu_pytorch_tanh",
			"attn_logit_softcapping":  json.RawMessage("50.0"), // transformers refuses whole numbers
			"final_logit_softcapping": json.RawMessage("30.0"),
		}
	},
	"gemma3_text": func(s Shape) map[string]any {
		return map[string]any{
			"architectures":           []string{"Gemma3ForCausalLM"},
			"query_pre_attn_scalar":   s.HeadDim,
			"rope_local_base_freq":    10000.0,
			"sliding_window":          256,
			"sliding_window_pattern":  2,
			"hidden_activation":       "gelu_pytorch_tanh",
			"attn_logit_softcapping":  nil,
			"final_logit_softcapping": nil,
		}
	},
	"phi3": func(s Shape) map[string]any {
		return map[string]any{"architectures": []string{"Phi3ForCausalLM"}, "original_max_position_embeddings": s.Positions}
	},
}

// config is the model's config.json, tokens apart.
func (s Shape) config() map[string]any {
	s = s.withDefaults()
	c := map[string]any{
		"model_type":              s.Arch,
		"vocab_size":              s.Vocab,
		"hidden_size":             s.Hidden,
		"intermediate_size":       s.Intermediate,
		"num_hidden_layers":       s.Layers,
		"num_attention_heads":     s.Heads,
		"num_key_value_heads":     s.KVHeads,
		"head_dim":                s.HeadDim,
		"max_position_embeddings": s.Positions,
		"rms_norm_eps":            1e-5,
		"rope_theta":              10000.0,
		"tie_word_embeddings":     s.Tied,
		"torch_dtype":             s.DType,
		"hidden_act":              "silu",
		"attention_bias":          false,
		"initializer_range":       0.02,
	}
	if more, ok := specific[s.Arch]; ok {
		maps.Copy(c, more(s))
	}
	return c
}
