// Package mlxlm is the engine that trains with mlx-lm's own train().
//
// Its worker is a Python program, embedded here, that drives train() from
// outside: it hands it batches of token files, hears of every step, and does
// between steps what mlx-lm has no notion of. It evaluates without disturbing
// the order of the data, saves checkpoints from which a training goes on bit for
// bit, runs exact shapes, and stops when asked to. No line of mlx-lm is copied.
//
// Steps, losses and adapters are mlx-lm's for the same seed. What differs is
// listed here and nowhere else: rows are grouped by length if the configuration
// says so; validation uses the same batches every time; and a validation split
// smaller than a batch is evaluated in one batch of its own size.
package mlxlm

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// Name is the engine's name in a trainer.Config.
const Name = trainer.EngineMLXLM

//go:embed python/*.py
var sources embed.FS

// modules of the worker, which loader.py imports.
var modules = []string{"failures", "machine", "model", "protocol", "state", "tokens", "training", "worker"}

// Options name the environment that trains.
type Options struct {
	Python  string   // interpreter
	Environ []string // its complete environment
}

// Engine describes workers. It starts none.
type Engine struct{ o Options }

var _ trainer.Engine = (*Engine)(nil)

// New returns the engine for an environment.
func New(o Options) *Engine { return &Engine{o: o} }

// Name implements trainer.Engine.
func (*Engine) Name() string { return Name }

// Capabilities implements trainer.Engine.
func (*Engine) Capabilities(context.Context) (trainer.Capabilities, error) {
	return capabilities(), nil
}

// capabilities are all but what mlx-lm's train() has no place for.
// Parity is what it has by nature.
func capabilities() trainer.Capabilities {
	c := trainer.Capabilities{ExactResume: true, Shapes: true}
	for _, k := range trainer.Knobs {
		switch k.Name {
		case "grad-clip", "matmul", "low-rank", "loss-positions", "step-by", "keep", "grad-checkpoint-nth", "loss-rows", "packing", "max-shapes":
		default:
			c.Knobs = append(c.Knobs, k.Name)
		}
	}
	return c
}

// Process implements trainer.Engine. The program travels in the environment,
// which leaves the command line short enough to be read in a list of processes.
func (e *Engine) Process(job trainer.Job) (trainer.Process, error) {
	if e.o.Python == "" {
		return trainer.Process{}, errors.New("describe mlx-lm worker: no Python is known; run `mlxdyno setup`")
	}
	if job.Mode == trainer.Profile {
		return trainer.Process{}, errors.New("describe mlx-lm worker: it knows no profile mode")
	}
	if lacking := trainer.Unsupported(job.Config, capabilities()); len(lacking) > 0 {
		return trainer.Process{}, fmt.Errorf("describe mlx-lm worker: mlx-lm has no %s", strings.Join(lacking, ", "))
	}
	texts := map[string]string{}
	for _, name := range modules {
		b, err := sources.ReadFile("python/" + name + ".py")
		if err != nil {
			return trainer.Process{}, fmt.Errorf("describe mlx-lm worker: %w", err)
		}
		texts[name] = string(b)
	}
	program, err := json.Marshal(texts)
	if err != nil {
		return trainer.Process{}, fmt.Errorf("describe mlx-lm worker: %w", err)
	}
	loader, err := sources.ReadFile("python/loader.py")
	if err != nil {
		return trainer.Process{}, fmt.Errorf("describe mlx-lm worker: %w", err)
	}
	return trainer.Process{
		// Isolated from the working directory and from the user's packages.
		Argv: []string{e.o.Python, "-I", "-X", "utf8", "-c", string(loader)},
		Env: append(append([]string{}, e.o.Environ...),
			"MLXDYNO_WORKER="+string(program),
			"MLXDYNO_CONFIG_KEY="+job.Config.Key(),
			"HF_HUB_OFFLINE=1", "TRANSFORMERS_OFFLINE=1", "TOKENIZERS_PARALLELISM=false"),
	}, nil
}
