package tuner

import (
	"math"
	"slices"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/tuner/predict"
	"github.com/mlxdyno/mlxdyno/tuner/search"
)

// learn takes what a confirmation shows beside its candidate: what an update
// costs, peaks, and where less than three shapes of its condition were timed before, a
// calibration of it.
// It reports whether the model's times rest on it now.
func (r *run) learn(b trainer.Burst, p Point) bool {
	if u, ok := updateSeconds(b, p.Accumulation); ok {
		r.update = u
	}
	known := r.model.Timed(p.Condition())
	samples := samplesOf(b, p)
	for i := range samples {
		if known { // its time is what the prediction is held against
			samples[i].Seconds = 0
		}
		if p.Accumulation > 1 { // the model knows steps that update
			beside := 4 * float64(r.known.AdapterParameters(p.Rank))
			samples[i].PeakBytes = max(samples[i].PeakBytes-beside, 0) / (1 + accumulated)
			samples[i].ActiveBytes = 0 // what has accumulated is in it
			if !known && samples[i].Seconds > 0 {
				samples[i].Seconds += r.update
			}
		}
	}
	all := slices.Concat(r.samples, samples)
	m, ok := predict.Fit(all, r.known)
	if !ok || !m.Measured(p.Condition()) {
		return false
	}
	r.samples, r.model = all, m
	return !known
}

// balanced are the times of the steps of a shape with an equal part of an update of so
// many steps in each, whichever of them were the ones that ended one, and however many
// steps the burst had to one.
func (r *run) balanced(b trainer.Burst, shape trainer.Shape, accumulation int) []float64 {
	times := timesOf(b, shape)
	steps := stepsOf(b, shape)
	every := b.Job.Config.Plan.Accumulation
	if every < 2 || len(times) == 0 {
		return times
	}
	for i, s := range steps[len(steps)-len(times):] {
		times[i] += r.update / float64(accumulation)
		if s.Number%every == 0 {
			times[i] = max(times[i]-r.update, times[i]/2)
		}
	}
	return times
}

// lighten takes from a prediction the updates that an accumulating candidate does
// not do in every step, as calibration's steps did.
func (r *run) lighten(c search.Candidate) search.Candidate {
	if c.Accumulation < 2 || !(c.EpochSeconds > 0) || r.update == 0 {
		return c
	}
	batches := float64(r.epoch(c.Batch, c.MaxSeqLength).Batches)
	saved := r.update * (1 - 1/float64(c.Accumulation)) * batches
	return atPace(c, max(1-saved/c.EpochSeconds, 0.5))
}

// missed is how far the prediction of what was measured was off, as a factor.
func (r *run) missed(f *finalist) float64 {
	c, ok := r.problem().Predict(f.Point)
	if !ok {
		return f.least
	}
	return f.SecondsPerUsefulToken / r.lighten(c).SecondsPerUsefulToken
}

// weigh puts into cs what calibration and confirmation together say of the time of
// each finalist. Both are measurements, by different processes, and processes of
// one configuration differ: one of them alone has called the slower one of two
// faster. Finalists that one process ran in turns differ by less. What all
// predictions miss alike says nothing of who is faster.
func (r *run) weigh(done []*finalist, cs []search.Candidate) {
	var shift float64            // of all
	of := map[int]float64{}      // of each process
	spread := map[int]float64{}  // of its finalists
	members := map[int]float64{} // so many
	for _, f := range done {
		missed := math.Log(r.missed(f))
		shift += missed / float64(len(done))
		of[f.process] += missed
		spread[f.process] += f.spread
		members[f.process]++
	}
	told := r.model.TimeError()
	for i, f := range done {
		if f.alone {
			continue
		}
		n := members[f.process]
		process := of[f.process] / n
		believed := shift + (process-shift)*weight(math.Hypot(told, betweenProcesses), math.Hypot(spread[f.process]/n, betweenProcesses)) +
			(math.Log(r.missed(f))-process)*weight(math.Hypot(told, withinProcess), math.Hypot(f.spread, withinProcess))
		cs[i] = atPace(cs[i], math.Exp(believed-math.Log(r.missed(f))))
	}
}

// weight is that of what was shown beside what was told, by their errors.
func weight(told, shown float64) float64 { return told * told / (told*told + shown*shown) }

// between is by how much the times of two finalists differ for their processes' sake.
func between(one, other *finalist) float64 {
	if one.process != other.process {
		return betweenProcesses
	}
	return withinProcess
}
