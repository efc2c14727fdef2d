package model

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What mlx-lm 0.32.2 says of random models of these layouts: the total of
// get_total_parameters, the bytes of all parameters, and the trainable
// parameters of linear_to_lora_layers at rank 8 on the last 1, 3 and all blocks.
var golden = []struct {
	layout
	parameters int64
	bytes      map[string]int64
	adapters   map[int]int64
}{
	{layout{arch: "llama", kvHeads: 2, headDim: 16, norms: 2}, 229952,
		map[string]int64{"plain": 459904, "4 bits": 145664, "3 bits": 116992, "mxfp4": 124160, "mixed": 204032}, map[int]int64{1: 9728, 3: 29184, -1: 38912}},
	{layout{arch: "llama", kvHeads: 2, headDim: 16, norms: 2, tied: true}, 213568,
		map[string]int64{"plain": 427136, "4 bits": 135424, "3 bits": 108800, "mxfp4": 115456, "mixed": 193792}, map[int]int64{1: 9728, 3: 29184, -1: 38912}},
	{layout{arch: "qwen2", kvHeads: 2, headDim: 16, norms: 2, biases: true}, 230464,
		map[string]int64{"plain": 460928, "4 bits": 147712, "3 bits": 119040, "mxfp4": 126208, "mixed": 206080}, map[int]int64{1: 9728, 3: 29184, -1: 38912}},
	{layout{arch: "qwen3", kvHeads: 2, headDim: 32, norms: 2, tied: true, qkNorm: true}, 262976,
		map[string]int64{"plain": 525952, "4 bits": 167168, "3 bits": 134400, "mxfp4": 142592, "mixed": 253184}, map[int]int64{1: 11264, 3: 33792, -1: 45056}},
	{layout{arch: "mistral", kvHeads: 2, headDim: 16, norms: 2}, 229952,
		map[string]int64{"plain": 459904, "4 bits": 145664, "3 bits": 116992, "mxfp4": 124160, "mixed": 204032}, map[int]int64{1: 9728, 3: 29184, -1: 38912}},
	{layout{arch: "gemma3_text", kvHeads: 1, headDim: 32, norms: 4, qkNorm: true}, 263488,
		map[string]int64{"plain": 526976, "4 bits": 169216, "3 bits": 136448, "mxfp4": 144640, "mixed": 227584}, map[int]int64{1: 10752, 3: 32256, -1: 43008}},
	{layout{arch: "gemma3", prefix: "language_model.", kvHeads: 1, headDim: 32, norms: 4, qkNorm: true, textConfig: true}, 263488,
		map[string]int64{"plain": 526976, "4 bits": 169216, "3 bits": 136448, "mxfp4": 144640, "mixed": 227584}, map[int]int64{1: 10752, 3: 32256, -1: 43008}},
	{layout{arch: "phi3", kvHeads: 2, headDim: 16, norms: 2, fused: true}, 229952,
		map[string]int64{"plain": 459904, "4 bits": 145664, "3 bits": 116992, "mxfp4": 124160, "mixed": 286976}, map[int]int64{1: 8192, 3: 24576, -1: 32768}},
	{layout{arch: "qwen3_moe", kvHeads: 2, headDim: 16, norms: 2, tied: true, qkNorm: true, experts: 4}, 263872,
		map[string]int64{"plain": 527744, "4 bits": 167296, "3 bits": 134400, "mxfp4": 142624, "mixed": 235904}, map[int]int64{1: 16416, 3: 49248, -1: 65664}},
}

func TestReadAgreesWithMLXLM(t *testing.T) {
	for _, g := range golden {
		for _, way := range storedWays {
			name := g.arch + ", " + way.name
			if g.tied {
				name = "tied " + name
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				f, err := Read(g.write(t, way))
				if err != nil {
					t.Fatal(err)
				}
				if f.Parameters != g.parameters {
					t.Errorf("%d parameters, want %d", f.Parameters, g.parameters)
				}
				if want := g.bytes[way.name]; f.WeightBytes != want || f.LoadedBytes() != want {
					t.Errorf("%d bytes, %d loaded, want %d", f.WeightBytes, f.LoadedBytes(), want)
				}
				for layers, want := range g.adapters {
					if got := f.AdapterParameters(8, layers); got != want {
						t.Errorf("%d adapter parameters on %d blocks, want %d", got, layers, want)
					}
				}
				got := Facts{Arch: f.Arch, Layers: f.Layers, Hidden: f.Hidden, Intermediate: f.Intermediate, Heads: f.Heads, KVHeads: f.KVHeads, HeadDim: f.HeadDim, Vocab: f.Vocab, TiedHead: f.TiedHead, MaxPositions: f.MaxPositions, DType: f.DType}
				want := Facts{Arch: g.arch, Layers: blocks, Hidden: hidden, Intermediate: inter, Heads: heads, KVHeads: g.kvHeads, HeadDim: g.headDim, Vocab: vocab, TiedHead: g.tied, MaxPositions: 512, DType: way.plain}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("facts differ (-want +got):\n%s", diff)
				}
				if diff := cmp.Diff(way.quant(), f.Quant); diff != "" {
					t.Errorf("quantization differs (-want +got):\n%s", diff)
				}
				if !Checked(f.Arch) {
					t.Errorf("%s is compared here, but Checked does not know it", f.Arch)
				}
			})
		}
	}
}

func (way stored) quant() *Quant {
	switch way.name {
	case "4 bits":
		return &Quant{Bits: 4, GroupSize: 64, Mode: "affine"}
	case "3 bits":
		return &Quant{Bits: 3, GroupSize: 64, Mode: "affine"}
	case "mxfp4":
		return &Quant{Bits: 4, GroupSize: 32, Mode: "mxfp4"}
	case "mixed":
		return &Quant{Bits: 4, GroupSize: 64, Mode: "affine", Mixed: true}
	}
	return nil
}

var llama = layout{arch: "llama", kvHeads: 2, headDim: 16, norms: 2}

// TestConfigLeavesToTensors reads models whose config.json says less than mlx-lm
// writes: shapes must tell the rest.
func TestConfigLeavesToTensors(t *testing.T) {
	for _, tc := range []struct {
		name   string
		layout layout
		way    stored
		change func(config map[string]any)
	}{
		{"no sizes but heads", llama, storedWays[0], func(c map[string]any) {
			for _, key := range []string{"hidden_size", "num_hidden_layers", "intermediate_size", "num_key_value_heads", "vocab_size"} {
				delete(c, key)
			}
		}},
		{"heads from q_norm", layout{arch: "gemma3_text", kvHeads: 1, headDim: 32, norms: 4, qkNorm: true}, storedWays[1], func(c map[string]any) {
			for _, key := range []string{"num_attention_heads", "num_key_value_heads", "head_dim"} {
				delete(c, key)
			}
		}},
		{"sizes by block", llama, storedWays[0], func(c map[string]any) { c["intermediate_size"] = []int{inter, inter / 2, inter, inter} }},
		{"no quantization", llama, storedWays[1], func(c map[string]any) { delete(c, "quantization") }},
		{"no modules in a mixed quantization", llama, storedWays[4], func(c map[string]any) { c["quantization"] = map[string]any{"bits": 4, "group_size": 64} }},
		{"another tool's key", llama, storedWays[1], func(c map[string]any) {
			c["quantization_config"] = c["quantization"]
			delete(c, "quantization")
		}},
		{"numbers that only Python writes", llama, storedWays[0], func(c map[string]any) { c["note"] = `a "quoted\" Infinity` }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := tc.layout.write(t, tc.way)
			want, err := Read(dir)
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, "config.json")
			raw, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var config map[string]any
			if err := json.Unmarshal(raw, &config); err != nil {
				t.Fatal(err)
			}
			tc.change(config)
			raw, err = json.Marshal(config)
			if err != nil {
				t.Fatal(err)
			}
			writeFile(t, path, append([]byte(`{"time_step_limit": [0.0, Infinity, -Infinity, NaN],`), raw[1:]...))

			got, err := Read(dir)
			if err != nil {
				t.Fatal(err)
			}
			if got.Key == want.Key {
				t.Error("another config.json, the same key")
			}
			got.Key = want.Key
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("facts differ (-said +left out):\n%s", diff)
			}
		})
	}
}

func TestShards(t *testing.T) {
	whole, err := Read(llama.write(t, storedWays[1]))
	if err != nil {
		t.Fatal(err)
	}
	dir := llama.write(t, storedWays[1])
	tensors := llama.tensors(storedWays[1])
	weightMap := map[string]string{}
	for i, part := range [][]Tensor{tensors[:7], tensors[7:]} {
		name := []string{"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"}[i]
		writeSafetensors(t, filepath.Join(dir, name), part)
		for _, tensor := range part {
			weightMap[tensor.Name] = name
		}
	}
	writeJSON(t, filepath.Join(dir, "model.safetensors.index.json"), map[string]any{"weight_map": weightMap})
	writeSafetensors(t, filepath.Join(dir, "adapters.safetensors"), []Tensor{{Name: "model.layers.0.x.lora_a", DType: "F32", Shape: []int{64, 8}}})
	writeFile(t, filepath.Join(dir, "tokenizer.json"), []byte("{}"))
	if err := os.Remove(filepath.Join(dir, "model.safetensors")); err != nil {
		t.Fatal(err)
	}

	f, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Files) != 2 || !f.HasTokenizer || whole.HasTokenizer {
		t.Errorf("files %v, tokenizer %v and %v", f.Files, f.HasTokenizer, whole.HasTokenizer)
	}
	f.Path, f.Files, f.HasTokenizer = whole.Path, whole.Files, whole.HasTokenizer
	if diff := cmp.Diff(whole, f); diff != "" {
		t.Errorf("a model in two files differs (-one +two):\n%s", diff)
	}
}

// TestDropped has tensors that no training of text loads.
func TestDropped(t *testing.T) {
	l := layout{arch: "gemma3", prefix: "language_model.", kvHeads: 1, headDim: 32, norms: 4, qkNorm: true, textConfig: true}
	dir := l.write(t, storedWays[0])
	plain, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	extra := []Tensor{
		{Name: "vision_tower.vision_model.encoder.layers.0.self_attn.q_proj.weight", DType: "BF16", Shape: []int{32, 32}},
		{Name: "multi_modal_projector.mm_input_projection_weight", DType: "BF16", Shape: []int{32, 64}},
		{Name: "language_model.model.layers.4.mlp.up_proj.weight", DType: "BF16", Shape: []int{64, 64}},
		{Name: "language_model.model.layers.0.self_attn.rotary_emb.inv_freq", DType: "F32", Shape: []int{8}},
	}
	writeSafetensors(t, filepath.Join(dir, "model.safetensors"), append(l.tensors(storedWays[0]), extra...))
	f, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	if f.LoadedBytes() != plain.WeightBytes || f.Parameters != plain.Parameters || f.AdapterParameters(8, -1) != plain.AdapterParameters(8, -1) {
		t.Errorf("%d bytes loaded, %d parameters; without the extra tensors %d, %d", f.LoadedBytes(), f.Parameters, plain.WeightBytes, plain.Parameters)
	}
	if want := plain.WeightBytes + 2*(32*32+32*64+64*64) + 4*8; f.WeightBytes != want {
		t.Errorf("%d bytes stored, want %d", f.WeightBytes, want)
	}
}

func TestTiedHeadStoredTwice(t *testing.T) {
	dir := llama.write(t, storedWays[0])
	config := llama.config()
	config["tie_word_embeddings"] = true
	writeJSON(t, filepath.Join(dir, "config.json"), config)
	f, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !f.TiedHead || f.WeightBytes-f.LoadedBytes() != 2*vocab*hidden || f.Parameters != 213568 {
		t.Errorf("tied %v, %d of %d bytes loaded, %d parameters", f.TiedHead, f.LoadedBytes(), f.WeightBytes, f.Parameters)
	}
}

func TestWidths(t *testing.T) {
	f, err := Read(layout{arch: "qwen3", kvHeads: 2, headDim: 32, norms: 2, tied: true, qkNorm: true}.write(t, storedWays[1]))
	if err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string][2]int64{
		"query":     {int64(f.QueryDim()), 128},
		"kv":        {int64(f.KVDim()), 64},
		"head":      {f.HeadParameters(), vocab * hidden},
		"embedding": {f.EmbeddingParameters(), vocab * hidden},
	} {
		if got[0] != got[1] {
			t.Errorf("%s: %d, want %d", name, got[0], got[1])
		}
	}
	want := Module{Name: "model.layers.3.mlp.down_proj", Block: 3, In: inter, Out: hidden, Experts: 1, Bits: 4}
	if modules := f.LinearModules(1); len(modules) != 7 || modules[0] != want {
		t.Errorf("modules of the last block: %+v", modules)
	}
	if n := len(f.LinearModules(99)); n != 7*blocks {
		t.Errorf("%d modules in all blocks", n)
	}
}
