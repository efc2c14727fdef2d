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
	Measured  float64           `json:"measured_seconds"`    // median of the timed steps of all its processes

	// Beside is predicted anew in each round of processes, by constants that are fitted to
	// calibration's shapes as these processes timed them: what the formulas miss, without
	// what the machine does differently from one minute to another.
	Beside     []Beside           `json:"side_by_side"`
	Arithmetic trainer.Opt[int64] `json:"arithmetic_peak_bytes,omitzero"` // from the model's files alone
}

// Beside is a prediction of a step's seconds and what was measured in the same minute.
type Beside struct {
	Predicted float64 `json:"predicted_seconds"`
	Measured  float64 `json:"measured_seconds"` // median of the timed steps of one process
}

// PeakError is the signed relative error of the peak.
func (h HeldOut) PeakError() float64 { return h.Peak.Value/float64(h.PeakBytes) - 1 }

// TimeError is the signed relative error of a step's seconds, as calibrated; not known
// when none was timed.
func (h HeldOut) TimeError() (float64, bool) {
	if !(h.Measured > 0) {
		return 0, false
	}
	return h.Seconds.Value/h.Measured - 1, true
}

// BesideError is the median of those of all rounds, side by side; not known when none
// was timed so.
func (h HeldOut) BesideError() (float64, bool) {
	var errors []float64
	for _, b := range h.Beside {
		errors = append(errors, b.Predicted/b.Measured-1)
	}
	return predict.Median(errors), len(errors) > 0
}

// AboveBound reports whether more was taken than was said not to be exceeded
// with 99 % confidence.
func (h HeldOut) AboveBound() bool { return float64(h.PeakBytes) > h.Peak.Upper }

// Repeat is a shape of the calibration that was timed again in turns with what is held
// out. No formula takes part: what it differs by is the machine's, from one time to the
// next, and that calibration takes the least of a few steps.
type Repeat struct {
	Condition predict.Condition `json:"condition"`
	Shape     trainer.Shape     `json:"shape"`
	Seconds   float64           `json:"calibrated_seconds"` // the least of one process
	Measured  float64           `json:"measured_seconds"`   // as a HeldOut's
}

// HoldOut calibrates as Run does and then measures, with and without
// checkpointing, at least n shapes of the data's own batches each that took no
// part, at every rank that the wishes name. They take turns with the shapes and the
// conditions that did. Finished bursts are kept in the journal: cut off, it goes on where
// it was.
func (s Study) HoldOut(ctx context.Context, n int) (out []HeldOut, again []Repeat, err error) {
	r, err := s.prepare()
	if err != nil {
		return nil, nil, err
	}
	if err := r.bursts.open(ctx, s.Journal); err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, r.bursts.close()) }()
	r.Wishes.Prefer = Quality // which leaves no condition out
	r.space = r.axes.space(r.axes.bits[0])
	if err := r.calibrate(ctx); err != nil {
		return nil, nil, err
	}
	r.Wishes.Budget = r.bursts.spent + 1000*time.Hour // what is held out takes what it takes
	if r.model == nil {
		return nil, nil, fmt.Errorf("hold out: calibration measured nothing: %s", r.lastDeath.Problem())
	}
	var t truths
	var points []Point
	for nth := range truthRounds {
		t = append(t, round{})
		for _, gc := range r.space.Checkpointing {
			for i, rank := range r.space.Ranks {
				p := r.anchor(gc)
				p.Rank = rank
				shapes := r.heldOutShapes(n, i)
				if len(shapes) == 0 {
					continue
				}
				if t[nth][p.Condition()], err = r.measureTruth(ctx, p, shapes, nth); err != nil {
					return nil, nil, err
				}
				if nth == 0 {
					points = append(points, p)
				}
			}
		}
	}
	beside := make([]*predict.Model, len(t))
	for i := range t {
		beside[i] = r.sideBySide(t[i : i+1])
	}
	for _, p := range points {
		all, err := r.holdAgainst(p, t, beside)
		if err != nil {
			return nil, nil, err
		}
		out = append(out, all...)
	}
	return out, r.repeats(t), nil
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
		out = append(out, s)
	}
	return out
}

// truthRounds is how many processes of each condition measure what is held out. Other
// programs slow steps down by a fifth for seconds at a time and by half for minutes: no
// one process tells what a step takes to within a few percent.
const truthRounds = 5

// A round is a burst of each condition that something is held out of, one soon after the
// other.
type round map[predict.Condition]trainer.Burst

// truths are all rounds, or some.
type truths []round

// seconds is the median of the timed steps of a shape; 0 when there is none.
func (t truths) seconds(c predict.Condition, s trainer.Shape) float64 {
	var all []float64
	for _, bursts := range t {
		all = append(all, timesOf(bursts[c], s)...)
	}
	return predict.Median(all)
}

// calibratedWith are the shapes that calibration ran in a condition.
func (r *run) calibratedWith(c predict.Condition) []trainer.Shape {
	var out []trainer.Shape
	for _, s := range r.samples {
		if s.Condition == c {
			out = append(out, s.Shape)
		}
	}
	return out
}

// sideBySide is the model with the times of calibration's shapes as truths have them.
func (r *run) sideBySide(t truths) *predict.Model {
	samples := slices.Clone(r.samples)
	for i, s := range samples {
		samples[i].Seconds = t.seconds(s.Condition, s.Shape)
	}
	m, _ := predict.Fit(samples, r.known) // the same shapes were enough before
	return m
}

func byPositions(a, b trainer.Shape) int {
	return cmp.Or(cmp.Compare(a.Positions(), b.Positions()), cmp.Compare(a.Batch, b.Batch))
}

// repeats are the shapes that calibration timed, as truths have them.
func (r *run) repeats(t truths) []Repeat {
	var out []Repeat
	for _, s := range r.samples {
		if again := t.seconds(s.Condition, s.Shape); again > 0 && s.Seconds > 0 {
			out = append(out, Repeat{s.Condition, s.Shape, s.Seconds, again})
		}
	}
	return out
}

// measureTruth runs shapes of one condition as calibration would, and those that it ran
// so.
func (r *run) measureTruth(ctx context.Context, p Point, shapes []trainer.Shape, nth int) (trainer.Burst, error) {
	shapes = slices.Concat(shapes, r.calibratedWith(p.Condition()))
	slices.SortStableFunc(shapes, byPositions)
	for i, s := range shapes {
		shapes[i].Steps = r.shapeSteps(s)
	}
	job := trainer.Job{Config: r.config(p), Shapes: shapes, ShapeSeconds: r.shapeSeconds(), Budget: time.Hour}
	job.Config.Seed += uint64(nth)
	burst, err := r.bursts.run(ctx, "held out", "measure what was predicted "+describe(p), p, job)
	if err == nil && !burst.Result.Outcome.Good() {
		err = fmt.Errorf("hold out %s: %s", describe(p), burst.Problem())
	}
	return burst, err
}

// holdAgainst holds what is predicted of one condition against what bursts of it showed.
func (r *run) holdAgainst(p Point, t truths, beside []*predict.Model) ([]HeldOut, error) {
	c := p.Condition()
	fitted := r.calibratedWith(c)
	var out []HeldOut
	for _, s := range samplesOf(t[0][c], p) {
		if slices.Contains(fitted, s.Shape) {
			continue
		}
		h := HeldOut{Condition: c, Shape: s.Shape, Measured: t.seconds(c, s.Shape), Arithmetic: budget.Estimate(r.Facts, r.config(p), s.Shape).Peak.Best()}
		positions, work := float64(s.Shape.Positions()), predict.WorkOf(s.Shape)
		for i := range t {
			peak, _ := peakOf(t[i][c], s.Shape)
			h.PeakBytes = max(h.PeakBytes, peak)
			measured := t[i:i+1].seconds(c, s.Shape)
			if told, ok := beside[i].Seconds(c, positions, work); ok && measured > 0 {
				h.Beside = append(h.Beside, Beside{told.Value, measured})
			}
		}
		var known, timed bool
		h.Peak, known = r.model.Peak(c, s.Shape)
		h.Seconds, timed = r.model.Seconds(c, positions, work)
		if !known || !timed || h.PeakBytes == 0 {
			return nil, fmt.Errorf("hold out %s: nothing is said of %d × %d", describe(p), s.Shape.Batch, s.Shape.Width)
		}
		out = append(out, h)
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

	Time   *Errors `json:"time,omitempty"`         // as calibrated; absent where nothing was timed, as are the others
	Beside *Errors `json:"side_by_side,omitempty"` // of times, side by side
	Again  *Errors `json:"again,omitempty"`        // of calibration's own shapes, timed again
}

// Errors sums up signed relative errors, of which there is at least one.
type Errors struct {
	Median float64 `json:"median"` // of absolute ones
	P95    float64 `json:"p95"`    // of absolute ones
	Bias   float64 `json:"bias"`   // median of signed ones
}

// AccuracyOf sums up predictions, and what was timed again beside them.
func AccuracyOf(all []HeldOut, again []Repeat) Accuracy {
	a := Accuracy{Predictions: len(all)}
	var peaks, times, besides []float64
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
		if e, ok := h.BesideError(); ok {
			besides = append(besides, e)
		}
	}
	if e := sumUp(peaks); e != nil {
		a.PeakMedian, a.PeakP95, a.PeakBias = e.Median, e.P95, e.Bias
	}
	a.Time, a.Beside = sumUp(times), sumUp(besides)
	var repeats []float64
	for _, r := range again {
		repeats = append(repeats, r.Seconds/r.Measured-1)
	}
	a.Again = sumUp(repeats)
	return a
}

// sumUp sums up errors, nil of none; of n values the ⌈0.95·n⌉-th is p95.
func sumUp(errors []float64) *Errors {
	if len(errors) == 0 {
		return nil
	}
	abs := make([]float64, len(errors))
	for i, e := range errors {
		abs[i] = math.Abs(e)
	}
	slices.Sort(abs)
	return &Errors{predict.Median(abs), abs[(95*len(abs)+99)/100-1], predict.Median(errors)}
}
