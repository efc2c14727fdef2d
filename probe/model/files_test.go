package model

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A block model with the sizes that the golden numbers were taken for.
const (
	hidden, inter, heads, vocab, blocks = 64, 192, 4, 256, 4
)

// layout says how one architecture arranges its tensors.
type layout struct {
	arch       string
	prefix     string // before "model."
	kvHeads    int
	headDim    int
	tied       bool // no lm_head is stored
	fused      bool // qkv_proj and gate_up_proj
	qkNorm     bool
	biases     bool // of q, k and v
	norms      int  // of hidden width in a block
	experts    int
	textConfig bool
}

// weight is a matrix or, of one dimension, a norm.
type weight struct {
	name  string
	shape []int
}

func (l layout) weights() []weight {
	q, kv := heads*l.headDim, l.kvHeads*l.headDim
	out := []weight{{"model.embed_tokens", []int{vocab, hidden}}, {"model.norm", []int{hidden}}}
	if !l.tied {
		out = append(out, weight{"lm_head", []int{vocab, hidden}})
	}
	for b := range blocks {
		at := func(name string, shape ...int) {
			out = append(out, weight{fmt.Sprintf("model.layers.%d.%s", b, name), shape})
		}
		for n := range l.norms {
			at(fmt.Sprintf("norm_%d", n), hidden)
		}
		if l.qkNorm {
			at("self_attn.q_norm", l.headDim)
			at("self_attn.k_norm", l.headDim)
		}
		at("self_attn.o_proj", hidden, q)
		if l.fused {
			at("self_attn.qkv_proj", q+2*kv, hidden)
			at("mlp.gate_up_proj", 2*inter, hidden)
			at("mlp.down_proj", hidden, inter)
			continue
		}
		at("self_attn.q_proj", q, hidden)
		at("self_attn.k_proj", kv, hidden)
		at("self_attn.v_proj", kv, hidden)
		if l.biases {
			at("self_attn.q_proj.bias", q)
			at("self_attn.k_proj.bias", kv)
			at("self_attn.v_proj.bias", kv)
		}
		if l.experts > 0 {
			at("mlp.gate", l.experts, hidden)
			at("mlp.switch_mlp.gate_proj", l.experts, hidden, hidden)
			at("mlp.switch_mlp.up_proj", l.experts, hidden, hidden)
			at("mlp.switch_mlp.down_proj", l.experts, hidden, hidden)
			continue
		}
		at("mlp.gate_proj", inter, hidden)
		at("mlp.up_proj", inter, hidden)
		at("mlp.down_proj", hidden, inter)
	}
	for i := range out {
		out[i].name = l.prefix + out[i].name
	}
	return out
}

func (l layout) config() map[string]any {
	c := map[string]any{
		"hidden_size": hidden, "num_hidden_layers": blocks, "intermediate_size": inter, "num_attention_heads": heads,
		"num_key_value_heads": l.kvHeads, "vocab_size": vocab, "max_position_embeddings": 512, "model_type": l.arch,
	}
	if l.headDim != hidden/heads {
		c["head_dim"] = l.headDim
	}
	if l.textConfig {
		return map[string]any{"model_type": l.arch, "vocab_size": vocab, "text_config": c}
	}
	return c
}

// stored is a way to store weights: how each module is packed, zero for plain.
type stored struct {
	name    string
	plain   string // dtype of what is not packed
	scales  string // dtype of scales; no biases when it is not plain's
	packing func(module string) packing
	config  map[string]any // "quantization"
}

var storedWays = []stored{
	{name: "plain", plain: "BF16", packing: func(string) packing { return packing{} }},
	{name: "4 bits", plain: "F32", scales: "F32", packing: func(string) packing { return packing{4, 64} }, config: map[string]any{"bits": 4, "group_size": 64}},
	{name: "3 bits", plain: "F32", scales: "F32", packing: func(string) packing { return packing{3, 64} }, config: map[string]any{"bits": 3, "group_size": 64}},
	{name: "mxfp4", plain: "F32", scales: "U8", packing: func(string) packing { return packing{4, 32} }, config: map[string]any{"bits": 4, "group_size": 32, "mode": "mxfp4"}},
	{name: "mixed", plain: "F32", scales: "F32", packing: mixed, config: map[string]any{"bits": 4, "group_size": 64}},
}

// mixed packs as a mixed recipe does: some modules in 8 bits, some not at all.
func mixed(module string) packing {
	switch {
	case strings.Contains(module, "down_proj"):
		return packing{8, 32}
	case strings.Contains(module, "v_proj"):
		return packing{}
	}
	return packing{4, 64}
}

func (l layout) tensors(way stored) []Tensor {
	var out []Tensor
	for _, w := range l.weights() {
		p := way.packing(w.name)
		if len(w.shape) == 1 || p == (packing{}) {
			name := w.name + ".weight"
			if strings.HasSuffix(w.name, ".bias") {
				name = w.name
			}
			out = append(out, Tensor{Name: name, DType: way.plain, Shape: w.shape})
			continue
		}
		last := len(w.shape) - 1
		with := func(n int) []int { return append(append([]int{}, w.shape[:last]...), n) }
		out = append(out,
			Tensor{Name: w.name + ".weight", DType: "U32", Shape: with(w.shape[last] * p.bits / 32)},
			Tensor{Name: w.name + ".scales", DType: way.scales, Shape: with(w.shape[last] / p.group)})
		if way.scales == way.plain {
			out = append(out, Tensor{Name: w.name + ".biases", DType: way.plain, Shape: with(w.shape[last] / p.group)})
		}
	}
	return out
}

// write makes the model's directory.
func (l layout) write(t *testing.T, way stored) string {
	t.Helper()
	dir, config := t.TempDir(), l.config()
	if way.config != nil {
		q := maps.Clone(way.config)
		if way.name == "mixed" {
			for _, w := range l.weights() {
				switch p := mixed(w.name); {
				case len(w.shape) == 1:
				case p == packing{}:
					q[w.name] = false
				case p.bits == 8:
					q[w.name] = map[string]any{"bits": 8, "group_size": 32}
				}
			}
		}
		config["quantization"] = q
	}
	writeJSON(t, filepath.Join(dir, "config.json"), config)
	writeSafetensors(t, filepath.Join(dir, "model.safetensors"), l.tensors(way))
	return dir
}

func writeJSON(t *testing.T, path string, v any) {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, path, b)
}

func writeFile(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

// header lays tensors out one after the other, and returns the header with its
// length before it, and the bytes of data that belong to it.
func header(tensors []Tensor) (head []byte, data int64) {
	entries := map[string]any{"__metadata__": map[string]string{"format": "mlx"}}
	for _, t := range tensors {
		shape := make([]uint64, len(t.Shape))
		for i, d := range t.Shape {
			shape[i] = uint64(d)
		}
		_, size, _ := sizeOf(shape, dtypeBits[t.DType])
		entries[t.Name] = map[string]any{"dtype": t.DType, "shape": t.Shape, "data_offsets": []int64{data, data + int64(size)}}
		data += int64(size)
	}
	text, err := json.Marshal(entries)
	if err != nil {
		panic(err)
	}
	return frame(text), data
}

func frame(text []byte) []byte {
	return append(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text...)
}

// writeSafetensors writes a file whose data is a hole.
func writeSafetensors(t *testing.T, path string, tensors []Tensor) {
	t.Helper()
	head, data := header(tensors)
	writeFile(t, path, head)
	if err := os.Truncate(path, int64(len(head))+data); err != nil {
		t.Fatal(err)
	}
}
