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
)

// HeldOut is one prediction of a shape and a condition that the fit has not
// seen, with what a burst then showed. Errors are signed: predicted over
// measured, less 1.
type HeldOut struct {
	Condition predict.Condition `json:"condition"`
	Shape     trainer.Shape     `json:"shape"`
	Peak      predict.Estimate  `json:"peak"`
	Seconds   predict.Estimate  `json:"seconds"`
	PeakBytes int64             `json:"measured_peak_bytes"` // highest of its steps
	Measured  float64           `json:"measured_seconds"`    // of a step: the middle of what its processes have for medians
	// Pace is how many times as long as predicted the same processes took for witnesses,
	// shapes that calibration had timed: what the machine does to a whole process, and, at
	// ranks that were not calibrated with, what is predicted wrongly of all shapes alike.
	Pace       trainer.Opt[float64] `json:"pace,omitzero"`
	Arithmetic trainer.Opt[int64]   `json:"arithmetic_peak_bytes,omitzero"` // from the model's files alone
}

// PeakError is the signed relative error of the peak.
func (h HeldOut) PeakError() float64 { return h.Peak.Value/float64(h.PeakBytes) - 1 }

// TimeError is the signed relative error of a step's seconds; not known when none
// was timed.
func (h HeldOut) TimeError() (float64, bool) {
	if !(h.Measured > 0) {
		return 0, false
	}
	return h.Seconds.Value/h.Measured - 1, true
}

// PacedError is the signed relative error of a step's seconds at the pace of its
// process; not known when that is not.
func (h HeldOut) PacedError() (float64, bool) {
	pace, known := h.Pace.Get()
	if !known || !(h.Measured > 0) {
		return 0, false
	}
	return h.Seconds.Value*pace/h.Measured - 1, true
}

// AboveBound reports whether more was taken than was said not to be exceeded
// with 99 % confidence.
func (h HeldOut) AboveBound() bool { return float64(h.PeakBytes) > h.Peak.Upper }

// HoldOut calibrates as Run does and then measures, with and without
// checkpointing, at least n shapes of the data's own batches each that took no
// part, at every rank that the wishes name. Each process runs witnesses, too. Finished bursts are kept in the
// journal: cut off, it goes on where it was.
func (s Study) HoldOut(ctx context.Context, n int) (out []HeldOut, err error) {
	r, err := s.prepare()
	if err != nil {
		return nil, err
	}
	if err := r.bursts.open(ctx, s.Journal); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.bursts.close()) }()
	r.Wishes.Prefer = Quality // which leaves no condition out
	r.space = r.axes.space(r.axes.bits[0])
	if err := r.calibrate(ctx); err != nil {
		return nil, err
	}
	r.Wishes.Budget = r.bursts.spent + 1000*time.Hour // what is held out takes what it takes
	if r.model == nil {
		return nil, fmt.Errorf("hold out: calibration measured nothing: %s", r.lastDeath.Problem())
	}
	truths := map[predict.Condition][]trainer.Burst{}
	var points []Point
	for round := range truthRounds {
		for _, gc := range r.space.Checkpointing {
			for i, rank := range r.space.Ranks {
				p := r.anchor(gc)
				p.Rank = rank
				shapes := r.heldOutShapes(n, i)
				if len(shapes) == 0 {
					continue
				}
				burst, err := r.measureTruth(ctx, p, shapes, round)
				if err != nil {
					return nil, err
				}
				if round == 0 {
					points = append(points, p)
				}
				truths[p.Condition()] = append(truths[p.Condition()], burst)
			}
		}
	}
	for _, p := range points {
		all, err := r.holdAgainst(p, truths[p.Condition()])
		if err != nil {
			return nil, err
		}
		out = append(out, all...)
	}
	return out, nil
}

// heldOutShapes are the nth rank's share of n shapes that were not calibrated with.
// They lie evenly among those that training would meet at any batch size, narrow and
// wide ones included.
func (r *run) heldOutShapes(n, nth int) []trainer.Shape {
	used := map[trainer.Shape]bool{}
	for _, s := range r.samples {
		used[s.Shape] = true
	}
	var all []trainer.Shape
	for _, b := range r.space.Batchings {
		for _, s := range r.epoch(b.Batch, slices.Max(r.space.Caps)).shapes() {
			s.Steps = 0
			if !used[s] {
				used[s] = true
				all = append(all, s)
			}
		}
	}
	slices.SortFunc(all, byPositions)
	var out []trainer.Shape
	every := len(r.space.Ranks)
	if len(all) < n { // too few to share out: all of them at every rank
		n, nth, every = len(all), 0, 1
	}
	for i := nth; i < n; i += every {
		s := all[int(math.Round(float64(i)*float64(len(all)-1)/float64(max(n-1, 1))))]
		s.Steps = truthSteps
		out = append(out, s)
	}
	return out
}

const (
	// witnesses are how many shapes of the calibration a process measures again.
	witnesses = 3

	// What a prediction is held against is to be known well: by the median of so many steps,
	// or as many as that many seconds hold. Two differ by a tenth from one time to the next
	// where other programs come and go, and the least of many is 5 % below the least of the
	// two or three that calibration times, which is near their median.
	truthSteps   = 12
	truthSeconds = 0.5

	// Processes of one training differ by more than its steps do. Each condition has so many,
	// in turns with the others' over all the time that they take.
	truthRounds = 2
)

// witnesses are shapes that calibration timed at its first rank, with checkpointing as p
// has it, evenly from the smallest to the largest.
func (r *run) witnesses(p Point) []trainer.Shape {
	var timed []trainer.Shape
	for _, s := range r.samples {
		if s.Seconds > 0 && s.Condition == r.anchor(p.Checkpointing).Condition() {
			timed = append(timed, s.Shape)
		}
	}
	slices.SortFunc(timed, byPositions)
	var out []trainer.Shape
	for i := range min(witnesses, len(timed)) {
		s := timed[i*(len(timed)-1)/max(min(witnesses, len(timed))-1, 1)]
		s.Steps = truthSteps
		out = append(out, s)
	}
	return out
}

func byPositions(a, b trainer.Shape) int {
	return cmp.Or(cmp.Compare(a.Positions(), b.Positions()), cmp.Compare(a.Batch, b.Batch))
}

// measureTruth runs shapes of one condition, with witnesses in turns with them.
func (r *run) measureTruth(ctx context.Context, p Point, shapes []trainer.Shape, round int) (trainer.Burst, error) {
	shapes = slices.Concat(shapes, r.witnesses(p))
	slices.SortStableFunc(shapes, byPositions)
	job := trainer.Job{Config: r.config(p), Shapes: shapes, ShapeSeconds: truthSeconds, Budget: time.Hour}
	job.Config.Seed += uint64(round)
	burst, err := r.bursts.run(ctx, "held out", "measure what was predicted "+describe(p), p, job)
	if err == nil && !burst.Result.Outcome.Good() {
		err = fmt.Errorf("hold out %s: %s", describe(p), burst.Problem())
	}
	return burst, err
}

// holdAgainst holds what is predicted of one condition against what bursts of it showed.
func (r *run) holdAgainst(p Point, truths []trainer.Burst) ([]HeldOut, error) {
	again := r.witnesses(p)
	var out []HeldOut
	var paces []float64
	for _, s := range samplesOf(truths[0], p) {
		h := HeldOut{Condition: s.Condition, Shape: s.Shape, Arithmetic: budget.Estimate(r.Facts, r.config(p), s.Shape).Peak.Best()}
		var medians []float64
		for _, b := range truths {
			if times := timesOf(b, s.Shape); len(times) > 0 {
				medians = append(medians, predict.Median(times))
			}
			peak, _ := peakOf(b, s.Shape)
			h.PeakBytes = max(h.PeakBytes, peak)
		}
		h.Measured = predict.Median(medians)
		var known, timed bool
		h.Peak, known = r.model.Peak(s.Condition, s.Shape)
		h.Seconds, timed = r.model.Seconds(s.Condition, float64(s.Shape.Positions()), predict.WorkOf(s.Shape))
		if !known || !timed || h.PeakBytes == 0 {
			return nil, fmt.Errorf("hold out %s: nothing is said of %d × %d", describe(p), s.Shape.Batch, s.Shape.Width)
		}
		if slices.ContainsFunc(again, func(w trainer.Shape) bool { return w.Batch == s.Shape.Batch && w.Width == s.Shape.Width }) {
			if h.Measured > 0 {
				paces = append(paces, h.Measured/h.Seconds.Value)
			}
			continue
		}
		out = append(out, h)
	}
	if len(paces) > 0 {
		for i := range out {
			out[i].Pace = trainer.Some(predict.Median(paces))
		}
	}
	return out, nil
}

// Accuracy sums up predictions.
type Accuracy struct {
	Predictions int `json:"predictions"`

	PeakMedian float64 `json:"peak_median"` // of absolute errors
	PeakP95    float64 `json:"peak_p95"`
	PeakWorst  float64 `json:"peak_worst"` // signed
	PeakBias   float64 `json:"peak_bias"`  // median of signed errors
	Above      int     `json:"above"`      // more than the bound

	TimeMedian float64 `json:"time_median"` // of absolute errors
	TimeP95    float64 `json:"time_p95"`
	TimeBias   float64 `json:"time_bias"`

	PacedMedian trainer.Opt[float64] `json:"time_median_at_pace,omitzero"` // of absolute errors at the pace of each process
}

// AccuracyOf sums up predictions, of which there is at least one.
func AccuracyOf(all []HeldOut) Accuracy {
	a := Accuracy{Predictions: len(all)}
	var peaks, times, paced []float64
	for _, h := range all {
		e := h.PeakError()
		peaks = append(peaks, e)
		if math.Abs(e) >= math.Abs(a.PeakWorst) {
			a.PeakWorst = e
		}
		if h.AboveBound() {
			a.Above++
		}
		if e, ok := h.TimeError(); ok {
			times = append(times, e)
		}
		if e, ok := h.PacedError(); ok {
			paced = append(paced, math.Abs(e))
		}
	}
	if len(peaks) > 0 {
		a.PeakBias = predict.Median(peaks)
		a.PeakMedian, a.PeakP95 = medianAndP95(peaks)
	}
	if len(times) > 0 {
		a.TimeBias = predict.Median(times)
		a.TimeMedian, a.TimeP95 = medianAndP95(times)
	}
	if len(paced) > 0 {
		a.PacedMedian = trainer.Some(predict.Median(paced))
	}
	return a
}

// medianAndP95 are those of absolute values; of n values the ⌈0.95·n⌉-th is taken.
func medianAndP95(errors []float64) (middle, p95 float64) {
	abs := make([]float64, len(errors))
	for i, e := range errors {
		abs[i] = math.Abs(e)
	}
	slices.Sort(abs)
	return predict.Median(abs), abs[(95*len(abs)+99)/100-1]
}
