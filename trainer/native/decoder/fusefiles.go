package decoder

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// TakenError is a directory that would have to be overwritten.
type TakenError struct{ Dir string }

func (e *TakenError) Error() string { return e.Dir + " is there already and not empty" }

// Making is the directory in which the process pid writes what Fuse publishes
// as dir; it stays behind only if that process is killed.
func Making(dir string, pid int) string {
	dir = filepath.Clean(dir)
	return filepath.Join(filepath.Dir(dir), fmt.Sprintf(".%s.fusing-%d", filepath.Base(dir), pid))
}

// publishModel makes the directory final appear at once, complete and durable.
func publishModel(final string, write func(dir string) error) (err error) {
	final, err = filepath.Abs(final)
	if err != nil {
		return err
	}
	if err := checkFree(final); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(final), 0o755); err != nil {
		return err
	}
	making := Making(final, os.Getpid())
	if err := os.RemoveAll(making); err != nil { // of a process that had the same number
		return err
	}
	if err := os.Mkdir(making, 0o755); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(making))
		}
	}()
	if err := write(making); err != nil {
		return err
	}
	files, err := os.ReadDir(making)
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := syncPath(filepath.Join(making, f.Name())); err != nil {
			return err
		}
	}
	if err := syncPath(making); err != nil {
		return err
	}
	// An empty directory goes; one that was filled meanwhile stays, and this fails.
	if err := os.Remove(final); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(making, final); err != nil {
		return err
	}
	return syncPath(filepath.Dir(final))
}

func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// index is model.safetensors.index.json.
type index struct {
	Metadata struct {
		Size       int64 `json:"total_size"`
		Parameters int64 `json:"total_parameters"`
	} `json:"metadata"`
	Weights map[string]string `json:"weight_map"`
}

// writeRest writes all files of the new model but its weights.
func (x *fusing) writeRest(dir string) error {
	if err := writeIndented(filepath.Join(dir, "model.safetensors.index.json"), x.index); err != nil {
		return err
	}
	raw, err := os.ReadFile(filepath.Join(x.facts.Path, "config.json"))
	if err != nil {
		return err
	}
	if x.Dequantize {
		if raw, err = withoutQuantization(raw); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), raw, 0o644); err != nil {
		return err
	}
	entries, err := os.ReadDir(x.facts.Path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		from := filepath.Join(x.facts.Path, e.Name())
		info, err := os.Stat(from) // follows links, as the hub's cache has
		if err != nil || !info.Mode().IsRegular() || !isCompanion(e.Name()) {
			continue
		}
		if err := copyFile(from, filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// isCompanion tells the files that belong to a model whatever its weights are:
// the tokenizer's, settings of generation, its card.
func isCompanion(name string) bool {
	if name == "config.json" || strings.HasPrefix(name, ".") || strings.HasSuffix(name, ".index.json") {
		return false
	}
	weights := []string{".safetensors", ".bin", ".pt", ".pth", ".gguf", ".npz", ".h5", ".msgpack", ".onnx", ".onnx_data", ".tflite", ".ot"}
	return !slices.Contains(weights, strings.ToLower(filepath.Ext(name)))
}

// withoutQuantization is a config.json that does not speak of it. Numbers keep
// their digits.
func withoutQuantization(raw []byte) ([]byte, error) {
	var c map[string]json.RawMessage
	if err := json.Unmarshal(raw, &c); err != nil {
		return nil, fmt.Errorf("read config.json: %w", err)
	}
	delete(c, "quantization")
	delete(c, "quantization_config")
	return json.MarshalIndent(c, "", "    ")
}

func writeIndented(path string, v any) error {
	text, err := json.MarshalIndent(v, "", "    ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}

func copyFile(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	_, err = io.Copy(out, in)
	return err
}
