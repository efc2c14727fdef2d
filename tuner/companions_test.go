package tuner

import (
	"context"
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

// One that is too much for the process that it shares takes nothing else with it: the
// first candidate is measured by itself then.
func TestOneOfSeveralIsTooMuch(t *testing.T) {
	m := laptop()
	m.t0, m.noise = 0.006, 0.005
	died, first := false, 0
	s := study(m, 64<<30)
	s.Bursts = refusing{m, func(job trainer.Job) bool {
		batches := map[int]bool{}
		for _, sh := range job.Shapes {
			batches[sh.Batch] = true
		}
		calibrates := slices.ContainsFunc(job.Shapes, func(sh trainer.Shape) bool { return sh.Batch == 1 })
		if died || calibrates || len(batches) < 2 {
			return false
		}
		died, first = true, job.Config.Plan.Batch
		return true
	}}
	r, err := s.Run(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if !died {
		t.Fatal("no process was shared")
	}
	if r.Verdict != Confirmed {
		t.Errorf("%s: %s", r.Verdict, r.Problem)
	}
	bursts, points := confirmations(r)
	if len(points) != len(bursts) || !slices.ContainsFunc(points, func(p Point) bool { return p.Batch == first }) {
		t.Errorf("confirmed %v by %+v", points, bursts)
	}
}

// refusing runs out of memory at the last shape of jobs that it refuses.
type refusing struct {
	*machine
	refuses func(trainer.Job) bool
}

func (m refusing) Burst(ctx context.Context, job trainer.Job) (trainer.Burst, error) {
	b, err := m.machine.Burst(ctx, job)
	if err == nil && m.refuses(job) {
		b.Result.Outcome = trainer.OOM
		b.Summary.Steps = b.Summary.Steps[:len(b.Summary.Steps)-1]
	}
	return b, err
}

// What one process tells apart by 2 % is a tie, which goes to less memory; of two
// processes it would be too little to be sure.
func TestATieOfOneProcessIsSure(t *testing.T) {
	m := laptop()
	m.t0, m.noise = 0.003, 0.005
	r, err := study(m, 64<<30).Run(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if bursts, points := confirmations(r); len(bursts) != 1 || len(points) != 2 {
		t.Fatalf("confirmed %v by %+v", points, bursts)
	}
	if r.Config.Plan.Batch != 4 {
		t.Errorf("batch %d, which is hardly faster and takes twice the memory", r.Config.Plan.Batch)
	}
}
