package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/rogpeppe/go-internal/testscript"
)

// bareModel DIR writes the files of a small llama, its weights all zero: enough for
// what reads no weight.
func bareModel(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: bare-model DIR")
	}
	const hidden, inner, layers, heads, vocab = 64, 128, 2, 2, 512
	type tensor struct {
		DType   string `json:"dtype"`
		Shape   []int  `json:"shape"`
		Offsets [2]int `json:"data_offsets"`
	}
	tensors, end := map[string]tensor{}, 0
	add := func(name string, shape ...int) {
		bytes := 4
		for _, n := range shape {
			bytes *= n
		}
		tensors[name+".weight"] = tensor{"F32", shape, [2]int{end, end + bytes}}
		end += bytes
	}
	add("model.embed_tokens", vocab, hidden)
	add("model.norm", hidden)
	for i := range layers {
		p := fmt.Sprintf("model.layers.%d.", i)
		for _, name := range []string{"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"} {
			add(p+name, hidden, hidden)
		}
		add(p+"mlp.gate_proj", inner, hidden)
		add(p+"mlp.up_proj", inner, hidden)
		add(p+"mlp.down_proj", hidden, inner)
		add(p+"input_layernorm", hidden)
		add(p+"post_attention_layernorm", hidden)
	}
	header, err := json.Marshal(tensors)
	ts.Check(err)
	config, err := json.Marshal(map[string]any{"model_type": "llama", "hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": layers,
		"num_attention_heads": heads, "num_key_value_heads": heads, "vocab_size": vocab, "tie_word_embeddings": true,
		"max_position_embeddings": 4096, "rms_norm_eps": 1e-5})
	ts.Check(err)
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o755))
	file := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	file = append(append(file, header...), make([]byte, end)...)
	ts.Check(os.WriteFile(filepath.Join(dir, "model.safetensors"), file, 0o644))
	ts.Check(os.WriteFile(filepath.Join(dir, "config.json"), config, 0o644))
}
