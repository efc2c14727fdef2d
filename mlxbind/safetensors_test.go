package mlxbind

import (
	"encoding/binary"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestSafetensorsKeepEveryDType(t *testing.T) {
	path := filepath.Join(t.TempDir(), "all.safetensors")
	arrays := func(s *Scope) map[string]Array {
		all := map[string]Array{
			"ünïcode / name":         s.Float32s([]float32{1, -2, 3.5}, 3),
			"turned":                 s.Transpose(s.Float32s([]float32{1, 2, 3, 4, 5, 6}, 2, 3)),
			"scalar":                 s.Scalar(7, Int32),
			"empty":                  s.Zeros(Float32, 0, 3),
			strings.Repeat("n", 300): s.Scalar(1, Bool),
		}
		for d := Bool; d <= Complex64; d++ {
			if d == Float64 { // not in MLX's files
				continue
			}
			all[d.String()] = s.AsType(s.Int32s([]int32{0, 1, 100, 127}, 2, 2), d)
		}
		return all
	}
	do(t, func(s *Scope) error { return s.SaveSafetensors(path, arrays(s)) })
	do(t, func(s *Scope) error {
		want := arrays(s)
		got, err := s.LoadSafetensors(path)
		if err != nil {
			return err
		}
		if a, b := slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)); !slices.Equal(a, b) {
			t.Errorf("names %q instead of %q", a, b)
		}
		for name, w := range want {
			g := got[name]
			if a, b := s.Info(g), s.Info(w); a.DType != b.DType || !slices.Equal(a.Shape, b.Shape) {
				t.Errorf("%s: %+v instead of %+v", name, a, b)
				continue
			}
			a, err := s.ReadFloat32s(g)
			b, err2 := s.ReadFloat32s(w)
			if err != nil || err2 != nil || !slices.Equal(a, b) {
				t.Errorf("%s: %v instead of %v, %v %v", name, a, b, err, err2)
			}
		}
		return s.Err()
	})
	// Others read it: the header is JSON after its length.
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	header := map[string]any{}
	if err := json.Unmarshal(data[8:8+binary.LittleEndian.Uint64(data)], &header); err != nil {
		t.Error(err)
	}
	if header["__metadata__"].(map[string]any)["format"] != "mlx" {
		t.Errorf("header %v", header)
	}
}

func TestSafetensorsThatAreNone(t *testing.T) {
	dir := t.TempDir()
	good := filepath.Join(dir, "good.safetensors")
	do(t, func(s *Scope) error {
		return s.SaveSafetensors(good, map[string]Array{"a": s.Arange(0, 1000, 1, Float32), "b": s.Arange(0, 1000, 1, Float32)})
	})
	whole, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	headerEnd := 8 + int(binary.LittleEndian.Uint64(whole))
	header := func(text string) []byte {
		return append(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text...)
	}
	cases := map[string][]byte{
		"empty":                         {},
		"less than a length":            whole[:5],
		"half a header":                 whole[:headerEnd/2],
		"a header alone":                whole[:headerEnd],
		"a byte short":                  whole[:len(whole)-1],
		"half":                          whole[:len(whole)/2],
		"text":                          []byte("this is not the file that you look for"),
		"a header without end":          binary.LittleEndian.AppendUint64(nil, 1<<62),
		"no JSON":                       header("{]"),
		"JSON that is no object":        header("[1]"),
		"a tensor that is no object":    header(`{"a":3}`),
		"a tensor without offsets":      header(`{"a":{"dtype":"F32","shape":[1]}}`),
		"an unknown dtype":              header(`{"a":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}}`),
		"offsets past the end":          header(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[1000000,1000004]}}`),
		"offsets that do not fit":       header(`{"a":{"dtype":"F32","shape":[5],"data_offsets":[0,4]}}`),
		"a shape that is negative":      header(`{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}`),
		"a shape beyond all bounds":     header(`{"a":{"dtype":"F32","shape":[4294967296],"data_offsets":[0,4]}}`),
		"a shape that is none":          header(`{"a":{"dtype":"F32","shape":"many","data_offsets":[0,4]}}`),
		"offsets that are none":         header(`{"a":{"dtype":"F32","shape":[1],"data_offsets":["x","y"]}}`),
		"a name of more than 4096":      append(header(`{"`+strings.Repeat("n", 5000)+`":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`), 0, 0, 0, 0),
		"a directory instead of a file": nil,
	}
	live, active := counters(t)
	for name, data := range cases {
		path := filepath.Join(t.TempDir(), "bad.safetensors")
		if data == nil {
			err = os.Mkdir(path, 0o755)
		} else {
			err = os.WriteFile(path, data, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
		err = rt.Do(t.Context(), func(s *Scope) error {
			all, err := s.LoadSafetensors(path)
			if err != nil {
				return err
			}
			return s.Eval(slices.Collect(maps.Values(all))...) // as late as that in some versions
		})
		if err == nil || strings.TrimSpace(err.Error()) == "" {
			t.Errorf("%s: %v", name, err)
		} else {
			t.Logf("%s: %v", name, err)
		}
		gradientIsRight(t)
	}
	if l, a := counters(t); l != live || a != active {
		t.Errorf("%d arrays and %d bytes are left", l-live, a-active)
	}
}

func TestSavingFails(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "d.safetensors"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{
		"no directory":           filepath.Join(dir, "none", "a.safetensors"),
		"a file as directory":    filepath.Join(dir, "file", "a.safetensors"),
		"a directory as file":    filepath.Join(dir, "d.safetensors"),
		"where nobody may write": "/proc/a.safetensors",
		"a name too long":        filepath.Join(dir, strings.Repeat("n", 300)+".safetensors"),
		"no name":                "",
	} {
		err := rt.Do(t.Context(), func(s *Scope) error { return s.SaveSafetensors(path, map[string]Array{"a": s.Zeros(Float32, 3)}) })
		if err == nil || strings.TrimSpace(err.Error()) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := rt.Do(t.Context(), func(s *Scope) error {
		return s.SaveSafetensors(filepath.Join(dir, "f64.safetensors"), map[string]Array{"a": s.Zeros(Float64, 2)})
	}); err == nil || !strings.Contains(err.Error(), "dtype") {
		t.Errorf("float64: %v", err)
	}
	// An error of the computation is one of saving, and no file is made of it.
	path := filepath.Join(dir, "late.safetensors")
	if err := rt.Do(t.Context(), func(s *Scope) error {
		return s.SaveSafetensors(path, map[string]Array{"a": s.MatMul(s.Zeros(Float32, 2, 3), s.Zeros(Float32, 2, 3))})
	}); err == nil {
		t.Error("saved what cannot be computed")
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("there is a file")
	}
	gradientIsRight(t)
}
