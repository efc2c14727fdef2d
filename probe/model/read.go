package model

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Read returns what the model in dir is. It reads config.json and the headers
// of the weight files that mlx-lm loads (model*.safetensors), never a weight.
// Every error is, or wraps, an *Error. Whether anything can train the
// architecture is not judged here.
func Read(dir string) (*Facts, error) {
	if err := checkDir(dir); err != nil {
		return nil, err
	}
	c, err := readConfig(filepath.Join(dir, "config.json"))
	if err != nil {
		return nil, err
	}
	files, err := weightFiles(dir)
	if err != nil {
		return nil, err
	}

	byName := map[string]Tensor{}
	for _, file := range files {
		tensors, err := readFile(filepath.Join(dir, file.Name))
		if err != nil {
			return nil, err
		}
		for _, t := range tensors {
			byName[t.Name] = t // of a name in two files mlx-lm loads one
		}
	}
	if err := markPacked(byName, c); err != nil {
		return nil, at(dir, err)
	}

	f := &Facts{Path: dir, Files: files, HasTokenizer: hasTokenizer(dir)}
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		f.Tensors = append(f.Tensors, byName[name])
	}
	f.describe(c)
	return f, nil
}

func checkDir(dir string) error {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		e := &Error{Code: CodeMissing, Path: dir, Text: "does not exist", Hint: "give the directory that holds the model's config.json", err: err}
		if hubName.MatchString(dir) {
			e.Hint = fmt.Sprintf("if this is a name on the Hugging Face hub, download it first: hf download %s", dir)
		}
		return e
	case err != nil:
		return at(dir, unreadable(err))
	case !info.IsDir():
		return &Error{Code: CodeNotDirectory, Path: dir, Text: "is a file", Hint: "give the directory that holds config.json and *.safetensors"}
	}
	return nil
}

func readConfig(path string) (*config, error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &Error{Code: CodeConfigMissing, Path: path, Text: "does not exist", Hint: "give a model directory as mlx-lm or the Hugging Face hub lays it out; an adapter directory is not one", err: err}
	}
	if err != nil {
		return nil, at(path, unreadable(err))
	}
	c, err := parseConfig(raw)
	return c, at(path, err)
}

// weightFiles lists the files that mlx-lm loads, and checks that the index, if
// there is one, names no other.
func weightFiles(dir string) ([]File, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, at(dir, unreadable(err))
	}
	var files []File
	var others []string
	for _, e := range entries {
		name := e.Name()
		if ok, _ := filepath.Match("model*.safetensors", name); !ok {
			switch strings.ToLower(filepath.Ext(name)) {
			case ".gguf", ".bin", ".pt", ".pth", ".npz", ".safetensors":
				others = append(others, name)
			}
			continue
		}
		info, err := os.Stat(filepath.Join(dir, name)) // follows links, as the hub's cache has
		if errors.Is(err, fs.ErrNotExist) {
			return nil, &Error{Code: CodeShardMissing, Path: filepath.Join(dir, name), Text: "links to a file that is not there", Hint: downloadAgain, err: err}
		}
		if err != nil {
			return nil, at(filepath.Join(dir, name), unreadable(err))
		}
		if info.Mode().IsRegular() {
			files = append(files, File{Name: name, Bytes: info.Size()})
		}
	}
	if err := checkIndex(filepath.Join(dir, "model.safetensors.index.json"), files); err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, noWeights(dir, others)
	}
	return files, nil
}

func checkIndex(path string, files []File) error {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return at(path, unreadable(err))
	}
	var index struct {
		WeightMap map[string]string `json:"weight_map"`
	}
	if err := json.Unmarshal(raw, &index); err != nil {
		return &Error{Code: CodeIndexBroken, Path: path, Text: fmt.Sprintf("is not an index (%v)", err), Hint: downloadAgain, err: err}
	}
	named := map[string]bool{}
	for _, file := range index.WeightMap {
		named[file] = true
	}
	for _, file := range files {
		delete(named, file.Name)
	}
	if len(named) == 0 {
		return nil
	}
	missing := slices.Sorted(maps.Keys(named))
	return &Error{Code: CodeShardMissing, Path: filepath.Join(filepath.Dir(path), missing[0]),
		Text: fmt.Sprintf("is named by the index but not there (%d of %d files missing)", len(missing), len(missing)+len(files)),
		Hint: "the download is incomplete; run it again"}
}

func noWeights(dir string, others []string) error {
	if len(others) == 0 {
		return &Error{Code: CodeNoWeights, Path: dir, Text: "has no model*.safetensors file", Hint: "the download is incomplete; run it again"}
	}
	e := &Error{Code: CodeFormat, Path: filepath.Join(dir, others[0])}
	switch strings.ToLower(filepath.Ext(others[0])) {
	case ".gguf":
		e.Text, e.Hint = "is GGUF, which holds no trainable layout", "take the original model and convert it with mlx_lm.convert --hf-path"
	case ".safetensors":
		e.Text, e.Hint = "is not named model*.safetensors, so that mlx-lm would not load it", "rename it if it holds the model's weights"
	default:
		e.Text, e.Hint = "is not in safetensors format", "convert the model with mlx_lm.convert --hf-path"
	}
	return e
}

func readFile(path string) ([]Tensor, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, at(path, unreadable(err))
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, at(path, unreadable(err))
	}
	tensors, err := readHeader(f, info.Size())
	return tensors, at(path, err)
}

func hasTokenizer(dir string) bool {
	for _, pattern := range []string{"tokenizer.json", "tokenizer.model", "vocab.json", "*.tiktoken"} {
		if found, _ := fs.Glob(os.DirFS(dir), pattern); len(found) > 0 {
			return true
		}
	}
	return false
}

// at says where err happened.
func at(path string, err error) error {
	var e *Error
	if errors.As(err, &e) && e.Path == "" {
		e.Path = path
	}
	return err
}

// describe fills in what follows from config.json and f.Tensors. Sizes that
// config.json leaves to defaults are taken from the tensors.
func (f *Facts) describe(c *config) {
	f.Arch, f.MaxPositions = c.modelType, c.positions
	embedding, _ := f.find(isEmbedding)
	_, hasHead := f.find(isHead)
	f.TiedHead = c.tied || !hasHead

	blocks, shapes := 0, map[string][]int{}
	var scalesDType string
	unquantized := map[string]int64{}
	for _, t := range f.Tensors {
		if isTower(t.Name) {
			continue
		}
		if n, ok := blockOf(t.Name); ok {
			blocks = max(blocks, n+1)
			parts := strings.Split(t.Name, ".")
			shapes[parts[len(parts)-2]] = t.Dims()
		}
		switch {
		case strings.HasSuffix(t.Name, ".scales"):
			scalesDType = t.DType
		case t.DType == "F32" || t.DType == "BF16" || t.DType == "F16":
			if !strings.HasSuffix(t.Name, ".biases") {
				unquantized[t.DType] += t.Bytes
			}
		}
	}
	rows := func(name string) int {
		if s := shapes[name]; len(s) > 1 {
			return s[len(s)-2]
		}
		return 0
	}
	f.Layers = cmp.Or(c.layers, blocks)
	if dims := embedding.Dims(); len(dims) == 2 {
		f.Vocab, f.Hidden = dims[0], dims[1]
	}
	f.Hidden = cmp.Or(c.hidden, f.Hidden)
	f.Vocab = cmp.Or(f.Vocab, c.vocab)
	f.Intermediate = cmp.Or(c.inter, rows("up_proj"), rows("gate_proj"))
	f.Heads, f.HeadDim = c.heads, c.headDim
	if norm := shapes["q_norm"]; f.HeadDim == 0 && len(norm) == 1 && (f.Heads == 0 || f.Heads*norm[0] == rows("q_proj")) {
		f.HeadDim = norm[0]
	}
	if f.HeadDim == 0 && f.Heads > 0 {
		f.HeadDim = f.Hidden / f.Heads
	}
	if f.HeadDim > 0 {
		f.Heads = cmp.Or(f.Heads, rows("q_proj")/f.HeadDim)
		f.KVHeads = cmp.Or(c.kvHeads, rows("k_proj")/f.HeadDim)
	}
	f.KVHeads = cmp.Or(f.KVHeads, c.kvHeads, f.Heads)

	for _, dtype := range []string{"BF16", "F16", "F32"} {
		if unquantized[dtype] > unquantized[f.DType] {
			f.DType = dtype
		}
	}
	f.DType = cmp.Or(f.DType, scalesDType)
	f.Quant = quantOf(c, f.Tensors, f.LinearModules(-1), scalesDType)
	f.count()
	f.Key = keyOf(c.rawBytes, f.Tensors)
}

// count sets Parameters and WeightBytes.
func (f *Facts) count() {
	companions := map[string]bool{}
	for _, t := range f.Tensors {
		if base, ok := strings.CutSuffix(t.Name, ".weight"); ok && t.Bits > 0 {
			companions[base+".scales"], companions[base+".biases"] = true, true
		}
	}
	for _, t := range f.Tensors {
		f.WeightBytes += t.Bytes
		if f.loaded(t.Name) && !companions[t.Name] {
			f.Parameters += t.Elements()
		}
	}
}

func keyOf(config []byte, tensors []Tensor) string {
	h := sha256.New()
	fmt.Fprintf(h, "%d\n%s\n", len(config), config)
	for _, t := range tensors {
		fmt.Fprintf(h, "%q %s %v\n", t.Name, t.DType, t.Shape)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}
