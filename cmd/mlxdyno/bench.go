package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mlxdyno/mlxdyno/mlxbind/install"
	"github.com/mlxdyno/mlxdyno/report"
	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/bench"
	"github.com/mlxdyno/mlxdyno/trainer/data"
	"github.com/mlxdyno/mlxdyno/trainer/demo"
	"github.com/spf13/cobra"
)

// benchOptions are what a comparison of engines is made of.
type benchOptions struct {
	suite    string
	real     bool
	one      benchCase
	bits     []int
	engines  []string
	variants []string
	sets     []string
	bench.Options
	steps    int
	caps     []int
	deadline time.Duration
}

// benchCommand compares engines on random weights of a given shape, which is
// what docs/benchmarks.md reports.
func (a *app) benchCommand() *cobra.Command {
	o := benchOptions{}
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Compare the speed and peak memory of engines",
		Long: strings.TrimSpace(`
Makes a model with random weights and trains it with each engine in turns, every
time in a process of its own, on batches of one exact shape. Reports tokens per
second, peak memory and the last loss, with the ratio to the last engine and its
interval. A suite is a list of cases: ` + strings.Join(slices.Sorted(maps.Keys(benchSuites)), ", ") + `.
The suite predict holds what tune predicts against bursts of shapes and ranks that
took no part in the fit; cut off by --deadline, the same command goes on. The suite
cap tunes under caps that the default configuration exceeds, and trains --steps.`),
		Example: "  mlxdyno bench\n  mlxdyno bench --bits 4 --batch-size 1 --length 512 --rank 64\n" +
			"  mlxdyno bench --suite 8b --deadline 8m --variant step-by=whole",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE:   func(cmd *cobra.Command, _ []string) error { return a.bench(cmd.Context(), o) },
	}
	f, c := cmd.Flags(), &o.one
	f.SortFlags = false
	f.StringVar(&o.suite, "suite", "", "cases to run instead of the one described by flags")
	f.BoolVar(&o.real, "real", false, "the demo's model on its text: tokens that are no padding, and the validation loss that --steps lead to")
	f.StringVar(&c.shape.Arch, "arch", "llama", "architecture")
	f.IntVar(&c.shape.Hidden, "hidden", 512, "width of the model")
	f.IntVar(&c.shape.Intermediate, "intermediate", 1408, "width of the MLP")
	f.IntVar(&c.shape.Layers, "layers", 8, "blocks")
	f.IntVar(&c.shape.Heads, "heads", 8, "query heads")
	f.IntVar(&c.shape.KVHeads, "kv-heads", 4, "key and value heads")
	f.IntVar(&c.shape.Vocab, "vocab", 8192, "vocabulary")
	f.StringVar(&c.shape.DType, "dtype", "float32", "float32, bfloat16 or float16")
	f.IntSliceVar(&o.bits, "bits", []int{0, 4}, "bits of the base, a case each; 0 is not quantized")
	f.IntVar(&c.batch, "batch-size", 2, "rows of a batch")
	f.IntVar(&c.length, "length", 64, "predicted tokens of a row")
	f.IntVar(&c.rank, "rank", 8, "rank of the adapters")
	f.IntVar(&o.steps, "steps", 10, "measured steps of a process")
	f.IntVar(&o.Warmup, "warmup", 3, "steps before, which do not count")
	f.IntVar(&o.Rounds, "rounds", 5, "rounds, forth and back")
	f.StringSliceVar(&o.engines, "engines", []string{trainer.EngineNative, trainer.EngineMLXLM}, "those to compare; ratios are to the last")
	f.StringArrayVar(&o.variants, "variant", nil, "our own engine once more, with other knobs: `KNOB=VALUE[,KNOB=VALUE]`; may be repeated")
	f.StringArrayVar(&o.sets, "set", nil, "set a knob for all, as `KNOB=VALUE`; may be repeated")
	f.IntSliceVar(&o.caps, "caps", []int{90, 75}, "of the suite cap: per cent of what the default configuration needs")
	f.DurationVar(&o.deadline, "deadline", 0, "end after this long with the cases that are done; 0 is never")
	cmd.AddCommand(a.benchReplayTableCommand())
	return cmd
}

func (a *app) bench(ctx context.Context, o benchOptions) error {
	cases, ok := benchSuites[o.suite]
	switch {
	case o.suite == "":
		for _, bits := range o.bits {
			c := o.one
			c.shape.Bits = bits
			cases = append(cases, c)
		}
	case !ok && o.suite != predictSuite && o.suite != capSuite:
		return usagef("--suite %s: it is none of %s, %s, %s", o.suite, predictSuite, capSuite, strings.Join(slices.Sorted(maps.Keys(benchSuites)), ", "))
	}
	home, err := install.Home()
	if err != nil {
		return err
	}
	env, err := install.Find(home)
	if err != nil {
		return err
	}
	doc := report.BenchDocument{Schema: report.BenchSchema, Versions: env.Versions, Device: env.Device}
	if o.deadline > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.deadline)
		defer cancel()
	}
	switch o.suite {
	case predictSuite:
		return a.benchPredict(ctx, env, o)
	case capSuite:
		return a.benchCap(ctx, env, o)
	}
	if o.real {
		cases = nil
		row, err := a.benchReal(ctx, env, o)
		if err != nil {
			return err
		}
		doc.Rows = append(doc.Rows, row)
	}
	for _, c := range cases {
		row := report.BenchRow{Case: c.String()}
		row.Sides, err = a.benchCase(ctx, env, o, c)
		switch {
		case errors.Is(ctx.Err(), context.DeadlineExceeded):
			row.Left = fmt.Sprintf("%s were over", o.deadline)
		case err != nil && (len(cases) == 1 || ctx.Err() != nil):
			return err
		case err != nil:
			row.Left = err.Error()
		}
		doc.Rows = append(doc.Rows, row)
	}
	return a.print(doc, func() error { return report.Bench(a.stdout, doc, a.style()) })
}

func (a *app) benchCase(ctx context.Context, env install.Env, o benchOptions, c benchCase) ([]bench.Side, error) {
	dir := filepath.Join(env.Home, "bench")
	model, err := demo.MakeModel(ctx, demo.Options{Dir: filepath.Join(dir, "models"), Python: env.Python, Environ: env.Environ(),
		Progress: func(stage, detail string) { a.progress("%s %s", stage, detail) }}, c.shape)
	if err != nil {
		return nil, err
	}
	text, err := benchText(dir)
	if err != nil {
		return nil, err
	}
	set, err := data.Prepare(ctx, data.Options{Python: env.Python, Environ: env.Environ(), Versions: env.Versions, CacheDir: filepath.Join(dir, "tokens")},
		data.Spec{Path: text, Model: model})
	if err != nil {
		return nil, err
	}
	job := trainer.Job{Tokens: set.Tokens(), Mode: trainer.Normal, Shapes: []trainer.Shape{{Batch: c.batch, Width: c.length + 1, Steps: o.Warmup + o.steps}}}
	contestant := func(name, engine string, sets []string) (bench.Contestant, error) {
		settings := trainer.NewSettings()
		s := &settings.Config
		s.Model.Path, s.Data.Path, s.Engine = model, text, engine
		s.Plan.Batch, s.Quality.Rank, s.Data.MaxSeqLength = c.batch, c.rank, c.length+1
		s.Quality.Layers = -1
		for _, set := range sets {
			name, value, _ := strings.Cut(set, "=")
			if err := settings.Set(name, value, trainer.FromFlag); err != nil {
				return bench.Contestant{}, usagef("%s: %v", set, err)
			}
		}
		e, err := engineFor(engine, env)
		j := job
		j.Config = *s
		return bench.Contestant{Name: name, Engine: e, Job: j}, err
	}
	var all []bench.Contestant
	add := func(name, engine string, more ...string) error {
		one, err := contestant(name, engine, slices.Concat(o.sets, more))
		all = append(all, one)
		return err
	}
	for _, v := range o.variants {
		if err := add(trainer.EngineNative+" "+v, trainer.EngineNative, strings.Split(v, ",")...); err != nil {
			return nil, err
		}
	}
	for _, name := range o.engines {
		if err := add(name, name); err != nil {
			return nil, err
		}
	}
	o.Progress = func(round, of int, name string) { a.progress("%s: round %d of %d, %s", c, round, of, name) }
	return bench.Compare(ctx, all, o.Options)
}

// benchText writes rows to fill batches with; what they say does not matter.
func benchText(dir string) (string, error) {
	var b strings.Builder
	for i := range 64 {
		fmt.Fprintf(&b, "{\"text\":\"row %d %s\"}\n", i, strings.Repeat("some words of a row ", 1+i%7))
	}
	path := filepath.Join(dir, "text", "train.jsonl")
	return filepath.Dir(path), writeIfChanged(path, b.String())
}

// writeIfChanged leaves a file that is right alone, so that what was made of it
// stays valid.
func writeIfChanged(path, text string) error {
	if old, err := os.ReadFile(path); err == nil && string(old) == text {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o644)
}
