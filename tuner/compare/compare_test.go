package compare

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// machine simulates engines: known times, noise that drifts, and a limit.
type machine struct {
	seconds func(trainer.Config, trainer.Shape) float64
	noise   float64
	drift   float64 // of the machine's speed, a burst
	load    float64
	kill    int64
	bursts  int
	rng     *rand.Rand
	dies    func(n int) *trainer.Result
	jobs    []trainer.Job
}

func (m *machine) Burst(_ context.Context, job trainer.Job) (trainer.Burst, error) {
	m.bursts++
	m.jobs = append(m.jobs, job)
	if m.dies != nil {
		if r := m.dies(m.bursts); r != nil {
			return trainer.Burst{Job: job, Result: *r}, nil
		}
	}
	result := trainer.Result{Outcome: trainer.Finished}
	var events []trainer.Event
	clock, n, first := m.load, 0, 0.0
run:
	for _, shape := range job.Shapes {
		for range shape.Steps {
			peak := int64(1e8) + shape.Positions()*1e5
			if m.kill > 0 && peak > m.kill {
				result.Outcome, result.SuspectedOOM = trainer.Crashed, true
				break run
			}
			if n > 0 && clock-first > job.Budget.Seconds() {
				break run
			}
			t := m.seconds(job.Config, shape) * math.Exp(m.noise*m.rng.NormFloat64()) * (1 + m.drift*float64(m.bursts))
			clock += t
			n++
			if n == 1 {
				first = clock
			}
			events = append(events, trainer.Event{Step: n, Payload: trainer.Step{Loss: 2, Shape: trainer.Shape{Batch: shape.Batch, Width: shape.Width}, Seconds: t,
				Memory: trainer.Memory{Peak: trainer.Some(peak)}}})
		}
	}
	result.Elapsed = time.Duration(clock * float64(time.Second))
	return trainer.Burst{Job: job, Result: result, Summary: trainer.Summarize(events)}, nil
}

// linear is an engine whose steps take a constant and a time for each position;
// checkpointing takes 1.4 times as long, and mlx-lm twice.
func linear(c trainer.Config, s trainer.Shape) float64 {
	t := 0.02 + 1e-4*float64(s.Positions())
	if c.Plan.Checkpointing {
		t *= 1.4
	}
	if c.Engine == trainer.EngineMLXLM {
		t *= 2
	}
	return t
}

func question(m *machine, a, b string) Question {
	rng := rand.New(rand.NewPCG(3, 3))
	var lengths, prompts []int32
	for range 400 {
		n := int32(40 + rng.IntN(300))
		lengths, prompts = append(lengths, n), append(prompts, n/4)
	}
	side := func(sets string) Side {
		s := trainer.NewSettings()
		s.Config.Model.Path, s.Config.Data.Path = "model", "data"
		for set := range strings.SplitSeq(sets, ",") {
			name, value, _ := strings.Cut(set, "=")
			if err := s.Set(name, value, trainer.FromFlag); err != nil {
				panic(err)
			}
		}
		return Side{Name: sets, Config: s.Config, Bursts: m, Lengths: lengths, Prompts: prompts, Device: "cpu"}
	}
	return Question{A: side(a), B: side(b), Budget: 2 * time.Minute}
}

func TestWhichIsFaster(t *testing.T) {
	tests := []struct {
		name    string
		a, b    string
		noise   float64
		want    Verdict
		ratio   float64
		process bool // one for both
		says    string
	}{
		{"checkpointing costs", "grad-checkpoint=false", "grad-checkpoint=true", 0.05, Faster, 1.4, false, "A (grad-checkpoint=false) is 1."},
		{"the other way round", "grad-checkpoint=true", "grad-checkpoint=false", 0.05, Slower, 1 / 1.4, false, "B (grad-checkpoint=false) is 1."},
		{"across engines", "engine=native", "engine=mlx-lm,packing=auto", 0.05, Faster, 0, false, "as fast as B (engine=mlx-lm"},
		{"the same", "batch-size=4", "batch-size=4", 0.05, Even, 1, true, "equally fast to within"},
		{"batches share the weights", "batch-size=8", "batch-size=2", 0.05, Faster, 0, true, "A (batch-size=8) is 1."},
		{"noise hides it", "grad-checkpoint=false", "grad-checkpoint=false,seed=1", 1.5, Open, 0, false, "no difference in speed could be shown"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := &machine{seconds: linear, noise: tt.noise, drift: 0.02, load: 2, rng: rand.New(rand.NewPCG(1, 2))}
			q := question(m, tt.a, tt.b)
			r, err := q.Run(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			t.Log(r.Says)
			if r.Verdict != tt.want || r.OneProcess != tt.process || !strings.Contains(r.Says, tt.says) {
				t.Errorf("%s (one process: %t): %s", r.Verdict, r.OneProcess, r.Says)
			}
			if low, high := r.Speed.Low.Or(0), r.Speed.High.Or(0); tt.ratio > 0 && (low > tt.ratio*1.01 || high < tt.ratio/1.01) {
				t.Errorf("%.3g to %.3g, it is %.3g", low, high, tt.ratio)
			}
			if p, ok := r.Speed.P.Get(); !ok || (p < 0.05) != (r.Speed.Low.Or(0) > 1 || r.Speed.High.Or(2) < 1) {
				t.Errorf("p = %g and the interval %v to %v contradict each other", p, r.Speed.Low, r.Speed.High)
			}
			if len(r.A.PeakBytes.Values) == 0 || r.Processes != m.bursts {
				t.Errorf("%d processes, %d bursts, peaks %v", r.Processes, m.bursts, r.A.PeakBytes)
			}
		})
	}
}

// What is told is the speed over the whole epoch, whatever shapes stand for it.
func TestSpeedIsTheEpochs(t *testing.T) {
	m := &machine{seconds: linear, rng: rand.New(rand.NewPCG(1, 2))}
	q := question(m, "batch-size=4,packing=off", "batch-size=8,packing=off")
	r, err := q.Run(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for i, side := range []struct {
		Side
		Result
	}{{q.A, r.A}, {q.B, r.B}} {
		p := passOf(side.Side, 400, 2) // every batch by itself
		var seconds float64
		for k, s := range p.shapes {
			seconds += p.weights[k] / float64(s.Positions()) * linear(side.Config, s)
		}
		want := float64(p.useful) / seconds
		if got := side.TokensPerSecond.Median.Or(0); math.Abs(got/want-1) > 0.03 {
			t.Errorf("side %d: %.4g useful tokens a second, it is %.4g", i, got, want)
		}
	}
}

func TestTurnsAreTaken(t *testing.T) {
	m := &machine{seconds: linear, noise: 0.3, load: 1, rng: rand.New(rand.NewPCG(1, 2))}
	if _, err := question(m, "rank=8", "rank=16").Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	var ranks []int
	for _, j := range m.jobs {
		ranks = append(ranks, j.Config.Quality.Rank)
	}
	if want := []int{8, 16, 16, 8, 8, 16, 16, 8}; len(ranks) < 8 || !slices.Equal(ranks[:8], want) {
		t.Errorf("ranks %v, want %v", ranks, want)
	}
}

func TestWhatDoesNotRun(t *testing.T) {
	tests := []struct {
		name   string
		a, b   string
		change func(*machine, *Question)
		want   Verdict
		says   string
	}{
		{"too large", "batch-size=1", "batch-size=16", func(m *machine, _ *Question) { m.kill = 2e8 }, OnlyA, "get no memory"},
		{"too large, in processes of their own", "batch-size=16,rank=4", "batch-size=1", func(m *machine, _ *Question) { m.kill = 2e8 }, OnlyB, "get no memory"},
		{"refused", "rank=4", "rank=8", func(_ *machine, q *Question) { q.B.Problem = "by the estimate it needs too much" }, OnlyA, "by the estimate"},
		{"both refused", "rank=4", "rank=8", func(_ *machine, q *Question) { q.A.Problem, q.B.Problem = "no", "no" }, Neither, "neither could be measured"},
		{"killed once", "rank=4", "rank=8", func(m *machine, _ *Question) {
			m.dies = func(n int) *trainer.Result {
				if n == 2 {
					return &trainer.Result{Outcome: trainer.Killed}
				}
				return nil
			}
		}, Even, "equally fast"},
		{"no time", "rank=4", "rank=8", func(m *machine, q *Question) { m.load = 100; q.Budget = 30 * time.Second }, OnlyA, "the budget of 30s was spent"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := &machine{seconds: linear, noise: 0.02, load: 1, rng: rand.New(rand.NewPCG(1, 2))}
			q := question(m, tt.a, tt.b)
			tt.change(m, &q)
			r, err := q.Run(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			if r.Verdict != tt.want || !strings.Contains(r.Says, tt.says) {
				t.Errorf("%s: %s", r.Verdict, r.Says)
			}
		})
	}
}

// The interval must hold the true ratio 95 times of 100, and two that are the same
// must not be told apart more often than 5 times.
func TestIntervalsHoldWhatTheyPromise(t *testing.T) {
	for _, ratio := range []float64{1, 1.3} {
		missed, n := 0, 150
		for seed := range n {
			m := &machine{noise: 0.15, load: 1, rng: rand.New(rand.NewPCG(uint64(seed), 2))}
			m.seconds = func(c trainer.Config, s trainer.Shape) float64 {
				t := 1e-4 * float64(s.Positions())
				if c.Quality.Rank == 16 {
					t *= ratio
				}
				return t
			}
			r, err := question(m, "rank=8", "rank=16").Run(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			if r.Speed.Low.Or(0) > ratio || r.Speed.High.Or(math.Inf(1)) < ratio {
				missed++
			}
		}
		t.Logf("ratio %g: %d of %d intervals missed it", ratio, missed, n)
		if missed > n*8/100 {
			t.Errorf("ratio %g: %d of %d intervals missed it", ratio, missed, n)
		}
	}
}

func TestRatioAgreesWithTheTest(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	for range 300 {
		a, b := make([]float64, 2+rng.IntN(9)), make([]float64, 2+rng.IntN(9))
		for i := range a {
			a[i] = math.Exp(0.3 * rng.NormFloat64())
		}
		for i := range b {
			b[i] = math.Exp(0.3*rng.NormFloat64() + 0.4)
		}
		r := ratioOf(a, b)
		low, ok := r.Low.Get()
		if apart := ok && (low > 1 || r.High.Or(0) < 1); apart != (r.P.Or(1) <= 1-confidence) && len(a)+len(b) > 7 {
			t.Errorf("p = %v, interval %v to %v of %d and %d", r.P, r.Low, r.High, len(a), len(b))
		}
	}
}
