package mlxlm_test

import (
	"encoding/json"
	"math"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/conformance"
	"github.com/mlxdyno/mlxdyno/trainer/data"
	"github.com/mlxdyno/mlxdyno/trainer/mlxlm"
)

func TestConformance(t *testing.T) {
	w := theWorld(t)
	conformance.Run(t, mlxlm.New(environment(t)), conformance.World{Model: w.model, Text: w.text, Tokens: w.set.Tokens(), Kills: 1})
}

// The losses and adapters of a training are, bit for bit, those of mlx-lm's own
// train() on the same text, when mlx-lm reads the file that is written of the
// same configuration.
func TestSameAsMLXLM(t *testing.T) {
	for name, tt := range map[string]struct {
		change  func(*trainer.Quality)
		modules int
	}{
		"plain": {func(*trainer.Quality) {}, 21},
		"cosine after a warm-up, some modules, strong decay": {func(q *trainer.Quality) {
			q.LRSchedule, q.Warmup, q.LREnd, q.WeightDecay, q.Modules = trainer.CosineRate, 2, 1e-4, 0.3, "mlp.up_proj,self_attn.q_proj"
		}, 6},
		"a line, no decay": {func(q *trainer.Quality) { q.LRSchedule, q.WeightDecay = trainer.LinearRate, 0 }, 21},
		"a warm-up alone, another optimizer": {func(q *trainer.Quality) {
			q.Warmup, q.Optimizer, q.WeightDecay = 3, "sgd", trainer.DefaultWeightDecay
		}, 21},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := job(t)
			tt.change(&j.Config.Quality)
			sameAsMLXLM(t, j, tt.modules)
		})
	}
}

func sameAsMLXLM(t *testing.T, j trainer.Job, modules int) {
	j.Dir = t.TempDir()
	j.Config.Data.GroupByLength = false // as mlx-lm ships
	if err := j.Config.Validate(); err != nil {
		t.Fatal(err)
	}
	r, s := finish(t, j)

	var want struct {
		Losses     []float64
		Rates      []float64
		Supervised []float64 // running total
		Theirs     string
		Ours       string
	}
	file := filepath.Join(t.TempDir(), "mlxdyno.yaml")
	if err := trainer.WriteFile(file, trainer.File{Settings: trainer.Settings{Config: j.Config}}, nil); err != nil {
		t.Fatal(err)
	}
	ask := map[string]any{"yaml": file, "adapter": r.Done.Adapter}
	if err := json.Unmarshal(runPython(t, ask, "testdata/reference.py"), &want); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want.Losses, losses(s)); d != "" {
		t.Errorf("losses (-mlx-lm +ours):\n%s", d)
	}
	if want.Theirs != want.Ours {
		t.Error("mlx-lm loads other adapters from ours than it trains itself")
	}
	for i, r := range s.Steps {
		rate, known := r.LearningRate.Get()
		// Told is the rate of the update before, of update 0 as long as there is none.
		update := max(0, r.Number/j.Config.Plan.Accumulation-1)
		if computed := j.Config.LearningRate(update); !known || float64(rate) != want.Rates[i] || math.Abs(float64(rate)-computed) > 1e-6*j.Config.Quality.LearningRate {
			t.Errorf("rate %v after step %d, mlx-lm has %g, and %g is meant", r.LearningRate, r.Number, want.Rates[i], computed)
		}
	}
	var supervised int64
	var planned, done []string
	for i, r := range s.Steps {
		supervised += r.Supervised
		if float64(supervised) != want.Supervised[i] {
			t.Errorf("%d supervised tokens after step %d, mlx-lm counts %g", supervised, i+1, want.Supervised[i])
		}
		if r.EmitWait.Or(-1) < 0 || r.Traces.Known() || !r.Memory.Peak.Known() || !r.Memory.Footprint.Known() {
			t.Errorf("step %d: %+v", i+1, r.Step)
		}
		done = append(done, shapeAndTokens(r.Shape, r.Tokens))
	}
	// The first pass over the data is the plan, in some order.
	for _, b := range data.PlanBatches(theWorld(t).set.Train.Lengths, data.Batching{Batch: 4, MaxSeqLength: 64}) {
		planned = append(planned, shapeAndTokens(b.Shape, b.Tokens))
	}
	done = done[:len(planned)]
	slices.Sort(planned)
	slices.Sort(done)
	if d := cmp.Diff(planned, done); d != "" {
		t.Errorf("batches (-planned +trained):\n%s", d)
	}
	if s.Ready.AdaptedModules != modules || s.Ready.Layers != 3 || s.Ready.Trainable == 0 || s.Ready.TrainRows != 26 || s.Ready.ValidRows != 5 {
		t.Errorf("ready: %+v", s.Ready)
	}
	e := installed(t)
	if s.Hello.Device.Kind != e.Backend || s.Hello.Versions["mlx"] != e.Versions["mlx"] || s.Hello.Versions["mlx-lm"] == "" {
		t.Errorf("hello: %+v", s.Hello)
	}
	if e.BLASLibrary != "" && (s.Hello.BLAS != filepath.Base(e.BLASLibrary) || s.Hello.Threads != trainer.Some(1)) {
		t.Errorf("BLAS %s with %v threads", s.Hello.BLAS, s.Hello.Threads)
	}
}

func shapeAndTokens(s trainer.Shape, tokens int64) string {
	b, _ := json.Marshal([]any{s.Batch, s.Width, tokens})
	return string(b)
}
