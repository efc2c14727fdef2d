package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"strings"
	"time"

	"github.com/mlxdyno/mlxdyno/probe/budget"
	"github.com/mlxdyno/mlxdyno/report"
	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/tuner/compare"
)

// compare holds two configurations against each other, each named by a file or by
// knobs.
func (a *app) compare(ctx context.Context, base trainer.Settings, wishes *wishFlags, args []string) error {
	w, err := wishes.wishes()
	if err != nil {
		return err
	}
	var sides [2]compare.Side
	for i, arg := range args {
		settings, err := sideSettings(base, arg)
		if err != nil {
			return err
		}
		if sides[i], err = a.side(ctx, sideName(arg), settings, w.MaxMemory); err != nil {
			return err
		}
	}
	r, err := a.hold(ctx, sides[0], sides[1], w.Budget)
	if err != nil {
		return err
	}
	if err := a.print(r, func() error { return report.Compare(a.stdout, *r, a.style()) }); err != nil {
		return err
	}
	switch r.Verdict {
	case compare.OnlyA, compare.OnlyB, compare.Neither:
		return reported{statusSubject}
	}
	return nil
}

// hold compares two sides, with progress.
func (a *app) hold(ctx context.Context, one, other compare.Side, budget time.Duration) (*compare.Report, error) {
	return compare.Question{A: one, B: other, Budget: budget, Progress: func(st compare.Stage) {
		a.progress("%4.0f s  process %d: %s", st.Spent.Seconds(), st.Process, st.Text)
	}}.Run(ctx)
}

func sideName(arg string) string {
	if isFile(arg) {
		return filepath.Base(arg)
	}
	return arg
}

// isFile tells a configuration file from a list of knobs.
func isFile(arg string) bool {
	ext := filepath.Ext(arg)
	return ext == ".yaml" || ext == ".yml" || !strings.Contains(arg, "=")
}

// sideSettings are the settings of one side: those of the command line with the
// knobs of a list, or those of a file with what flags say.
func sideSettings(base trainer.Settings, arg string) (trainer.Settings, error) {
	s := base
	s.Origins = maps.Clone(base.Origins)
	if !isFile(arg) {
		for set := range strings.SplitSeq(arg, ",") {
			name, value, ok := strings.Cut(strings.TrimSpace(set), "=")
			if !ok {
				return s, usagef("%s: want KNOB=VALUE with commas between, such as batch-size=4,rank=8; a value that has commas goes into a file", arg)
			}
			if err := s.Set(name, value, trainer.FromFlag); err != nil {
				return s, usagef("%s: %v", arg, err)
			}
		}
		return s, nil
	}
	file, err := trainer.ReadFile(arg)
	if errors.Is(err, fs.ErrNotExist) {
		return s, usagef("%s does not exist: name a configuration file, or knobs such as batch-size=4,rank=8", arg)
	}
	if err != nil {
		return s, &userError{Code: "config.file", Message: err.Error(), Hint: "correct " + arg + ", or write a new one with mlxdyno tune", Status: statusOurs}
	}
	s = file.Settings
	for _, knob := range trainer.Knobs {
		if base.Origin(knob.Name) != trainer.FromFlag {
			continue
		}
		if err := s.Set(knob.Name, knob.Get(&base.Config), trainer.FromFlag); err != nil {
			return s, usagef("%s: %v", arg, err)
		}
	}
	return s, absolute(&s)
}

// side makes a configuration ready to be run. One that by the estimate has no room
// here is not.
func (a *app) side(ctx context.Context, name string, settings trainer.Settings, most int64) (compare.Side, error) {
	s, err := a.open(ctx, settings)
	if err != nil {
		return compare.Side{}, err
	}
	bursts, err := s.bench()
	if err != nil {
		return compare.Side{}, err
	}
	out := compare.Side{Name: name, Config: s.settings.Config, Bursts: bursts, Tokens: s.set.Tokens(),
		Lengths: s.set.Train.Lengths, Prompts: s.set.Train.Prompts, Device: s.env.Backend}
	if s.set.Valid != nil {
		out.ValidLengths = s.set.Valid.Lengths
	}
	room := budget.Room(s.snapshot(ctx), out.Config).Bytes.Or(0)
	if most > 0 && (room == 0 || most < room) {
		room = most
	}
	if need := s.least(); room > 0 && need > room {
		out.Problem = fmt.Sprintf("by the estimate it needs %s, and %s may be used", trainer.FormatBytes(need), trainer.FormatBytes(room))
	}
	return out, nil
}

// estimateError is how far an estimate from files alone can be off.
const estimateError = 0.15

// least is what the widest batch needs at least, by the estimate.
func (s *subject) least() int64 {
	shapes, _ := s.batches()
	var widest trainer.Shape
	for _, shape := range shapes {
		if shape.Positions() > widest.Positions() {
			widest = shape
		}
	}
	need := budget.StepsOf(*s.facts, s.settings.Config, s.env.Backend).Peak(widest)
	return int64(float64(need) / (1 + estimateError))
}

// absolute makes paths independent of the directory: a run may be resumed from
// another one, and workers have their own.
func absolute(s *trainer.Settings) error {
	paths := []*string{&s.Config.Model.Path, &s.Config.Data.Path}
	if s.Origin("adapter-path") != trainer.FromDefault {
		paths = append(paths, &s.Config.Output.AdapterPath)
	}
	for _, p := range paths {
		if *p == "" || p == paths[0] && !pathLike(*p) {
			continue
		}
		abs, err := filepath.Abs(*p)
		if err != nil {
			return fmt.Errorf("find %s: %w", *p, err)
		}
		*p = abs
	}
	return nil
}

// against holds what a search found against the configuration in a file, in the
// time that the search left.
func (a *app) against(ctx context.Context, chosen trainer.Settings, path string, budget time.Duration, most int64) (*compare.Report, error) {
	theirs, err := sideSettings(chosen, path)
	if err != nil {
		return nil, err
	}
	one, err := a.side(ctx, "chosen", chosen, most)
	if err != nil {
		return nil, err
	}
	other, err := a.side(ctx, sideName(path), theirs, most)
	if err != nil {
		return nil, err
	}
	return a.hold(ctx, one, other, budget)
}

// onBaseline lets a search begin where the user is: what the baseline is about, its
// model, text and what is learned, is what is searched for, unless flags say
// otherwise. Of the plan, which is what a search is to find, it takes nothing.
func onBaseline(flags trainer.Settings, path string) (trainer.Settings, error) {
	theirs, err := sideSettings(flags, path)
	if err != nil {
		return flags, err
	}
	out := flags
	out.Origins = maps.Clone(flags.Origins)
	for _, name := range []string{"model", "data", "mask-prompt", "iters", "learning-rate", "lora-modules", "num-layers", "optimizer", "seed"} {
		k, ok := trainer.FindKnob(name)
		if !ok || flags.Origin(name) == trainer.FromFlag || theirs.Origin(name) == trainer.FromDefault {
			continue
		}
		if err := out.Set(name, k.Get(&theirs.Config), trainer.FromFile); err != nil {
			return flags, usagef("--baseline %s: %v", path, err)
		}
	}
	return out, nil
}
