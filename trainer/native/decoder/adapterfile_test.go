package decoder

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mlxdyno/mlxdyno/mlxbind"
)

// oneOfEach is a model of every family.
var oneOfEach = []string{"llama3.1", "mistral sliding", "qwen2", "qwen3", "gemma2", "gemma3", "phi3"}

// tokensIn makes an array of someTokens.
func tokensIn(s *mlxbind.Scope) mlxbind.Array {
	var flat []int32
	for _, row := range someTokens {
		flat = append(flat, row...)
	}
	return s.Int32s(flat, len(someTokens), len(someTokens[0]))
}

// withAdapter computes someTokens with the model in dir and the adapter in another.
func withAdapter(t *testing.T, dir, adapter string) []float32 {
	t.Helper()
	f, spec := facts(t, dir)
	var out []float32
	do(t, func(s *mlxbind.Scope) error {
		m, err := Load(s, f, spec, Quantize{})
		if err != nil {
			return err
		}
		values, err := LoadAdapter(s, m, adapter)
		if err != nil {
			return err
		}
		out, err = s.ReadFloat32s(m.Logits(s, tokensIn(s), values, Pass{}))
		return err
	})
	return out
}

// writeJSON writes v to a file in dir.
func writeJSON(t *testing.T, dir, name string, v any) {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
		t.Fatal(err)
	}
}

// theirAdapter has mlx-lm write an adapter with random values.
func theirAdapter(t *testing.T, dir string, more job) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "adapter")
	python.ask(t, with(job{"do": "write_adapter", "dir": dir, "rank": 4, "scale": 3.5, "layers": -1, "to": to}, more))
	return to
}

// ourAdapter writes an adapter with random values as the trainer does, and
// returns the logits of the model with it.
func ourAdapter(t *testing.T, dir string, o LoRA) (to string, logits []float32) {
	t.Helper()
	to = t.TempDir()
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
		all := map[string]mlxbind.Array{}
		for i, name := range m.AdapterNames() {
			var use mlxbind.Array
			key, use = s.SplitKey(key)
			values[i] = s.Normal(use, 0, 0.1, mlxbind.Float32, s.Shape(values[i])...)
			all[name] = values[i]
		}
		if err := saveArrays(s, filepath.Join(to, adaptersFile), all); err != nil {
			return err
		}
		logits, err = s.ReadFloat32s(m.Logits(s, tokensIn(s), values, Pass{}))
		return err
	})
	lora := job{"rank": o.Rank, "scale": o.Scale, "dropout": o.Dropout}
	if len(o.Modules) > 0 {
		lora["keys"] = o.Modules
	}
	layers := o.Layers
	if layers == 0 {
		layers = -1
	}
	writeJSON(t, to, adapterConfigFile, job{"fine_tune_type": "lora", "num_layers": layers, "lora_parameters": lora})
	return to, logits
}

func equalLogits(t *testing.T, what string, got, want []float32) {
	t.Helper()
	if d := relative(t, got, want); d != 0 {
		t.Errorf("%s: logits differ by %.3g", what, d)
	}
}

func TestAdaptersGoBothWays(t *testing.T) {
	for _, name := range oneOfEach {
		for _, bits := range []int{0, 4} {
			t.Run(fmt.Sprintf("%s/%d", name, bits), func(t *testing.T) {
				dir := makeModel(t, modelConfigs[name], "float32", job{"bits": bits, "group": 32})
				base := logitsOf(t, dir, Quantize{})

				theirs := theirAdapter(t, dir, nil)
				got := withAdapter(t, dir, theirs)
				equalLogits(t, "an adapter of mlx-lm", got, logitsOfMLXLM(t, dir, job{"adapter": theirs}))
				if relative(t, got, base) < 0.01 {
					t.Error("the adapter of mlx-lm changes nothing")
				}

				ours, got := ourAdapter(t, dir, LoRA{Rank: 5, Scale: 2, Seed: 11})
				equalLogits(t, "an adapter of ours", got, logitsOfMLXLM(t, dir, job{"adapter": ours}))
				equalLogits(t, "an adapter of ours, loaded again", withAdapter(t, dir, ours), got)
				if relative(t, got, base) < 0.01 {
					t.Error("our adapter changes nothing")
				}
			})
		}
	}
}

func TestPartialAdapters(t *testing.T) {
	for name, partial := range map[string]struct {
		layers int
		keys   []string
	}{
		"last two blocks":  {2, nil},
		"more than all":    {50, nil},
		"two modules":      {-1, []string{"mlp.down_proj", "self_attn.q_proj"}},
		"both":             {1, []string{"self_attn.o_proj"}},
		"a name in full":   {1, []string{"self_attn.o_proj", "model.layers.0.mlp.up_proj"}},
		"an unknown name":  {2, []string{"self_attn.o_proj", "self_attn.qkv_proj"}},
		"everything named": {3, []string{"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := makeModel(t, modelConfigs["llama3.1"], "float32", nil)
			more := job{"layers": partial.layers}
			if partial.keys != nil {
				more["keys"] = partial.keys
			}
			theirs := theirAdapter(t, dir, more)
			got := withAdapter(t, dir, theirs)
			equalLogits(t, "an adapter of mlx-lm", got, logitsOfMLXLM(t, dir, job{"adapter": theirs}))
			if relative(t, got, logitsOf(t, dir, Quantize{})) == 0 {
				t.Error("the adapter changes nothing")
			}
		})
	}
	t.Run("ours", func(t *testing.T) {
		dir := makeModel(t, modelConfigs["phi3"], "float32", nil)
		ours, got := ourAdapter(t, dir, LoRA{Rank: 3, Scale: 2, Layers: 2, Modules: []string{"self_attn.qkv_proj", "mlp.down_proj"}, Dropout: 0.1})
		equalLogits(t, "an adapter of ours", got, logitsOfMLXLM(t, dir, job{"adapter": ours}))
		equalLogits(t, "an adapter of ours, loaded again", withAdapter(t, dir, ours), got)
	})
	t.Run("modules that the file leaves out", func(t *testing.T) {
		dir := makeModel(t, modelConfigs["qwen3"], "float32", nil)
		theirs := theirAdapter(t, dir, job{"keys": []string{"self_attn.q_proj", "self_attn.v_proj"}})
		writeJSON(t, theirs, adapterConfigFile, job{"num_layers": 3, "lora_parameters": job{"rank": 4, "scale": 3.5, "dropout": 0.0}})
		equalLogits(t, "an adapter of an old mlx-lm", withAdapter(t, dir, theirs), logitsOfMLXLM(t, dir, job{"adapter": theirs}))
	})
}

// TestAdaptersThatDoNotFit: words say what is wrong, and nothing is left behind.
func TestAdaptersThatDoNotFit(t *testing.T) {
	dir := makeModel(t, modelConfigs["qwen3"], "float32", nil)
	lora := job{"rank": 4, "scale": 3.5, "dropout": 0.0}
	good := job{"fine_tune_type": "lora", "num_layers": -1, "lora_parameters": lora}
	for name, bad := range map[string]struct {
		config      any
		change      func(s *mlxbind.Scope, all map[string]mlxbind.Array)
		words       string
		unsupported bool
	}{
		"dora":          {config: with(good, job{"fine_tune_type": "dora"}), words: `"dora"`, unsupported: true},
		"full":          {config: with(good, job{"fine_tune_type": "full"}), words: `"full"`, unsupported: true},
		"peft":          {config: job{"peft_type": "LORA", "r": 4}, words: "PEFT", unsupported: true},
		"not an object": {config: []int{1}, words: "adapter_config.json is not one"},
		"no layers":     {config: job{"lora_parameters": lora}, words: "no num_layers"},
		"no parameters": {config: job{"num_layers": 1}, words: "no lora_parameters"},
		"no rank":       {config: with(good, job{"lora_parameters": job{"scale": 1}}), words: "no positive rank"},
		"no scale":      {config: with(good, job{"lora_parameters": job{"rank": 4}}), words: "no scale"},
		"alpha":         {config: with(good, job{"lora_parameters": job{"rank": 4, "alpha": 8}}), words: "alpha / rank"},
		"dropout":       {config: with(good, job{"lora_parameters": job{"rank": 4, "scale": 8, "dropout": 1}}), words: "a dropout of 1"},
		"another rank":  {config: with(good, job{"lora_parameters": with(lora, job{"rank": 3})}), words: "has the shape [96 4] instead of [96 3]"},
		"fewer blocks":  {config: with(good, job{"num_layers": 1}), words: "leave out"},
		"other keys":    {config: with(good, job{"lora_parameters": with(lora, job{"keys": []string{"mlp.up_proj"}})}), words: "leave out"},
		"one half":      {change: func(s *mlxbind.Scope, all map[string]mlxbind.Array) { delete(all, "model.layers.1.mlp.up_proj.lora_b") }, words: "model.layers.1.mlp.up_proj one half is missing"},
		"another model": {change: func(s *mlxbind.Scope, all map[string]mlxbind.Array) {
			all["model.layers.3.mlp.up_proj.lora_a"] = s.Zeros(mlxbind.Float32, 96, 4)
		}, words: "no linear module model.layers.3.mlp.up_proj"},
		"strange array": {change: func(s *mlxbind.Scope, all map[string]mlxbind.Array) {
			all["model.norm.weight"] = s.Zeros(mlxbind.Float32, 96)
		}, words: "no array of an adapter"},
		"without a dot": {change: func(s *mlxbind.Scope, all map[string]mlxbind.Array) { all["x"] = s.Zeros(mlxbind.Float32, 1) }, words: "no array of an adapter"},
		"dora array": {change: func(s *mlxbind.Scope, all map[string]mlxbind.Array) {
			all["model.layers.0.mlp.up_proj.m"] = s.Zeros(mlxbind.Float32, 160)
		}, words: "DoRA", unsupported: true},
		"head": {change: func(s *mlxbind.Scope, all map[string]mlxbind.Array) {
			all["lm_head.lora_a"] = s.Zeros(mlxbind.Float32, 96, 4)
		}, words: "adapters on lm_head", unsupported: true},
		"nothing": {change: func(_ *mlxbind.Scope, all map[string]mlxbind.Array) { clear(all) }, words: "is empty"},
		"whole numbers": {change: func(s *mlxbind.Scope, all map[string]mlxbind.Array) {
			all["model.layers.0.mlp.up_proj.lora_a"] = s.Zeros(mlxbind.Int32, 96, 4)
		}, words: "has the type int32"},
		"turned": {change: func(s *mlxbind.Scope, all map[string]mlxbind.Array) {
			n := "model.layers.0.mlp.up_proj.lora_a"
			all[n] = s.Transpose(all[n])
		}, words: "has the shape [4 96] instead of [96 4]"},
	} {
		t.Run(name, func(t *testing.T) {
			adapter := theirAdapter(t, dir, nil)
			if bad.config != nil {
				writeJSON(t, adapter, adapterConfigFile, bad.config)
			}
			if bad.change != nil {
				do(t, func(s *mlxbind.Scope) error {
					all, err := s.LoadSafetensors(filepath.Join(adapter, adaptersFile))
					if err != nil {
						return err
					}
					if err := s.Eval(slices.Collect(maps.Values(all))...); err != nil {
						return err
					}
					bad.change(s, all)
					return s.SaveSafetensors(filepath.Join(adapter, adaptersFile), all)
				})
			}
			refuses(t, dir, adapter, bad.words, bad.unsupported)
		})
	}
	t.Run("truncated", func(t *testing.T) {
		adapter := theirAdapter(t, dir, nil)
		if err := os.Truncate(filepath.Join(adapter, adaptersFile), 20000); err != nil {
			t.Fatal(err)
		}
		f, spec := facts(t, dir)
		err := rt.Do(t.Context(), func(s *mlxbind.Scope) error {
			m, err := Load(s, f, spec, Quantize{})
			if err != nil {
				return err
			}
			_, err = LoadAdapter(s, m, adapter)
			return err
		})
		if err == nil || !strings.Contains(err.Error(), "is damaged: it has 20000 bytes") {
			t.Errorf("%v", err)
		}
	})
}

// refuses demands that an adapter cannot be loaded, with certain words.
func refuses(t *testing.T, dir, adapter, words string, isUnsupported bool) {
	t.Helper()
	f, spec := facts(t, dir)
	do(t, func(s *mlxbind.Scope) error {
		m, err := Load(s, f, spec, Quantize{})
		if err != nil {
			return err
		}
		_, err = LoadAdapter(s, m, adapter)
		var (
			not     *Unsupported
			unequal *AdapterError
		)
		if ok := errors.As(err, &not); ok != isUnsupported || !ok && !errors.As(err, &unequal) || !strings.Contains(err.Error(), words) {
			t.Errorf("%T: %v", err, err)
		}
		if len(m.Adapters) > 0 {
			t.Error("the model has adapters all the same")
		}
		return nil
	})
}

func FuzzAdapterConfig(f *testing.F) {
	f.Add([]byte(`{"fine_tune_type":"lora","num_layers":4,"lora_parameters":{"rank":8,"scale":20.0,"dropout":0.1,"keys":["self_attn.q_proj"]},"quantized_at_load":{"bits":4,"group_size":64}}`))
	f.Add([]byte(`{"num_layers":-1,"lora_parameters":{"rank":8,"alpha":2}}`))
	f.Add([]byte(`{"peft_type":"LORA"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := parseAdapterConfig(raw)
		if err != nil {
			var (
				not     *Unsupported
				unequal *AdapterError
			)
			if !errors.As(err, &not) && !errors.As(err, &unequal) {
				t.Errorf("%T", err)
			}
			return
		}
		if c.Rank < 1 || c.Layers < 0 || c.Dropout < 0 || c.Dropout >= 1 || math.IsNaN(c.Scale) || math.IsInf(c.Scale, 0) {
			t.Errorf("%+v", c)
		}
	})
}

func FuzzSafetensorsSize(f *testing.F) {
	f.Add([]byte("\x40\x00\x00\x00\x00\x00\x00\x00" + `{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}          `))
	f.Add([]byte("\xff\xff\xff\xff\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		n, err := promised(strings.NewReader(string(raw)))
		if err == nil && n < 8 {
			t.Errorf("%d bytes", n)
		}
	})
}
