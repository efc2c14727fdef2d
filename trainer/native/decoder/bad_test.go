package decoder

import (
	"encoding/json"
	"errors"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mlxdyno/mlxdyno/mlxbind"
	"github.com/mlxdyno/mlxdyno/probe/model"
)

// opened is how a model fails to be read or loaded.
func opened(t *testing.T, dir string) error {
	t.Helper()
	f, err := model.Read(dir)
	if err != nil {
		return err
	}
	spec, err := ReadSpec(f)
	if err != nil {
		return err
	}
	var failed error
	do(t, func(s *mlxbind.Scope) error {
		failed = s.Child(func(s *mlxbind.Scope) error {
			_, err := Load(s, f, spec, Quantize{})
			return err
		})
		return nil
	})
	return failed
}

// TestConfigsThatAreNotComputed: each is *Unsupported, and words say what of it.
func TestConfigsThatAreNotComputed(t *testing.T) {
	for name, bad := range map[string]struct {
		base   string
		change job
		words  string
	}{
		"unknown rope":       {"llama2", job{"rope_scaling": job{"type": "spiral", "factor": 2.0}}, `"spiral"`},
		"yarn":               {"qwen3", job{"rope_scaling": job{"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}}, `"yarn"`},
		"dynamic":            {"llama2", job{"rope_scaling": job{"type": "dynamic", "factor": 2.0}}, `"dynamic"`},
		"linear, no factor":  {"llama2", job{"rope_scaling": job{"type": "linear"}}, "no positive factor"},
		"llama3, no factor":  {"llama2", job{"rope_scaling": job{"rope_type": "llama3"}}, "has no factor"},
		"longrope, no list":  {"phi3", job{"rope_scaling": job{"type": "longrope"}}, "no long_factor"},
		"multimodal":         {"gemma3", job{"model_type": "gemma3", "text_config": job{"hidden_size": 96}}, `"gemma3"`},
		"a mixture":          {"llama2", job{"model_type": "mixtral"}, `"mixtral"`},
		"own code":           {"llama2", job{"model_file": "my.py"}, "code of their own"},
		"layer types":        {"mistral", job{"layer_types": []string{"sliding_attention", "full_attention"}}, "layer_types of 2 layers"},
		"all layers slide":   {"mistral", job{"layer_types": []string{"sliding_attention", "sliding_attention", "sliding_attention"}}, "layer_types of 3 layers"},
		"no epsilon":         {"llama2", job{"rms_norm_eps": nil}, "without rms_norm_eps"},
		"no theta":           {"qwen3", job{"rope_theta": nil}, "without rope_theta"},
		"heads":              {"llama2", job{"num_attention_heads": 5}, "5"},
		"head_dim too large": {"llama2", job{"head_dim": 1 << 40}, "a size of 1099511627776"},
		"head_dim odd":       {"llama2", job{"head_dim": 15}, "features each"},
		"pattern":            {"gemma3", job{"sliding_window_pattern": 0}, "sliding_window_pattern of 0"},
		"window":             {"gemma3", job{"sliding_window": -1}, "sliding_window of -1"},
		"partial":            {"phi3", job{"partial_rotary_factor": 1.5}, "partial_rotary_factor"},
		"long factors":       {"phi3 long", job{"rope_scaling": job{"type": "longrope", "long_factor": []float64{1, 2, 3}}}, "3 factors"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := makeModel(t, modelConfigs[bad.base], "float32", nil)
			config := readConfigJSON(t, dir)
			maps.Copy(config, bad.change)
			maps.DeleteFunc(config, func(_ string, v any) bool { return v == nil })
			writeJSON(t, dir, "config.json", config)
			err := opened(t, dir)
			var not *Unsupported
			if !errors.As(err, &not) || !strings.Contains(err.Error(), bad.words) {
				t.Errorf("%T: %v", err, err)
			}
		})
	}
}

// TestWeightsThatDoNotFit: each is *WeightsError, and words say which tensor.
func TestWeightsThatDoNotFit(t *testing.T) {
	const up = "model.layers.1.mlp.up_proj"
	for name, bad := range map[string]struct {
		base   string
		bits   int
		change func(s *mlxbind.Scope, all map[string]mlxbind.Array)
		words  string
	}{
		"missing": {"llama2", 0, func(_ *mlxbind.Scope, all map[string]mlxbind.Array) { delete(all, up+".weight") }, "1 tensors are missing, first " + up + ".weight"},
		"missing norm": {"qwen3", 0, func(_ *mlxbind.Scope, all map[string]mlxbind.Array) {
			delete(all, "model.layers.0.self_attn.q_norm.weight")
		}, "q_norm.weight"},
		"missing bias": {"qwen2", 0, func(_ *mlxbind.Scope, all map[string]mlxbind.Array) {
			delete(all, "model.layers.2.self_attn.k_proj.bias")
		}, "self_attn.k_proj.bias"},
		"extra": {"llama2", 0, func(s *mlxbind.Scope, all map[string]mlxbind.Array) {
			all["model.extra.weight"] = s.Zeros(mlxbind.Float32, 4)
		}, "no place for model.extra.weight"},
		"extra bias": {"llama2", 0, func(s *mlxbind.Scope, all map[string]mlxbind.Array) { all[up+".bias"] = s.Zeros(mlxbind.Float32, 160) }, "no place for " + up + ".bias"},
		"extra layer": {"llama2", 0, func(_ *mlxbind.Scope, all map[string]mlxbind.Array) {
			all["model.layers.3.mlp.up_proj.weight"] = all[up+".weight"]
		}, "no place for model.layers.3"},
		"shape": {"llama2", 0, func(s *mlxbind.Scope, all map[string]mlxbind.Array) {
			all[up+".weight"] = s.Transpose(all[up+".weight"])
		}, up + " has the shape [96 160] instead of [160 96]"},
		"flat": {"llama2", 0, func(s *mlxbind.Scope, all map[string]mlxbind.Array) {
			all[up+".weight"] = s.Reshape(all[up+".weight"], -1)
		}, "has the shape [15360] instead of [160 96]"},
		"norm": {"llama2", 0, func(s *mlxbind.Scope, all map[string]mlxbind.Array) {
			all["model.norm.weight"] = s.Zeros(mlxbind.Float32, 95)
		}, "model.norm has the shape [95] instead of [96]"},
		"bias": {"qwen2", 0, func(s *mlxbind.Scope, all map[string]mlxbind.Array) {
			all["model.layers.2.self_attn.k_proj.bias"] = s.Zeros(mlxbind.Float32, 31)
		}, "k_proj.bias has the shape [31] instead of [32]"},
		"whole numbers": {"llama2", 0, func(s *mlxbind.Scope, all map[string]mlxbind.Array) {
			all[up+".weight"] = s.AsType(all[up+".weight"], mlxbind.Int32)
		}, up + " has the type int32"},
		"packed shape": {"llama2", 4, func(s *mlxbind.Scope, all map[string]mlxbind.Array) {
			all[up+".scales"] = s.Slice(all[up+".scales"], 0, 0, 80)
		}, up + ".scales has the shape [80 3] instead of [160 3]"},
		"packed biases": {"llama2", 4, func(s *mlxbind.Scope, all map[string]mlxbind.Array) {
			all[up+".biases"] = s.Slice(all[up+".biases"], 1, 0, 2)
		}, up + ".biases has the shape [160 2] instead of [160 3]"},
		"packed halfway": {"llama2", 4, func(_ *mlxbind.Scope, all map[string]mlxbind.Array) { delete(all, up+".biases") }, up + ".biases"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := makeModel(t, modelConfigs[bad.base], "float32", job{"bits": bad.bits, "group": 32})
			path := filepath.Join(dir, "model.safetensors")
			do(t, func(s *mlxbind.Scope) error {
				all, err := s.LoadSafetensors(path)
				if err != nil {
					return err
				}
				if err := s.Eval(slices.Collect(maps.Values(all))...); err != nil {
					return err
				}
				bad.change(s, all)
				return s.SaveSafetensors(path, all)
			})
			err := opened(t, dir)
			var wrong *WeightsError
			if !errors.As(err, &wrong) || !strings.Contains(err.Error(), bad.words) {
				t.Errorf("%T: %v", err, err)
			}
		})
	}
}

// FuzzReadSpec: whatever config.json says, the answer is a Spec that can be
// computed with, or *Unsupported.
func FuzzReadSpec(f *testing.F) {
	for _, config := range modelConfigs {
		text, err := json.Marshal(config)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text), 3, 96, 160, 6, 2, 16)
	}
	f.Add(`{"model_type":"gemma3_text","sliding_window_pattern":9223372036854775807}`, 1, 1, 1, 1, 1, 1)
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, config string, layers, hidden, inter, heads, kv, dim int) {
		var head struct {
			Arch string `json:"model_type"`
		}
		if json.Unmarshal([]byte(config), &head) != nil || layers > 1000 { // model.Facts has a header for every layer
			return
		}
		if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o644); err != nil {
			t.Fatal(err)
		}
		s, err := ReadSpec(&model.Facts{Path: dir, Arch: head.Arch, Layers: layers, Hidden: hidden, Intermediate: inter, Heads: heads, KVHeads: kv, HeadDim: dim, Vocab: 323})
		var not *Unsupported
		if err != nil {
			if !errors.As(err, &not) {
				t.Errorf("%T: %v", err, err)
			}
			return
		}
		if len(s.Sliding) != s.Layers || len(s.ropeOf) != s.Layers || s.HeadDim < 1 || s.Heads%s.KVHeads != 0 || s.Window < 0 {
			t.Errorf("%+v", s)
		}
		for _, i := range s.ropeOf {
			r := s.ropes[i]
			if r.dims < 2 || r.dims > s.HeadDim || r.dims%2 != 0 || math.IsNaN(r.scale) || r.long != nil && len(r.long) != r.dims/2 && len(r.long) != 1 {
				t.Errorf("%+v", r)
			}
		}
		for _, l := range s.linearMaps() {
			if l.in < 1 || l.out < 1 {
				t.Errorf("%+v", l)
			}
		}
	})
}
