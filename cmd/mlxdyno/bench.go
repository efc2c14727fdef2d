package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

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
	shape   demo.Shape
	bits    []int
	batch   int
	length  int
	rank    int
	steps   int
	rounds  int
	warmup  int
	engines []string
	sets    []string
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
second, peak memory and the last loss, with the ratio and its interval.`),
		Example: "  mlxdyno bench\n  mlxdyno bench --bits 4 --batch-size 1 --length 512 --rank 64",
		Hidden:  true,
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.bench(cmd.Context(), o) },
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&o.shape.Arch, "arch", "llama", "architecture")
	f.IntVar(&o.shape.Hidden, "hidden", 512, "width of the model")
	f.IntVar(&o.shape.Intermediate, "intermediate", 1408, "width of the MLP")
	f.IntVar(&o.shape.Layers, "layers", 8, "blocks")
	f.IntVar(&o.shape.Heads, "heads", 8, "query heads")
	f.IntVar(&o.shape.KVHeads, "kv-heads", 4, "key and value heads")
	f.IntVar(&o.shape.Vocab, "vocab", 8192, "vocabulary")
	f.StringVar(&o.shape.DType, "dtype", "float32", "float32, bfloat16 or float16")
	f.IntSliceVar(&o.bits, "bits", []int{0, 4}, "bits of the base, a case each; 0 is not quantized")
	f.IntVar(&o.batch, "batch-size", 2, "rows of a batch")
	f.IntVar(&o.length, "length", 64, "predicted tokens of a row")
	f.IntVar(&o.rank, "rank", 8, "rank of the adapters")
	f.IntVar(&o.steps, "steps", 10, "measured steps of a process")
	f.IntVar(&o.warmup, "warmup", 3, "steps before, which do not count")
	f.IntVar(&o.rounds, "rounds", 5, "rounds of A B B A")
	f.StringSliceVar(&o.engines, "engines", []string{trainer.EngineNative, trainer.EngineMLXLM}, "the two to compare")
	f.StringArrayVar(&o.sets, "set", nil, "set a knob for both, as `KNOB=VALUE`; may be repeated")
	return cmd
}

func (a *app) bench(ctx context.Context, o benchOptions) error {
	if len(o.engines) != 2 {
		return usagef("--engines: name two, as in native,mlx-lm")
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
	for _, bits := range o.bits {
		row, err := a.benchCase(ctx, env, o, bits)
		if err != nil {
			return err
		}
		doc.Rows = append(doc.Rows, row)
	}
	return a.print(doc, func() error { return report.Bench(a.stdout, doc, a.style()) })
}

func (a *app) benchCase(ctx context.Context, env install.Env, o benchOptions, bits int) (report.BenchRow, error) {
	row := report.BenchRow{Case: fmt.Sprintf("%s %s %d×%d, %d × %d, rank %d", o.shape.Arch, o.shape.DType, o.shape.Hidden, o.shape.Layers, o.batch, o.length, o.rank)}
	if bits > 0 {
		row.Case += fmt.Sprintf(", %d bits", bits)
	}
	shape := o.shape
	shape.Bits = bits
	dir := filepath.Join(env.Home, "bench")
	model, err := demo.MakeModel(ctx, demo.Options{Dir: filepath.Join(dir, "models"), Python: env.Python, Environ: env.Environ(),
		Progress: func(stage, detail string) { a.progress("%s %s", stage, detail) }}, shape)
	if err != nil {
		return row, err
	}
	text, err := benchText(dir)
	if err != nil {
		return row, err
	}
	set, err := data.Prepare(ctx, data.Options{Python: env.Python, Environ: env.Environ(), Versions: env.Versions, CacheDir: filepath.Join(dir, "tokens")},
		data.Spec{Path: text, Model: model})
	if err != nil {
		return row, err
	}
	settings := trainer.NewSettings()
	c := &settings.Config
	c.Model.Path, c.Data.Path = model, text
	c.Plan.Batch, c.Quality.Rank, c.Data.MaxSeqLength = o.batch, o.rank, o.length+1
	for _, set := range o.sets { // for both
		name, value, _ := strings.Cut(set, "=")
		if err := settings.Set(name, value, trainer.FromFlag); err != nil {
			return row, usagef("--set %v", err)
		}
	}
	job := trainer.Job{Tokens: set.Tokens(), Mode: trainer.Normal, Shapes: []trainer.Shape{{Batch: o.batch, Width: o.length + 1, Steps: o.warmup + o.steps}}}
	var sides []bench.Contestant
	for _, name := range o.engines {
		e, err := engineFor(name, env)
		if err != nil {
			return row, err
		}
		job.Config = *c
		job.Config.Engine = name
		sides = append(sides, bench.Contestant{Name: name, Engine: e, Job: job})
	}
	row.Comparison, err = bench.Compare(ctx, sides[0], sides[1], bench.Options{Rounds: o.rounds, Warmup: o.warmup,
		Progress: func(round, of int, name string) { a.progress("%s: round %d of %d, %s", row.Case, round, of, name) }})
	return row, err
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
