package tuner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/mlxdyno/mlxdyno/probe/budget"
	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/tuner/predict"
	"github.com/mlxdyno/mlxdyno/tuner/search"
)

const (
	maxShapes    = 7 // of a calibration burst
	calibrateFor = 3 // steps a shape, the first of which is not timed

	// A GPU is told of work ahead of doing it, and what waits has its memory
	// already: peaks rise over the first steps of a shape, on an H200 by up to a
	// fifth over eight (by more with mlx-lm, which has a whole step in flight). Where
	// steps are short so many are run that they do not rise any more.
	settled      = 8   // steps a shape
	settleWithin = 0.5 // seconds

	// Other programs slow a CPU down for tenths of a second at a time, which the two timed
	// steps of a small shape do not outlast: it runs as many as one of the widest batch
	// takes, up to so many.
	calmSteps = 5

	maxTries = 3 // of a calibration burst whose process dies

	packedTimes = 1.4 // of a step on a CPU

	// safely is the share of the limit that an estimated peak may take to be
	// tried: estimates from files alone are within some 15 %.
	safely = 0.85
	// accumulated is what an accumulating step takes over one that updates:
	// its gradients are results, so that MLX keeps more of them alive. Measured
	// at 3 to 4 % on a CPU.
	accumulated = 0.04
)

// config turns a point into a configuration that keeps what the user set.
func (r *run) config(p Point) trainer.Config {
	c := r.Base.Config
	c.Model.Quantize = p.Bits
	if p.Rank != c.Quality.Rank {
		if r.userSet("scale") {
			c.Quality.Rank = p.Rank
		} else {
			c = c.WithRank(p.Rank)
		}
	}
	c.Plan.Batch, c.Plan.Accumulation, c.Plan.Checkpointing = p.Batch, p.Accumulation, p.Checkpointing
	c.Data.MaxSeqLength = p.MaxSeqLength
	return c
}

// anchor is the point whose bits and rank the study starts with: the best
// quality of the space.
func (r *run) anchor(checkpointing bool) Point {
	b := r.space.Batchings[0]
	return Point{Bits: r.space.Bits[0], Rank: r.space.Ranks[0], Batch: b.Batch, Accumulation: 1,
		Checkpointing: checkpointing, MaxSeqLength: r.space.Caps[0]}
}

// calibrate runs the bursts to which the model is fitted: without and with
// checkpointing, then one for each further value of bits and rank that competes,
// as far as they are worth it.
func (r *run) calibrate(ctx context.Context) error {
	r.known = r.files()
	r.samples, r.model, r.outcome, r.heldBack = nil, nil, search.Outcome{}, nil
	r.calibrated = r.roomyBits()
	var points []Point
	for _, gc := range r.space.Checkpointing {
		p := r.anchor(gc)
		p.Bits = r.calibrated
		points = append(points, p)
	}
	first := points[0]
	for _, bits := range r.space.Bits {
		if p := first; bits != p.Bits {
			p.Bits = bits
			points = append(points, p)
		}
	}
	if n := len(r.space.Ranks); n > 1 {
		p := first
		p.Rank = r.space.Ranks[n-1]
		points = append(points, p)
	}
	for i, p := range points {
		if why, worth := r.worthCalibrating(p); !worth {
			r.heldBack = append(r.heldBack, heldBack{p, why})
			continue
		}
		if err := r.calibrateIfTime(ctx, p, i, len(points)); err != nil {
			return err
		}
	}
	return nil
}

// roomyBits are the first bits of the space with which more than one shape may be run,
// or the widest that there is: one, beside weights that all but fill the memory, tells
// nothing of what grows with it. Without such bits it is the last.
func (r *run) roomyBits() int {
	for _, bits := range r.space.Bits {
		p := r.anchor(r.space.Checkpointing[0])
		p.Bits = bits
		widest := r.epoch(r.largestBatch(), slices.Max(r.space.Caps)).Widest
		if len(r.calibrationShapes(p)) > 1 || r.safe(p, widest) {
			return bits
		}
	}
	return r.space.Bits[len(r.space.Bits)-1]
}

// calibrateIfTime says so when there is no time for a burst that can be done without.
func (r *run) calibrateIfTime(ctx context.Context, p Point, nth, of int) error {
	err := r.calibrateAt(ctx, p, nth, of)
	if errors.Is(err, errSpent) && r.model != nil {
		r.report.NotTried = append(r.report.NotTried, NotTried{What: "calibration " + describe(p), Why: "the budget was spent; give --budget more"})
		return nil
	}
	return err
}

// noteLosses keeps the losses of the longest calibration burst of a condition.
func (r *run) noteLosses(c predict.Condition, b trainer.Burst) {
	var out []lossAt
	for _, s := range b.Summary.Steps {
		out = append(out, lossAt{trainer.Shape{Batch: s.Shape.Batch, Width: s.Shape.Width}, float64(s.Loss)})
	}
	if len(out) > len(r.losses[c]) {
		r.losses[c] = out
	}
}

// noteUntimed says that the last burst, which ended well, had no step whose time
// counts.
func (r *run) noteUntimed(what string) {
	r.untimed = true
	r.report.NotTried = append(r.report.NotTried, NotTried{What: what,
		Why: fmt.Sprintf("its steps could not be timed within the budget: the first one took %.3g s to compile; give --budget more", r.first)})
}

func (r *run) calibrateAt(ctx context.Context, p Point, nth, of int) error {
	shapes := r.calibrationShapes(p)
	if r.roomWithout(p) {
		shapes = r.fewest(shapes)
	}
	for try := 0; len(shapes) > 0 && try < maxTries; try++ {
		share := r.bursts.share(of - nth + expectedBursts - 2)
		shapes = r.affordable(p, shapes, (share-r.loadTime()).Seconds()/r.pace)
		job := trainer.Job{Config: r.config(p), Shapes: shapes, ShapeSeconds: r.shapeSeconds(), Budget: max(share-r.loadTime(), 2*time.Second), MaxPeakBytes: r.usable()}
		burst, err := r.bursts.run(ctx, "calibrate", "measure "+describe(p), p, job)
		if err != nil {
			return err
		}
		if hopeless(burst) {
			return &impossible{problem: "a calibration burst failed: " + burst.Problem(), hint: hintOf(burst)}
		}
		r.observe(burst)
		r.noteNoise(burst)
		samples := samplesOf(burst, p)
		r.samples = append(r.samples, samples...)
		r.noteLosses(p.Condition(), burst)
		r.refit(p, samples)
		if r.model != nil {
			r.notePace(p.Condition(), burst)
		}
		if burst.Result.Outcome.Good() {
			if compiled(burst) && len(samples) > 0 && !slices.ContainsFunc(r.samples, func(s predict.Sample) bool { return s.Condition == p.Condition() && s.Seconds > 0 }) {
				r.noteUntimed("calibration " + describe(p))
			}
			return nil
		}
		// It died: what it measured counts. Smaller shapes are tried when that
		// is too little to go by.
		r.lastDeath = burst
		r.noteDeath(p.Condition(), shapes, burst)
		if len(samples) >= predict.LeastShapes || len(r.deaths[p.Condition()]) == 0 { // nothing says what was too much
			return nil
		}
		shapes = r.smallerShapes(p, shapes)
	}
	return nil
}

// roomWithout reports whether what p saves is a matter of speed alone: without it, too,
// more rows fit than the fewest. Where they do not, what saves memory is likely to win,
// and its peaks should be known as well as those without. Where steps may wait for their
// host three shapes do not tell it from the device.
func (r *run) roomWithout(p Point) bool {
	if r.model == nil || r.Wishes.Prefer != Speed || !r.saves(p) || r.aheadOfWork() {
		return false
	}
	plain := r.anchor(r.space.Checkpointing[0])
	plain.Bits = r.calibrated
	for _, b := range r.space.Batchings {
		if b.Batch > r.smallestBatch() && r.safe(plain, r.epoch(b.Batch, plain.MaxSeqLength).Widest) {
			return true
		}
	}
	return false
}

// fewest are as many of the shapes as tell times apart, run as briefly as tells them.
func (r *run) fewest(shapes []trainer.Shape) []trainer.Shape {
	n := len(shapes)
	if n <= predict.LeastShapes {
		return shapes
	}
	few := []trainer.Shape{shapes[0], shapes[n/2], shapes[n-1]}
	for i := range few {
		few[i].Steps = calibrateFor
	}
	return few
}

// aheadOfWork reports whether the device computes while its host puts the next kernels
// together: memory is taken for work that waits, or steps wait for the host.
func (r *run) aheadOfWork() bool { return predict.WorksAhead(r.device) }

// shapeSteps is how many steps a shape is run for, at most.
func (r *run) shapeSteps(s trainer.Shape) int {
	if r.aheadOfWork() {
		return settled
	}
	widest := r.epoch(r.largestBatch(), slices.Max(r.space.Caps)).Widest
	return min(max(int(widest.Positions()/max(s.Positions(), 1)), calibrateFor), calmSteps)
}

// shapeSeconds is after how long fewer will do.
func (r *run) shapeSeconds() float64 {
	if r.aheadOfWork() {
		return settleWithin
	}
	return 0
}

// settling is how many steps at the widest batch tell its peak.
func (r *run) settling(stepSeconds float64) int {
	if !r.aheadOfWork() || !(stepSeconds > 0) {
		return widestSteps
	}
	return min(max(int(settleWithin/stepSeconds), widestSteps), settled)
}

// affordable drops the largest shapes that would not be reached in the time,
// once some time is known. At least three stay.
func (r *run) affordable(p Point, shapes []trainer.Shape, seconds float64) []trainer.Shape {
	if r.model == nil {
		return shapes
	}
	p.Checkpointing = r.space.Checkpointing[0] // which was measured first
	sum := 0.0
	for i, s := range shapes {
		t := r.seconds(p, s)
		took := float64(s.Steps) * t
		if most := r.shapeSeconds(); most > 0 {
			took = min(took, max(calibrateFor*t, t+most))
		}
		if sum += took; sum > seconds && i >= 3 {
			return shapes[:i]
		}
	}
	return shapes
}

// smallerShapes are up to three shapes of the data at the smallest batch, well
// below the one that died, that were not run before.
func (r *run) smallerShapes(p Point, before []trainer.Shape) []trainer.Shape {
	var out []trainer.Shape
	fatal := slices.MinFunc(r.deaths[p.Condition()], func(a, b trainer.Shape) int { return cmp.Compare(a.Positions(), b.Positions()) })
	all := r.epoch(r.smallestBatch(), p.MaxSeqLength).shapes()
	for _, s := range all {
		s.Steps = r.shapeSteps(s)
		if s.Positions() <= fatal.Positions()*7/10 && !slices.Contains(before, s) {
			out = append(out, s)
		}
	}
	if n := len(out); n > 3 {
		out = []trainer.Shape{out[0], out[n/2], out[n-1]}
	}
	return out
}

func (r *run) smallestBatch() int { return slices.MinFunc(r.space.Batchings, byBatch).Batch }
func (r *run) largestBatch() int  { return slices.MaxFunc(r.space.Batchings, byBatch).Batch }

func byBatch(a, b search.Batching) int { return cmp.Compare(a.Batch, b.Batch) }

// refit fits the model to all samples, and checks it by what it said before of
// those that are new.
func (r *run) refit(p Point, fresh []predict.Sample) {
	if r.model != nil {
		for _, s := range fresh {
			r.check("calibration", p, s, r.model, true)
		}
	}
	if m, ok := predict.Fit(r.samples, r.known); ok {
		if r.model == nil || !r.model.Knows(p.Condition()) {
			for _, s := range fresh {
				r.check("calibration", p, s, m, false)
			}
		}
		r.model = m
	}
}

// files is what the model's files say, worked out once.
func (r *run) files() predict.Known {
	p := r.anchor(false)
	layers := r.Base.Config.Quality.Layers
	at := func(bits int) budget.Budget {
		q := p
		q.Bits = bits
		return budget.Estimate(r.Facts, r.config(q), trainer.Shape{Batch: 1, Width: 2})
	}
	weights := map[int]int64{}
	for _, bits := range append(slices.Concat(r.axes.bits...), r.Base.Config.Model.Quantize) {
		weights[bits] = at(bits).Line(budget.Weights).Best().Or(0)
	}
	perRank := r.Facts.AdapterParameters(1, layers)
	return predict.Known{
		WeightBytes:       func(bits int) int64 { return weights[bits] },
		AdapterParameters: func(rank int) int64 { return perRank * int64(rank) },
		Parameters:        r.Facts.Parameters,
		PackedTimes:       r.packedTimes,
		Ahead:             r.aheadOfWork,
		Stages:            r.stages(),
	}
}

// packedTimes is how many times as long steps take on weights that are packed when
// they are loaded, until one is measured. On a CPU they took 1.3 to 1.7 times as long
// with our trainer and a small model, whose dense matrices are made anew in each pass.
// The first burst tells the device.
func (r *run) packedTimes() float64 {
	if r.device == "" || r.device == "cpu" {
		return packedTimes
	}
	return 1
}

// stages are what steps consist of by formula, worked out once for each condition
// that is asked for.
func (r *run) stages() func(predict.Condition) budget.Stages {
	type key struct {
		predict.Condition
		device string // the first burst tells
	}
	p, done := r.anchor(false), map[key]budget.Stages{}
	return func(c predict.Condition) budget.Stages {
		of, ok := done[key{c, r.device}]
		if !ok {
			p.Bits, p.Rank, p.Checkpointing = c.Bits, c.Rank, c.Checkpointing
			of = budget.StagesOf(r.Facts, r.config(p), r.device)
			done[key{c, r.device}] = of
		}
		return of
	}
}

// calibrationShapes picks up to maxShapes shapes of the data's own batches,
// smallest first, that differ both in rows and in width and reach as far up as
// the estimate, or the model so far, calls safe. The smallest come first also
// because a burst whose time runs out loses the last: three small shapes tell
// more than one large one.
func (r *run) calibrationShapes(p Point) []trainer.Shape {
	var batches []int
	for _, b := range r.space.Batchings {
		batches = append(batches, b.Batch)
	}
	slices.Sort(batches)
	small, middle, large := batches[0], batches[len(batches)/2], batches[len(batches)-1]
	limit := slices.Max(r.space.Caps)
	var all []trainer.Shape
	for _, want := range []struct {
		batch    int
		quantile float64 // among the distinct widths
	}{{small, 0.05}, {small, 0.35}, {large, 0.05}, {small, 1}, {middle, 0.5}, {large, 0.5}, {large, 1}, {small, 0.2}, {small, 0.7}} {
		shapes := r.epoch(want.batch, limit).shapes()
		if len(shapes) == 0 || len(all) == maxShapes {
			continue
		}
		s := shapes[int(math.Round(want.quantile*float64(len(shapes)-1)))]
		s.Steps = r.shapeSteps(s)
		if r.deadly(p.Condition(), s) || slices.Contains(all, s) || !r.safe(p, s) {
			continue
		}
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b trainer.Shape) int {
		return cmp.Or(cmp.Compare(a.Positions(), b.Positions()), cmp.Compare(a.Width, b.Width))
	})
	if len(all) == 0 { // try the smallest all the same: the estimate may be wrong
		if shapes := r.epoch(small, limit).shapes(); len(shapes) > 0 {
			s := shapes[0]
			s.Steps = r.shapeSteps(s)
			all = append(all, s)
		}
	}
	return all
}

func (r *run) loadTime() time.Duration {
	if r.load == 0 {
		return 4 * time.Second // imports and a small model; the first burst tells
	}
	return time.Duration(r.load * float64(time.Second))
}

func describe(p Point) string {
	text := "without checkpointing"
	if p.Checkpointing {
		text = "with checkpointing"
	}
	if p.Bits != 0 {
		text += fmt.Sprintf(", %d bits", p.Bits)
	}
	return text + fmt.Sprintf(", rank %d", p.Rank)
}

// check notes a prediction of one shape and what was measured.
func (r *run) check(what string, p Point, s predict.Sample, m *predict.Model, heldOut bool) {
	peak, ok := m.Peak(p.Condition(), s.Shape)
	if !ok || s.PeakBytes == 0 {
		return
	}
	shape := s.Shape
	c := Check{What: what, Candidate: p, Shape: &shape, HeldOut: heldOut,
		PredictedPeakBytes: trainer.Some(int64(peak.Value)), MeasuredPeakBytes: trainer.Some(int64(s.PeakBytes)),
		PeakError: trainer.Some(peak.Value/s.PeakBytes - 1)}
	if t, ok := m.Seconds(p.Condition(), float64(s.Shape.Positions()), predict.WorkOf(s.Shape)); ok && s.Seconds > 0 && t.Value > 0 {
		positions := float64(s.Shape.Positions())
		c.PredictedTokensPerSecond = trainer.Some(positions / t.Value)
		c.MeasuredTokensPerSecond = trainer.Some(positions / s.Seconds)
		c.TokensError = trainer.Some(s.Seconds/t.Value - 1)
	}
	r.report.Checks = append(r.report.Checks, c)
}
