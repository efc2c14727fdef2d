package decoder

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/mlxdyno/mlxdyno/mlxbind"
	"github.com/mlxdyno/mlxdyno/probe/model"
)

// fuse merges with this program.
func fuse(t *testing.T, dir string, o Fusion) Fused {
	t.Helper()
	f, spec := facts(t, dir)
	var out Fused
	do(t, func(s *mlxbind.Scope) (err error) {
		out, err = Fuse(s, f, spec, o)
		return err
	})
	return out
}

// stored is a tensor as it stands in a file.
type stored struct {
	DType string
	Shape []int
	Value []float32
}

// weightsIn reads all tensors of a model.
func weightsIn(t *testing.T, dir string) map[string]stored {
	t.Helper()
	f, err := model.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]stored{}
	do(t, func(s *mlxbind.Scope) error {
		for _, file := range f.Files {
			all, err := s.LoadSafetensors(filepath.Join(dir, file.Name))
			if err != nil {
				return err
			}
			for name, a := range all {
				d := s.DTypeOf(a)
				if d == mlxbind.Uint32 { // all bits, of which float32 has too few
					a = s.View(a, mlxbind.Uint16)
				}
				v, err := s.ReadFloat32s(a)
				if err != nil {
					return err
				}
				out[name] = stored{d.String(), s.Shape(a), v}
			}
		}
		return nil
	})
	return out
}

// readConfigJSON reads config.json of a model.
func readConfigJSON(t *testing.T, dir string) (c job) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestFuseAsMLXLM(t *testing.T) {
	for _, name := range append([]string{"llama biases", "gemma3 head"}, oneOfEach...) {
		for _, form := range []struct {
			dtype      string
			bits       int
			dequantize bool
		}{{"float32", 0, false}, {"bfloat16", 0, false}, {"float32", 4, false}, {"bfloat16", 4, false}, {"float32", 4, true}} {
			t.Run(fmt.Sprintf("%s/%s/%d/%v", name, form.dtype, form.bits, form.dequantize), func(t *testing.T) {
				dir := makeModel(t, modelConfigs[name], form.dtype, job{"bits": form.bits, "group": 32, "mixed": name == "llama3.1"})
				adapter := theirAdapter(t, dir, job{"layers": 2})
				theirs, to := filepath.Join(t.TempDir(), "theirs"), filepath.Join(t.TempDir(), "ours")
				python.ask(t, job{"do": "fuse", "dir": dir, "adapter": adapter, "to": theirs, "dequantize": form.dequantize})
				fused := fuse(t, dir, Fusion{Adapter: adapter, To: to, Dequantize: form.dequantize})
				if diff := cmp.Diff(weightsIn(t, theirs), weightsIn(t, to)); diff != "" {
					t.Errorf("weights differ: %s", diff[:min(len(diff), 2000)])
				}
				if diff := cmp.Diff(readConfigJSON(t, theirs), readConfigJSON(t, to)); diff != "" {
					t.Errorf("config.json differs: %s", diff)
				}
				got := logitsOf(t, to, Quantize{})
				equalLogits(t, "the fused model in mlx-lm", got, logitsOfMLXLM(t, to, nil))

				// Merging rounds differently from adding two products; packing
				// again loses more, which is what is asked for.
				bound := map[string]float64{"float32": 2e-5, "bfloat16": 0.05}[form.dtype]
				if form.bits > 0 && !form.dequantize {
					bound = 0.5
				}
				if d := relative(t, got, withAdapter(t, dir, adapter)); d > bound {
					t.Errorf("fused logits are %.3g from those with the adapter", d)
				} else {
					t.Logf("fused logits are %.3g from those with the adapter", d)
				}
				if len(fused.Files) != 1 || fused.Path != to {
					t.Errorf("%+v", fused)
				}
			})
		}
	}
}

// TestFuseInShards: files of limited size hold the same, and an index says what
// lies where.
func TestFuseInShards(t *testing.T) {
	for _, bits := range []int{0, 4} {
		dir := makeModel(t, modelConfigs["qwen3"], "float32", job{"bits": bits, "group": 32})
		adapter := theirAdapter(t, dir, nil)
		for name, text := range map[string]string{"tokenizer.json": "{}", "chat_template.jinja": "x", "old.gguf": "x", ".hidden": "x", "pytorch_model.bin": "x", "pytorch_model.bin.index.json": "{}"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		one, many := filepath.Join(t.TempDir(), "one"), filepath.Join(t.TempDir(), "not", "yet", "there")
		fuse(t, dir, Fusion{Adapter: adapter, To: one})
		fused := fuse(t, dir, Fusion{Adapter: adapter, To: many, ShardBytes: 60000})
		if len(fused.Files) < 4 || fused.Files[1] != fmt.Sprintf("model-00002-of-%05d.safetensors", len(fused.Files)) {
			t.Errorf("%v", fused.Files)
		}
		if diff := cmp.Diff(weightsIn(t, one), weightsIn(t, many)); diff != "" {
			t.Errorf("weights differ: %s", diff[:min(len(diff), 2000)])
		}
		var index index
		raw, err := os.ReadFile(filepath.Join(many, "model.safetensors.index.json"))
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(raw, &index); err != nil {
			t.Fatal(err)
		}
		f, _ := facts(t, many)
		if index.Metadata.Size != f.WeightBytes || fused.Bytes != f.WeightBytes || len(index.Weights) != len(f.Tensors) {
			t.Errorf("index of %d bytes and %d tensors; there are %d and %d", index.Metadata.Size, len(index.Weights), f.WeightBytes, len(f.Tensors))
		}
		if index.Metadata.Parameters != f.Parameters {
			t.Errorf("index of %d parameters, there are %d", index.Metadata.Parameters, f.Parameters)
		}
		// A sharded model is fused again, its own files being read in turn.
		again := filepath.Join(t.TempDir(), "again")
		fuse(t, many, Fusion{Adapter: adapter, To: again})
		equalLogits(t, "fused again", logitsOf(t, again, Quantize{}), logitsOfMLXLM(t, again, nil))

		var names []string
		entries, err := os.ReadDir(one)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			names = append(names, e.Name())
		}
		want := []string{"chat_template.jinja", "config.json", "model.safetensors", "model.safetensors.index.json", "tokenizer.json"}
		if diff := cmp.Diff(want, names); diff != "" {
			t.Errorf("files: %s", diff)
		}
	}
}

// TestFuseOverwritesNothing, and leaves nothing half done.
func TestFuseOverwritesNothing(t *testing.T) {
	dir := makeModel(t, modelConfigs["qwen3"], "float32", nil)
	adapter := theirAdapter(t, dir, nil)
	f, spec := facts(t, dir)
	fails := func(o Fusion) error {
		var err error
		do(t, func(s *mlxbind.Scope) error {
			_, err = Fuse(s, f, spec, o)
			return nil
		})
		return err
	}
	parent := t.TempDir()
	full, empty := filepath.Join(parent, "full"), filepath.Join(parent, "empty")
	for _, d := range []string{full, empty} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	writeJSON(t, full, "mine.json", 1)
	var taken *TakenError
	if err := fails(Fusion{Adapter: adapter, To: full}); !errors.As(err, &taken) || !strings.Contains(err.Error(), "is there already and not empty") {
		t.Errorf("%v", err)
	}
	if err := fails(Fusion{Adapter: adapter, To: dir}); !errors.As(err, &taken) {
		t.Errorf("the model's own directory: %v", err)
	}
	if err := fails(Fusion{Adapter: parent, To: empty}); err == nil || !strings.Contains(err.Error(), "adapter_config.json") {
		t.Errorf("no adapter: %v", err)
	}
	fuse(t, dir, Fusion{Adapter: adapter, To: empty})
	if _, err := model.Read(empty); err != nil {
		t.Error(err)
	}
	// A file of weights that cannot be written: nothing appears, nothing stays.
	broken := filepath.Join(parent, "broken")
	err := publishModel(broken, func(at string) error {
		if at != Making(broken, os.Getpid()) {
			t.Errorf("it is made in %s", at)
		}
		writeJSON(t, at, "half.json", 1)
		return errors.New("the disk is full")
	})
	if err == nil || err.Error() != "the disk is full" {
		t.Errorf("%v", err)
	}
	entries, err := os.ReadDir(parent)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 2 {
		t.Errorf("beside it lie %v", entries)
	}
}

// TestFuseSaysWhatItLoses: notes for what merging cannot keep.
func TestFuseSaysWhatItLoses(t *testing.T) {
	dir := makeModel(t, modelConfigs["qwen3"], "bfloat16", nil)
	adapter := theirAdapter(t, dir, nil)
	writeJSON(t, adapter, adapterConfigFile, job{"num_layers": -1, "lora_parameters": job{"rank": 4, "scale": 3.5, "dropout": 0},
		"quantized_at_load": job{"bits": 4, "group_size": 32}})
	fused := fuse(t, dir, Fusion{Adapter: adapter, To: filepath.Join(t.TempDir(), "x")})
	if len(fused.Notes) != 1 || !strings.Contains(fused.Notes[0], "quantized to 4 bits") || fused.Modules != 21 || fused.DType != "bfloat16" {
		t.Errorf("%+v", fused)
	}
	packed := makeModel(t, modelConfigs["qwen3"], "bfloat16", job{"bits": 8, "group": 32})
	fused = fuse(t, packed, Fusion{Adapter: theirAdapter(t, packed, nil), To: filepath.Join(t.TempDir(), "x")})
	if len(fused.Notes) != 1 || !strings.Contains(fused.Notes[0], "rounded to 8 bits again") || fused.Bits != 8 {
		t.Errorf("%+v", fused)
	}
	fused = fuse(t, packed, Fusion{Adapter: theirAdapter(t, packed, nil), To: filepath.Join(t.TempDir(), "x"), Dequantize: true})
	if len(fused.Notes) != 0 || fused.Bits != 0 {
		t.Errorf("%+v", fused)
	}
}
