package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/probe/budget"
	"github.com/mlxdyno/mlxdyno/probe/diagnose"
	"github.com/mlxdyno/mlxdyno/report"
	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/run"
	"github.com/mlxdyno/mlxdyno/tuner"
	"github.com/spf13/cobra"
)

// trainingNames are the flags that addTrainingFlags adds.
var trainingNames = []string{"run-dir", "fuse", "profile"}

// trainingFlags say how a training is run.
type trainingFlags struct {
	runDir  string
	profile int    // steps of which a profile is recorded
	fuse    string // where the model goes into which the finished adapter is merged
}

func addTrainingFlags(cmd *cobra.Command) *trainingFlags {
	t := &trainingFlags{}
	cmd.Flags().StringVar(&t.runDir, "run-dir", "", "where the run is kept (default: below mlxdyno's home)")
	cmd.Flags().StringVar(&t.fuse, "fuse", "", "merge the finished adapter into a copy of the model, in this `DIR`")
	cmd.Flags().IntVar(&t.profile, "profile", 0, "record where time and memory go in the first `N` steps, for mlxdyno report")
	_ = cmd.MarkFlagDirname("run-dir")
	_ = cmd.RegisterFlagCompletionFunc("profile", cobra.FixedCompletions([]string{"4", "8", "16"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.MarkFlagDirname("fuse")
	return t
}

func (a *app) trainCommand() *cobra.Command {
	var (
		auto    bool
		explain bool
		resume  string
	)
	cmd := &cobra.Command{
		Use:   "train",
		Short: "Train under supervision, with --auto diagnosed and tuned first",
		Long: strings.TrimSpace(`
Trains an adapter in worker processes that are watched: a worker that crashes, runs
out of memory or stalls is started again from the last checkpoint, and the report at
the end holds what came against what was promised. Ctrl-C saves the state; train
--resume goes on exactly where it stopped.

--auto runs doctor --quick and tune first (a search that is still valid is not
repeated) and trains with the result. The finished adapter is in mlx-lm's layout.

--profile N records where the time and the memory of the first N steps go, in a worker
process of their own; they are part of the training, and slower. mlxdyno report shows
the profile, and with --pprof draws it.`),
		Example: "  mlxdyno train --auto --model ./Llama-3.2-1B --data ./my-data\n  mlxdyno train -c mlxdyno.yaml\n  mlxdyno train --resume last",
		Args:    cobra.NoArgs,
	}
	knobs, wishes, training := addKnobFlags(cmd), addWishFlags(cmd), addTrainingFlags(cmd)
	f := cmd.Flags()
	f.BoolVar(&auto, "auto", false, "diagnose and tune first, then train with the result")
	f.StringVar(&resume, "resume", "", "go on with a `RUN`: a directory, a name from mlxdyno runs, or last")
	f.BoolVar(&explain, "explain-plan", false, "say what is done otherwise than mlx-lm does it, and what that is expected to give; trains nothing")
	cmd.MarkFlagsMutuallyExclusive("auto", "resume", "explain-plan")
	_ = cmd.RegisterFlagCompletionFunc("resume", completeRuns)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx := cmd.Context()
		if err := training.check(); err != nil {
			return err
		}
		settings, expected, err := a.settings(cmd, knobs)
		if err != nil {
			return err
		}
		if resume == "" { // a resumed run has its own engine
			if err := refuseProfile(ctx, settings.Config, training); err != nil {
				return err
			}
		}
		if !auto {
			if err := refuse(cmd, wishNames, "--auto"); err != nil {
				return err
			}
		}
		switch {
		case resume != "":
			r, err := a.resume(ctx, resume, settings, training)
			if err != nil {
				return err
			}
			return a.finishTraining(ctx, r, training)
		case explain:
			return a.explainPlan(ctx, settings)
		case auto:
			return a.chain(ctx, settings, chain{train: true, wishes: wishes, training: training})
		}
		s, err := a.open(ctx, settings)
		if err != nil {
			return err
		}
		r, err := a.train(ctx, s, expected, training)
		if err != nil {
			return err
		}
		return a.finishTraining(ctx, r, training)
	}
	return cmd
}

// check refuses, before anything is trained, what could not be written after it.
func (t *trainingFlags) check() error {
	if t.profile < 0 {
		return usagef("--profile: %d steps; use 1 or more", t.profile)
	}
	if t.fuse == "" {
		return nil
	}
	if there, err := os.ReadDir(t.fuse); len(there) > 0 || err != nil && !errors.Is(err, fs.ErrNotExist) {
		return usagef("--fuse %s: it is there already and not empty; name a directory that is not", t.fuse)
	}
	return nil
}

// finishTraining prints a training's report, merges its adapter if that was asked
// for, and turns its state into a status.
func (a *app) finishTraining(ctx context.Context, r *run.Report, t *trainingFlags) error {
	if err := a.fuseTrained(ctx, r, t); err != nil {
		a.show(func() error { return a.printTraining(*r) })
		return err // with --json the one document: the report stays with the run
	}
	if err := a.print(r, func() error { return a.printTraining(*r) }); err != nil {
		return err
	}
	return statusOf(r)
}

// fuseTrained merges the adapter of a training that finished.
func (a *app) fuseTrained(ctx context.Context, r *run.Report, t *trainingFlags) error {
	if t.fuse == "" || r.State != run.StateFinished {
		return nil
	}
	fused, err := a.fuse(ctx, &fuseJob{Model: r.Config.Model.Path, Adapter: r.AdapterPath, To: t.fuse})
	if err != nil {
		return err
	}
	a.progress("the merged model is in %s", fused.Path)
	return nil
}

func (a *app) printTraining(r run.Report) error {
	return report.Train(a.stdout, r, a.style(), pythonWithMLXLM())
}

func statusOf(r *run.Report) error {
	switch r.State {
	case run.StateFinished:
		return nil
	case run.StateInterrupted:
		return reported{statusInterrupted}
	}
	return reported{statusSubject}
}

// chain is the whole line: a diagnosis, a search, and perhaps a training.
type chain struct {
	burst    time.Duration
	prove    diagnose.Prove
	diagnose bool // with bursts; else only what can be read
	failOn   string
	train    bool
	wishes   *wishFlags
	training *trainingFlags
}

// chain runs the line and prints each part as it is done, or with --json one
// document in the end.
func (a *app) chain(ctx context.Context, settings trainer.Settings, c chain) error {
	doc := report.Chain{Schema: report.ChainSchema}
	if err := c.training.check(); err != nil {
		return err
	}
	if err := refuseProfile(ctx, settings.Config, c.training); err != nil {
		return err
	}
	wishes, err := c.wishes.wishes()
	if err != nil {
		return err
	}
	s, err := a.open(ctx, settings)
	if err != nil {
		return err
	}
	if doc.Doctor, err = a.diagnose(ctx, settings, nil, !c.diagnose, c.burst, c.prove, &recorder{}); err != nil {
		return err
	}
	if c.diagnose || !doc.Doctor.Healthy {
		a.show(func() error { return report.Doctor(a.stdout, *doc.Doctor, a.style()) })
	} else {
		a.progress("doctor --quick: %s", quickVerdict(doc.Doctor))
	}
	if !doc.Doctor.Healthy || fails(doc.Doctor, c.failOn) { // nothing goes on with what cannot work
		return a.endChain(doc, reported{statusSubject})
	}
	if !c.wishes.fresh {
		if doc.Tune, err = s.knownStudy(ctx, wishes); err != nil {
			return err
		}
	}
	if doc.Tune != nil {
		a.progress("tune: the search for this model, data and machine is still valid; --fresh repeats it")
		if err := a.writeConfig(c.wishes.output, doc.Tune); err != nil {
			return err
		}
	} else {
		if doc.Tune, err = a.tune(ctx, s, c.wishes); err != nil {
			return err
		}
		a.show(func() error { return a.printTune(doc.Tune, c.wishes.output) })
	}
	if doc.Tune.Verdict == tuner.Impossible {
		return a.endChain(doc, reported{statusSubject})
	}
	if !c.train {
		return a.endChain(doc, nil)
	}
	output := s.settings.Config.Output
	s.settings.Config, s.settings.Config.Output = doc.Tune.Config, output
	for _, choice := range doc.Tune.Choices {
		if choice.Origin == trainer.FromTuned {
			s.settings.Origins[choice.Knob] = trainer.FromTuned
		}
	}
	if doc.Train, err = a.train(ctx, s, &doc.Tune.Expected, c.training); err != nil {
		return err
	}
	a.show(func() error { return a.printTraining(*doc.Train) })
	if err := a.fuseTrained(ctx, doc.Train, c.training); err != nil {
		return err
	}
	return a.endChain(doc, statusOf(doc.Train))
}

func (a *app) endChain(doc report.Chain, status error) error {
	if a.json {
		if err := report.JSON(a.stdout, doc); err != nil {
			return err
		}
	}
	return status
}

func quickVerdict(r *diagnose.Report) string {
	if len(r.Findings) == 0 {
		return fmt.Sprintf("%d checks passed", r.Passed)
	}
	titles := make([]string, 0, len(r.Findings))
	for _, f := range r.Findings {
		titles = append(titles, f.Title)
	}
	return fmt.Sprintf("%d checks passed; %s", r.Passed, strings.Join(titles, "; "))
}

// train runs a new training.
func (a *app) train(ctx context.Context, s *subject, expected *trainer.Expected, t *trainingFlags) (*run.Report, error) {
	weights, err := s.facts.Fingerprint()
	if err != nil {
		return nil, err
	}
	engine, err := s.engine()
	if err != nil {
		return nil, err
	}
	dir := t.runDir
	if dir == "" {
		if dir, err = run.NewDir(s.home, s.settings.Config.Key(), time.Now()); err != nil {
			return nil, err
		}
	}
	r, err := a.supervise(ctx, run.Plan{
		Engine: engine, Config: s.settings, Tokens: s.set.Tokens(), Dir: dir, Expected: expected,
		Identity:   run.Identity{Model: weights, Data: s.set.Key, Versions: s.env.Versions},
		GuardBytes: s.guard(ctx), ProfileSteps: t.profile,
	})
	if err != nil {
		if t.runDir == "" {
			_ = os.Remove(dir) // only if nothing was written into it
		}
		return nil, err
	}
	return r, nil
}

// guard is the memory above which a worker is reloaded: what the machine has
// for it now. MLX's own limit is a guideline and does not count.
func (s *subject) guard(ctx context.Context) int64 {
	machine := s.settings.Config
	machine.Plan.MemoryLimit = trainer.Limit{}
	return budget.Room(s.snapshot(ctx), machine).Bytes.Or(0)
}

// resume goes on with a run, by its own configuration.
func (a *app) resume(ctx context.Context, name string, flags trainer.Settings, t *trainingFlags) (*run.Report, error) {
	if t.runDir != "" {
		return nil, usagef("--run-dir and --resume exclude each other: the run has its directory")
	}
	dir, err := findRun(name)
	if err != nil {
		return nil, err
	}
	old, err := run.Open(dir)
	if err != nil {
		return nil, err
	}
	settings := old.Spec.Settings()
	for knob, origin := range flags.Origins {
		k, _ := trainer.FindKnob(knob)
		if err := settings.Set(knob, k.Get(&flags.Config), origin); err != nil {
			return nil, err
		}
	}
	if err := refuseProfile(ctx, settings.Config, t); err != nil {
		return nil, err
	}
	s, err := a.open(ctx, settings)
	if err != nil {
		return nil, err
	}
	weights, err := s.facts.Fingerprint()
	if err != nil {
		return nil, err
	}
	engine, err := s.engine()
	if err != nil {
		return nil, err
	}
	return a.supervise(ctx, run.Plan{
		Engine: engine, Config: s.settings, Tokens: s.set.Tokens(), Dir: dir, Resume: true,
		Identity:   run.Identity{Model: weights, Data: s.set.Key, Versions: s.env.Versions},
		GuardBytes: s.guard(ctx), ProfileSteps: t.profile,
	})
}

func (a *app) supervise(ctx context.Context, p run.Plan) (*run.Report, error) {
	a.progress("run %s", p.Dir)
	w := &watcher{app: a, meter: run.NewMeter(p.Config.Config.Schedule)}
	if !a.quiet {
		w.status = report.NewStatus(a.stderr, a.styleFor(a.stderr), isTerminal(a.stderr), time.Now)
	}
	p.Sample = func() run.MemoryPressure {
		level, known := probe.ReadPressure(ctx).Level.Get()
		return run.MemoryPressure{Critical: known && level == probe.PressureCritical, Text: "macOS says so"}
	}
	p.Segment = func(c trainer.Config) { w.meter.Follow(c.Schedule) }
	r, err := run.Train(ctx, p, w)
	w.end()
	if err != nil {
		return nil, err
	}
	return &r, nil
}

// watcher shows a training while it runs.
type watcher struct {
	app    *app
	meter  *run.Meter
	status *report.Status
}

func (w *watcher) Event(e trainer.Event) {
	w.meter.Add(e)
	if w.status == nil {
		return
	}
	if eval, ok := e.Payload.(trainer.Eval); ok {
		w.status.Say(fmt.Sprintf("step %d  validation loss %.4f", e.Step, float64(eval.Loss)))
	}
	if _, ok := e.Payload.(trainer.Step); ok {
		w.status.Show(w.meter.Progress())
	}
}

func (w *watcher) Note(n run.Note) {
	if w.status != nil {
		w.status.Say(n.Text)
	}
}

func (w *watcher) end() {
	if w.status != nil {
		w.status.Done()
	}
}
