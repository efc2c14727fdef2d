package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/mlxdyno/mlxdyno/mlxbind/install"
	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/probe/budget"
	"github.com/mlxdyno/mlxdyno/report"
	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/tuner/fits"
	"github.com/spf13/cobra"
)

// fitsFlags ask what fits instead of searching.
type fitsFlags struct {
	whatFits bool
	machine  string
}

func addFitsFlags(cmd *cobra.Command) *fitsFlags {
	w := &fitsFlags{}
	f := cmd.Flags()
	f.BoolVar(&w.whatFits, "what-fits", false, "say which lengths and batches fit, their peak and time, and run nothing; --data is not needed")
	f.StringVar(&w.machine, "machine", "", "with --what-fits: another machine, such as \"M4 Max 64GB\" or 64GB, by published figures")
	_ = cmd.RegisterFlagCompletionFunc("machine", cobra.FixedCompletions(fits.KnownMachines(), cobra.ShellCompDirectiveNoFileComp))
	return w
}

// whatFits answers from what is known already; it starts no worker.
func (a *app) whatFits(ctx context.Context, settings trainer.Settings, w *wishFlags, f *fitsFlags) error {
	wishes, err := w.wishes()
	if err != nil {
		return err
	}
	s, err := a.openForFits(ctx, settings)
	if err != nil {
		return err
	}
	q := fits.Question{Facts: *s.facts, Config: s.settings.Config, Ranks: wishes.Ranks}
	if len(q.Ranks) == 0 && s.settings.Origin("rank") != trainer.FromDefault {
		q.Ranks = []int{q.Config.Quality.Rank}
	}
	if s.settings.Origin("quantize") == trainer.FromFlag || s.settings.Origin("quantize") == trainer.FromFile {
		q.Bits = []int{q.Config.Model.Quantize}
	}
	if s.set != nil {
		q.Rows = &fits.Rows{Lengths: s.set.Train.Lengths, Prompts: s.set.Train.Prompts}
		if s.set.Valid != nil {
			q.Rows.Valid = s.set.Valid.Lengths
		}
	}
	if f.machine != "" {
		err = elsewhere(&q, f.machine)
	} else {
		s.here(ctx, &q)
	}
	if err != nil {
		return err
	}
	switch most := wishes.MaxMemory; {
	case most > 0 && (q.Limit.Bytes <= 0 || most < q.Limit.Bytes):
		q.Limit = fits.Limit{Bytes: most, Source: "--max-memory"}
	case most > 0:
		q.Limit.Source += ", less than --max-memory"
	}
	r, err := fits.Answer(q)
	if err != nil {
		return err
	}
	var next []string
	if f.machine == "" {
		data := cmp.Or(s.settings.Config.Data.Path, "DATA")
		next = []string{trainer.CommandLine("mlxdyno", "tune", "--model", s.settings.Config.Model.Path, "--data", data)}
	}
	return a.print(r, func() error { return report.Fits(a.stdout, *r, a.style(), next...) })
}

// openForFits reads the model, and the text when there is one. Neither MLX nor
// the whole environment is needed but to tokenize the text.
func (a *app) openForFits(ctx context.Context, settings trainer.Settings) (*subject, error) {
	checked := settings.Config
	checked.Data.Path = cmp.Or(checked.Data.Path, ".")
	if err := checked.Validate(); err != nil {
		return nil, err
	}
	s := &subject{settings: settings, dataPath: settings.Config.Data.Path}
	var err error
	if s.home, err = install.Home(); err != nil {
		return nil, err
	}
	env, envErr := install.Find(s.home)
	s.env = env
	if err := s.openModel(); err != nil {
		return nil, err
	}
	if s.dataPath == "" {
		return s, nil
	}
	if envErr != nil {
		return nil, envErr
	}
	s.set, err = a.tokenize(ctx, s, false)
	return s, err
}

// elsewhere asks about another machine.
func elsewhere(q *fits.Question, name string) error {
	m, err := fits.FindMachine(name)
	var unknown *fits.MachineError
	if errors.As(err, &unknown) {
		return &userError{Code: "usage", Message: "--machine: " + unknown.Text, Hint: unknown.Hint, Status: statusOurs}
	}
	if err != nil {
		return err
	}
	q.Machine, q.Device, q.Rate = m.Name, m.Device, m.Rate()
	q.Limit = fits.Limit{Bytes: m.UsableBytes, Source: m.UsableSource}
	q.Published = m.Source
	return nil
}

// here asks about this machine: what it has room for now, and what earlier
// searches measured of this model on it.
func (s *subject) here(ctx context.Context, q *fits.Question) {
	snapshot := s.snapshot(ctx)
	room := budget.Room(snapshot, s.settings.Config)
	q.Machine = "this machine"
	q.Device = cmp.Or(s.env.Backend, "cpu")
	if chip, ok := snapshot.Host.Chip.Get(); ok {
		q.Machine += " (" + chip + ")"
		if m, ok := fits.Chip(chip); ok {
			q.Rate = m.Rate()
		}
	}
	q.Limit = fits.Limit{Bytes: room.Bytes.Or(0), Source: fmt.Sprintf("%s (%s)", room.Name, room.From)}
	if kept := s.calibration(snapshot); kept != nil {
		q.Samples = kept.Samples()
		q.Sampled = fmt.Sprintf("fitted to %d measured shapes of this model on this machine (tune of %s); bounds hold with 99 %% confidence",
			len(q.Samples), kept.when.Format(time.DateOnly))
	}
}

// calibration is the newest kept study of this model on this machine that was
// computed in the same way, whatever its text.
func (s *subject) calibration(snapshot probe.Snapshot) *keptStudy {
	program := programKey()
	return newest(s.home, func(k *keptStudy) bool {
		r := k.report
		return r.Keys.Model == s.facts.Key && r.Keys.Program == program && r.Keys.Machine == s.machineKey(snapshot) && maps.Equal(r.Keys.Versions, s.env.Versions) &&
			fits.Alike(r.Config) == fits.Alike(s.settings.Config) && len(k.Samples()) > 0
	})
}

// Samples are the shapes that its calibration measured.
func (k *keptStudy) Samples() []fits.Sample {
	var out []fits.Sample
	for _, c := range k.report.Checks {
		if c.What != "calibration" || c.Shape == nil {
			continue
		}
		s := fits.Sample{Shape: *c.Shape, PeakBytes: float64(c.MeasuredPeakBytes.Or(0))}
		s.Condition = c.Candidate.Condition()
		if v := c.MeasuredTokensPerSecond.Or(0); v > 0 {
			s.Seconds = float64(c.Shape.Positions()) / v
		}
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}
