package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/probe/budget"
	"github.com/mlxdyno/mlxdyno/report"
	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/native"
	"github.com/mlxdyno/mlxdyno/tuner"
	"github.com/spf13/cobra"
)

// wishNames are the flags that addWishFlags adds.
var wishNames = []string{"min-bits", "ranks", "prefer", "budget", "max-memory", "effective-batch", "try", "output", "fresh"}

// wishFlags are what a person asks of the search, beside knobs.
type wishFlags struct {
	minBits        int
	ranks          []int
	prefer         string
	budget         time.Duration
	maxMemory      string
	effectiveBatch int
	try            []string
	output         string
	fresh          bool
	baseline       string // a configuration file to hold the result against
}

// baselineShare is the part of a budget, a third, that is kept for a baseline.
const baselineShare = 3

// shortestSearch is enough to start the four processes that a search needs.
const shortestSearch = 5 * time.Second

func addWishFlags(cmd *cobra.Command) *wishFlags {
	w := &wishFlags{}
	f := cmd.Flags()
	f.IntVar(&w.minBits, "min-bits", 0, "fewest bits a weight may have: 16 forbids quantizing, 4 allows it for speed too; by default only a base that does not fit is quantized")
	f.IntSliceVar(&w.ranks, "ranks", nil, "the only ranks to consider (default: one that fits the data)")
	f.StringVar(&w.prefer, "prefer", string(tuner.Speed), "order of what fits: speed, memory or quality")
	f.DurationVar(&w.budget, "budget", tuner.DefaultBudget, "time for the whole search")
	f.StringVar(&w.maxMemory, "max-memory", "", "use no more memory than this, such as 12GB")
	f.IntVar(&w.effectiveBatch, "effective-batch", 0, "rows behind one optimizer update (default: as configured)")
	f.StringSliceVar(&w.try, "try", nil, "other ways to compute steps to try at the best configuration, a process each: step-by, keep, matmul, low-rank, loss-positions, compile, grad-checkpoint-nth, or all")
	f.StringVarP(&w.output, "output", "o", "mlxdyno.yaml", "where the configuration goes")
	f.BoolVar(&w.fresh, "fresh", false, "measure everything anew, reuse no finished burst")
	_ = cmd.RegisterFlagCompletionFunc("prefer", cobra.FixedCompletions([]string{string(tuner.Speed), string(tuner.Memory), string(tuner.Quality)}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("try", cobra.FixedCompletions([]string{tuner.TryAll, "step-by", "keep", "matmul", "low-rank", "loss-positions", "compile", "grad-checkpoint-nth"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.MarkFlagFilename("output", "yaml", "yml")
	return w
}

func (w *wishFlags) wishes() (tuner.Wishes, error) {
	out := tuner.Wishes{MinBits: w.minBits, Ranks: w.ranks, Prefer: tuner.Preference(w.prefer), Budget: w.budget, EffectiveBatch: w.effectiveBatch, Try: w.try}
	switch out.Prefer {
	case tuner.Speed, tuner.Memory, tuner.Quality:
	default:
		return out, usagef("--prefer: %q is not one of speed, memory, quality", w.prefer)
	}
	if w.budget < shortestSearch {
		return out, usagef("--budget: %s is too short for a search; give %s or more", w.budget, shortestSearch)
	}
	if info, err := os.Stat(w.output); err == nil && info.IsDir() {
		return out, usagef("--output: %s is a directory; name a file", w.output)
	}
	if _, err := os.Stat(filepath.Dir(w.output)); err != nil {
		return out, usagef("--output: the directory %s cannot be written to: %v", filepath.Dir(w.output), errors.Unwrap(err))
	}
	if w.maxMemory != "" {
		n, err := trainer.ParseBytes(w.maxMemory)
		if err != nil {
			return out, usagef("--max-memory: %v", err)
		}
		if n == 0 {
			return out, usagef("--max-memory: give more than 0")
		}
		out.MaxMemory = n
	}
	return out, nil
}

func (a *app) tuneCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "tune",
		Short: "Find the best stable configuration in a handful of bursts",
		Long: strings.TrimSpace(`
Measures a few short bursts of training, fits a model of time and memory to them,
enumerates quantization, rank, batch, checkpointing and length cap, confirms the
best, and runs it longer to see that it is stable. The result is mlxdyno.yaml,
which mlx_lm.lora -c takes too, with the reason behind every value.

A knob that is set by a flag or a file stays as it is. Finished bursts are kept:
a search that was cut off, or is run again, does not repeat them.

With --compare, two configurations take turns, and it says which is faster by how
much and how sure that is. Each is a file, or knobs with commas between.

With --what-fits nothing is run: it says at once which lengths and batches fit, here
or on another machine.`),
		Example: "  mlxdyno tune --model ./Llama-3.2-1B --data ./my-data\n  mlxdyno tune --model ./Llama-3.2-1B --data ./my-data --max-memory 12GB --prefer quality\n" +
			"  mlxdyno tune --baseline my-lora.yaml --model ./Llama-3.2-1B --data ./my-data\n" +
			"  mlxdyno tune --compare mlxdyno.yaml engine=mlx-lm,batch-size=4 --model ./Llama-3.2-1B --data ./my-data\n" +
			"  mlxdyno tune --what-fits --model ./Llama-3.2-1B --machine 64GB",
	}
	knobs, wishes, fits := addKnobFlags(cmd), addWishFlags(cmd), addFitsFlags(cmd)
	show, versus, baseline := false, false, ""
	cmd.Flags().BoolVar(&versus, "compare", false, "hold two configurations against each other, A and B: files, or knobs as in batch-size=4,rank=8")
	cmd.Flags().StringVar(&baseline, "baseline", "", "hold the result against the configuration in this `FILE`, the one that you use now")
	_ = cmd.MarkFlagFilename("baseline", "yaml", "yml")
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		switch {
		case versus && len(args) != 2:
			return usagef("--compare: name two configurations, A and B, not %d", len(args))
		case !versus && len(args) > 0:
			return usagef("%s: nothing is expected here; two configurations go with --compare", args[0])
		}
		var asked []string
		for _, name := range []string{"compare", "baseline", "what-fits", "show"} {
			if cmd.Flags().Changed(name) {
				asked = append(asked, "--"+name)
			}
		}
		if len(asked) > 1 {
			return usagef("%s: each is a command of its own; leave one out", strings.Join(asked, " and "))
		}
		return nil
	}
	cmd.Flags().BoolVar(&show, "show", false, "print again the last search over this model and data that found something, and run nothing")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		settings, _, err := a.settings(cmd, knobs)
		if err != nil {
			return err
		}
		switch {
		case fits.whatFits:
			return a.whatFits(cmd.Context(), settings, wishes, fits)
		case fits.machine != "":
			return usagef("--machine: a search runs on this machine; it goes with --what-fits")
		case versus:
			if err := refuse(cmd, []string{"min-bits", "ranks", "prefer", "effective-batch", "try", "output", "fresh"}, "a search, without --compare"); err != nil {
				return err
			}
			return a.compare(cmd.Context(), settings, wishes, args)
		}
		if baseline != "" {
			if settings, err = onBaseline(settings, baseline); err != nil {
				return err
			}
			wishes.baseline = baseline
		}
		s, err := a.open(cmd.Context(), settings)
		if err != nil {
			return err
		}
		if show {
			return a.showStudy(cmd.Context(), s)
		}
		r, err := a.tune(cmd.Context(), s, wishes)
		if err != nil {
			return err
		}
		if err := a.print(r, func() error { return a.printTune(r, wishes.output) }); err != nil {
			return err
		}
		if r.Verdict == tuner.Impossible || len(r.Failed()) > 0 {
			return reported{statusSubject}
		}
		return nil
	}
	return cmd
}

func (a *app) printTune(r *tuner.Report, output string) error {
	if r.Verdict == tuner.Impossible {
		return report.Tune(a.stdout, *r, a.style(), report.Onward{})
	}
	on := report.Onward{File: output, Commands: []string{trainer.CommandLine("mlxdyno", "train", "-c", output)}}
	mlxLM := trainer.CommandLine(pythonWithMLXLM(), "-m", "mlx_lm", "lora", "-c", output)
	if r.Config.Model.Quantize != 0 {
		on.Note = "mlx_lm reads the file, too, but does not quantize at load: with it the figures above do not hold"
	} else {
		on.Commands = append(on.Commands, mlxLM)
		on.Note = "the second one is mlx-lm by itself, unsupervised: it takes the knobs that it knows from the file"
	}
	return report.Tune(a.stdout, *r, a.style(), on)
}

// tune searches, writes the configuration, and keeps the report for train.
func (a *app) tune(ctx context.Context, s *subject, w *wishFlags) (*tuner.Report, error) {
	wishes, err := w.wishes()
	if err != nil {
		return nil, err
	}
	total := wishes.Budget
	if w.baseline != "" {
		wishes.Budget -= total / baselineShare
	}
	study, dir, err := s.study(ctx, wishes)
	if err != nil {
		return nil, err
	}
	if w.fresh {
		if err := os.Remove(study.Journal); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("forget finished bursts: %w", err)
		}
	}
	study.Progress = func(st tuner.Stage) {
		replayed := ""
		if st.Replayed {
			replayed = ", known from before"
		}
		a.progress("%4.0f s  burst %d of about %d, %s: %s%s", st.Spent.Seconds(), st.Burst, st.Bursts, st.Name, st.Text, replayed)
	}
	var changed []string
	if !w.fresh {
		changed = a.passedOver(s.home, study)
	}
	r, err := study.Run(ctx)
	if err != nil {
		return nil, err
	}
	r.Changed = changed
	if r.Verdict == tuner.Impossible {
		return r, nil
	}
	var failed error
	if w.baseline != "" {
		chosen := s.settings
		chosen.Config = r.Config
		left := max(total-time.Duration(r.Seconds*float64(time.Second)), total/baselineShare)
		r.Baseline, failed = a.against(ctx, chosen, w.baseline, min(left, total/2), wishes.MaxMemory)
	}
	if err := errors.Join(failed, a.writeConfig(w.output, r)); err != nil { // what was found is kept either way
		return nil, err
	}
	if r.File, err = filepath.Abs(w.output); err != nil {
		return nil, fmt.Errorf("find %s: %w", w.output, err)
	}
	return r, keepStudy(dir, s.settings, wishes, r)
}

// writeConfig writes mlxdyno.yaml. A file that a person wrote or changed is
// moved aside, not lost.
func (a *app) writeConfig(path string, r *tuner.Report) error {
	if _, err := os.Stat(path); err == nil {
		if old, err := trainer.ReadFile(path); err != nil || old.Expected == nil {
			aside := fmt.Sprintf("%s.bak-%s", path, time.Now().Format("20060102-150405"))
			if err := os.Rename(path, aside); err != nil {
				return fmt.Errorf("move your %s aside: %w", path, err)
			}
			a.progress("%s was yours: it is now %s", path, aside)
		}
	}
	return tuner.WriteConfig(path, r)
}

// study describes the search over this subject on this machine, and where its
// journal and results are kept: one directory for a model, data and machine.
func (s *subject) study(ctx context.Context, wishes tuner.Wishes) (*tuner.Study, string, error) {
	bursts, err := s.bench()
	if err != nil {
		return nil, "", err
	}
	snapshot := s.snapshot(ctx)
	room := budget.Room(snapshot, s.settings.Config)
	keys := s.keys(snapshot)
	dir := s.studies(keys)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, "", fmt.Errorf("make the journal's directory: %w", err)
	}
	var valid []int32
	if s.set.Valid != nil {
		valid = s.set.Valid.Lengths
	}
	var otherwise func(trainer.Config) []trainer.Turn
	if s.settings.Config.Engine == trainer.EngineNative {
		otherwise = func(c trainer.Config) []trainer.Turn {
			about := s.about()
			about.Quantized = c.Model.Quantize > 0 || s.facts.Quant != nil
			return native.Otherwise(c, about)
		}
	}
	return &tuner.Study{
		Bursts: bursts, Base: s.settings, Facts: *s.facts,
		Lengths: s.set.Train.Lengths, Prompts: s.set.Train.Prompts, Tokens: s.set.Tokens(),
		ValidLengths: valid, ValidRows: len(valid), Device: s.env.Backend, Otherwise: otherwise,
		Limit: tuner.Limit{Bytes: room.Bytes.Or(0), Source: room.From}, Wishes: wishes, Keys: keys,
		Seed: s.settings.Config.Seed, Journal: filepath.Join(dir, "journal.jsonl"), Strain: strainNow,
	}, dir, nil
}

// strainNow reads how hard memory is to get.
func strainNow() tuner.Strain {
	s := probe.StrainNow()
	out := tuner.Strain{Unknown: cmp.Or(s.SwapOutBytes.Reason(), s.Level.Reason())}
	if n, ok := s.SwapOutBytes.Get(); ok {
		out.SwapOutBytes = trainer.Some(n)
	}
	if level, ok := s.Level.Get(); ok {
		out.Pressure = trainer.Some(map[probe.PressureLevel]int{probe.PressureNormal: 0, probe.PressureWarn: 1, probe.PressureCritical: 2}[level])
	}
	return out
}

// question is what a study answers; an answer holds for the same question only.
type question struct {
	Config  trainer.Config
	Origins map[string]trainer.Origin
	Wishes  tuner.Wishes
}

func answerPath(dir string, settings trainer.Settings, wishes tuner.Wishes) string {
	wishes.Budget = 0                         // how long the search took does not matter to its answer
	settings.Config.Output = trainer.Output{} // nor where results go
	settings.Origins = maps.Clone(settings.Origins)
	delete(settings.Origins, "adapter-path")
	return filepath.Join(dir, hashOf(question{settings.Config, settings.Origins, wishes})+".json")
}

func keepStudy(dir string, settings trainer.Settings, wishes tuner.Wishes, r *tuner.Report) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the study: %w", err)
	}
	if err := renameio.WriteFile(answerPath(dir, settings, wishes), b, 0o644); err != nil {
		return fmt.Errorf("keep the study: %w", err)
	}
	return nil
}

// knownStudy returns the confirmed answer to the same question, if there is
// one that still fits into the memory there is now.
func (s *subject) knownStudy(ctx context.Context, wishes tuner.Wishes) (*tuner.Report, error) {
	study, dir, err := s.study(ctx, wishes)
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(answerPath(dir, s.settings, wishes))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the kept study: %w", err)
	}
	var r tuner.Report
	if json.Unmarshal(b, &r) != nil || r.Schema != tuner.Schema || r.Verdict != tuner.Confirmed {
		return nil, nil // another version wrote it, or it was not good enough: search again
	}
	if need := r.Config.Plan.MemoryLimit; !need.IsSet || need.Bytes > study.Limit.Bytes {
		return nil, nil // peak, cache and margin no longer fit
	}
	return &r, nil
}

// hashOf names a value by 16 hex digits of its JSON's hash.
func hashOf(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("mlxdyno: %T does not marshal: %v", v, err)) // plain data only
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}
