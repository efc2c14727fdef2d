package model

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestReadErrors(t *testing.T) {
	const file = "model.safetensors"
	replace := func(name, text string) func(*testing.T, string) {
		return func(t *testing.T, dir string) { writeFile(t, filepath.Join(dir, name), []byte(text)) }
	}
	instead := func(name string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			if err := os.Rename(filepath.Join(dir, file), filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	described := func(text string, data int) func(*testing.T, string) {
		return replace(file, string(frame([]byte(text)))+strings.Repeat("\x00", data))
	}
	for _, tc := range []struct {
		name   string
		spoil  func(t *testing.T, dir string)
		code   string
		at     string // base of the path that the error names
		text   string
		hint   string
		sizes  bool
		isPath error
	}{
		{name: "nothing there", spoil: func(t *testing.T, dir string) { os.RemoveAll(dir) }, code: CodeMissing, text: "does not exist", hint: "config.json", isPath: fs.ErrNotExist},
		{name: "no config.json", spoil: func(t *testing.T, dir string) { os.Remove(filepath.Join(dir, "config.json")) }, code: CodeConfigMissing, at: "config.json", hint: "adapter directory"},
		{name: "config.json cut off", spoil: replace("config.json", `{"model_type": "lla`), code: CodeConfigBroken, at: "config.json", text: "is not JSON", hint: "again"},
		{name: "config.json of something else", spoil: replace("config.json", `{"r": 8}`), code: CodeConfigBroken, at: "config.json", text: "no model_type"},
		{name: "a list as config.json", spoil: replace("config.json", `[]`), code: CodeConfigBroken, at: "config.json"},
		{name: "a negative size", spoil: replace("config.json", `{"model_type":"llama","hidden_size":-3}`), code: CodeConfigBroken, at: "config.json", text: "hidden_size = -3"},
		{name: "an absurd size", spoil: replace("config.json", `{"model_type":"llama","num_hidden_layers":1e300}`), code: CodeConfigBroken, at: "config.json", text: "num_hidden_layers"},
		{name: "half a layer", spoil: replace("config.json", `{"model_type":"llama","num_hidden_layers":1.5}`), code: CodeConfigBroken, at: "config.json", text: "num_hidden_layers"},
		{name: "no weights", spoil: func(t *testing.T, dir string) { os.Remove(filepath.Join(dir, file)) }, code: CodeNoWeights, text: "model*.safetensors", hint: "download"},
		{name: "GGUF", spoil: instead("q4_k_m.gguf"), code: CodeFormat, at: "q4_k_m.gguf", text: "GGUF", hint: "mlx_lm.convert"},
		{name: "PyTorch", spoil: instead("pytorch_model.bin"), code: CodeFormat, at: "pytorch_model.bin", text: "not in safetensors", hint: "mlx_lm.convert"},
		{name: "another file name", spoil: instead("consolidated.safetensors"), code: CodeFormat, at: "consolidated.safetensors", hint: "rename"},
		{name: "a pointer", spoil: replace(file, "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"), code: CodePointer, at: file, hint: "git lfs pull"},
		{name: "an empty file", spoil: replace(file, ""), code: CodeTruncated, at: file, sizes: true},
		{name: "four bytes", spoil: replace(file, "1234"), code: CodeTruncated, at: file, sizes: true},
		{name: "a web page", spoil: replace(file, "<!DOCTYPE html><title>404</title>"), code: CodeHeader, at: file, text: "no safetensors file has"},
		{name: "a header of 101 MB", spoil: replace(file, string(binary.LittleEndian.AppendUint64(nil, 101_000_000))), code: CodeHeader, at: file, text: "101000000"},
		{name: "a header longer than int64", spoil: replace(file, strings.Repeat("\xff", 40)), code: CodeHeader, at: file},
		{name: "cut off in the header", spoil: replace(file, string(binary.LittleEndian.AppendUint64(nil, 400))+`{"a":`), code: CodeTruncated, at: file, text: "inside its header", sizes: true},
		{name: "cut off in the data", spoil: func(t *testing.T, dir string) {
			info, err := os.Stat(filepath.Join(dir, file))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(filepath.Join(dir, file), info.Size()-1000); err != nil {
				t.Fatal(err)
			}
		}, code: CodeTruncated, at: file, text: "cut off", hint: "hf download", sizes: true},
		{name: "a header that is not JSON", spoil: described("{nonsense}", 0), code: CodeHeader, at: file, text: "not JSON"},
		{name: "a tensor without offsets", spoil: described(`{"a":{"dtype":"F32","shape":[1]}}`, 4), code: CodeHeader, at: file, text: `"a"`},
		{name: "a negative dimension", spoil: described(`{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}`, 4), code: CodeHeader, at: file, text: `"a"`},
		{name: "an unknown type", spoil: described(`{"a":{"dtype":"Q4_K","shape":[1],"data_offsets":[0,4]}}`, 4), code: CodeDType, at: file, text: `"Q4_K"`},
		{name: "overlap", spoil: described(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}`, 8), code: CodeOffsets, at: file, text: `"b" over`},
		{name: "a gap", spoil: described(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}`, 12), code: CodeOffsets, at: file, text: "4 unused bytes"},
		{name: "bytes left over", spoil: described(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, 9), code: CodeOffsets, at: file, text: "5 bytes after"},
		{name: "a shape of another size", spoil: described(`{"a":{"dtype":"BF16","shape":[3],"data_offsets":[0,4]}}`, 4), code: CodeOffsets, at: file, text: "needs 6"},
		{name: "a shape beyond 64 bits", spoil: described(`{"a":{"dtype":"F32","shape":[4294967296,4294967296,4],"data_offsets":[0,0]}}`, 0), code: CodeOffsets, at: file, text: "impossible shape"},
		{name: "offsets beyond 63 bits", spoil: described(`{"a":{"dtype":"U8","shape":[18446744073709551615],"data_offsets":[0,18446744073709551615]}}`, 0), code: CodeOffsets, at: file},
		{name: "offsets backwards", spoil: described(`{"a":{"dtype":"U8","shape":[4],"data_offsets":[4,0]}}`, 4), code: CodeOffsets, at: file},
		{name: "a missing shard", spoil: replace("model.safetensors.index.json", `{"weight_map":{"a":"model.safetensors","b":"model-2.safetensors"}}`), code: CodeShardMissing, at: "model-2.safetensors", text: "1 of 2", hint: "incomplete"},
		{name: "a broken index", spoil: replace("model.safetensors.index.json", `{"weight_map":[]}`), code: CodeIndexBroken, at: "model.safetensors.index.json"},
		{name: "a link to nothing", spoil: func(t *testing.T, dir string) {
			if err := os.Symlink(filepath.Join(dir, "blob"), filepath.Join(dir, "model-2.safetensors")); err != nil {
				t.Fatal(err)
			}
		}, code: CodeShardMissing, at: "model-2.safetensors", isPath: fs.ErrNotExist},
		{name: "packed rows that fit nothing", spoil: described(`{"x.scales":{"dtype":"F32","shape":[1,7],"data_offsets":[4,32]},"x.weight":{"dtype":"U32","shape":[1,1],"data_offsets":[0,4]}}`, 32), code: CodeQuantization, text: "x in rows of 1 words with 7 scales", hint: "mlx_lm.convert"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := llama.write(t, storedWays[1])
			tc.spoil(t, dir)
			f, err := Read(dir)
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("got %v, %v; want an *Error", f, err)
			}
			if e.Code != tc.code || !strings.Contains(e.Text, tc.text) || !strings.Contains(e.Hint, tc.hint) || e.Hint == "" {
				t.Errorf("code %q, text %q, hint %q", e.Code, e.Text, e.Hint)
			}
			if want := filepath.Join(dir, tc.at); e.Path != want {
				t.Errorf("path %q, want %q", e.Path, want)
			}
			if tc.sizes != (e.Code == CodeTruncated && e.ExpectedBytes > e.ActualBytes) {
				t.Errorf("expected %d bytes, actual %d", e.ExpectedBytes, e.ActualBytes)
			}
			if tc.isPath != nil && !errors.Is(err, tc.isPath) {
				t.Errorf("%v does not wrap %v", err, tc.isPath)
			}
			if s := err.Error(); !strings.HasPrefix(s, "read model: "+e.Path) || !strings.HasSuffix(s, e.Hint) {
				t.Errorf("message %q", s)
			}
		})
	}
}

func TestReadPaths(t *testing.T) {
	t.Chdir(t.TempDir())
	writeFile(t, "weights.gguf", nil)
	for _, tc := range []struct{ name, path, code, hint string }{
		{"a hub name", "mlx-community/Llama-3.2-1B-Instruct-4bit", CodeMissing, "hf download mlx-community/Llama-3.2-1B-Instruct-4bit"},
		{"a path that is no hub name", "./models/llama", CodeMissing, "give the directory"},
		{"a file", "weights.gguf", CodeNotDirectory, "give the directory"},
		{"nothing", "", CodeMissing, "give the directory"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Read(tc.path)
			var e *Error
			if !errors.As(err, &e) || e.Code != tc.code || !strings.Contains(e.Hint, tc.hint) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func FuzzHeader(f *testing.F) {
	head, data := header(llama.tensors(storedWays[4]))
	f.Add(head, data)
	f.Add(frame([]byte(`{"a":{"dtype":"F4","shape":[3],"data_offsets":[0,1]},"__metadata__":{}}`)), int64(1))
	f.Add(frame([]byte(`{"x.weight":{"dtype":"U32","shape":[1,3],"data_offsets":[0,12]},"x.scales":{"dtype":"U8","shape":[1,1],"data_offsets":[12,13]}}  `)), int64(13))
	f.Add([]byte("version https://git-lfs.github.com/spec/v1\n"), int64(0))
	f.Fuzz(func(t *testing.T, head []byte, data int64) {
		size := int64(len(head)) + max(min(data, 1<<40), 0)
		tensors, err := readHeader(hole{head, size}, size)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || e.Code == "" || e.Hint == "" {
				t.Fatalf("error %v says not what to do", err)
			}
			return
		}
		byName, sum := map[string]Tensor{}, int64(0)
		for _, tensor := range tensors {
			byName[tensor.Name] = tensor
			sum += tensor.Bytes
		}
		if sum > size {
			t.Fatalf("tensors of %d bytes in a file of %d", sum, size)
		}
		if err := markPacked(byName, &config{}); err != nil {
			return
		}
		facts := Facts{}
		for _, name := range slices.Sorted(maps.Keys(byName)) {
			facts.Tensors = append(facts.Tensors, byName[name])
		}
		facts.describe(&config{})
		if facts.WeightBytes != sum || facts.LoadedBytes() > sum || facts.Parameters < 0 {
			t.Fatalf("%d bytes, %d loaded, %d parameters, of %d bytes", facts.WeightBytes, facts.LoadedBytes(), facts.Parameters, sum)
		}
	})
}

// hole is a file whose end was never written.
type hole struct {
	head []byte
	size int64
}

func (h hole) ReadAt(p []byte, at int64) (int, error) {
	clear(p)
	if at < int64(len(h.head)) {
		copy(p, h.head[at:])
	}
	return int(min(int64(len(p)), h.size-at)), nil
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte(`{"model_type":"llama","hidden_size":64,"intermediate_size":[1,2],"quantization":{"bits":4,"group_size":64,"model.x":{"bits":8,"group_size":32},"model.y":false}}`))
	f.Add([]byte(`{"model_type":"gemma3","text_config":{"head_dim":256,"quantization_config":{"quant_method":"gptq","bits":4,"group_size":-1}},"limit":[NaN,-Infinity,"Infinity\""]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := parseConfig(raw)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || e.Code != CodeConfigBroken || e.Hint == "" {
				t.Fatalf("error %v says not what to do", err)
			}
			return
		}
		facts := Facts{Tensors: []Tensor{{Name: "model.embed_tokens.weight", DType: "F16", Shape: []int{8, 4}, Bytes: 64}}}
		facts.describe(c)
		for _, n := range []int{facts.Layers, facts.Hidden, facts.Intermediate, facts.Heads, facts.KVHeads, facts.HeadDim, facts.Vocab, facts.MaxPositions} {
			if n < 0 {
				t.Fatalf("a negative size in %+v", facts)
			}
		}
	})
}
