package compare

import (
	"cmp"
	"slices"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/data"
)

const (
	parts       = 3 // of an epoch, each with a shape that stands for it
	widestSteps = 2 // at the widest batch, where the peak is
	fewestSteps = 3 // at the others; the first is not timed
	mostSteps   = 8
)

// pass is a short way through an epoch: shapes that stand for parts of it, narrowest
// first, and the widest.
type pass struct {
	shapes  []trainer.Shape
	weights []float64 // positions of the part of the epoch that each stands for; 0 for the widest alone
	useful  int64     // supervised tokens of the epoch
	updates int       // steps of an update: so many in a row have one
}

// passOf plans a pass. Parts have equally many positions: a step's time is nearly
// proportional to them, and within a part it is taken to be.
func passOf(s Side, parts, steps int) pass {
	batching := data.BatchingOf(s.Config, s.Device).Bounded(s.Lengths, s.ValidLengths)
	var all []trainer.Shape
	out := pass{updates: max(s.Config.Plan.Accumulation, 1)}
	steps = 1 + (steps-1+out.updates-1)/out.updates*out.updates // the first, and whole updates
	var total float64
	for _, b := range data.PlanBatches(s.Lengths, batching) {
		for _, row := range b.Rows {
			out.useful += data.Supervised(s.Lengths[row], s.Prompts[row], s.Config.Data.MaxSeqLength)
		}
		all = append(all, b.Shape.Even())
		total += float64(b.Shape.Positions())
	}
	if len(all) == 0 {
		return out
	}
	slices.SortStableFunc(all, func(a, b trainer.Shape) int { return cmp.Compare(a.Positions(), b.Positions()) })
	passed, i := 0.0, 0
	for p := range parts {
		for middle := total * (float64(p) + 0.5) / float64(parts); i < len(all)-1 && passed+float64(all[i].Positions()) < middle; i++ {
			passed += float64(all[i].Positions())
		}
		out.add(all[i], steps, total/float64(parts))
	}
	out.add(all[len(all)-1], widestSteps, 0)
	return out
}

// add adds steps at a shape, or their weight to the shape that is there.
func (p *pass) add(s trainer.Shape, steps int, weight float64) {
	if n := len(p.shapes); n > 0 && p.shapes[n-1].Batch == s.Batch && p.shapes[n-1].Width == s.Width {
		p.weights[n-1] += weight
		return
	}
	s.Steps = steps
	p.shapes, p.weights = append(p.shapes, s), append(p.weights, weight)
}

func (p pass) steps() int {
	n := 0
	for _, s := range p.shapes {
		n += s.Steps
	}
	return n
}

// sample is what one pass showed.
type sample struct {
	tokensPerSecond float64 // useful ones, over an epoch
	peak            int64
	seconds         float64 // that its steps took
}

// read turns the steps of a pass into a sample; false when they are too few. The
// first step at a shape pays for first allocations and, where steps are compiled,
// for that.
func (p pass) read(steps []trainer.StepRecord) (sample, bool) {
	if len(steps) < p.steps() {
		return sample{}, false
	}
	var out sample
	epoch := 0.0
	for i, shape := range p.shapes {
		here := steps[:shape.Steps]
		steps = steps[shape.Steps:]
		var times []float64
		for k, s := range here {
			if s.Shape.Batch != shape.Batch || s.Shape.Width != shape.Width {
				return sample{}, false
			}
			out.peak = max(out.peak, s.Memory.Peak.Or(0))
			out.seconds += s.Seconds
			if k > 0 {
				times = append(times, s.Seconds)
			}
		}
		epoch += p.weights[i] * p.typical(times) / float64(shape.Positions())
	}
	if !(epoch > 0) {
		return sample{}, false
	}
	out.tokensPerSecond = float64(p.useful) / epoch
	return out, true
}

// typical is the median, or where steps differ by whether they end an update, their
// mean.
func (p pass) typical(times []float64) float64 {
	if p.updates == 1 || len(times) == 0 {
		return median(times)
	}
	sum := 0.0
	for _, t := range times {
		sum += t
	}
	return sum / float64(len(times))
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	if len(v) == 0 {
		return 0
	}
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}
