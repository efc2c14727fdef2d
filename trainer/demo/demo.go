package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"
)

// Size says how much is made.
type Size string

const (
	// Small is for tests: a few hundred rows and a model of two narrow layers
	// that was trained for a moment. It takes seconds.
	Small Size = "small"
	// Full is the demo: the whole library, and a model that learned from it
	// for up to two minutes.
	Full Size = "full"
)

// Options say what makes the demo and where it goes.
type Options struct {
	Python   string   // interpreter with mlx-lm
	Environ  []string // its environment; nil for this process's
	Dir      string   // what is made goes into a directory below this one
	Size     Size     // Make only; empty is Full
	Seed     uint64   // of the weights and the order of training
	Progress func(stage, detail string)
}

// Paths say where everything is.
type Paths struct {
	Dir         string
	Model       string // float32
	Model4bit   string // the same, quantized to 4 bits in groups of 64
	Completions string // rows of prompt and completion
	Chat        string // the same as messages of user and assistant
	ChatSystem  string // with a system message before them
	Text        string // source with its docstring in place: what the base was trained on
	Question    string // a prompt of the test split

	Base Base
}

// Base is what is known of the model that was trained.
type Base struct {
	Parameters   int64   `json:"parameters"`
	Vocab        int     `json:"vocab"`
	Steps        int     `json:"steps"`  // of training
	Tokens       int64   `json:"tokens"` // that it was trained on
	TrainSeconds float64 `json:"train_seconds"`
	Loss         float64 `json:"loss"`         // nats a token on unseen text
	UnigramLoss  float64 `json:"unigram_loss"` // of the best guess without context
}

// LearningRate and TuneSteps fine-tune the full base well with mlx-lm's other
// defaults: adapters of rank 8 and scale 20 on all blocks, batches of 4. In 80
// steps validation loss on Completions falls from 4.35 to 3.43; at three times
// this rate training diverges.
const (
	LearningRate = 3e-4
	TuneSteps    = 120
)

// RequiredMargin is by how many nats a token a base must beat the best guess
// without context to count as a language model.
const RequiredMargin = 0.3

// Margin is how much better the base is than the best guess without context,
// in nats a token.
func (b Base) Margin() float64 { return b.UnigramLoss - b.Loss }

// Strong reports whether the base is a language model.
func (b Base) Strong() bool { return b.Margin() >= RequiredMargin }

// plan is everything that the scripts must know; it is part of the stamp.
type plan struct {
	Make      string         `json:"make"` // demo or model
	Directory string         `json:"directory,omitempty"`
	Examples  int            `json:"examples"` // 0 for the whole library
	Vocab     int            `json:"vocab"`
	Config    map[string]any `json:"config"`
	Seed      uint64         `json:"seed"`

	Width     int     `json:"width,omitempty"` // tokens a training row
	Batch     int     `json:"batch,omitempty"`
	Steps     int     `json:"steps,omitempty"`
	Budget    float64 `json:"budget"` // seconds of training after which it ends early; 0 is no limit
	ValidRows int     `json:"valid_rows,omitempty"`
	Threads   int     `json:"threads,omitempty"` // of BLAS; 0 is one for every idle core

	Bits      int `json:"bits"`
	GroupSize int `json:"group_size"`
}

// planFor fixes the sizes. Every width is a multiple of 64, so that groups of 64
// cover all of the model when it is quantized.
func planFor(size Size, seed uint64) (plan, error) {
	switch size {
	case Full, "":
		s := Shape{Arch: "llama", Hidden: 192, Intermediate: 512, Layers: 4, Heads: 3, KVHeads: 3, HeadDim: 64, Tied: true}
		return plan{Make: "demo", Vocab: 1024, Config: s.config(), Seed: seed,
			Width: 128, Batch: 8, Steps: 200, Budget: 80, ValidRows: 256}, nil
	case Small:
		s := Shape{Arch: "llama", Hidden: 64, Intermediate: 128, Layers: 2, Heads: 2, KVHeads: 1, HeadDim: 32, Tied: true}
		return plan{Make: "demo", Examples: 400, Vocab: 512, Config: s.config(), Seed: seed,
			Width: 64, Batch: 8, Steps: 30, ValidRows: 64, Threads: 1}, nil
	}
	return plan{}, fmt.Errorf("make demo: %q is not a size; use %s or %s", size, Small, Full)
}

// Make makes model and text, or finds them made before by the same scripts,
// Python and packages.
func Make(ctx context.Context, o Options) (Paths, error) {
	p, err := planFor(o.Size, o.Seed)
	if err != nil {
		return Paths{}, err
	}
	name := string(o.Size)
	if name == "" {
		name = string(Full)
	}
	dir := filepath.Join(o.Dir, name)
	made, err := o.ensure(ctx, dir, p)
	if err != nil {
		return Paths{}, fmt.Errorf("make demo: %w", err)
	}
	return Paths{
		Dir:         dir,
		Model:       filepath.Join(dir, "model"),
		Model4bit:   filepath.Join(dir, "model-4bit"),
		Completions: filepath.Join(dir, "completions"),
		Chat:        filepath.Join(dir, "chat"),
		ChatSystem:  filepath.Join(dir, "chat-system"),
		Text:        filepath.Join(dir, "text"),
		Question:    made.Question,
		Base:        made.Base,
	}, nil
}

// stampName is the file that says a directory is complete, and of what.
const stampName = "demo.json"

// stamp is written last.
type stamp struct {
	Key    string `json:"key"`
	Result result `json:"result"`
}

// ensure returns dir's result if it was made to the same plan; otherwise it
// makes dir anew, all of it or nothing. A lock beside dir lets processes that
// want the same thing make it once.
func (o Options) ensure(ctx context.Context, dir string, p plan) (result, error) {
	parent := filepath.Dir(dir)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return result{}, fmt.Errorf("make directory: %w", err)
	}
	lock := flock.New(dir + ".lock")
	if _, err := lock.TryLockContext(ctx, lockPoll); err != nil {
		return result{}, fmt.Errorf("lock %s: %w", dir, err)
	}
	defer lock.Unlock() //nolint:errcheck // closing the file releases it in any case

	key, err := o.key(ctx, p)
	if err != nil {
		return result{}, err
	}
	old, err := readStamp(dir)
	switch {
	case err == nil && old.Key == key:
		return old.Result, nil
	case errors.Is(err, fs.ErrNotExist):
		if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
			return result{}, fmt.Errorf("%s exists and was not made by this command; choose another directory", dir)
		}
	}

	temp, err := os.MkdirTemp(parent, "."+filepath.Base(dir)+"-*")
	if err != nil {
		return result{}, fmt.Errorf("make directory: %w", err)
	}
	defer os.RemoveAll(temp)
	if err := os.Chmod(temp, 0o755); err != nil {
		return result{}, fmt.Errorf("open directory to readers: %w", err)
	}
	p.Directory = temp
	made, err := o.run(ctx, p)
	if err != nil {
		return result{}, err
	}
	b, err := json.MarshalIndent(stamp{key, made}, "", "  ")
	if err != nil {
		return result{}, fmt.Errorf("encode stamp: %w", err)
	}
	if err := os.WriteFile(filepath.Join(temp, stampName), append(b, '\n'), 0o644); err != nil {
		return result{}, fmt.Errorf("write stamp: %w", err)
	}
	if err := os.RemoveAll(dir); err != nil {
		return result{}, fmt.Errorf("remove what an earlier version made: %w", err)
	}
	if err := os.Rename(temp, dir); err != nil {
		return result{}, fmt.Errorf("put the finished directory in place: %w", err)
	}
	return made, nil
}

func readStamp(dir string) (stamp, error) {
	b, err := os.ReadFile(filepath.Join(dir, stampName))
	if err != nil {
		return stamp{}, err
	}
	var s stamp
	if err := json.Unmarshal(b, &s); err != nil {
		return stamp{}, fmt.Errorf("read %s: %w", stampName, err)
	}
	return s, nil
}
