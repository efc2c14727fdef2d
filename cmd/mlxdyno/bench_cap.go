package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/mlxdyno/mlxdyno/mlxbind/install"
	"github.com/mlxdyno/mlxdyno/report"
	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/demo"
	"github.com/mlxdyno/mlxdyno/trainer/worker"
	"github.com/mlxdyno/mlxdyno/tuner"
)

// capSuite is the suite that trains under a cap.
const capSuite = "cap"

// benchCap tunes under caps that are smaller than the default configuration
// needs, and trains with what was found.
func (a *app) benchCap(ctx context.Context, env install.Env, o benchOptions) error {
	doc := report.CapDocument{Schema: report.CapSchema, Versions: env.Versions, Device: env.Device}
	for _, engine := range o.engines {
		for _, percent := range o.caps {
			row, err := a.underCap(ctx, env, predictModels(env)[0], engine, float64(percent)/100, o.steps)
			if err != nil {
				return err
			}
			doc.Rows = append(doc.Rows, row)
		}
	}
	return a.print(doc, func() error { return report.Caps(a.stdout, doc, a.style()) })
}

// underCap tunes under a share of what the default configuration needs, and trains
// so many steps with the result.
func (a *app) underCap(ctx context.Context, env install.Env, shape demo.Shape, engine string, share float64, steps int) (row report.CapRow, err error) {
	dir := filepath.Join(env.Home, "bench")
	model, err := demo.MakeModel(ctx, demo.Options{Dir: filepath.Join(dir, "models"), Python: env.Python, Environ: env.Environ()}, shape)
	if err != nil {
		return row, err
	}
	text, err := rowsOfLengths(dir, 72)
	if err != nil {
		return row, err
	}
	settings := trainer.NewSettings()
	settings.Config.Model.Path, settings.Config.Data.Path, settings.Config.Engine = model, text, engine
	settings.Config.Quality.Layers = -1
	s, err := a.open(ctx, settings)
	if err != nil {
		return row, err
	}
	bursts, err := s.bench()
	if err != nil {
		return row, err
	}
	row = report.CapRow{Engine: engine, Steps: steps}
	// An epoch of the default configuration tells what it needs.
	whole, err := train(ctx, bursts, s, settings.Config, len(s.set.Train.Lengths)/settings.Config.Plan.Batch)
	if err != nil {
		return row, err
	}
	row.Default = whole
	row.CapBytes = int64(share * float64(max(whole.FootprintBytes, whole.PeakAndCacheBytes)))
	study, _, err := s.study(ctx, tuner.Wishes{MaxMemory: row.CapBytes, Budget: time.Minute})
	if err != nil {
		return row, err
	}
	study.Journal = ""
	study.Progress = func(st tuner.Stage) {
		a.progress("%s under %s: %s %s", engine, trainer.FormatBytes(row.CapBytes), st.Name, st.Text)
	}
	r, err := study.Run(ctx)
	if err != nil {
		return row, err
	}
	row.Verdict = r.Verdict
	if r.Verdict == tuner.Impossible {
		row.Problem = r.Problem
		return row, nil
	}
	row.Config = r.Config
	a.progress("%s under %s: %d steps", engine, trainer.FormatBytes(row.CapBytes), steps)
	row.Trained, err = train(ctx, bursts, s, r.Config, steps)
	row.Held = err == nil && row.Trained.PeakAndCacheBytes <= row.CapBytes && row.Trained.FootprintBytes <= row.CapBytes
	return row, err
}

// train runs so many steps of a configuration and says what they took.
func train(ctx context.Context, bursts worker.Bench, s *subject, c trainer.Config, steps int) (use report.MemoryUse, err error) {
	c.Schedule.Steps = max(c.Schedule.Steps, steps)
	b, err := bursts.Burst(ctx, trainer.Job{Config: c, Tokens: s.set.Tokens(), Mode: trainer.Normal, UntilStep: steps})
	if err != nil {
		return use, err
	}
	if !b.Result.Outcome.Good() || len(b.Summary.Steps) < steps {
		return use, fmt.Errorf("train %d steps: %s after %d", steps, b.Result.Outcome, len(b.Summary.Steps))
	}
	for _, step := range b.Summary.Steps {
		m := step.Memory
		use.PeakBytes = max(use.PeakBytes, m.Peak.Or(0))
		use.PeakAndCacheBytes = max(use.PeakAndCacheBytes, m.Peak.Or(0)+m.Cache.Or(0))
		use.FootprintBytes = max(use.FootprintBytes, m.Footprint.Or(0))
	}
	return use, nil
}
