// Package native is the engine that trains with our own trainer on MLX.
//
// Its worker is this program itself, started anew (Work): it loads MLX through
// mlxbind, the base through decoder, and trains on batches in mlx-lm's order.
// With Config.Parity it reproduces mlx-lm step by step, defects included. Without,
// it differs in this, and in nothing else: the first pad behind a row does not
// count in the loss, and gradients that are accumulated are normalised by all
// supervised tokens of the update, not by those of each step.
//
// Adapters, their configuration and checkpoints are in mlx-lm's formats. What it
// cannot train is refused with words that name the engine that can.
package native

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/mlxdyno/mlxdyno/probe/model"
	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/native/decoder"
)

// Name is the engine's name in a trainer.Config.
const Name = trainer.EngineNative

// Options say how to start workers.
type Options struct {
	Argv    []string // the program that calls Work, with its arguments
	Environ []string // its complete environment
	Shim    string   // the library between Go and MLX
	BLAS    string   // loaded before MLX; empty for none
	Version string   // of this program
}

// Engine describes workers. It starts none.
type Engine struct{ o Options }

var _ trainer.Engine = (*Engine)(nil)

// New returns the engine.
func New(o Options) *Engine { return &Engine{o: o} }

// Name implements trainer.Engine.
func (*Engine) Name() string { return Name }

// Capabilities implements trainer.Engine.
func (*Engine) Capabilities(context.Context) (trainer.Capabilities, error) {
	c := trainer.Capabilities{ExactResume: true, Shapes: true, Profile: true}
	for _, k := range trainer.Knobs {
		c.Knobs = append(c.Knobs, k.Name)
	}
	return c, nil
}

// optimizers are those that the engine has.
var optimizers = []string{"adam", "adamw", "sgd"}

// Refuses says what of a configuration, or of its model when facts are known,
// the engine cannot train, or nothing.
func Refuses(c trainer.Config, facts *model.Facts) []string {
	var p []string
	var not *decoder.Unsupported
	if facts != nil {
		if _, err := decoder.ReadSpec(facts); errors.As(err, &not) {
			p = append(p, fmt.Sprintf("model: the native engine cannot train %s; use --engine %s", not.Reason, trainer.EngineMLXLM))
		}
	}
	if !slices.Contains(optimizers, c.Quality.Optimizer) {
		p = append(p, fmt.Sprintf("optimizer: the native engine has no %s; use --engine %s", c.Quality.Optimizer, trainer.EngineMLXLM))
	}
	return p
}

// RefusesProfile says why no profile can be recorded of a configuration and what
// to do about it, or nothing. A step that MLX computes as a whole is one piece: to time its parts
// it would have to be computed in another way than the training does.
func RefusesProfile(c trainer.Config) (why, fix string) {
	switch {
	case c.Parity:
		return "with --parity steps are computed as a whole, as mlx-lm does, and have no parts to time", "leave --parity out"
	case c.Plan.StepBy == trainer.StepByWhole:
		return "steps that are computed as a whole have no parts to time", "use --step-by blocks"
	}
	return "", ""
}

// Variables that tell a worker where MLX is.
const (
	shimVariable    = "MLXDYNO_SHIM"
	blasVariable    = "MLXDYNO_BLAS"
	versionVariable = "MLXDYNO_VERSION"
)

// Process implements trainer.Engine.
func (e *Engine) Process(job trainer.Job) (trainer.Process, error) {
	if e.o.Shim == "" {
		return trainer.Process{}, errors.New("describe native worker: MLX's shim is not built; run `mlxdyno setup`")
	}
	if why, fix := RefusesProfile(job.Config); job.Mode == trainer.Profile && why != "" {
		return trainer.Process{}, fmt.Errorf("describe native worker: %s; %s", why, fix)
	}
	return trainer.Process{
		Argv: e.o.Argv,
		Env:  append(slices.Clone(e.o.Environ), shimVariable+"="+e.o.Shim, blasVariable+"="+e.o.BLAS, versionVariable+"="+e.o.Version),
	}, nil
}
