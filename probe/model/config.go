package model

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strings"
)

// config is what Facts need of config.json. Zero means that it is not there.
type config struct {
	modelType string
	layers    int
	hidden    int
	inter     int
	heads     int
	kvHeads   int
	headDim   int
	vocab     int
	positions int
	tied      bool

	quant    *quantConfig
	nonMLX   string // quant_method of a format other than MLX's
	rawBytes []byte
}

// quantConfig is MLX's "quantization": defaults, and what single modules have
// instead.
type quantConfig struct {
	packing
	mode    string
	modules map[string]packing
}

// packing is how many bits an element takes and how many share a scale.
type packing struct{ bits, group int }

// parseConfig decodes config.json. Fields of the language model may lie in
// text_config, where multimodal models have them. Errors are *Error without a
// path.
func parseConfig(raw []byte) (*config, error) {
	var top map[string]any
	d := json.NewDecoder(bytes.NewReader(strictJSON(raw)))
	if err := d.Decode(&top); err != nil {
		return nil, brokenConfig("is not JSON (%v)", err)
	}
	c := &config{rawBytes: raw}
	c.modelType, _ = top["model_type"].(string)
	if c.modelType == "" {
		return nil, brokenConfig("has no model_type")
	}

	text, _ := top["text_config"].(map[string]any)
	levels := []map[string]any{text, top}
	for _, f := range []struct {
		into *int
		keys []string
	}{
		{&c.layers, []string{"num_hidden_layers", "num_layers", "n_layer", "n_layers"}},
		{&c.hidden, []string{"hidden_size", "n_embd", "d_model", "dim"}},
		{&c.inter, []string{"intermediate_size", "n_inner", "ffn_hidden_size", "hidden_dim"}},
		{&c.heads, []string{"num_attention_heads", "n_head", "n_heads", "num_heads"}},
		{&c.kvHeads, []string{"num_key_value_heads", "num_kv_heads", "n_kv_heads"}},
		{&c.headDim, []string{"head_dim"}},
		{&c.vocab, []string{"vocab_size"}},
		{&c.positions, []string{"max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "model_max_length"}},
	} {
		v, err := wholeNumber(levels, f.keys)
		if err != nil {
			return nil, err
		}
		*f.into = v
	}
	for _, level := range levels {
		if tied, ok := level["tie_word_embeddings"].(bool); ok {
			c.tied = tied
			break
		}
	}
	return c, c.readQuantization(top, text)
}

// readQuantization takes "quantization", which mlx-lm writes, and otherwise
// "quantization_config", which it writes too and other tools write alone.
func (c *config) readQuantization(top, text map[string]any) error {
	q, _ := top["quantization"].(map[string]any)
	if q == nil {
		if q, _ = top["quantization_config"].(map[string]any); q == nil {
			q, _ = text["quantization_config"].(map[string]any)
		}
	}
	if q == nil {
		return nil
	}
	p, err := readPacking(q)
	if err != nil {
		return err
	}
	c.quant = &quantConfig{packing: p, modules: map[string]packing{}}
	c.quant.mode, _ = q["mode"].(string)
	c.nonMLX, _ = q["quant_method"].(string)
	for name, v := range q {
		if m, ok := v.(map[string]any); ok {
			if p, err := readPacking(m); err != nil {
				return err
			} else if p.bits > 0 && p.group > 0 {
				c.quant.modules[name] = p
			}
		}
	}
	return nil
}

func readPacking(q map[string]any) (packing, error) {
	one := []map[string]any{q}
	bits, err := wholeNumber(one, []string{"bits"})
	if err != nil {
		return packing{}, err
	}
	group, err := wholeNumber(one, []string{"group_size"})
	return packing{bits: bits, group: group}, err
}

// wholeNumber returns the first of keys that any level has. Of a list, one
// entry a layer, it takes the largest. What is null or not a number is left
// for the tensors to tell.
func wholeNumber(levels []map[string]any, keys []string) (int, error) {
	for _, level := range levels {
		for _, key := range keys {
			largest, found := 0, false
			values, isList := level[key].([]any)
			if !isList {
				values = []any{level[key]}
			}
			for _, v := range values {
				f, ok := v.(float64)
				if !ok {
					continue
				}
				if f == -1 && key == "group_size" { // other formats: one group a row
					continue
				}
				if f != math.Trunc(f) || f < 0 || f > 1<<40 || f > math.MaxInt {
					return 0, brokenConfig("has %s = %v, which is no possible size", key, f)
				}
				largest, found = max(largest, int(f)), true
			}
			if found {
				return largest, nil
			}
		}
	}
	return 0, nil
}

// strictJSON replaces NaN and Infinity, which Python writes and reads, by null.
func strictJSON(raw []byte) []byte {
	if !bytes.Contains(raw, []byte("Infinity")) && !bytes.Contains(raw, []byte("NaN")) {
		return raw
	}
	out := make([]byte, 0, len(raw))
	inString := false
scan:
	for i := 0; i < len(raw); i++ {
		switch {
		case inString && raw[i] == '\\' && i+1 < len(raw):
			out = append(out, raw[i])
			i++
		case raw[i] == '"':
			inString = !inString
		case !inString:
			for _, word := range []string{"NaN", "Infinity", "-Infinity"} {
				if strings.HasPrefix(string(raw[i:min(i+len(word), len(raw))]), word) {
					out = append(out, "null"...)
					i += len(word) - 1
					continue scan
				}
			}
		}
		out = append(out, raw[i])
	}
	return out
}

func brokenConfig(format string, args ...any) *Error {
	return &Error{Code: CodeConfigBroken, Text: fmt.Sprintf(format, args...), Hint: "take config.json from the model's repository again"}
}
