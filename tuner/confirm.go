package tuner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/tuner/predict"
	"github.com/mlxdyno/mlxdyno/tuner/search"
)

const (
	maxFinalists = 3
	maxStrata    = 4
	widestSteps  = 2      // at the widest batch; with accumulation at least one of two accumulates
	maxSteps     = 8      // at a stratum
	fewestSteps  = 5      // at a stratum, if there is time
	hardlySlower = 0.0125 // measured, and not worth any memory, however unsure it is

	// betweenProcesses is by how much the mean step of one configuration differs
	// from process to process, relative.
	betweenProcesses = 0.04
	// withinProcess is by how much it differs from turn to turn of one process at least.
	withinProcess = 0.01
)

// finalist is a candidate that was confirmed: run on shapes that stand for the
// data's own batches.
type finalist struct {
	search.Candidate
	plan     *epoch
	least    float64 // least measured over predicted time, weighted by the epoch's time: what finalists are compared by
	ratio    float64 // the same of the median, and with the rehearsal's steps: what is promised
	spread   float64 // relative standard error of ratio
	wobble   float64 // relative spread of single steps of one shape
	covered  float64 // seconds that were timed
	peak     int64   // measured at the widest batch
	peakBias float64 // measured over predicted peak there
	jitter   int64   // highest less middle peak of the same shape; less lowest of one or two
	cache    int64   // most that the allocator kept for reuse; what it may keep, where that was set anew
	trace    float64 // seconds that the first step of a shape takes longer than the others
	drift    float64 // relative change of step time over the stability burst
	data     float64 // data time over step time
	process  int     // that confirmed it, by its burst
	alone    bool    // the prediction rests on the confirmation itself
	inOrder  bool    // the rehearsal met the batches that were foreseen
	lacks    string  // why it was not confirmed; empty when it was
	unseen   bool    // peak is an upper bound: the widest batch was not run yet
	lower    lowering
	recached bool // its cache was set anew since it was timed

	plain     search.Candidate   // as it was confirmed, before knobs were turned at it
	gain      float64            // part of that time that it takes since; 0 when none was tried
	unlimited trainer.Opt[int64] // MLX's memory limit while it was confirmed
	config    trainer.Config
}

// seconds is the confirmed time of a step of shape s.
func (r *run) seconds(p Point, s trainer.Shape) float64 {
	e, ok := r.model.Seconds(p.Condition(), float64(s.Positions()), predict.WorkOf(s))
	if !ok {
		return 0
	}
	return e.Value
}

// stepOf is seconds of one point.
func (r *run) stepOf(p Point) func(trainer.Shape) float64 {
	return func(s trainer.Shape) float64 { return r.seconds(p, s) }
}

func (r *run) peakAt(p Point, s trainer.Shape) float64 {
	e, ok := r.model.Peak(p.Condition(), s)
	if !ok {
		return 0
	}
	return e.Value + float64(r.problem().Beside(p, int64(e.Value)))
}

// confirm runs the best candidates, as long as one is worth a process, and returns the
// winner: the best of those that were measured; when the time is over
// the best of those that were measured in part, or else of those that are only
// predicted. It is nil when none of them fits.
func (r *run) confirm(ctx context.Context) (*finalist, error) {
	var partly []*finalist
	tried := map[Point]bool{}
	for _, f := range r.measured {
		tried[f.Point] = true
	}
	for len(tried) < 2*maxFinalists {
		c, ok := r.nextFinalist(r.measured, tried)
		enough, worth := len(r.measured) >= maxFinalists, worthAProcess
		if enough { // what was measured last may have shown that another fits, which must be more than a tie
			ok, worth = ok && r.clearlyFaster(c), search.Tie
		}
		if d, doubtful := r.doubtful(r.measured, tried, worth); doubtful && (!ok || len(r.measured) > 0) { // more is to be expected of it than of one like those measured
			c, ok = d, true
		}
		if !ok && enough {
			break
		}
		if !ok {
			more, err := r.calibrateHeldBack(ctx)
			if err != nil {
				return nil, err
			}
			if !more {
				break
			}
			continue
		}
		tried[c.Point] = true
		done, part, err := r.confirmTogether(ctx, r.group(c, tried))
		if errors.Is(err, errSpent) {
			break
		}
		if err != nil {
			return nil, err
		}
		for _, f := range done {
			tried[f.Point] = true
			r.measured = append(r.measured, f)
		}
		if part != nil {
			partly = append(partly, part)
		}
		r.enumerate()
	}
	r.noteUntried(tried)
	partly = slices.DeleteFunc(partly, func(f *finalist) bool { return !r.feasible(f.Point) })
	switch {
	case len(r.measured) > 0:
		return r.best(r.measured), nil
	case len(partly) > 0:
		return r.best(partly), nil
	case len(r.outcome.Feasible) > 0:
		return r.predicted(r.outcome.Feasible[0]), nil
	}
	return nil, nil
}

// nextFinalist returns the candidate that most deserves a burst of its own: the
// best predicted first, then others that are worth trying. After the first, those
// that the time left would not measure are passed over.
func (r *run) nextFinalist(done []*finalist, tried map[Point]bool) (search.Candidate, bool) {
	if len(done) > 0 && r.bursts.left() < r.needForWinner() {
		return search.Candidate{}, false
	}
	for _, c := range r.outcome.Feasible {
		if tried[c.Point] || !r.worthConfirming(c) || r.after(c, tried) || r.Wishes.Prefer == Quality && len(done) > 0 && quality(c) != quality(done[0].Candidate) ||
			len(tried) > 0 && r.leanest(c) > r.bursts.left() {
			continue
		}
		if !slices.ContainsFunc(done, func(f *finalist) bool { return !r.worthTrying(c, f) }) {
			return c, true
		}
	}
	return search.Candidate{}, false
}

func (r *run) feasible(p Point) bool {
	return slices.ContainsFunc(r.outcome.Feasible, func(c search.Candidate) bool { return c.Point == p })
}

// clearlyFaster reports whether c is predicted to be faster than all that was measured, by
// more than a tie.
func (r *run) clearlyFaster(c search.Candidate) bool {
	best := r.best(r.measured)
	return r.Wishes.Prefer == Speed && c.SecondsPerUsefulToken*r.missed(best)*(1+search.Tie) < best.SecondsPerUsefulToken
}

// noteUntried names the best candidate that may be faster than what was measured and
// for whose burst there is no time.
func (r *run) noteUntried(tried map[Point]bool) {
	if len(r.measured) == 0 || r.bursts.left() >= r.needForWinner() {
		return
	}
	best := r.best(r.measured)
	for _, c := range r.outcome.Feasible {
		if faster := 1 - c.SecondsPerUsefulToken*r.missed(best)/best.SecondsPerUsefulToken; !tried[c.Point] && faster > search.Tie {
			r.report.NotTried = append(r.report.NotTried, NotTried{What: c.String(),
				Why: fmt.Sprintf("it is predicted to be %.0f %% faster than what was chosen, and there is no time left to see; give the search more with --budget", 100*faster)})
			return
		}
	}
}

func quality(c search.Candidate) [3]int { return [3]int{bitsOf(c.Bits), c.MaxSeqLength, c.Rank} }

// worthTrying reports whether enough is to be expected of c, given f that was measured,
// for a process.
func (r *run) worthTrying(c search.Candidate, f *finalist) bool {
	if r.Wishes.Prefer == Memory {
		return c.PeakBytes-2*c.PeakErrorBytes < f.peak
	}
	if r.onlySaves(c) { // then what is predicted of its time is the least
		return c.SecondsPerUsefulToken*r.missed(f)*(1+search.Tie) < f.SecondsPerUsefulToken
	}
	// How measurement and prediction differ for f is likely how they do for c.
	gain := 1 - c.SecondsPerUsefulToken*r.missed(f)/f.SecondsPerUsefulToken
	return expected(gain, math.Hypot(math.Hypot(f.spread, betweenProcesses), r.model.TimeError())) > worthAProcess
}

// needForWinner is the time to keep for the stability burst and the rehearsal.
func (r *run) needForWinner() time.Duration {
	return 2*r.loadTime() + r.Wishes.Budget/4
}

// predicted is a finalist of which nothing but the model speaks.
func (r *run) predicted(c search.Candidate) *finalist {
	f := &finalist{Candidate: c, plan: r.epoch(c.Batch, c.MaxSeqLength), config: r.config(c.Point)}
	f.lacks = fmt.Sprintf("the budget of %s was spent before any configuration could be confirmed (%s): this one is predicted from calibration", trainer.FormatDuration(r.Wishes.Budget), r.paceText())
	r.setCache(f)
	r.assume(f)
	return f
}

// assume fills in what was not measured of a finalist: the pace of the last burst,
// and the peak that is not exceeded with 99 % confidence.
func (r *run) assume(f *finalist) {
	if f.ratio == 0 {
		f.least, f.ratio = r.pace, r.pace
	}
	f.spread = math.Max(f.spread, math.Hypot(r.model.TimeError(), math.Log(r.pace)/2))
	if f.peak == 0 {
		f.unseen = true
		f.peak, f.peakBias = int64(r.peakAt(f.Point, f.plan.Widest)), 1
		if e, ok := r.model.Peak(f.Condition(), f.plan.Widest); ok {
			f.peak += int64(e.Upper - e.Value)
			f.jitter = int64(e.Upper - e.Value)
		}
	}
	f.Candidate = atPace(f.Candidate, f.least)
}

// notePace compares the steps of a burst with the least that the model says they
// take: planning by the least alone would overrun on a busy machine.
func (r *run) notePace(c predict.Condition, b trainer.Burst) {
	var took, told float64
	seen := map[trainer.Shape]bool{}
	for _, s := range b.Summary.Steps {
		shape := trainer.Shape{Batch: s.Shape.Batch, Width: s.Shape.Width}
		first := !seen[shape]
		seen[shape] = true
		if first && compiled(b) {
			continue
		}
		if e, ok := r.model.Seconds(c, float64(shape.Positions()), predict.WorkOf(shape)); ok {
			took += s.Seconds
			told += e.Value
		}
	}
	if told > 0 {
		r.pace = max(1, took/told)
	}
}

// paceText says how busy the machine looked.
func (r *run) paceText() string {
	if r.pace < 1.5 {
		return fmt.Sprintf("the first step of the last burst took %.3g s", r.first)
	}
	return fmt.Sprintf("steps took %.3g times the least that they take: other programs use the machine", r.pace)
}

// moreTime is what to do about a search whose time was over.
func (r *run) moreTime() string {
	return fmt.Sprintf("close other programs and search again with --fresh, or give it more time: --budget %s", trainer.FormatDuration(2*max(r.Wishes.Budget, r.bursts.spent)))
}

// leanest is about how long the smallest confirmation of a candidate takes.
func (r *run) leanest(c search.Candidate) time.Duration {
	p, at := r.epoch(c.Batch, c.MaxSeqLength), r.stepOf(c.Point)
	_, shapes := leanShapes(p, at, r.settling(at(p.Widest)))
	return r.loadTime() + time.Duration(r.takes(c.Point, shapes)*float64(time.Second))
}

// takes is about how many seconds the steps of shapes take.
func (r *run) takes(p Point, shapes []trainer.Shape) float64 {
	sum := 0.0
	for _, s := range shapes {
		sum += float64(s.Steps) * r.seconds(p, s)
	}
	return sum * r.pace
}

// measure fills in what the confirmation burst showed.
func (r *run) measure(f *finalist, b trainer.Burst, strata []stratum, at func(trainer.Shape) float64) {
	var variance, weights float64
	f.least, f.ratio = 0, 0
	for _, s := range strata {
		times := r.balanced(b, s.shape, f.Accumulation)
		if len(times) == 0 || !(at(s.shape) > 0) {
			continue
		}
		middle := predict.Median(times)
		f.least += s.weight * slices.Min(times) / at(s.shape)
		f.ratio += s.weight * middle / at(s.shape)
		weights += s.weight
		spread := relativeSpread(times, middle)
		f.wobble = max(f.wobble, spread)
		variance += s.weight * s.weight * spread * spread / float64(len(times))
		for _, t := range times {
			f.covered += t
		}
	}
	if weights > 0 {
		f.least /= weights
		f.ratio /= weights
		f.spread = math.Sqrt(variance) / weights
	}
	if peak, jitter := peakOf(b, f.plan.Widest); peak > 0 {
		f.peak, f.jitter = peak, jitter
	}
	if compiled(b) || !f.plan.packed { // nearly every packed batch has a shape of its own, and without tracing that costs nothing
		f.trace = traceSeconds(b, f.Batch)
	}
	for _, s := range b.Summary.Steps {
		if s.Shape.Batch == f.Batch { // others in turns with it have other caches
			f.cache = max(f.cache, s.Memory.Cache.Or(0))
		}
	}
	if b.Summary.Ready != nil {
		f.unlimited = b.Summary.Ready.MemoryLimit
	}
	if p := r.peakAt(f.Point, f.plan.Widest); p > 0 {
		f.peakBias = float64(f.peak) / p
	}
}

// note writes down what the confirmation says of the candidate and of the
// prediction.
func (r *run) note(f *finalist, predicted search.Candidate) {
	f.Measured, f.Fits, f.Extrapolated = true, true, false
	f.PeakBytes, f.PeakErrorBytes = f.peak, f.jitter
	f.Candidate = atPace(f.Candidate, f.least)
	r.report.Checks = append(r.report.Checks, Check{What: "confirmation", Candidate: f.Point, HeldOut: true,
		PredictedPeakBytes: trainer.Some(predicted.PeakBytes), MeasuredPeakBytes: trainer.Some(f.peak),
		PeakError:                trainer.Some(float64(predicted.PeakBytes)/float64(f.peak) - 1),
		PredictedTokensPerSecond: trainer.Some(predicted.TokensPerSecond), MeasuredTokensPerSecond: trainer.Some(f.TokensPerSecond),
		TokensError: trainer.Some(predicted.TokensPerSecond/f.TokensPerSecond - 1)})
}

// atPace returns c with its times multiplied.
func atPace(c search.Candidate, factor float64) search.Candidate {
	c.EpochSeconds *= factor
	c.SecondsPerUsefulToken *= factor
	c.TokensPerSecond /= factor
	return c
}

// best orders finalists by what is known of them.
func (r *run) best(done []*finalist) *finalist {
	cs := make([]search.Candidate, len(done))
	for i, f := range done {
		cs[i] = f.Candidate
	}
	find := func(p Point) *finalist {
		return done[slices.IndexFunc(done, func(f *finalist) bool { return f.Point == p })]
	}
	if r.Wishes.Prefer != Speed {
		search.Order(cs, r.Wishes.Prefer)
		return find(cs[0].Point)
	}
	r.weigh(done, cs)
	search.Order(cs, Speed)
	fastest := slices.MinFunc(cs, func(a, b search.Candidate) int {
		return cmp.Compare(a.SecondsPerUsefulToken, b.SecondsPerUsefulToken)
	})
	// A tie must be one for all that is known of both, or be hardly a difference.
	one, other := find(cs[0].Point), find(fastest.Point)
	doubt := 1 + max(math.Hypot(one.spread, other.spread), between(one, other))
	if slower := cs[0].SecondsPerUsefulToken / fastest.SecondsPerUsefulToken; slower > 1+hardlySlower && slower*doubt > 1+search.Tie {
		return other
	}
	return one
}

// setCache lets a GPU keep freed memory where the limit leaves room: clearing
// it after every step, as mlx-lm does, costs a tenth and more of the speed.
func (r *run) setCache(f *finalist) {
	if r.device == "cpu" || r.device == "" || r.userSet("cache-limit") {
		return
	}
	room := r.usable() - f.PeakBytes - 3*f.PeakErrorBytes
	// Our trainer would keep a part of the memory that knows nothing of the limit.
	if keep := max(0, min(room/2, 2<<30)); keep >= 128<<20 || f.config.Engine == trainer.EngineNative {
		f.config.Plan.CacheLimit = trainer.LimitOf(keep)
	}
}

// resetCache sets the winner's cache by the peak that was measured of it, where it was
// confirmed with one by what was predicted: an H200's steps were a fifth slower without a
// cache for which the measured peak left room. What was timed with much less or much more
// of it is no promise.
func (r *run) resetCache(f *finalist) {
	before := f.config.Plan.CacheLimit
	f.config.Plan.CacheLimit = r.Base.Config.Plan.CacheLimit
	f.lower.cache, f.lower.keeps = "", ""
	r.setCache(f)
	if now := f.config.Plan.CacheLimit; now.Bytes > 2*before.Bytes || before.Bytes > 2*now.Bytes {
		f.cache, f.recached = now.Bytes, true
	}
}
