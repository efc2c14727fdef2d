package data

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gofrs/flock"
)

// Options say where tokens are made and kept.
type Options struct {
	Python   string            // interpreter of the environment that will train
	Environ  []string          // its complete environment
	Versions map[string]string // of what decides tokens besides the files: mlx-lm, transformers, tokenizers
	CacheDir string
	Progress func(split string, done, total int) // may be nil; called from Prepare's goroutine

	// CacheOnly makes nothing and starts nothing: what is not in the cache is
	// ErrNotCached.
	CacheOnly bool
}

// ErrNotCached says that text has not been tokenized yet.
var ErrNotCached = errors.New("the text has not been tokenized yet")

// Spec names what to tokenize.
type Spec struct {
	Path       string // as for Inspect
	Model      string // directory with the tokenizer
	MaskPrompt bool   // supervise completions only
}

// Prepare returns the text in tokens, from the cache if it is there and whole.
// Two processes that prepare the same do the work once. A *Error says what is
// wrong with text or tokenizer; malformed rows that are few are left out and
// listed in Set.Problems.
func Prepare(ctx context.Context, o Options, s Spec) (*Set, error) {
	src, err := Inspect(s.Path)
	if err != nil {
		return nil, err
	}
	if s.MaskPrompt {
		for _, f := range src.files {
			if f.format == FormatText {
				return nil, &Error{Path: f.path, Text: "rows of plain text have no prompt to mask",
					Fix: "drop --mask-prompt, or write rows with prompt and completion"}
			}
		}
	}
	key, err := cacheKey(o, s, src)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(o.CacheDir, key)
	if o.CacheOnly {
		if set, err := openSet(dir, key, src); err == nil {
			return set, nil
		}
		return nil, ErrNotCached
	}
	if err := os.MkdirAll(o.CacheDir, 0o755); err != nil {
		return nil, fmt.Errorf("make token cache: %w", err)
	}
	lock := flock.New(dir + ".lock")
	if _, err := lock.TryLockContext(ctx, 50*time.Millisecond); err != nil {
		return nil, fmt.Errorf("lock token cache %s: %w", dir, err)
	}
	defer lock.Close()

	set, err := openSet(dir, key, src)
	if err == nil {
		return set, nil
	}
	// Missing or damaged: both are cured by making it anew.
	if err := os.RemoveAll(dir); err != nil {
		return nil, fmt.Errorf("clear token cache: %w", err)
	}
	making := dir + ".making"
	if err := os.RemoveAll(making); err != nil {
		return nil, fmt.Errorf("clear token cache: %w", err)
	}
	defer os.RemoveAll(making)
	if err := os.Mkdir(making, 0o755); err != nil {
		return nil, fmt.Errorf("make token cache: %w", err)
	}
	if err := tokenize(ctx, o, s, src, key, making); err != nil {
		return nil, err
	}
	if err := os.Rename(making, dir); err != nil {
		return nil, fmt.Errorf("keep tokens: %w", err)
	}
	return openSet(dir, key, src)
}

// openSet reads a finished cache entry.
func openSet(dir, key string, src *Source) (*Set, error) {
	set := &Set{Key: key, Format: src.Format, Malformed: src.Malformed, Problems: slices.Clone(src.Problems)}
	for split, at := range map[string]**Split{Train: &set.Train, Valid: &set.Valid, Test: &set.Test} {
		s, meta, err := openTokens(filepath.Join(dir, split+".tokens"))
		if split != Train && errors.Is(err, fs.ErrNotExist) && (split == Valid && src.HeldOut || src.Rows[split] == 0) {
			continue
		}
		if err != nil {
			return nil, err
		}
		*at = s
		set.Malformed += meta.Malformed
		set.Problems = append(set.Problems, meta.Problems...)
	}
	set.HeldOut = src.HeldOut && set.Valid != nil
	set.Problems = keepTelling(set.Problems)
	return set, nil
}

// cacheKey hashes everything that decides the tokens.
func cacheKey(o Options, s Spec, src *Source) (string, error) {
	h := sha256.New()
	fmt.Fprintf(h, "tokens %d\nmask %t\nheld out %t\n", tokensVersion, s.MaskPrompt, src.HeldOut)
	for _, name := range slices.Sorted(maps.Keys(o.Versions)) {
		fmt.Fprintf(h, "version %q %q\n", name, o.Versions[name])
	}
	for _, f := range src.files {
		fmt.Fprintf(h, "split %s %s %x\n", f.split, f.format, f.sum)
	}
	files, err := tokenizerFiles(s.Model)
	if err != nil {
		return "", err
	}
	for _, path := range files {
		sum, err := hashFile(path)
		if err != nil {
			return "", fmt.Errorf("read tokenizer: %w", err)
		}
		fmt.Fprintf(h, "tokenizer %q %x\n", filepath.Base(path), sum)
	}
	return hex.EncodeToString(h.Sum(nil)[:8]), nil
}

// tokenizerFiles are the files of a model that may decide tokens: all that are
// not weights. config.json is among them, since it may name the end-of-text
// token.
func tokenizerFiles(model string) ([]string, error) {
	entries, err := os.ReadDir(model)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &Error{Path: model, Text: "there is no such model directory", Fix: "give --model a directory, or download one with `hf download NAME --local-dir DIR`"}
	}
	if err != nil {
		return nil, fmt.Errorf("read model: %w", err)
	}
	var files []string
	found := false
	for _, e := range entries {
		name := e.Name()
		switch {
		case name == "tokenizer.json", name == "tokenizer.model", name == "vocab.json", name == "vocab.txt", strings.HasSuffix(name, ".tiktoken"):
			found = true
		case strings.HasSuffix(name, ".safetensors.index.json"):
			continue
		}
		switch filepath.Ext(name) {
		case ".json", ".jinja", ".txt", ".model", ".tiktoken", ".py":
			files = append(files, filepath.Join(model, name))
		}
	}
	if !found {
		return nil, &Error{Path: model, Text: "the model has no tokenizer: none of tokenizer.json, tokenizer.model, vocab.json",
			Fix: "download the model's tokenizer files too, for instance with `hf download NAME --local-dir DIR`"}
	}
	return files, nil
}

func hashFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return nil, err
	}
	return h.Sum(nil), nil
}

// heldOutShare of the rows are held out when there is no validation split, but
// at least leastHeldOut unless that is more than a quarter of them.
const (
	heldOutShare = 0.05
	leastHeldOut = 8
)

// holdOut decides which rows become the validation split: those with the lowest
// hashes of their text. So the choice depends on nothing else, and equal rows
// land on the same side. It returns their number too.
func (f *file) holdOut() (isHeld func(row []byte) bool, held int, err error) {
	var hashes []uint64
	if err := f.lines(func(_ int, row []byte) error {
		hashes = append(hashes, hashRow(row))
		return nil
	}); err != nil {
		return nil, 0, err
	}
	none := func([]byte) bool { return false }
	n := max(int(heldOutShare*float64(len(hashes))), min(leastHeldOut, len(hashes)/4))
	if n == 0 {
		return none, 0, nil
	}
	slices.Sort(hashes)
	highest := hashes[n-1]
	for n < len(hashes) && hashes[n] == highest {
		n++
	}
	if n > len(hashes)/2 {
		return none, 0, nil // nearly all rows are equal
	}
	return func(row []byte) bool { return hashRow(row) <= highest }, n, nil
}

func hashRow(row []byte) uint64 {
	sum := sha256.Sum256(row)
	return binary.LittleEndian.Uint64(sum[:8])
}
