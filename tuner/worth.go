package tuner

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/tuner/predict"
	"github.com/mlxdyno/mlxdyno/tuner/search"
)

// A process is the dearest thing that a search spends. What decides here is what one
// is expected to save.

// unsure is the relative error of predicted times from which on they say nothing of
// what larger batches could gain: with fewer shapes than constants it is a guess of
// that size.
const unsure = 0.10

// worthAProcess is the share of the time that a candidate must be expected to save: half
// of what counts as a tie. On tables of real bursts anything between 1.5 and 4 % takes as
// many processes, give or take one, to the same end.
const worthAProcess float64 = search.Tie / 2

// expected is what a try is expected to save when it is kept only if it does: the mean of
// what is above zero of a normal distribution.
func expected(mean, deviation float64) float64 {
	z := mean / deviation
	return mean*math.Erfc(-z/math.Sqrt2)/2 + deviation*math.Exp(-z*z/2)/math.Sqrt(2*math.Pi)
}

// maxDoubts is how many candidates that may not fit are tried before one did.
const maxDoubts = 3

// hardly is how much less than estimated from files a peak is given the chance to be:
// far less than the 15 % by which estimates are off, as what is not measured for their
// sake is not found out.
const hardly = 0.5

// saves reports whether p differs from the fastest bits and checkpointing of the
// space by things that save memory and can only cost time: checkpointing, and on a
// CPU, which computes with the weights unpacked, fewer bits.
func (r *run) saves(p Point) bool {
	fewer, checkpoints := p.Bits != r.space.Bits[0], p.Checkpointing && !r.space.Checkpointing[0]
	return (fewer || checkpoints) && (!fewer || r.device == "cpu")
}

// couldPay reports whether what p saves could pay, by more than a tie, with a
// larger batch: one that without it does not fit, and by the estimate might with it.
func (r *run) couldPay(p Point) bool {
	if r.Wishes.Prefer != Speed || !r.saves(p) {
		return true
	}
	problem := r.problem()
	problem.Space.Bits, problem.Space.Checkpointing = problem.Space.Bits[:1], problem.Space.Checkpointing[:1]
	fits := map[Point]bool{}
	for _, c := range search.Enumerate(problem).Feasible {
		fits[c.Point] = true
	}
	for _, f := range r.measured {
		fits[f.Point] = true
	}
	have, might := math.Inf(1), math.Inf(1)
	problem.Limit, problem.Reject = math.MaxInt64, nil
	all := search.Enumerate(problem).Feasible
	if len(all) == len(fits) {
		return false // there is room for everything
	}
	if r.model.TimeError() >= unsure {
		return true
	}
	for _, c := range all {
		seconds := r.lighten(c).SecondsPerUsefulToken
		if fits[c.Point] {
			have = min(have, seconds)
		}
		q := c.Point
		q.Bits, q.Checkpointing = p.Bits, p.Checkpointing
		widest := r.epoch(q.Batch, q.MaxSeqLength).Widest
		if min(hardly*float64(r.estimate(q, widest)), r.model.Guess(q.Condition(), widest).Value) <= float64(r.usable()) {
			might = min(might, seconds)
		}
	}
	return have > might*(1+search.Tie)
}

// heldBack is a calibration that could not change what is recommended, as far as was
// known.
type heldBack struct {
	Point
	why string // empty when its point is known otherwise
}

// calibrateHeldBack runs the first of the calibrations held back that could pay after
// all: what was measured since may have left less that fits. It reports whether there
// was one.
func (r *run) calibrateHeldBack(ctx context.Context) (bool, error) {
	for i, h := range r.heldBack {
		if _, worth := r.worthCalibrating(h.Point); worth && r.bursts.left() > r.needForWinner() {
			r.heldBack = slices.Delete(r.heldBack, i, i+1)
			err := r.calibrateIfTime(ctx, h.Point, 0, 1)
			r.enumerate()
			return err == nil, err
		}
	}
	return false, nil
}

// doubtful returns the candidate among those that might exceed the limit from which
// most is to be expected: what it would save, times how likely it fits. That must be
// worth so much of the time. When nothing was measured yet, anything is, a few times: what is
// measured of one that dies tells how much the others take.
func (r *run) doubtful(done []*finalist, tried map[Point]bool, worth float64) (search.Candidate, bool) {
	if len(done) > 0 && (r.Wishes.Prefer == Memory || r.bursts.left() < r.needForWinner()) || len(done) == 0 && len(tried) >= maxDoubts {
		return search.Candidate{}, false
	}
	var best search.Candidate
	most := 0.0
	for _, c := range r.outcome.Doubtful {
		if tried[c.Point] || !r.worthConfirming(c) || len(tried) > 0 && r.leanest(c) > r.bursts.left() ||
			len(done) > 0 && r.onlySaves(c) || r.Wishes.Prefer == Quality && len(done) > 0 && quality(c) != quality(done[0].Candidate) {
			continue
		}
		value := math.Inf(1)
		if len(done) == 0 {
			value = 1 / c.SecondsPerUsefulToken
		}
		for _, f := range done {
			value = min(value, 1-c.SecondsPerUsefulToken*r.missed(f)/f.SecondsPerUsefulToken)
		}
		value *= r.fitting(c)
		if value > most && (len(done) == 0 || value > worth) {
			best, most = c, value
		}
	}
	return best, most > 0
}

// fitting is how likely a candidate fits: by the logistic distribution, as what
// formulas are off by has wider tails than noise.
func (r *run) fitting(c search.Candidate) float64 {
	z := float64(r.usable()-c.PeakBytes) / math.Max(float64(c.PeakErrorBytes), 1)
	return 1 / (1 + math.Exp(-z*math.Pi/math.Sqrt(3)))
}

// worthCalibrating reports whether a burst to calibrate p could change what is
// recommended, and if not, why. Other bits are measured when one of their
// candidates is confirmed, which tells as much (learn). A higher rank is neither
// faster nor smaller, so nothing that it could show matters.
func (r *run) worthCalibrating(p Point) (why string, worth bool) {
	first := r.anchor(r.space.Checkpointing[0])
	first.Bits = r.calibrated
	if r.model == nil || r.Wishes.Prefer != Speed || !r.model.Measured(first.Condition()) {
		return "", true
	}
	switch {
	case p.Rank != first.Rank:
		return "of the ranks that are allowed the least is the fastest and the smallest", false
	case !r.couldPay(p):
		return fmt.Sprintf("without it batches fit %s that are as fast as those that it could make room for", trainer.FormatBytes(r.usable())), false
	}
	return "", p.Bits == first.Bits
}

// worthConfirming reports whether a candidate could be the best although nothing
// of the kind was measured.
func (r *run) worthConfirming(c search.Candidate) bool {
	return r.Wishes.Prefer != Speed || c.Rank == r.space.Ranks[0] && (r.model.Measured(c.Condition()) || r.couldPay(c.Point))
}

// onlySaves reports whether all that is known of c's time is that of a candidate
// which is as fast or faster, and takes more memory.
func (r *run) onlySaves(c search.Candidate) bool {
	return r.saves(c.Point) && r.Wishes.Prefer == Speed && !r.model.Measured(c.Condition())
}

// after reports whether c should wait for another candidate that is predicted to be as
// fast: one of a kind that was measured, or one with more bits, which tells of fewer.
func (r *run) after(c search.Candidate, tried map[Point]bool) bool {
	return r.onlySaves(c) && slices.ContainsFunc(r.outcome.Feasible, func(d search.Candidate) bool {
		return !tried[d.Point] && r.worthConfirming(d) && (r.model.Measured(d.Condition()) || r.onlySaves(d) && bitsOf(d.Bits) > bitsOf(c.Bits)) &&
			d.SecondsPerUsefulToken <= c.SecondsPerUsefulToken*(1+search.Tie)
	})
}

// precise is how well a confirmation should know the time of a shape, relative.
// Processes of one configuration differ by more, so more steps would not help.
const precise = 0.03

// confirmSteps is how many steps of a shape tell its time as well, by how far the
// steps of a shape differed so far, with the first that does not count.
func (r *run) confirmSteps() int {
	if len(r.noise) == 0 {
		return maxSteps
	}
	n := math.Pow(predict.Median(r.noise)/precise, 2)
	return min(max(int(math.Ceil(n))+1, fewestSteps), maxSteps)
}

// noteNoise keeps how far the steps of each shape differ, relative.
func (r *run) noteNoise(b trainer.Burst) {
	for _, s := range b.Summary.Shapes {
		times := timesOf(b, trainer.Shape{Batch: s.Batch, Width: s.Width})
		if len(times) < 2 {
			continue
		}
		var sum, squares float64
		for _, t := range times {
			sum += t
		}
		mean := sum / float64(len(times))
		for _, t := range times {
			squares += (t - mean) * (t - mean)
		}
		r.noise = append(r.noise, math.Sqrt(squares/float64(len(times)-1))/mean)
	}
}
