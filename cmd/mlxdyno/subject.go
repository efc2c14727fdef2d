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
	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/probe/model"
	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/data"
	"github.com/mlxdyno/mlxdyno/trainer/native"
)

// subject is what a command works on: an environment, a configuration, a model
// and its text in tokens.
type subject struct {
	home     string
	env      install.Env
	settings trainer.Settings
	facts    *model.Facts
	set      *data.Set
	dataPath string

	tokenizerProblem string // why the model's own tokenizer could not be used
}

// pathLike tells a path from a name on the hub.
func pathLike(s string) bool {
	if strings.HasPrefix(s, ".") || filepath.IsAbs(s) {
		return true
	}
	_, err := os.Stat(s)
	return err == nil || strings.Count(s, "/") != 1
}

// open makes everything ready that training needs, or says what is not.
func (a *app) open(ctx context.Context, settings trainer.Settings) (*subject, error) {
	if err := settings.Config.Validate(); err != nil {
		return nil, err
	}
	s := &subject{settings: settings, dataPath: settings.Config.Data.Path}
	var err error
	if s.home, err = install.Home(); err != nil {
		return nil, err
	}
	env, envErr := install.Find(s.home)
	s.env = env
	if err := s.honoured(ctx); err != nil {
		return nil, err
	}
	if err := s.openModel(); err != nil {
		return nil, err
	}
	if envErr != nil {
		return nil, envErr
	}
	if s.set, err = a.tokenize(ctx, s, false); err != nil {
		return nil, err
	}
	return s, s.consistent()
}

// consistent refuses a configuration that this model or this text rules out.
func (s *subject) consistent() error {
	c, p := s.settings.Config, []string(nil)
	if rows := len(s.set.Train.Lengths); c.Plan.Batch > rows {
		p = append(p, fmt.Sprintf("batch-size: %d rows, and the training split has %d", c.Plan.Batch, rows))
	}
	if c.Quality.Layers > s.facts.Layers {
		p = append(p, fmt.Sprintf("num-layers: %d, and the model has %d blocks", c.Quality.Layers, s.facts.Layers))
	}
	if unknown, there := s.unknownModules(); len(unknown) > 0 {
		p = append(p, fmt.Sprintf("lora-modules: no block has %s; there are %s", strings.Join(unknown, ", "), strings.Join(there, ", ")))
	}
	if q := s.facts.Quant; q != nil && c.Model.Quantize != 0 {
		p = append(p, fmt.Sprintf("quantize: the base is quantized already, to %d bits", q.Bits))
	}
	if c.Engine == trainer.EngineNative {
		p = append(p, native.Refuses(c, s.facts)...)
	}
	if len(p) > 0 {
		return &trainer.ConfigError{Problems: p}
	}
	return nil
}

// unknownModules returns the names in lora-modules that are in none of the
// blocks that get adapters, and the names that are. Files of experts call them
// otherwise than MLX does, and those of an architecture that was not checked may:
// then nothing is unknown yet, and the worker judges.
func (s *subject) unknownModules() (unknown, there []string) {
	q := s.settings.Config.Quality
	if !model.Checked(s.facts.Arch) {
		return nil, nil
	}
	for _, m := range s.facts.LinearModules(q.Layers) {
		_, name, _ := strings.Cut(m.Name, fmt.Sprintf(".%d.", m.Block))
		if m.Experts > 1 || strings.Contains(name, "expert") {
			return nil, nil
		}
		there = append(there, name)
	}
	slices.Sort(there)
	there = slices.Compact(there)
	for _, name := range q.ModuleNames() {
		if len(there) > 0 && !slices.Contains(there, name) {
			unknown = append(unknown, name)
		}
	}
	return unknown, there
}

// openModel finds the model and reads its facts.
func (s *subject) openModel() error {
	dir, err := model.Resolve(s.settings.Config.Model.Path)
	if err != nil {
		return err
	}
	s.settings.Config.Model.Path = dir
	s.facts, err = model.Read(dir)
	return err
}

// tokenize prepares the text, with progress; or, with cached, takes what was
// prepared before.
func (a *app) tokenize(ctx context.Context, s *subject, cached bool) (*data.Set, error) {
	shown := ""
	set, err := data.Prepare(ctx, data.Options{
		Python: s.env.Python, Environ: s.env.Environ(), Versions: s.env.Versions,
		CacheDir: filepath.Join(s.home, "cache", "tokens"), CacheOnly: cached,
		Progress: func(split string, done, total int) {
			if split != shown {
				a.progress("tokenizing %s (%d rows in all)", split, total)
				shown = split
			}
		},
	}, data.Spec{Path: s.settings.Config.Data.Path, Model: s.settings.Config.Model.Path, MaskPrompt: s.settings.Config.Data.MaskPrompt})
	if err != nil {
		return nil, err
	}
	if set.Malformed > 0 {
		a.progress("%d malformed rows are left out; the first: %s", set.Malformed, set.Problems[0])
	}
	return set, nil
}

// snapshot reads the machine, with what is known of model and data.
func (s *subject) snapshot(ctx context.Context) probe.Snapshot {
	c := s.settings.Config
	return probe.Collect(ctx, probe.Request{
		Home: s.home, Install: installState(s.env, nil), ModelPath: c.Model.Path, Data: s.dataState(), TopProcesses: 8,
	})
}

// dataState describes the tokenized text in the batches that are configured.
func (s *subject) dataState() *probe.DataState {
	if s.set == nil {
		return nil
	}
	st := s.set.Train.Stats(s.batching())
	lengths := probe.LengthStats{Rows: st.Rows, Tokens: st.Tokens, Supervised: st.Supervised, P50: st.P50, P90: st.P90, P99: st.P99, Max: st.Max,
		Cap: st.Cap, RowsCut: st.RowsCut, TokensCut: st.TokensCut,
		PaddingShare: st.Planned.PaddingShare, PaddingShareUngrouped: st.Shipped.PaddingShare, Shapes: st.Planned.Shapes}
	rows := map[string]int{data.Train: len(s.set.Train.Lengths)}
	for name, split := range map[string]*data.Split{data.Valid: s.set.Valid, data.Test: s.set.Test} {
		if split != nil {
			rows[name] = len(split.Lengths)
		}
	}
	return &probe.DataState{Path: s.dataPath, Format: s.set.Format, Rows: rows, Malformed: s.set.Malformed, Lengths: &lengths}
}

// installState puts an environment, or why there is none, into a snapshot's terms.
func installState(env install.Env, err error) probe.Install {
	var notReady *install.NotReadyError
	switch {
	case errors.As(err, &notReady):
		return probe.Install{State: string(notReady.State), Problem: notReady.Reason, Fix: notReady.Fix}
	case err != nil:
		return probe.Install{State: "broken", Problem: err.Error(), Fix: "mlxdyno setup"}
	}
	return probe.Install{State: "ready", Python: env.Python, PythonVersion: env.PythonVersion, Backend: env.Backend,
		Versions: env.Versions, BLAS: env.BLAS, Managed: env.Managed}
}

// batching is how rows become batches as configured, on the device that MLX is
// installed for.
func (s *subject) batching() data.Batching {
	var valid []int32
	if s.set.Valid != nil {
		valid = s.set.Valid.Lengths
	}
	return data.BatchingOf(s.settings.Config, s.env.Backend).Bounded(s.set.Train.Lengths, valid)
}

// batches are the shapes of an epoch as configured, and the share of padding
// there would be if rows of like length shared batches.
func (s *subject) batches() ([]trainer.Shape, trainer.Opt[float64]) {
	var shapes []trainer.Shape
	for _, b := range data.PlanBatches(s.set.Train.Lengths, s.batching()) {
		shapes = append(shapes, b.Shape)
	}
	c := s.settings.Config
	c.Data.GroupByLength = true
	grouped := s.set.Train.Stats(data.BatchingOf(c, s.env.Backend)).Planned
	return shapes, trainer.Some(grouped.PaddingShare)
}
