// Package bench compares engines on the same steps, side by side.
//
// A figure of speed means little by itself: machines are shared, warm up and
// throttle. So contestants run in turns, forth and back (A B B A), each in a
// process of its own, and what is reported is their ratio within a round with
// the interval over rounds. A slow minute hits both.
package bench

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/gonum/stat/distuv"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/worker"
)

// Contestant is an engine with a job for it.
type Contestant struct {
	Name   string
	Engine trainer.Engine
	Job    trainer.Job
}

// Options of Compare.
type Options struct {
	Rounds int // of A B B A
	Warmup int // first steps of every process, which do not count
	// Progress is told before every process; it may be nil.
	Progress func(round, of int, name string)
}

// Run is what one process measured after its warm-up.
type Run struct {
	TokensPerSecond float64 `json:"tokens_per_second"` // of all positions, padding too, over step and data time
	StepSeconds     float64 `json:"step_seconds"`      // mean
	PeakBytes       int64   `json:"peak_bytes"`
	Loss            float64 `json:"loss"` // of the last step
}

// Side is one contestant's results.
type Side struct {
	Name            string  `json:"name"`
	TokensPerSecond float64 `json:"tokens_per_second"` // median of its processes
	PeakBytes       int64   `json:"peak_bytes"`        // highest
	Loss            float64 `json:"loss"`              // of the last step, in its last process
	Runs            []Run   `json:"runs"`
}

// Ratio is how many times as fast the first is as the second.
type Ratio struct {
	Speed  float64 `json:"speed"` // geometric mean over rounds
	Low    float64 `json:"low"`   // 95 % interval, by Student's t over the logarithms of the rounds
	High   float64 `json:"high"`
	Peak   float64 `json:"peak"` // of the first's peak memory to the second's
	Rounds int     `json:"rounds"`
}

// Comparison is the result.
type Comparison struct {
	A     Side  `json:"a"`
	B     Side  `json:"b"`
	Ratio Ratio `json:"ratio"`
}

// Compare runs both contestants. A process that does not finish is an error.
func Compare(ctx context.Context, a, b Contestant, o Options) (Comparison, error) {
	c := Comparison{A: Side{Name: a.Name}, B: Side{Name: b.Name}}
	if o.Rounds < 2 {
		return c, errors.New("compare engines: an interval needs 2 rounds or more")
	}
	var logs []float64
	for round := range o.Rounds {
		var seconds [2]float64
		for _, side := range []int{0, 1, 1, 0} {
			who, into := a, &c.A
			if side == 1 {
				who, into = b, &c.B
			}
			if o.Progress != nil {
				o.Progress(round+1, o.Rounds, who.Name)
			}
			r, err := measure(ctx, who, o.Warmup)
			if err != nil {
				return c, fmt.Errorf("compare engines: %s: %w", who.Name, err)
			}
			into.Runs = append(into.Runs, r)
			into.PeakBytes = max(into.PeakBytes, r.PeakBytes)
			into.Loss = r.Loss
			seconds[side] += 1 / r.TokensPerSecond
		}
		logs = append(logs, math.Log(seconds[1]/seconds[0]))
	}
	c.A.TokensPerSecond, c.B.TokensPerSecond = c.A.median(), c.B.median()
	c.Ratio = ratioOf(logs)
	c.Ratio.Peak = float64(c.A.PeakBytes) / float64(c.B.PeakBytes)
	return c, nil
}

// ratioOf sums up the logarithms of the rounds' ratios.
func ratioOf(logs []float64) Ratio {
	n := float64(len(logs))
	mean, deviation := stat.MeanStdDev(logs, nil)
	half := distuv.StudentsT{Mu: 0, Sigma: 1, Nu: n - 1}.Quantile(0.975) * deviation / math.Sqrt(n)
	return Ratio{Speed: math.Exp(mean), Low: math.Exp(mean - half), High: math.Exp(mean + half), Rounds: len(logs)}
}

func (s Side) median() float64 {
	var v []float64
	for _, r := range s.Runs {
		v = append(v, r.TokensPerSecond)
	}
	slices.Sort(v)
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// measure runs one process.
func measure(ctx context.Context, c Contestant, warmup int) (Run, error) {
	p, err := c.Engine.Process(c.Job)
	if err != nil {
		return Run{}, err
	}
	var out Run
	var steps int
	var seconds float64
	var positions int64
	result, err := worker.Run(ctx, p, c.Job, worker.Options{}, func(e trainer.Event) error {
		s, ok := e.Payload.(trainer.Step)
		if !ok {
			return nil
		}
		if peak, known := s.Memory.Peak.Get(); known {
			out.PeakBytes = max(out.PeakBytes, peak)
		}
		out.Loss = float64(s.Loss)
		if steps++; steps > warmup {
			seconds += s.Seconds + s.DataSeconds
			positions += s.Shape.Positions()
		}
		return nil
	})
	switch {
	case err != nil:
		return Run{}, err
	case result.Failure != nil:
		return Run{}, errors.New(result.Failure.Text)
	case !result.Outcome.Good():
		return Run{}, fmt.Errorf("its process %s", result.Outcome)
	case steps <= warmup || seconds <= 0:
		return Run{}, fmt.Errorf("%d steps are no more than the %d of the warm-up", steps, warmup)
	}
	out.StepSeconds = seconds / float64(steps-warmup)
	out.TokensPerSecond = float64(positions) / seconds
	return out, nil
}
