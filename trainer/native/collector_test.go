package native

import "testing"

// A collector that runs all the time takes nothing from MLX that is still
// needed. `make race-worker` runs this with a worker under the race detector.
func TestGarbageCollection(t *testing.T) {
	j := job(t, plain, 10)
	j.Evaluate = true
	j.Config.Quality.Dropout, j.Config.Quality.Optimizer, j.Config.Plan.Accumulation = 0.1, "adamw", 2
	j.Config.Plan.Checkpointing = true
	_, want := finish(t, ours(t, "GOGC=off"), j)
	_, got := finish(t, ours(t, "GOGC=1", "GODEBUG=clobberfree=1"), j)
	if d := difference(t, losses(want), losses(got)); d != 0 {
		t.Errorf("losses differ by %.3g", d)
	}
	if len(got.Evals) != 3 || got.Evals[2].Loss != want.Evals[2].Loss {
		t.Errorf("evaluations %+v, and %+v", want.Evals, got.Evals)
	}
}
