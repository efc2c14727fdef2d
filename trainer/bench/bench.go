// Package bench compares engines, or forms of one, on the same steps, side by
// side.
//
// A figure of speed means little by itself: machines are shared, warm up and
// throttle. So contestants run in turns, forth and back (A B B A), each in a
// process of its own, and what is reported is the ratio of each to the last one
// within a round, with the interval over rounds. A slow minute hits all.
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
	// Ready is called before every process and may change its job; it may be nil.
	Ready func(*trainer.Job) error
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
	TokensPerSecond float64 `json:"tokens_per_second"` // useful ones: padding does not count; over step and data time
	PaddingShare    float64 `json:"padding_share"`     // of all positions that went through
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

	// ValidationLoss is that of what its last process has trained, where all
	// contestants are judged by one and the same evaluation.
	ValidationLoss trainer.Opt[float64] `json:"validation_loss,omitzero"`
	Ratio          *Ratio               `json:"ratio,omitempty"` // to the last contestant, which has none
}

// Ratio is how many times as fast a contestant is as the last one.
type Ratio struct {
	Speed  float64              `json:"speed"`         // geometric mean over rounds
	Low    trainer.Opt[float64] `json:"low,omitzero"`  // 95 % interval, by Student's t over the logarithms of the rounds;
	High   trainer.Opt[float64] `json:"high,omitzero"` // unknown after a single one
	Peak   float64              `json:"peak"`          // of its peak memory to the last contestant's
	Rounds int                  `json:"rounds"`
}

// Compare runs all contestants, the last of which the others are held against. A
// process that does not finish is an error.
func Compare(ctx context.Context, all []Contestant, o Options) ([]Side, error) {
	if o.Rounds < 1 || len(all) == 0 {
		return nil, errors.New("compare engines: there is no round to run")
	}
	sides := make([]Side, len(all))
	order := make([]int, 0, 2*len(all))
	for i, c := range all {
		sides[i].Name = c.Name
		order = append(order, i)
	}
	back := slices.Clone(order)
	slices.Reverse(back)
	order = append(order, back...)
	logs := make([][]float64, len(all)) // of ratios, by round
	for round := range o.Rounds {
		seconds := make([]float64, len(all)) // a token
		for _, i := range order {
			if o.Progress != nil {
				o.Progress(round+1, o.Rounds, all[i].Name)
			}
			r, err := measure(ctx, all[i], o.Warmup)
			if err != nil {
				return nil, fmt.Errorf("compare engines: %s: %w", all[i].Name, err)
			}
			s := &sides[i]
			s.Runs = append(s.Runs, r)
			s.PeakBytes = max(s.PeakBytes, r.PeakBytes)
			s.Loss = r.Loss
			seconds[i] += 1 / r.TokensPerSecond
		}
		peer := seconds[len(seconds)-1]
		for i := range logs {
			logs[i] = append(logs[i], math.Log(peer/seconds[i]))
		}
	}
	peer := len(all) - 1
	for i := range sides {
		sides[i].TokensPerSecond = sides[i].median()
		if i != peer {
			r := ratioOf(logs[i])
			r.Peak = float64(sides[i].PeakBytes) / float64(sides[peer].PeakBytes)
			sides[i].Ratio = &r
		}
	}
	return sides, nil
}

// ratioOf sums up the logarithms of the rounds' ratios.
func ratioOf(logs []float64) Ratio {
	n := float64(len(logs))
	r := Ratio{Speed: math.Exp(stat.Mean(logs, nil)), Rounds: len(logs)}
	if len(logs) > 1 {
		mean, deviation := stat.MeanStdDev(logs, nil)
		half := distuv.StudentsT{Mu: 0, Sigma: 1, Nu: n - 1}.Quantile(0.975) * deviation / math.Sqrt(n)
		r.Low, r.High = trainer.Some(math.Exp(mean-half)), trainer.Some(math.Exp(mean+half))
	}
	return r
}

// PaddingShare is that of the last process.
func (s Side) PaddingShare() float64 {
	if len(s.Runs) == 0 {
		return 0
	}
	return s.Runs[len(s.Runs)-1].PaddingShare
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
	if c.Ready != nil {
		if err := c.Ready(&c.Job); err != nil {
			return Run{}, err
		}
	}
	p, err := c.Engine.Process(c.Job)
	if err != nil {
		return Run{}, err
	}
	var out Run
	var steps int
	var seconds float64
	var tokens, positions int64
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
			tokens += s.Tokens
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
	case steps <= warmup || seconds <= 0 || positions == 0:
		return Run{}, fmt.Errorf("%d steps are no more than the %d of the warm-up", steps, warmup)
	}
	out.StepSeconds = seconds / float64(steps-warmup)
	out.TokensPerSecond = float64(tokens) / seconds
	out.PaddingShare = 1 - float64(tokens)/float64(positions)
	return out, nil
}
