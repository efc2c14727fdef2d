package diagnose

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/trainer"
)

// subject answers every burst with what its configuration does to it.
type subject struct {
	jobs []trainer.Job
	does func(j trainer.Job, s *trainer.Step) // to each step
	ends func(j trainer.Job) trainer.Outcome  // nil: well
	fail error

	short   func(j trainer.Job) int           // steps of a burst over the data; nil for 20
	elapsed func(j trainer.Job) time.Duration // nil: not told; then a burst has as many steps as it is asked for
}

func (p *subject) Burst(_ context.Context, j trainer.Job) (trainer.Burst, error) {
	p.jobs = append(p.jobs, j)
	if p.fail != nil && len(p.jobs) > 2 {
		return trainer.Burst{}, p.fail
	}
	n := 20
	if p.elapsed != nil && len(j.Shapes) > 0 {
		n = min(n, j.Shapes[0].Steps)
	}
	if p.short != nil && len(j.Shapes) == 0 {
		n = p.short(j)
	}
	b, err := steps(n, 0)(j)
	if p.elapsed != nil && len(j.Shapes) > 0 {
		b.Result.Elapsed = p.elapsed(j)
	}
	for i := range b.Summary.Steps {
		p.does(j, &b.Summary.Steps[i].Step)
	}
	var events []trainer.Event
	for _, s := range b.Summary.Steps {
		events = append(events, trainer.Event{Step: s.Number, Payload: s.Step})
	}
	again := trainer.Summarize(events)
	b.Summary.Hello.Compiled = j.Config.Plan.Compile == "on"
	b.Summary.Figures, b.Summary.Shapes = again.Figures, again.Shapes
	if p.ends != nil {
		b.Result.Outcome = p.ends(j)
	}
	return b, err
}

func chosen(t *testing.T, r *Request, kv ...string) {
	t.Helper()
	for i := 0; i < len(kv); i += 2 {
		if err := r.Settings.Set(kv[i], kv[i+1], trainer.FromFlag); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCausesAreProven(t *testing.T) {
	cached := func(bounded int64) func(trainer.Job, *trainer.Step) {
		return func(j trainer.Job, s *trainer.Step) {
			s.Memory.Cache = trainer.Some[int64](3e9)
			if j.Config.Plan.CacheLimit.IsSet {
				s.Memory.Cache = trainer.Some(bounded)
			}
		}
	}
	slowBelow := func(slow float64) func(trainer.Job, *trainer.Step) {
		return func(j trainer.Job, s *trainer.Step) {
			s.Seconds = 0.1
			if j.Config.Plan.MemoryLimit.IsSet {
				s.Seconds = slow
			}
		}
	}
	nothing := func(trainer.Job, *trainer.Step) {}
	for _, tc := range []struct {
		name, code    string
		request       func(*Request)
		does          func(trainer.Job, *trainer.Step)
		ends          func(trainer.Job) trainer.Outcome
		elapsed       func(trainer.Job) time.Duration
		verdict       probe.ProofVerdict // empty: nothing tried
		confidence    probe.Confidence
		bursts        int // beyond those of the diagnosis
		before, after float64
		changed       string
	}{
		{name: "a cache that is bounded", code: "burst.cache-growth", does: cached(90e6), verdict: probe.ProofHolds, confidence: probe.Proven, bursts: 1, before: 3e9, after: 90e6, changed: "--cache-limit default → 100 MB"},
		{name: "a cache that is not the limit's", code: "burst.cache-growth", does: cached(29e8), verdict: probe.ProofRefuted, confidence: probe.Likely, bursts: 1, before: 3e9, after: 29e8},
		{name: "a cache, and the other side dies", code: "burst.cache-growth", does: cached(90e6), verdict: probe.ProofOpen, confidence: probe.Measured, bursts: 1,
			ends: func(j trainer.Job) trainer.Outcome {
				if j.Config.Plan.CacheLimit.IsSet {
					return trainer.Crashed
				}
				return trainer.Finished
			}},
		{name: "nothing is to be proven", code: "burst.cache-growth", does: cached(90e6), request: func(r *Request) { r.Prove = ProveNone }, confidence: probe.Measured},
		{name: "a limit under the weights", code: "memory.limit-below-weights", does: slowBelow(0.2), request: func(r *Request) { chosen(t, r, "memory-limit", "7MB") },
			verdict: probe.ProofHolds, confidence: probe.Proven, bursts: 4, before: 0.2, after: 0.1, changed: "--memory-limit 7.00 MB → default"},
		{name: "a limit under the weights that costs nothing", code: "memory.limit-below-weights", does: slowBelow(0.1), request: func(r *Request) { chosen(t, r, "memory-limit", "7MB") },
			verdict: probe.ProofRefuted, confidence: probe.Likely, bursts: 4, before: 0.1, after: 0.1},
		{name: "dear steps are not run unasked", code: "memory.limit-below-weights", does: slowBelow(40), request: func(r *Request) { chosen(t, r, "memory-limit", "7MB") }, confidence: probe.Measured},
		{name: "dear steps are run when asked for", code: "memory.limit-below-weights", does: slowBelow(40), verdict: probe.ProofHolds, confidence: probe.Proven, bursts: 4, before: 40, after: 0.1,
			request: func(r *Request) { chosen(t, r, "memory-limit", "7MB"); r.Prove = ProveAll }},
		{name: "recomputing", code: "config.checkpoint-needless", verdict: probe.ProofHolds, confidence: probe.Proven, bursts: 4, before: 0.14, after: 0.1, changed: "--grad-checkpoint true → false",
			request: func(r *Request) { chosen(t, r, "grad-checkpoint", "true") },
			does: func(j trainer.Job, s *trainer.Step) {
				s.Seconds = 0.1
				if j.Config.Plan.Checkpointing {
					s.Seconds = 0.14
				}
			}},
		{name: "a cache for no step", code: "memory.cache-too-small", verdict: probe.ProofHolds, confidence: probe.Proven, bursts: 4, before: 0.2, after: 0.1, changed: "--cache-limit 1.00 MB → 100 MB",
			request: func(r *Request) { r.Snapshot.Install.Backend = "cuda"; chosen(t, r, "cache-limit", "1MB") },
			does: func(j trainer.Job, s *trainer.Step) {
				s.Seconds = 0.1
				if j.Config.Plan.CacheLimit.Bytes == 1e6 {
					s.Seconds = 0.2
				}
			}},
		{name: "packed weights", code: "config.matmul", verdict: probe.ProofHolds, confidence: probe.Proven, bursts: 4, before: 0.2, after: 0.1,
			request: func(r *Request) { chosen(t, r, "quantize", "4", "matmul", "quantized") },
			does: func(j trainer.Job, s *trainer.Step) {
				s.Seconds = 0.1
				if j.Config.Plan.Matmul == trainer.MatmulQuantized {
					s.Seconds = 0.2
				}
			}},
		{name: "data that keeps steps waiting", code: "burst.data-wait", verdict: probe.ProofHolds, confidence: probe.Proven, before: 0.5, after: 0, changed: "batches made once, instead of the data's own",
			does: func(j trainer.Job, s *trainer.Step) {
				s.Seconds, s.DataSeconds = 0.1, 0
				if len(j.Shapes) == 0 {
					s.DataSeconds = 0.1
				}
			}},
		{name: "time lost before steps, whatever the data", code: "burst.data-wait", verdict: probe.ProofRefuted, confidence: probe.Likely, before: 0.5, after: 0.5,
			does: func(_ trainer.Job, s *trainer.Step) { s.Seconds, s.DataSeconds = 0.1, 0.1 }},
		{name: "shapes without a bound", code: "compile.shapes", verdict: probe.ProofHolds, confidence: probe.Proven, bursts: 1, before: 20, after: 3,
			request: func(r *Request) {
				r.Snapshot.Data.Lengths = &probe.LengthStats{Rows: 500, Shapes: 60}
				chosen(t, r, "compile", "on", "max-shapes", "0")
			},
			does: func(j trainer.Job, s *trainer.Step) {
				s.Traces = trainer.Some(20)
				if j.Config.Plan.MaxShapes == 8 {
					s.Traces = trainer.Some(3)
				}
			}},
		{name: "restarts that cost", code: "config.reload-interval", verdict: probe.ProofHolds, confidence: probe.Proven, bursts: 2, before: 0.6, after: 0.25, changed: "8 steps a process instead of 2",
			request: func(r *Request) { chosen(t, r, "reload-interval", "2") }, does: func(_ trainer.Job, s *trainer.Step) { s.Seconds, s.DataSeconds = 0.1, 0 },
			elapsed: func(j trainer.Job) time.Duration {
				if n := j.Shapes[0].Steps; n > 8 {
					return time.Minute // of the probe
				}
				return map[int]time.Duration{2: 1200 * time.Millisecond, 8: 2 * time.Second}[j.Shapes[0].Steps]
			}},
		{name: "out of memory", code: "burst.outcome", verdict: probe.ProofHolds, confidence: probe.Proven, bursts: 0, before: 1, after: 0, changed: "--grad-checkpoint false → true",
			does: nothing, ends: func(j trainer.Job) trainer.Outcome {
				if !j.Config.Plan.Checkpointing {
					return trainer.OOM
				}
				return trainer.Finished
			}},
		{name: "out of memory all the same", code: "burst.outcome", verdict: probe.ProofRefuted, confidence: probe.Likely, bursts: 0, before: 1, after: 1,
			does: nothing, ends: func(trainer.Job) trainer.Outcome { return trainer.OOM }},
		{name: "a peak above the limit", code: "memory.fits", verdict: probe.ProofHolds, confidence: probe.Proven, bursts: 1, before: 50e6, after: 30e6,
			request: func(r *Request) { chosen(t, r, "memory-limit", "45MB"); r.Batches = nil },
			does: func(j trainer.Job, s *trainer.Step) {
				if j.Config.Plan.Checkpointing {
					s.Memory.Peak = trainer.Some[int64](30e6)
				}
				s.Memory.Footprint = trainer.Opt[int64]{}
			}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := request()
			if tc.request != nil {
				tc.request(&r)
			}
			p := &subject{does: tc.does, ends: tc.ends, elapsed: tc.elapsed}
			r.Bursts = p
			got, err := Run(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			f := find(t, got, tc.code)
			if f.Confidence != tc.confidence {
				t.Errorf("confidence %q, want %q: %+v", f.Confidence, tc.confidence, f)
			}
			if tc.verdict == "" {
				if f.Proof != nil {
					t.Errorf("proof %+v", *f.Proof)
				}
				return
			}
			if f.Proof == nil {
				t.Fatalf("no proof of %+v", f)
			}
			q := *f.Proof
			if q.Verdict != tc.verdict || q.Text == "" || len(p.jobs) != 2+tc.bursts || !strings.Contains(q.Changed, tc.changed) {
				t.Errorf("%d bursts, proof %+v", len(p.jobs), q)
			}
			if near := func(a, b float64) bool { return a-b < 1e-9*b+1e-12 && b-a < 1e-9*b+1e-12 }; tc.verdict != probe.ProofOpen && (!near(q.Before, tc.before) || !near(q.After, tc.after)) {
				t.Errorf("from %g to %g, want %g to %g", q.Before, q.After, tc.before, tc.after)
			}
			for _, j := range p.jobs[2:] {
				if j.Budget <= 0 || j.Dir != "" {
					t.Errorf("an unbounded burst, or one that writes: %+v", j)
				}
			}
		})
	}
}

// What grows with the steps is compared after as many: a burst that was slower
// must not look better for it.
func TestSlowerBurstsAreNoCure(t *testing.T) {
	r := request()
	r.Snapshot.Data.Lengths = &probe.LengthStats{Rows: 500, Shapes: 60}
	chosen(t, &r, "compile", "on", "max-shapes", "0")
	p := &subject{}
	p.does = func(j trainer.Job, s *trainer.Step) {
		s.Traces = trainer.Some(20) // all steps of the long burst
		if s.Loss > 2.95 {
			s.Traces = trainer.Some(5) // its first five
		}
	}
	p.elapsed = func(trainer.Job) time.Duration { return time.Second }
	p.short = func(j trainer.Job) int {
		if j.Config.Plan.MaxShapes == 8 {
			return 5
		}
		return 20
	}
	r.Bursts = p
	got, err := Run(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if q := find(t, got, "compile.shapes").Proof; q == nil || q.Verdict == probe.ProofHolds || q.Before != 5 || q.After != 5 {
		t.Errorf("proof %+v", q)
	}
}

// Bursts that differ more among themselves than with the cause prove nothing,
// though their means say that the symptom went.
func TestNoiseProvesNothing(t *testing.T) {
	r := request()
	chosen(t, &r, "memory-limit", "7MB")
	p := &subject{}
	p.does = func(j trainer.Job, s *trainer.Step) {
		s.Seconds = 0.1
		switch {
		case !j.Config.Plan.MemoryLimit.IsSet:
		case len(p.jobs) < 6:
			s.Seconds = 0.25
		default: // the last of the sides with the cause
			s.Seconds = 0.05
		}
	}
	r.Bursts = p
	got, err := Run(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	f := find(t, got, "memory.limit-below-weights")
	if q := f.Proof; q == nil || q.Verdict != probe.ProofOpen || q.After >= 0.8*q.Before || f.Confidence != probe.Measured {
		t.Errorf("confidence %s, proof %+v", f.Confidence, f.Proof)
	}
}

func TestProofThatCannotRunIsAnError(t *testing.T) {
	r := request()
	broken := errors.New("cannot start a process")
	r.Bursts = &subject{fail: broken, does: func(_ trainer.Job, s *trainer.Step) { s.Memory.Cache = trainer.Some[int64](3e9) }}
	if _, err := Run(t.Context(), r); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
}
