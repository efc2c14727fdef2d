package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mlxdyno/mlxdyno/mlxbind/install"
	"github.com/mlxdyno/mlxdyno/report"
	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/bench"
	"github.com/mlxdyno/mlxdyno/trainer/data"
	"github.com/mlxdyno/mlxdyno/trainer/demo"
	"github.com/mlxdyno/mlxdyno/trainer/worker"
)

// benchReal trains the demo's model on its text with mlx-lm as it ships, with
// mlx-lm on rows grouped by length, and with our engine, and judges what each
// has learned by one evaluation: mlx-lm's own also counts a pad of every row.
func (a *app) benchReal(ctx context.Context, env install.Env, o benchOptions) (row report.BenchRow, err error) {
	paths, err := demo.Make(ctx, demo.Options{Python: env.Python, Environ: env.Environ(), Dir: filepath.Join(env.Home, "demo"), Size: demo.Full,
		Progress: func(stage, detail string) { a.progress("%s: %s", stage, detail) }})
	if err != nil {
		return row, err
	}
	set, err := data.Prepare(ctx, data.Options{Python: env.Python, Environ: env.Environ(), Versions: env.Versions, CacheDir: filepath.Join(env.Home, "cache", "tokens")},
		data.Spec{Path: paths.Completions, Model: paths.Model})
	if err != nil {
		return row, err
	}
	work, err := os.MkdirTemp("", "mlxdyno-bench-*")
	if err != nil {
		return row, fmt.Errorf("make a directory for what is trained: %w", err)
	}
	defer os.RemoveAll(work)
	settings := trainer.NewSettings()
	c := &settings.Config
	c.Model.Path, c.Data.Path = paths.Model, paths.Completions
	c.Quality.LearningRate, c.Quality.Rank = demo.LearningRate, o.one.rank
	c.Schedule.Steps, c.Schedule.SaveEvery = o.steps+o.Warmup, o.steps+o.Warmup
	row.Case = fmt.Sprintf("the demo's text, %d steps of %d rows, rank %d", c.Schedule.Steps, c.Plan.Batch, o.one.rank)

	var all []bench.Contestant
	last := map[string]string{} // directory of a contestant's last process
	add := func(name, engine string, sets ...string) error {
		mine := settings
		mine.Origins = map[string]trainer.Origin{}
		for _, set := range slices.Concat([]string{"engine=" + engine}, o.sets, sets) {
			name, value, _ := strings.Cut(set, "=")
			if err := mine.Set(name, value, trainer.FromFlag); err != nil {
				return usagef("%s: %v", set, err)
			}
		}
		e, err := engineFor(engine, env)
		ready := func(j *trainer.Job) (err error) {
			j.Dir, err = os.MkdirTemp(work, "run-*")
			last[name] = j.Dir
			return err
		}
		all = append(all, bench.Contestant{Name: name, Engine: e, Ready: ready,
			Job: trainer.Job{Config: mine.Config, Tokens: set.Tokens(), Mode: trainer.Normal, UntilStep: mine.Config.Schedule.Steps}})
		return err
	}
	for _, v := range o.variants {
		if err := add(trainer.EngineNative+" "+v, trainer.EngineNative, strings.Split(v, ",")...); err != nil {
			return row, err
		}
	}
	if err := errors.Join(add(trainer.EngineNative, trainer.EngineNative),
		add(trainer.EngineMLXLM+", grouped by length", trainer.EngineMLXLM, "group-by-length=true"),
		add(trainer.EngineMLXLM+" as shipped", trainer.EngineMLXLM, "group-by-length=false")); err != nil {
		return row, err
	}
	o.Progress = func(round, of int, name string) { a.progress("%s: round %d of %d, %s", row.Case, round, of, name) }
	if row.Sides, err = bench.Compare(ctx, all, o.Options); err != nil {
		return row, err
	}
	for i := range row.Sides {
		side := &row.Sides[i]
		a.progress("validation loss of what %s has trained", side.Name)
		loss, err := a.validationLoss(ctx, env, *c, set, filepath.Join(last[side.Name], "adapter"))
		if err != nil {
			return row, fmt.Errorf("evaluate what %s has trained: %w", side.Name, err)
		}
		side.ValidationLoss = trainer.Some(loss)
	}
	return row, nil
}

// validationLoss is our engine's, of the model with an adapter merged into it,
// over all validation rows.
func (a *app) validationLoss(ctx context.Context, env install.Env, c trainer.Config, set *data.Set, adapter string) (float64, error) {
	merged := filepath.Join(filepath.Dir(adapter), "merged")
	if _, err := a.fuse(ctx, &fuseJob{Model: c.Model.Path, Adapter: adapter, To: merged}); err != nil {
		return 0, err
	}
	c.Engine, c.Model.Path, c.Schedule.ValBatches = trainer.EngineNative, merged, -1
	e, err := engineFor(trainer.EngineNative, env)
	if err != nil {
		return 0, err
	}
	job := trainer.Job{Config: c, Tokens: set.Tokens(), Mode: trainer.Normal, UntilStep: 1, Evaluate: true, Dir: filepath.Join(filepath.Dir(adapter), "evaluated")}
	if err := os.Mkdir(job.Dir, 0o755); err != nil {
		return 0, err
	}
	p, err := e.Process(job)
	if err != nil {
		return 0, err
	}
	var loss trainer.Opt[float64]
	result, err := worker.Run(ctx, p, job, worker.Options{}, func(e trainer.Event) error {
		if v, ok := e.Payload.(trainer.Eval); ok && !loss.Known() {
			loss = trainer.Some(float64(v.Loss))
		}
		return nil
	})
	switch v, known := loss.Get(); {
	case err != nil:
		return 0, err
	case known:
		return v, nil
	case result.Failure != nil:
		return 0, errors.New(result.Failure.Text)
	}
	return 0, fmt.Errorf("its process %s", result.Outcome)
}
