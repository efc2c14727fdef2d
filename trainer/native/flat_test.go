package native

import (
	"testing"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// What a step leaves behind must not depend on how many came before: after the
// warm-up the worker holds the same number of arrays, and MLX the same bytes
// after each step, whatever its shape.
//
// The bytes are exact where MLX caches nothing. Else an array that stays may
// lie in a cached buffer of up to twice its size, and which one it gets depends
// on how threads interleave: then active memory wavers above that exact value.
func TestFlat(t *testing.T) {
	for name, tt := range map[string]struct {
		steps, warm int
		change      func(*trainer.Job)
	}{
		"eager": {1000, 20, func(j *trainer.Job) { j.Config.Plan.Batch = 1 }},
		"everything": {100, 20, func(j *trainer.Job) {
			j.Config.Model.Quantize, j.Config.Model.GroupSize, j.Config.Plan.Checkpointing, j.Config.Plan.Accumulation = 4, 32, true, 3
			j.Config.Quality.Dropout, j.Config.Quality.Optimizer, j.Config.Quality.GradClip = 0.1, "adamw", 0.1
		}},
		"compiled": {200, 20, func(j *trainer.Job) { j.Config.Plan.Compile = "on" }},
		"compiled, scored where it counts": {200, 20, func(j *trainer.Job) {
			j.Config.Plan.Compile, j.Config.Plan.LossPositions = "on", trainer.LossSupervised
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := job(t, plain, tt.steps)
			j.Config.Data.MaxSeqLength, j.Config.Plan.CacheLimit = 128, trainer.LimitOf(0)
			tt.change(&j)
			_, sum := finish(t, ours(t), j)
			flat(t, sum, j.Config.Plan, tt.warm, 0)
		})
	}
	t.Run("2,000 steps in bounded shapes", func(t *testing.T) {
		t.Parallel()
		j := job(t, plain, 2000)
		j.Config.Data.MaxSeqLength, j.Config.Plan.CacheLimit = 128, trainer.LimitOf(0)
		j.Config.Plan.Compile, j.Config.Plan.MaxShapes, j.Config.Plan.Batch = "on", 3, 2
		_, sum := finish(t, ours(t), j)
		flat(t, sum, j.Config.Plan, 40, 0)
		if traces := sum.Steps[len(sum.Steps)-1].Traces.Or(0); traces == 0 || traces > 3 {
			t.Errorf("%d traces", traces)
		}
	})
	t.Run("with a cache", func(t *testing.T) {
		t.Parallel()
		j := job(t, plain, 200)
		j.Config.Data.MaxSeqLength = 128
		_, sum := finish(t, ours(t), j)
		flat(t, sum, j.Config.Plan, 20, 3*sum.Ready.TrainableBytes) // each with two moments
	})
}

// flat checks every step after the warm-up; active bytes may waver by so many.
func flat(t *testing.T, sum trainer.Summary, plan trainer.Plan, warm int, waver int64) {
	t.Helper()
	type counts struct {
		least, most int64 // active bytes
		live        int
	}
	type traced struct {
		shape  trainer.Shape
		places int64 // of targets that are scored, when not all are: eighths of all positions, rounded up
	}
	phases, shapes, graphs := map[int]counts{}, map[trainer.Shape]bool{}, map[traced]bool{}
	for _, r := range sum.Steps {
		shapes[r.Shape] = true
		graph := traced{shape: r.Shape}
		if plan.LossPositions == trainer.LossSupervised {
			unit := max(1, r.Shape.Positions()/8)
			graph.places = min((r.Supervised+unit-1)/unit*unit, r.Shape.Positions())
		}
		graphs[graph] = true
		if r.Number <= warm {
			continue
		}
		active, known1 := r.Memory.Active.Get()
		live, known2 := r.Live.Get()
		phase := r.Number % plan.Accumulation
		c, seen := phases[phase]
		if !seen {
			c = counts{active, active, live}
		}
		c.least, c.most = min(c.least, active), max(c.most, active)
		if !known1 || !known2 || c.most-c.least > waver || c.live != live {
			t.Fatalf("step %d, %+v: %d active bytes and %d live arrays, and before %+v", r.Number, r.Shape, active, live, c)
		}
		phases[phase] = c
	}
	if traces, ok := sum.Steps[len(sum.Steps)-1].Traces.Get(); ok && traces != len(graphs) || ok != (plan.Compile == "on") {
		t.Errorf("%d traces of %d graphs in %d shapes", traces, len(graphs), len(shapes))
	}
	if len(shapes) < 2 || plan.Compile == "on" && len(shapes) > 4 {
		t.Errorf("%d shapes", len(shapes))
	}
	t.Logf("%d steps of %d shapes: %+v", len(sum.Steps), len(shapes), phases)
}
