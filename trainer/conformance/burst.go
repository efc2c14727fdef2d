package conformance

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/worker"
)

// shapes runs exact shapes, under limits.
func (s suite) shapes(t *testing.T) {
	t.Parallel()
	j := s.job()
	j.Shapes = []trainer.Shape{{Batch: 1, Width: 33, Steps: 2}, {Batch: 3, Width: 70, Steps: 1}, {Batch: 30, Width: 17, Steps: 1}}
	j.UntilStep = 0
	j.Config.Plan.CacheLimit, j.Config.Plan.MemoryLimit = trainer.LimitOf(20_000_000), trainer.LimitOf(5_000_000_000)
	r, sum := s.finish(t, j)
	want := []trainer.Shape{{Batch: 1, Width: 33}, {Batch: 1, Width: 33}, {Batch: 3, Width: 70}, {Batch: 30, Width: 17}}
	var got []trainer.Shape
	for _, r := range sum.Steps {
		// Whole rows may also lie end to end.
		if p := r.Shape.Packed; p != 0 && p != r.Shape.Batch*(r.Shape.Width-1) {
			t.Errorf("%+v is not full", r.Shape)
		}
		got = append(got, trainer.Shape{Batch: r.Shape.Batch, Width: r.Shape.Width})
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
	if sum.Ready.CacheLimit != trainer.Some[int64](20_000_000) || sum.Ready.MemoryLimit != trainer.Some[int64](5_000_000_000) {
		t.Errorf("limits: %+v", sum.Ready)
	}
}

// budget ends in time, and quantizes what it can.
func (s suite) budget(t *testing.T) {
	t.Parallel()
	j := s.job()
	j.UntilStep, j.Budget = 0, time.Millisecond
	j.Config.Model.Quantize = 4
	r, sum := s.finish(t, j)
	if r.Done.Reason != trainer.DoneBudget || len(sum.Steps) == 0 {
		t.Errorf("%s after %d steps", r.Done.Reason, len(sum.Steps))
	}
	if sum.Ready.QuantizedModules == 0 || sum.Ready.QuantizedModules >= sum.Ready.LinearModules {
		t.Errorf("%d of %d modules are quantized", sum.Ready.QuantizedModules, sum.Ready.LinearModules)
	}
	if len(sum.Warns) != 1 || sum.Warns[0].Code != "model.not-quantized" {
		t.Errorf("warnings: %v", sum.Warns)
	}
}

// mostMemory ends a burst soon after the first step whose peak is above what it may
// take: a wider shape behind many steps is never run.
func (s suite) mostMemory(t *testing.T) {
	t.Parallel()
	j := s.job()
	j.UntilStep = 0
	narrow, wide, widest := trainer.Shape{Batch: 1, Width: 33, Steps: 2}, trainer.Shape{Batch: 8, Width: 65, Steps: 1_000_000}, trainer.Shape{Batch: 30, Width: 65, Steps: 1}
	j.Shapes = []trainer.Shape{narrow}
	_, sum := s.finish(t, j)
	peak, ok := sum.Shapes[0].PeakBytes.Get()
	if !ok {
		t.Fatal("no peak is known")
	}
	j.Shapes, j.MaxPeakBytes = []trainer.Shape{narrow, wide, widest}, 2*peak
	b, err := worker.Bench{Engine: s.engine}.Burst(t.Context(), j)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(b.Summary.Shapes); b.Result.Outcome != trainer.OOM || n != 2 {
		t.Errorf("%s after %d shapes, with %v: %d bytes are allowed", b.Result.Outcome, n, b.Result.Evidence, j.MaxPeakBytes)
	}
	for _, step := range b.Summary.Steps[:narrow.Steps] {
		if step.Memory.Peak.Or(0) > j.MaxPeakBytes {
			t.Errorf("a narrow step took %v bytes", step.Memory.Peak)
		}
	}
}

// limits are set between the steps that they are asked for: a process that keeps what
// it frees keeps no more than it may from that step on, takes no more at its peak where
// it may take little, and computes the same.
func (s suite) limits(t *testing.T) {
	t.Parallel()
	const each = 4
	j := s.job()
	j.UntilStep = 0
	j.Config.Plan.Accumulation, j.Config.Quality.Dropout, j.Config.Plan.CacheLimit = 1, 0, trainer.LimitOf(1<<30)
	wide := trainer.Shape{Batch: 8, Width: 65, Steps: each}
	j.Shapes = []trainer.Shape{wide, wide, wide}
	_, free := s.finish(t, j)
	j.Limits = []trainer.StepLimits{{After: each, CacheBytes: trainer.Some[int64](0)}, {After: 2 * each, MemoryBytes: trainer.Some[int64](1)}}
	_, limited := s.finish(t, j)
	if len(free.Steps) != 3*each || len(limited.Steps) != 3*each {
		t.Fatalf("%d and %d steps, want %d", len(free.Steps), len(limited.Steps), 3*each)
	}
	var loose, tight int64
	for i, step := range limited.Steps {
		if other := free.Steps[i]; step.Loss != other.Loss {
			t.Errorf("step %d: loss %v with limits, %v without", i+1, step.Loss, other.Loss)
		}
		cache, ok := step.Memory.Cache.Get()
		if other := free.Steps[i].Memory.Cache.Or(0); !ok || other == 0 || (cache == 0) != (i >= each) {
			t.Errorf("step %d keeps %d bytes, without limits %d", i+1, cache, other)
		}
		switch peak := step.Memory.Peak.Or(0); {
		case i < each:
			loose = max(loose, peak)
		case i >= 2*each:
			tight = max(tight, peak)
		}
	}
	if tight == 0 || tight > loose {
		t.Errorf("peak of %d bytes where a byte may be taken, %d before", tight, loose)
	}
}

// shortShapes end when they took as long as they may, but not before their least steps.
func (s suite) shortShapes(t *testing.T) {
	t.Parallel()
	j := s.job()
	j.UntilStep = 0
	j.Shapes = []trainer.Shape{{Batch: 1, Width: 33, Steps: 1_000_000}, {Batch: 2, Width: 33, Steps: 2}, {Batch: 4, Width: 33, Steps: 5}}
	j.ShapeSeconds = 1e-9
	r, sum := s.finish(t, j)
	var steps []int
	for _, shape := range sum.Shapes {
		steps = append(steps, shape.Steps)
	}
	if want := []int{trainer.LeastSteps, 2, trainer.LeastSteps}; !slices.Equal(steps, want) || r.Done.Reason != trainer.DoneSteps {
		t.Errorf("%v steps, then %s; want %v", steps, r.Done.Reason, want)
	}
	j.Shapes, j.ShapeSeconds = []trainer.Shape{{Batch: 1, Width: 33, Steps: 5}, {Batch: 2, Width: 33, Steps: 1}}, 1e9
	if _, sum = s.finish(t, j); len(sum.Steps) != 6 {
		t.Errorf("%d steps where there is time for 6", len(sum.Steps))
	}
}
