package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mlxdyno/mlxdyno/mlxbind/install"
	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/probe/model"
	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/data"
	"github.com/mlxdyno/mlxdyno/trainer/demo"
	"github.com/mlxdyno/mlxdyno/trainer/native"
	"github.com/mlxdyno/mlxdyno/trainer/worker"
	"github.com/mlxdyno/mlxdyno/tuner/replay"
	"github.com/spf13/cobra"
)

// replaySpace is a space that a table holds.
type replaySpace struct {
	shape demo.Shape
	alone bool // docstrings without their prompts, which are many times as long
	rows  int  // tokens of the longest row that is taken
	replay.Head
}

// replaySpaces are the tables of docs/benchmarks.md. The first is small enough that
// 168 configurations are run five times in a quarter of an hour on two cores; the
// second is for a GPU, where steps are short and compiling them is not.
var replaySpaces = map[string]replaySpace{
	"small": {demo.Shape{Arch: "llama", Hidden: 128, Intermediate: 320, Layers: 4, Heads: 4, KVHeads: 2, Vocab: 512, DType: "float32", Tied: true}, true, 96,
		replay.Head{Bits: []int{0, 8, 4}, Ranks: []int{8, 12, 16, 24, 32, 48, 64}, Effective: 8, Rounds: 5}},
	"1b": {llama1B, false, 512,
		replay.Head{Bits: []int{0, 8, 4}, Ranks: []int{16}, Effective: 16, Rounds: 4, Timed: 8, Set: map[string]string{"max-shapes": "3"}}},
}

func (a *app) benchReplayTableCommand() *cobra.Command {
	var out, space string
	var limit time.Duration
	cmd := &cobra.Command{
		Use:   "replay-table",
		Short: "Run every configuration of a space and keep what it took",
		Long: strings.TrimSpace(`
Runs every configuration of a space, in rounds, and writes to a table what each
step took, for make bench-replay to search in. Runs only what the table lacks:
stop it at any time and start it again.`),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.benchReplayTable(cmd.Context(), space, out, limit)
		},
	}
	cmd.Flags().StringVar(&out, "out", "table.jsonl", "the table, made or completed")
	cmd.Flags().StringVar(&space, "space", "small", "what is run: small, or 1b on a GPU")
	_ = cmd.RegisterFlagCompletionFunc("space", cobra.FixedCompletions(slices.Sorted(maps.Keys(replaySpaces)), cobra.ShellCompDirectiveNoFileComp))
	cmd.Flags().DurationVar(&limit, "for", 0, "start no process after this long; 0 runs all")
	return cmd
}

func (a *app) benchReplayTable(ctx context.Context, name, out string, limit time.Duration) error {
	space, ok := replaySpaces[name]
	if !ok {
		return usagef("--space: %q is not one of %s", name, strings.Join(slices.Sorted(maps.Keys(replaySpaces)), ", "))
	}
	home, err := install.Home()
	if err != nil {
		return err
	}
	env, err := install.Find(home)
	if err != nil {
		return err
	}
	made := demo.Options{Python: env.Python, Environ: env.Environ(), Dir: filepath.Join(home, "bench", "models"), Size: demo.Small,
		Progress: func(stage, detail string) { a.progress("%s %s", stage, detail) }}
	dir, err := demo.MakeModel(ctx, made, space.shape)
	if err != nil {
		return err
	}
	facts, err := model.Read(dir)
	if err != nil {
		return err
	}
	made.Dir = filepath.Join(home, "bench", "text")
	paths, err := demo.Make(ctx, made)
	if err != nil {
		return err
	}
	text := paths.Completions
	if space.alone {
		if text, err = docstringsAlone(text, filepath.Join(made.Dir, "docstrings")); err != nil {
			return err
		}
	}
	set, err := data.Prepare(ctx, data.Options{Python: env.Python, Environ: env.Environ(), Versions: env.Versions, CacheDir: filepath.Join(home, "cache", "tokens")},
		data.Spec{Path: text, Model: dir})
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program, which trains: %w", err)
	}
	// One thread: with one for each core all of them wait whenever anything else runs.
	engine := native.New(native.Options{Argv: []string{self, "worker"}, Environ: append(env.Environ(), "OPENBLAS_NUM_THREADS=1"),
		Shim: env.Shim, BLAS: env.BLASLibrary, Version: Version})
	// Rows are padded to few widths, as they are where steps are compiled: packed
	// ones have a shape of their own in every batch, and no table holds them all.
	host := probe.Collect(ctx, probe.Request{}).Host
	head := space.Head
	head.Machine = fmt.Sprintf("%s/%s, %d cores, %s, one BLAS thread", host.OS, host.Arch, host.Cores.Or(0), host.Chip.Or("unknown chip"))
	head.Versions, head.Device, head.Facts, head.Set = env.Versions, env.Backend, *facts, maps.Clone(space.Set)
	if head.Set == nil {
		head.Set = map[string]string{}
	}
	head.Set["packing"], head.Set["max-seq-length"], head.Set["iters"] = "off", fmt.Sprint(space.rows+1), "200"
	head.Facts.Path, head.Facts.Files = "", nil
	for i, n := range set.Train.Lengths {
		if int(n) <= space.rows {
			head.Lengths, head.Prompts = append(head.Lengths, n), append(head.Prompts, set.Train.Prompts[i])
		}
	}
	r := replay.Recorder{Bursts: worker.Bench{Engine: engine}, Path: out, Head: head,
		Ready: func(j *trainer.Job) {
			j.Config.Model.Path, j.Config.Data.Path, j.Tokens = dir, text, trainer.TokenFiles{Train: set.Train.Path}
		},
		Progress: func(done, of int, p replay.Process) { a.progress("process %d of %d: %+v", done+1, of, p) }}
	if limit > 0 {
		r.Deadline = time.Now().Add(limit)
	}
	complete, err := r.Record(ctx)
	if err == nil && !complete {
		a.progress("%s is not complete: run the same again", out)
	}
	return err
}

// docstringsAlone writes the completions as rows without their prompts, which are
// many times as long, and returns the directory.
func docstringsAlone(completions, dir string) (string, error) {
	in, err := os.ReadFile(filepath.Join(completions, "train.jsonl"))
	if err != nil {
		return "", fmt.Errorf("read the demo's text: %w", err)
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	for d := json.NewDecoder(bytes.NewReader(in)); d.More(); {
		var row struct {
			Completion string `json:"completion"`
		}
		if err := d.Decode(&row); err != nil {
			return "", fmt.Errorf("read the demo's text: %w", err)
		}
		if err := e.Encode(map[string]string{"text": row.Completion}); err != nil {
			return "", err
		}
	}
	return dir, writeIfChanged(filepath.Join(dir, "train.jsonl"), out.String())
}
