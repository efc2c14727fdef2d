package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/mlxdyno/mlxdyno/mlxbind/install"
	"github.com/mlxdyno/mlxdyno/report"
	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/demo"
	"github.com/mlxdyno/mlxdyno/tuner"
)

// predictSuite is the suite that holds predictions against bursts.
const predictSuite = "predict"

// predictModels differ in what their memory goes into: products, attention scores,
// the vocabulary. On a GPU, which waits for its host with less, they and their rows are
// larger.
func predictModels(env install.Env) []demo.Shape {
	models := []demo.Shape{
		{Arch: "llama", Hidden: 192, Intermediate: 512, Layers: 4, Heads: 6, KVHeads: 3, Vocab: 1024, DType: "float32"},
		{Arch: "llama", Hidden: 128, Intermediate: 384, Layers: 8, Heads: 8, KVHeads: 4, Vocab: 512, DType: "float32", Tied: true},
		{Arch: "llama", Hidden: 256, Intermediate: 704, Layers: 3, Heads: 4, KVHeads: 4, Vocab: 8192, DType: "float32"},
	}
	if env.Backend == install.CPU {
		return models
	}
	for i, m := range models {
		models[i].Hidden, models[i].Intermediate, models[i].Vocab = gpuWidth*m.Hidden, gpuWidth*m.Intermediate, gpuVocab*m.Vocab
	}
	return models
}

// By how much what is predicted on a GPU is larger.
const (
	gpuWidth = 8
	gpuVocab = 4
	gpuRows  = 4
)

// heldOutShapes are predicted of every cell.
const heldOutShapes = 14

// benchPredict calibrates as tune does, predicts what was not measured, and
// measures it. What was done is kept: cut off, the next call goes on.
func (a *app) benchPredict(ctx context.Context, env install.Env, o benchOptions) error {
	doc := report.PredictDocument{Schema: report.PredictSchema, Versions: env.Versions, Device: env.Device}
	var all []tuner.HeldOut
	var repeats []tuner.Repeat
	for _, shape := range predictModels(env) {
		for _, engine := range o.engines {
			for _, bits := range o.bits {
				held, again, err := a.holdOut(ctx, env, o, shape, engine, bits)
				if errors.Is(ctx.Err(), context.DeadlineExceeded) {
					doc.Left = fmt.Sprintf("%s were over; the same command goes on", o.deadline)
					break
				}
				if err != nil {
					return err
				}
				all, repeats = append(all, held...), append(repeats, again...)
				for _, gc := range []bool{false, true} {
					cell := report.PredictCell{Model: fmt.Sprintf("%d×%d, %d heads, %d words", shape.Hidden, shape.Layers, shape.Heads, shape.Vocab), Engine: engine, Bits: bits, Checkpointing: gc}
					for _, h := range held {
						if h.Condition.Checkpointing == gc {
							cell.HeldOut = append(cell.HeldOut, h)
						}
					}
					for _, r := range again {
						if r.Condition.Checkpointing == gc {
							cell.Again = append(cell.Again, r)
						}
					}
					if len(cell.HeldOut) == 0 {
						continue
					}
					cell.Accuracy = tuner.AccuracyOf(cell.HeldOut, cell.Again)
					doc.Cells = append(doc.Cells, cell)
				}
			}
		}
	}
	doc.All = tuner.AccuracyOf(all, repeats)
	return a.print(doc, func() error { return report.Predictions(a.stdout, doc, a.style()) })
}

// holdOut runs one model with one engine at one width of weights.
func (a *app) holdOut(ctx context.Context, env install.Env, o benchOptions, shape demo.Shape, engine string, bits int) ([]tuner.HeldOut, []tuner.Repeat, error) {
	dir := filepath.Join(env.Home, "bench")
	model, err := demo.MakeModel(ctx, demo.Options{Dir: filepath.Join(dir, "models"), Python: env.Python, Environ: env.Environ(),
		Progress: func(stage, detail string) { a.progress("%s %s", stage, detail) }}, shape)
	if err != nil {
		return nil, nil, err
	}
	median := 72.0
	switch {
	case env.Backend != install.CPU:
		median *= gpuRows
	case engine == trainer.EngineMLXLM && bits > 0:
		median = 24 // MLX's quantized product takes a second for some hundred positions on a CPU
	}
	text, err := rowsOfLengths(dir, median)
	if err != nil {
		return nil, nil, err
	}
	settings := trainer.NewSettings()
	settings.Config.Model.Path, settings.Config.Data.Path = model, text
	for _, set := range append([]string{"engine=" + engine, "quantize=" + strconv.Itoa(bits), "num-layers=-1", "iters=40"}, o.sets...) {
		name, value, _ := strings.Cut(set, "=")
		if err := settings.Set(name, value, trainer.FromFlag); err != nil {
			return nil, nil, usagef("%s: %v", set, err)
		}
	}
	s, err := a.open(ctx, settings)
	if err != nil {
		return nil, nil, err
	}
	study, _, err := s.study(ctx, tuner.Wishes{Ranks: []int{8, 16, 32}, Budget: 10 * time.Minute})
	if err != nil {
		return nil, nil, err
	}
	kept := filepath.Join(dir, "predict")
	if err := os.MkdirAll(kept, 0o755); err != nil {
		return nil, nil, fmt.Errorf("make the journal's directory: %w", err)
	}
	study.Journal = filepath.Join(kept, fmt.Sprintf("%s-%s-%d.jsonl", filepath.Base(model), engine, bits))
	study.Progress = func(st tuner.Stage) {
		replayed := ""
		if st.Replayed {
			replayed = ", known from before"
		}
		a.progress("%s, %s, %d bits: %s %s%s", filepath.Base(model), engine, bits, st.Name, st.Text, replayed)
	}
	return study.HoldOut(ctx, heldOutShapes)
}

// rowsOfLengths writes rows whose lengths spread as those of real text do, around
// a median of so many tokens, which are about as many bytes here.
func rowsOfLengths(dir string, median float64) (string, error) {
	rng := rand.New(rand.NewPCG(7, 7))
	var b strings.Builder
	for i := range 240 {
		n := int(min(median*math.Exp(0.7*rng.NormFloat64()), 4*median))
		var row strings.Builder
		for row.Len() < n {
			fmt.Fprintf(&row, "%c%d ", 'a'+rng.IntN(26), rng.IntN(100))
		}
		fmt.Fprintf(&b, "{\"text\":\"%d %s\"}\n", i, row.String())
	}
	path := filepath.Join(dir, fmt.Sprintf("lengths-%.0f", median), "train.jsonl")
	return filepath.Dir(path), writeIfChanged(path, b.String())
}
