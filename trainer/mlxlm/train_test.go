package mlxlm_test

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/checkpoint"
	"github.com/mlxdyno/mlxdyno/trainer/data"
)

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
	for _, b := range data.PlanBatches(theWorld(t).set.Train.Lengths, 4, 64, false) {
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

// A training that ends and goes on, is asked to stop, and is killed, repeats
// the uninterrupted one bit for bit, evaluations included.
func TestResume(t *testing.T) {
	t.Parallel()
	whole := job(t)
	whole.Config.Quality.LRSchedule, whole.Config.Quality.Warmup = trainer.CosineRate, 2 // 8 updates: every segment has another rate
	whole.Evaluate, whole.Dir = true, t.TempDir()
	_, want := finish(t, whole)

	j := whole
	j.Dir, j.SaveOnStop = t.TempDir(), true
	saved := filepath.Join(j.Dir, "checkpoints")
	var events []trainer.Event
	segment := func(ctx context.Context, until int, each func(trainer.Event)) trainer.Result {
		t.Helper()
		ref, bad, err := checkpoint.Newest(saved)
		if err != nil || len(bad) > 0 {
			t.Fatal(err, bad)
		}
		j.From, j.UntilStep = ref, until
		r, _ := run(t, ctx, j, func(e trainer.Event) {
			events = append(events, e)
			if each != nil {
				each(e)
			}
		})
		j.Segment++
		return r
	}

	if r := segment(t.Context(), 4, nil); r.Outcome != trainer.Finished || r.Done.Adapter != "" || r.Checkpoint == nil || r.Checkpoint.Step != 4 {
		t.Fatalf("first segment: %+v", r)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r := segment(ctx, 16, func(e trainer.Event) {
		if e.Step == 7 { // an odd step: half of an update is done
			cancel()
		}
	})
	if r.Outcome != trainer.Stopped || r.Checkpoint == nil || r.Checkpoint.Step != r.LastStep || r.LastStep%2 != 0 {
		t.Fatalf("asked to stop: %+v", r)
	}
	pid := 0
	r = segment(t.Context(), 16, func(e trainer.Event) {
		if h, ok := e.Payload.(trainer.Hello); ok {
			pid = h.PID
		}
		if _, ok := e.Payload.(trainer.Step); ok && e.Step >= 11 {
			syscall.Kill(pid, syscall.SIGKILL) //nolint:errcheck // it may be gone already
		}
	})
	if r.Outcome != trainer.Killed && r.Outcome != trainer.Finished {
		t.Fatalf("killed: %+v", r)
	}
	if r := segment(t.Context(), 16, nil); r.Outcome != trainer.Finished {
		t.Fatalf("last segment: %+v", r)
	}

	got := trainer.Summarize(events)
	if len(got.Warns) > 0 {
		t.Errorf("warnings: %v", got.Warns)
	}
	if d := cmp.Diff(losses(want), losses(got)); d != "" {
		t.Errorf("losses (-whole +in parts):\n%s", d)
	}
	evals := func(s trainer.Summary) map[int]float64 {
		m := map[int]float64{}
		for _, e := range s.Evals {
			if old, ok := m[e.AfterStep]; ok && old != float64(e.Loss) {
				t.Errorf("two evaluations after step %d differ", e.AfterStep)
			}
			m[e.AfterStep] = float64(e.Loss)
		}
		return m
	}
	if d := cmp.Diff(evals(want), evals(got)); d != "" || len(want.Evals) != 5 {
		t.Errorf("%d evaluations (-whole +in parts):\n%s", len(want.Evals), d)
	}
	for _, file := range []string{"adapter/adapters.safetensors", "checkpoints/0000016/optimizer.safetensors", "checkpoints/0000016/state.json"} {
		a, err1 := os.ReadFile(filepath.Join(whole.Dir, file))
		b, err2 := os.ReadFile(filepath.Join(j.Dir, file))
		if err1 != nil || err2 != nil || string(a) != string(b) {
			t.Errorf("%s differs: %v %v", file, err1, err2)
		}
	}
	if _, err := checkpoint.Verify(filepath.Join(j.Dir, "checkpoints/0000016")); err != nil {
		t.Error(err)
	}
	if m, err := checkpoint.Read(filepath.Join(j.Dir, "checkpoints/0000016")); err != nil || m.ConfigKey != j.Config.Key() {
		t.Errorf("manifest %+v: %v", m, err)
	}
}

// Told to stop at the very start, perhaps in its first evaluation, a worker
// leaves, and saves only what it has trained.
func TestStopAtOnce(t *testing.T) {
	t.Parallel()
	j := job(t)
	j.Evaluate, j.Dir, j.SaveOnStop = true, t.TempDir(), true
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	j.Tokens.Valid = j.Tokens.Train // more than one batch
	j.Config.Schedule.Steps, j.UntilStep = 1_000_000, 0
	r, s := run(t, ctx, j, func(e trainer.Event) {
		if _, ok := e.Payload.(trainer.Hello); ok {
			cancel()
		}
	})
	if r.Outcome != trainer.Stopped || (r.Checkpoint != nil) != (len(s.Steps) > 0) {
		t.Errorf("after %d steps: %+v", len(s.Steps), r)
	}
}

// Told to stop in the evaluation after its last step, a worker has saved that
// step when it leaves.
func TestStopAtTheEnd(t *testing.T) {
	t.Parallel()
	j := job(t)
	j.Evaluate, j.Dir, j.SaveOnStop = true, t.TempDir(), true
	j.Tokens.Valid = j.Tokens.Train // more than one batch
	j.Config.Schedule.Steps, j.Config.Schedule.EvalEvery, j.UntilStep = 2, 2, 2
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, _ := run(t, ctx, j, func(e trainer.Event) {
		if _, ok := e.Payload.(trainer.Step); ok && e.Step == 2 {
			cancel()
		}
	})
	if !r.Outcome.Good() || r.Checkpoint == nil || r.Checkpoint.Step != 2 {
		t.Errorf("%s, %+v", r.Outcome, r.Checkpoint)
	}
}

// A checkpoint may be taken on with other batches, after running out of memory.
func TestResumeWithOtherBatches(t *testing.T) {
	t.Parallel()
	j := job(t)
	j.Dir, j.UntilStep = t.TempDir(), 2
	r, _ := finish(t, j)
	j.From, j.UntilStep, j.Segment, j.Dir = r.Checkpoint, 6, 1, ""
	j.Config.Plan.Batch, j.Config.Plan.Accumulation, j.Config.Plan.Checkpointing = 2, 4, true
	_, s := finish(t, j)
	if len(s.Steps) != 4 || s.Steps[0].Number != 3 || s.Steps[0].Shape.Batch != 2 {
		t.Errorf("steps: %+v", s.Steps)
	}
	if len(s.Warns) != 1 || s.Warns[0].Code != "resume.data-order" {
		t.Errorf("warnings: %v", s.Warns)
	}
}

func TestShapes(t *testing.T) {
	t.Parallel()
	j := job(t)
	j.Shapes = []trainer.Shape{{Batch: 1, Width: 33, Steps: 2}, {Batch: 3, Width: 70, Steps: 1}, {Batch: 30, Width: 17, Steps: 1}}
	j.UntilStep = 0
	j.Config.Plan.CacheLimit, j.Config.Plan.MemoryLimit = trainer.LimitOf(20_000_000), trainer.LimitOf(5_000_000_000)
	r, s := finish(t, j)
	want := []trainer.Shape{{Batch: 1, Width: 33}, {Batch: 1, Width: 33}, {Batch: 3, Width: 70}, {Batch: 30, Width: 17}}
	var got []trainer.Shape
	for _, r := range s.Steps {
		got = append(got, r.Shape)
		if r.Tokens != r.Shape.Positions() || r.Supervised != r.Shape.Positions() {
			t.Errorf("%+v: %d tokens, %d supervised", r.Shape, r.Tokens, r.Supervised)
		}
		if c := r.Memory.Cache.Or(-1); c <= 0 || c > 20_000_000 {
			t.Errorf("%+v: %d bytes cached", r.Shape, c)
		}
	}
	if d := cmp.Diff(want, got); d != "" || r.Done.Reason != trainer.DoneSteps {
		t.Errorf("%s:\n%s", r.Done.Reason, d)
	}
	if s.Ready.CacheLimit != trainer.Some[int64](20_000_000) || s.Ready.MemoryLimit != trainer.Some[int64](5_000_000_000) {
		t.Errorf("limits: %+v", s.Ready)
	}
}

func TestBudget(t *testing.T) {
	t.Parallel()
	j := job(t)
	j.UntilStep, j.Budget = 0, time.Millisecond
	j.Config.Model.Quantize = 4
	r, s := finish(t, j)
	if r.Done.Reason != trainer.DoneBudget || len(s.Steps) == 0 {
		t.Errorf("%s after %d steps", r.Done.Reason, len(s.Steps))
	}
	if s.Ready.QuantizedModules == 0 || s.Ready.QuantizedModules >= s.Ready.LinearModules {
		t.Errorf("%d of %d modules are quantized", s.Ready.QuantizedModules, s.Ready.LinearModules)
	}
	if len(s.Warns) != 1 || s.Warns[0].Code != "model.not-quantized" {
		t.Errorf("warnings: %v", s.Warns)
	}
}
