package tuner

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// confirmations are the bursts that confirmed, with all that they measured.
func confirmations(r *Report) (bursts []BurstRecord, points []Point) {
	for _, b := range r.Bursts {
		if b.Purpose == "confirm" && b.Outcome.Good() {
			bursts = append(bursts, b)
			points = append(append(points, b.Point), b.Companions...)
		}
	}
	return bursts, points
}

// Near candidates that are loaded with the same are measured in turns in one process:
// that it is slower than the others decides nothing between them.
func TestNearCandidatesShareAProcess(t *testing.T) {
	shared := 0
	for seed := range uint64(20) {
		m := laptop()
		m.t0, m.noise = 0.006, 0.005
		rng := rand.New(rand.NewPCG(seed, 7))
		paces := map[int]float64{}
		m.busy = func(calls int, _ *rand.Rand) float64 {
			if _, ok := paces[calls]; !ok {
				paces[calls] = 1 + 0.25*rng.Float64()
			}
			return paces[calls]
		}
		s := study(m, 64<<30)
		r, err := s.Run(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		bursts, points := confirmations(r)
		if len(points) > len(bursts) {
			shared++
		}
		for _, b := range bursts {
			for _, p := range b.Companions {
				if p.Condition() != b.Point.Condition() || p.Batch == b.Point.Batch || (p.Accumulation > 1) != (b.Point.Accumulation > 1) {
					t.Errorf("seed %d: %s in turns with %s", seed, p, b.Point)
				}
			}
		}
		for _, c := range r.Candidates {
			if c.Measured != slices.Contains(points, c.Point) {
				t.Errorf("seed %d: %s measured: %t, confirmed were %v", seed, c.Point, c.Measured, points)
			}
		}
		got, _, _ := m.truth(r.Config, s.Prompts)
		if best := m.optimum(s, r.Config, 64<<30); got > 1.05*best {
			t.Errorf("seed %d: %+v is %.1f %% above the optimum", seed, r.Config.Plan, 100*(got/best-1))
		}
	}
	if shared < 15 {
		t.Errorf("in %d of 20 searches a process was shared", shared)
	}
}

// One that is too much for the process that it shares takes nothing else with it: what
// the others had shown by then counts, and they are not run again.
func TestOneOfSeveralIsTooMuch(t *testing.T) {
	m := laptop()
	m.t0, m.noise = 0.006, 0.005
	s := study(m, 64<<30)
	dying := &dying{machine: m, steps: func(all int) int { return all - 1 }}
	s.Bursts = dying
	r, err := s.Run(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if len(dying.shared) != 1 {
		t.Fatalf("%d processes were shared", len(dying.shared))
	}
	first := dying.shared[0].Config.Plan.Batch
	if r.Verdict != Confirmed || r.Config.Plan.Batch != first {
		t.Errorf("%s with batches of %d: %s", r.Verdict, r.Config.Plan.Batch, r.Problem)
	}
	if _, again := confirmations(r); slices.ContainsFunc(again, func(p Point) bool { return p.Batch == first }) {
		t.Errorf("batches of %d were run again: %v", first, again)
	}
}

// A shared process that dies at its first step has measured nothing, and what takes as
// much as that step is out.
func TestASharedProcessDiesAtOnce(t *testing.T) {
	m := laptop()
	m.t0, m.noise = 0.006, 0.005
	s := study(m, 64<<30)
	dying := &dying{machine: m, steps: func(int) int { return 0 }}
	s.Bursts = dying
	r, err := s.Run(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if len(dying.shared) == 0 {
		t.Fatal("no process was shared")
	}
	for _, c := range r.Candidates {
		if c.Measured && !c.Checkpointing && c.Bits == 0 && c.Batch >= dying.shared[0].Shapes[0].Batch {
			t.Errorf("%s counts as measured", c.Point)
		}
	}
	if r.Verdict != Confirmed {
		t.Errorf("%s: %s", r.Verdict, r.Problem)
	}
}

// Candidates with other accumulations share a process, and each is told what its own
// updates cost.
func TestUpdatesOfThoseThatShare(t *testing.T) {
	m := laptop()
	m.noise, m.update = 0.002, 0.03
	s := study(m, 64<<30)
	r, err := s.prepare()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.bursts.open(context.Background(), ""); err != nil {
		t.Fatal(err)
	}
	r.space = r.axes.space(r.axes.bits[0])
	if err := r.calibrate(context.Background()); err != nil {
		t.Fatal(err)
	}
	r.enumerate()
	var group []*confirmation
	for _, c := range r.outcome.Feasible {
		if c.Accumulation > 1 && !c.Checkpointing {
			group = append(group, r.confirmation(c))
		}
	}
	done, partly, err := r.confirmTogether(context.Background(), group)
	if err != nil || partly != nil || len(done) != len(group) || len(group) < 2 {
		t.Fatalf("of %d candidates %d were measured, %+v in part: %v", len(group), len(done), partly, err)
	}
	for _, f := range done {
		config := r.config(f.Point)
		if want, _, _ := m.truth(config, s.Prompts); math.Abs(f.SecondsPerUsefulToken/want-1) > 0.02 {
			t.Errorf("%s: %.4g s a useful token, true is %.4g", f.Point, f.SecondsPerUsefulToken, want)
		}
	}
}

// dying runs out of memory in processes that batches of four and more share, after so
// many of their steps.
type dying struct {
	*machine
	steps  func(all int) int
	shared []trainer.Job
}

func (m *dying) Burst(ctx context.Context, job trainer.Job) (trainer.Burst, error) {
	b, err := m.machine.Burst(ctx, job)
	batches := map[int]bool{}
	for _, s := range job.Shapes {
		batches[s.Batch] = true
	}
	if err == nil && len(batches) > 1 && !batches[1] && !batches[2] {
		m.shared = append(m.shared, job)
		b.Result.Outcome = trainer.OOM
		b.Summary.Steps = b.Summary.Steps[:m.steps(len(b.Summary.Steps))]
	}
	return b, err
}
