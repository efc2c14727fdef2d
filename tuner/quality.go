package tuner

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/mlxdyno/mlxdyno/probe/budget"
	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/tuner/predict"
)

const (
	evalBatches    = 25   // of validation rows, at most: as many as a training looks at by default
	fewestBatches  = 4    // fewer say nothing of how sure a loss is
	evalOverdraft  = 0.10 // of the budget that evaluations may take beyond its end
	resamplings    = 2000
	bootstrapSeed  = 0x6c6f7373
	forwardsMargin = 1.5 // on the predicted time of an evaluation
)

// WhatBitsCost names that in what was not tried.
const WhatBitsCost = "what fewer bits cost on your validation rows"

// BaseLoss is what the base as loaded, with no adapter trained yet, loses on the
// user's own validation rows, and what its bits cost against the best of those that
// were measured. Intervals hold 95 %, by resampling batches; those of the cost by
// resampling pairs, for all see the same batches.
type BaseLoss struct {
	Bits     int                  `json:"bits"`          // 0 is as stored
	Loss     trainer.Opt[float64] `json:"loss,omitzero"` // unknown when Why says so
	Low      trainer.Opt[float64] `json:"low,omitzero"`
	High     trainer.Opt[float64] `json:"high,omitzero"`
	Cost     trainer.Opt[float64] `json:"cost,omitzero"` // Loss less that of Against
	CostLow  trainer.Opt[float64] `json:"cost_low,omitzero"`
	CostHigh trainer.Opt[float64] `json:"cost_high,omitzero"`
	Against  trainer.Opt[int]     `json:"against,omitzero"` // bits
	Batches  int                  `json:"batches,omitempty"`
	Tokens   int64                `json:"tokens,omitempty"` // supervised
	Why      string               `json:"why,omitempty"`    // it was not measured, or has no interval
}

// measureQuality evaluates the base at all bits of the space, best first. It does
// so when the search is done, with what is then known of times, so that evidence
// takes nothing from the choice of what it is about.
func (r *run) measureQuality(ctx context.Context, f *finalist) error {
	var levels []int
	for _, bits := range r.axes.bits {
		levels = append(levels, bits...)
	}
	slices.SortFunc(levels, func(a, b int) int { return bitsOf(b) - bitsOf(a) })
	levels = slices.Compact(levels)
	if len(levels) < 2 {
		return nil
	}
	skip := func(hint, format string, args ...any) {
		r.report.NotTried = append(r.report.NotTried, NotTried{What: WhatBitsCost, Why: fmt.Sprintf(format, args...) + hint})
	}
	if r.Tokens.Valid == "" || r.ValidRows < fewestBatches {
		skip("; put a valid.jsonl beside train.jsonl", "there are %d validation rows", r.ValidRows)
		return nil
	}
	if f.Bits != levels[0] { // what was given up must be known, if it takes a while longer
		defer func(asked time.Duration) { r.Wishes.Budget = asked }(r.Wishes.Budget)
		r.Wishes.Budget = max(r.Wishes.Budget, r.bursts.spent) + r.Wishes.Budget/2
	}
	job, batch := r.evaluation(f)
	left := r.bursts.left().Seconds() + evalOverdraft*r.Wishes.Budget.Seconds()
	batches := &job.Config.Schedule.ValBatches
	for ; ; *batches-- {
		need := float64(len(levels)) * r.evalSeconds(f, batch, *batches)
		if need <= left {
			break
		}
		if *batches <= fewestBatches {
			skip("; give the study more with --budget, and it goes on where it is", "%d evaluations of %d batches would take %.0f s, and %.0f s are left", len(levels), *batches, need, max(left, 0))
			return nil
		}
	}
	found := map[int]trainer.Eval{}
	for _, bits := range levels {
		loss := BaseLoss{Bits: bits}
		e, why, err := r.evaluateBase(ctx, job, f, bits)
		if err != nil {
			return err
		}
		if loss.Why = why; why == "" {
			found[bits] = e
			r.fillLoss(&loss, e)
		}
		r.report.Quality = append(r.report.Quality, loss)
	}
	r.fillCosts(found)
	return nil
}

// evaluation is a job that evaluates before its first step, and ends after it. The
// step is as small as can be: with checkpointing, and adapters of rank 1.
func (r *run) evaluation(f *finalist) (trainer.Job, int) {
	batch := min(f.Batch, max(1, r.ValidRows/fewestBatches))
	p := f.Point
	p.Batch, p.Accumulation, p.Rank, p.Checkpointing = batch, 1, 1, true
	c := r.config(p)
	c.Quality.Dropout = 0
	c.Schedule.ValBatches = min(evalBatches, r.ValidRows/batch)
	return trainer.Job{Config: c, UntilStep: 1, Evaluate: true}, batch
}

// evalSeconds is about how long an evaluation of so many batches takes, with its
// loading and its step.
func (r *run) evalSeconds(f *finalist, batch, batches int) float64 {
	plan := r.epoch(batch, f.MaxSeqLength)
	step := 0.0
	if e, ok := r.model.Seconds(predict.Condition{Bits: f.Bits, Rank: f.Rank}, float64(plan.Widest.Positions()), plan.Work...); ok {
		step = f.ratio * e.Value / float64(max(plan.Batches, 1))
	}
	return r.load + forwardsMargin*step*(2+forwardShare*float64(batches))
}

// evaluateBase returns the base's evaluation at so many bits, or why there is none.
func (r *run) evaluateBase(ctx context.Context, job trainer.Job, f *finalist, bits int) (trainer.Eval, string, error) {
	job.Config.Model.Quantize = bits
	p := f.Point
	p.Bits, p.Rank, p.Batch, p.Accumulation, p.Checkpointing = bits, 1, job.Config.Plan.Batch, 1, true
	widest := r.epoch(p.Batch, p.MaxSeqLength).Widest
	if need := budget.StepsOf(r.Facts, job.Config, r.device).Peak(widest); need > r.usable() {
		return trainer.Eval{}, fmt.Sprintf("by the estimate it needs %s, and %s may be used", trainer.FormatBytes(need), trainer.FormatBytes(r.usable())), nil
	}
	if r.bursts.left() <= 0 {
		return trainer.Eval{}, "the budget was spent", nil
	}
	burst, err := r.bursts.run(ctx, "quality", "evaluate "+bitsText([]int{bits})+" on validation rows", p, job)
	if err != nil {
		return trainer.Eval{}, "", err
	}
	evals := burst.Summary.Evals
	switch {
	case len(evals) > 0 && evals[0].AfterStep == 0 && evals[0].Loss.Finite():
		return evals[0].Eval, "", nil
	case len(evals) > 0 && evals[0].AfterStep == 0:
		return trainer.Eval{}, "its loss is not finite", nil
	case !burst.Result.Outcome.Good():
		return trainer.Eval{}, burst.Problem(), nil
	}
	return trainer.Eval{}, "the engine said no loss before the first step", nil
}

// paired reports whether batches can be resampled.
func paired(e trainer.Eval) bool {
	return len(e.Losses) >= fewestBatches && len(e.Losses) == len(e.Tokens)
}

func (r *run) fillLoss(l *BaseLoss, e trainer.Eval) {
	l.Loss, l.Batches = trainer.Some(float64(e.Loss)), e.Batches
	if !paired(e) {
		l.Why = "no interval: the engine tells the mean alone"
		return
	}
	for _, n := range e.Tokens {
		l.Tokens += int64(n)
	}
	low, high := resampled(e.Tokens, func(i int) float64 { return float64(e.Losses[i]) })
	l.Low, l.High = trainer.Some(low), trainer.Some(high)
}

// fillCosts holds every loss against that of the most bits that was measured.
func (r *run) fillCosts(found map[int]trainer.Eval) {
	best := slices.IndexFunc(r.report.Quality, func(l BaseLoss) bool { return l.Loss.Known() })
	for i := range r.report.Quality {
		l := &r.report.Quality[i]
		if i <= best || best < 0 || !l.Loss.Known() {
			continue
		}
		against := r.report.Quality[best]
		a, b := found[against.Bits], found[l.Bits]
		l.Against = trainer.Some(against.Bits)
		l.Cost = trainer.Some(float64(b.Loss - a.Loss))
		if paired(a) && paired(b) && slices.Equal(a.Tokens, b.Tokens) {
			low, high := resampled(b.Tokens, func(i int) float64 { return float64(b.Losses[i] - a.Losses[i]) })
			l.CostLow, l.CostHigh = trainer.Some(low), trainer.Some(high)
		}
	}
}

// resampled is the 95 % interval of the mean of a value of batches, weighted with
// their tokens, by the bootstrap: batches drawn anew with replacement.
func resampled(tokens []int, value func(int) float64) (low, high float64) {
	rng := rand.New(rand.NewPCG(bootstrapSeed, uint64(len(tokens)))) //nolint:gosec // not for secrets
	means := make([]float64, resamplings)
	for k := range means {
		var sum, weight float64
		for range tokens {
			i := rng.IntN(len(tokens))
			sum += float64(tokens[i]) * value(i)
			weight += float64(tokens[i])
		}
		means[k] = sum / math.Max(weight, 1)
	}
	slices.Sort(means)
	return means[resamplings*25/1000], means[resamplings*975/1000-1]
}

// qualityText is what was measured, for the reason of quantize; empty when nothing
// was.
func qualityText(losses []BaseLoss) string {
	var parts []string
	for _, l := range losses {
		name := fmt.Sprintf("%d bits", l.Bits)
		if l.Bits == 0 {
			name = "as stored"
		}
		loss, ok := l.Loss.Get()
		cost, costs := l.Cost.Get()
		low, interval := l.CostLow.Get()
		switch {
		case !ok:
			parts = append(parts, name+" not measured")
		case costs && interval:
			parts = append(parts, fmt.Sprintf("%s %+.3g (%+.3g to %+.3g)", name, cost, low, l.CostHigh.Or(0)))
		case costs:
			parts = append(parts, fmt.Sprintf("%s %+.3g", name, cost))
		default:
			parts = append(parts, fmt.Sprintf("%s %.4g", name, loss))
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return "the untrained base's loss on your validation rows: " + strings.Join(parts, ", ")
}
