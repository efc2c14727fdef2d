package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mlxdyno/mlxdyno/mlxbind/install"
	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/probe/check"
	"github.com/mlxdyno/mlxdyno/probe/diagnose"
	"github.com/mlxdyno/mlxdyno/probe/model"
	"github.com/mlxdyno/mlxdyno/report"
	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/data"
	"github.com/spf13/cobra"
)

func (a *app) doctorCommand() *cobra.Command {
	var (
		quick, thenTune, thenTrain bool
		proveAll, proveNone        bool
		burst                      time.Duration
		failOn, from, saveTo, pack string
		wishes                     *wishFlags
		training                   *trainingFlags
	)
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Say what is wrong on this machine, with this model and this data",
		Long: strings.TrimSpace(`
Reads the machine, the MLX installation, the model's files and the data, runs a
short instrumented burst of training, and reports what is wrong, why, on what
evidence, and what to do. Where a burst can take the cause of a finding away, it
does, and says what became of the symptom. Without --model and --data it looks at the machine only.

A training that is not ours is diagnosed from its log (--log), while it runs
(--pid), or by running it for a while (-- COMMAND).

--tune goes on to search for the best stable configuration, --train goes on to
train with it as well.`),
		Example: "  mlxdyno doctor --model ./Llama-3.2-1B --data ./my-data\n  mlxdyno doctor --quick\n  mlxdyno doctor --quick --snapshot-out machine.json\n  mlxdyno doctor --quick --bundle mlxdyno.zip\n  mlxdyno doctor --log train.log\n  mlxdyno doctor --steps 50 -- python train.py",
		Args: func(cmd *cobra.Command, args []string) error {
			if dash := cmd.ArgsLenAtDash(); dash != 0 && len(args) > 0 {
				return usagef("unknown argument %q; a training that is not ours comes after --, as in: mlxdyno doctor -- %s", args[0], strings.Join(args, " "))
			}
			return nil
		},
	}
	knobs := addKnobFlags(cmd)
	f := cmd.Flags()
	f.BoolVar(&quick, "quick", false, "read only, run no burst")
	f.BoolVar(&thenTune, "tune", false, "go on with tune")
	f.BoolVar(&thenTrain, "train", false, "go on with tune and training, as train --auto does")
	f.DurationVar(&burst, "burst", 20*time.Second, "time for the steps of the bursts; a third one may take as long again")
	f.BoolVar(&proveAll, "prove", false, "put every finding to the proof whose cause a burst can take away; otherwise the serious ones, where that is cheap")
	f.BoolVar(&proveNone, "no-prove", false, "put no finding to the proof")
	f.StringVar(&failOn, "fail-on", "fail", "what makes the exit status 1: warn, fail or never")
	f.StringVar(&from, "snapshot", "", "diagnose from a saved snapshot `FILE` instead of this machine; runs nothing")
	f.StringVar(&saveTo, "snapshot-out", "", "also save the machine's snapshot to `FILE`, without names of users, hosts and homes")
	f.StringVar(&pack, "bundle", "", "also pack report, snapshot and logs into `FILE` (.zip or .tar.gz) for a report of a defect, without names, secrets and training text")
	wishes, training = addWishFlags(cmd), addTrainingFlags(cmd)
	foreign := addPatientFlags(cmd)
	_ = cmd.RegisterFlagCompletionFunc("fail-on", cobra.FixedCompletions([]string{"warn", "fail", "never"}, cobra.ShellCompDirectiveNoFileComp))
	cmd.MarkFlagsMutuallyExclusive("quick", "tune")
	cmd.MarkFlagsMutuallyExclusive("quick", "train")
	cmd.MarkFlagsMutuallyExclusive("prove", "no-prove")
	cmd.MarkFlagsMutuallyExclusive("prove", "quick")
	cmd.MarkFlagsMutuallyExclusive("prove", "snapshot")
	for _, other := range []string{"tune", "train"} {
		cmd.MarkFlagsMutuallyExclusive("snapshot", other)
		cmd.MarkFlagsMutuallyExclusive("log", other)
		cmd.MarkFlagsMutuallyExclusive("pid", other)
		cmd.MarkFlagsMutuallyExclusive("snapshot-out", other)
		cmd.MarkFlagsMutuallyExclusive("bundle", other)
	}
	cmd.MarkFlagsMutuallyExclusive("snapshot", "snapshot-out")
	_ = cmd.MarkFlagFilename("bundle", "zip", "tar.gz", "tgz")
	for _, name := range []string{"snapshot", "snapshot-out"} {
		_ = cmd.MarkFlagFilename(name, "json")
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx := cmd.Context()
		if !slices.Contains([]string{"warn", "fail", "never"}, failOn) {
			return usagef("--fail-on: %q is not one of warn, fail, never", failOn)
		}
		if pack != "" {
			if _, err := bundleForm(pack); err != nil {
				return err
			}
		}
		prove := diagnose.ProveCheap
		switch {
		case proveAll:
			prove = diagnose.ProveAll
		case proveNone:
			prove = diagnose.ProveNone
		}
		settings, _, err := a.settings(cmd, knobs)
		if err != nil {
			return err
		}
		if foreign.argv = args; cmd.ArgsLenAtDash() == 0 && len(args) == 0 {
			return usagef("-- is followed by no command")
		}
		if err := foreign.check(cmd); err != nil {
			return err
		}
		if foreign.named() && (thenTune || thenTrain) {
			return usagef("--tune and --train do not go with a training that is not ours")
		}
		if !thenTrain {
			if err := refuse(cmd, trainingNames, "--train"); err != nil {
				return err
			}
		}
		if thenTune || thenTrain {
			return a.chain(ctx, settings, chain{burst: burst, prove: prove, diagnose: true, failOn: failOn, train: thenTrain, wishes: wishes, training: training})
		}
		if err := refuse(cmd, wishNames, "--tune or --train"); err != nil {
			return err
		}
		var snapshot *probe.Snapshot
		if from != "" {
			if snapshot, err = loadSnapshot(from); err != nil {
				return err
			}
			quick = true
		}
		bursts := &recorder{}
		look := func() (*diagnose.Report, error) {
			return a.diagnose(ctx, settings, snapshot, quick, burst, prove, bursts)
		}
		if foreign.named() {
			look = func() (*diagnose.Report, error) { return a.patient(ctx, settings, snapshot, foreign) }
		}
		r, err := look()
		if err != nil {
			return err
		}
		if saveTo != "" {
			if err := a.saveSnapshot(saveTo, r.Snapshot); err != nil {
				return err
			}
		}
		if pack != "" {
			if err := a.bundle(pack, r, bursts.logs); err != nil {
				return err
			}
		}
		if err := a.print(r, func() error { return report.Doctor(a.stdout, *r, a.style()) }); err != nil {
			return err
		}
		if fails(r, failOn) {
			return reported{statusSubject}
		}
		return nil
	}
	cmd.AddCommand(a.explainCommand())
	return cmd
}

// fails reports whether a diagnosis is bad enough for exit status 1.
func fails(r *diagnose.Report, failOn string) bool {
	warned := slices.ContainsFunc(r.Findings, func(f probe.Finding) bool { return f.Severity == probe.Warn })
	return failOn != "never" && (!r.Healthy || failOn == "warn" && warned)
}

// diagnose reads what is there, whatever is missing, and reports on it. With a
// snapshot it reads nothing else. What bursts print is left in the recorder.
func (a *app) diagnose(ctx context.Context, settings trainer.Settings, snapshot *probe.Snapshot, quick bool, budget time.Duration, prove diagnose.Prove, bursts *recorder) (*diagnose.Report, error) {
	q := diagnose.Request{Settings: settings, BurstBudget: budget, Prove: prove, Progress: func(text string) { a.progress("%s", text) }, Vitals: probe.ReadVitals}
	if snapshot != nil {
		q.Snapshot = *snapshot
	} else {
		s, state, err := a.openForDiagnosis(ctx, settings, quick)
		if err != nil {
			return nil, err
		}
		q.Settings = s.settings
		q.Snapshot = state
		if s.set != nil {
			q.Tokens = s.set.Tokens()
			q.Batches, q.PaddingGrouped = s.batches()
		}
		if !quick && s.set != nil && s.facts != nil {
			if bursts.Bursts, err = s.bench(); err != nil {
				return nil, err
			}
			q.Bursts = bursts
		}
	}
	r, err := diagnose.Run(ctx, q)
	if err != nil {
		return nil, err
	}
	return &r, nil
}

// openForDiagnosis opens as much of a subject as can be; what cannot is a state
// in the snapshot.
func (a *app) openForDiagnosis(ctx context.Context, settings trainer.Settings, quick bool) (*subject, probe.Snapshot, error) {
	s := &subject{settings: settings, dataPath: settings.Config.Data.Path}
	var err error
	if s.home, err = install.Home(); err != nil {
		return nil, probe.Snapshot{}, err
	}
	env, envErr := install.Find(s.home)
	s.env = env
	if err := s.honoured(ctx); err != nil {
		return nil, probe.Snapshot{}, err
	}
	q := probe.Request{Home: s.home, Install: installState(env, envErr), LastRun: lastRun(s.home), TopProcesses: 8, Slow: !quick}

	var modelErr error
	if settings.Config.Model.Path != "" {
		modelErr = s.openModel()
		q.ModelPath = s.settings.Config.Model.Path
	}
	if s.dataPath != "" {
		if q.Data, err = a.dataForDiagnosis(ctx, s, envErr == nil, quick); err != nil {
			return nil, probe.Snapshot{}, err
		}
	}
	state := probe.Collect(ctx, q)
	var typed *model.Error
	if errors.As(modelErr, &typed) && (state.Model == nil || state.Model.Problem == "") {
		state.Model = &probe.ModelState{Path: q.ModelPath, Problem: modelErr.Error()}
	}
	if s.tokenizerProblem != "" {
		state.Model = &probe.ModelState{Path: q.ModelPath, Problem: s.tokenizerProblem}
	}
	return s, state, nil
}

// dataForDiagnosis tokenizes the text if that can be done; quickly, it takes only
// what was tokenized before. What is wrong with the text is in the state; a
// missing tokenizer is the model's problem and has a check of its own; anything
// else is an error.
func (a *app) dataForDiagnosis(ctx context.Context, s *subject, ready, quick bool) (*probe.DataState, error) {
	state := &probe.DataState{Path: s.dataPath}
	src, err := data.Inspect(s.dataPath)
	if err == nil {
		state.Format, state.Rows, state.Malformed = src.Format, src.Rows, src.Malformed
		if !ready || s.facts == nil || !s.facts.HasTokenizer {
			return state, nil
		}
		if s.set, err = a.tokenize(ctx, s, quick); err == nil {
			return s.dataState(), nil
		}
		if errors.Is(err, data.ErrNotCached) {
			return state, nil
		}
	}
	var wrong *data.Error
	switch {
	case !errors.As(err, &wrong):
		return nil, err
	case s.facts != nil && strings.HasPrefix(filepath.Clean(wrong.Path), filepath.Clean(s.facts.Path)):
		s.tokenizerProblem = err.Error()
	default:
		state.Problem = err.Error()
	}
	return state, nil
}

func (a *app) explainCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "explain CODE",
		Short:   "Tell the whole story of one finding",
		Example: "  mlxdyno doctor explain mlx.blas",
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			e, ok := check.Explain(args[0])
			if !ok {
				return &userError{Code: "usage", Message: fmt.Sprintf("no check has the code %q", args[0]),
					Hint: "the codes are: " + strings.Join(check.Codes(), ", "), Status: statusOurs}
			}
			return a.print(report.ExplainDocument{Schema: report.ExplainSchema, Explanation: e}, func() error { return writeExplanation(a.stdout, e) })
		},
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return check.Codes(), cobra.ShellCompDirectiveNoFileComp
		},
	}
}

func writeExplanation(w io.Writer, e check.Explanation) error {
	required := ""
	if e.Required {
		required = ", required"
	}
	_, err := fmt.Fprintf(w, "%s: %s%s\n\n%s\n\nHow it is checked: %s\n\nWhat to do: %s\n", e.Code, e.Title, required, e.Means, e.How, e.Do)
	if err == nil && e.Provable {
		_, err = fmt.Fprint(w, "\nA burst can take its cause away: doctor does so where that is cheap, and with --prove in any case.\n")
	}
	if err == nil && len(e.DependsOn) > 0 {
		_, err = fmt.Fprintf(w, "\nNot judged when one of these explains it: %s\n", strings.Join(e.DependsOn, ", "))
	}
	return err
}
