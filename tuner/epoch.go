package tuner

import (
	"cmp"
	"math"
	"slices"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/data"
	"github.com/mlxdyno/mlxdyno/tuner/predict"
	"github.com/mlxdyno/mlxdyno/tuner/search"
)

// epoch is one pass over the data at one batch size and one length cap: the
// very batches that training will form, narrowest first.
type epoch struct {
	search.Plan
	batches []data.Batch
	work    []predict.Work // of each batch
	packed  bool
}

func (r *run) epoch(batch, limit int) *epoch {
	key := [2]int{batch, limit}
	if e, ok := r.plans[key]; ok {
		return e
	}
	e := &epoch{batches: data.PlanBatches(r.Lengths, r.batching(batch, limit))}
	slices.SortStableFunc(e.batches, func(a, b data.Batch) int { return cmp.Compare(a.Shape.Even().Width, b.Shape.Even().Width) })
	for _, b := range e.batches {
		e.work = append(e.work, r.workOf(b, limit))
		e.packed = e.packed || b.Shape.Packed > 0
		e.Tokens += b.Tokens
		e.Positions += b.Shape.Positions()
		for _, row := range b.Rows {
			e.Useful += data.Supervised(r.Lengths[row], r.Prompts[row], limit)
		}
		e.Widest = b.Shape.Even()
	}
	e.Work = predict.Gather(e.work, r.aheadOfWork())
	e.Batches = len(e.batches)
	r.plans[key] = e
	return e
}

// batching is how the training will make batches of so many rows, cut there, on
// the device as far as it is known.
func (r *run) batching(batch, limit int) data.Batching {
	c := r.Base.Config
	c.Plan.Batch, c.Data.MaxSeqLength = batch, limit
	return data.BatchingOf(c, r.device).Bounded(r.Lengths, r.ValidLengths)
}

// workOf is the work of a batch. In a packed one every row attends to itself
// alone.
func (r *run) workOf(b data.Batch, limit int) predict.Work {
	w := predict.WorkOf(b.Shape)
	if b.Shape.Packed > 0 {
		w.Squares = 0
		for _, row := range b.Rows {
			n := float64(max(min(int(r.Lengths[row]), limit)-1, 0))
			w.Squares += n * n
		}
	}
	return w
}

// shapes counts the distinct widths, narrowest first.
func (e *epoch) shapes() []trainer.Shape {
	var out []trainer.Shape
	for _, b := range e.batches {
		s := b.Shape.Even()
		if n := len(out); n > 0 && out[n-1].Width == s.Width {
			out[n-1].Steps++
			continue
		}
		s.Steps = 1
		out = append(out, s)
	}
	return out
}

// widestSeen returns the width that the widest of n batches drawn without
// replacement does not exceed with probability q.
func (e *epoch) widestSeen(n int, q float64) trainer.Shape {
	total := len(e.batches)
	if n >= total {
		return e.Widest
	}
	shapes, below := e.shapes(), 0
	for _, s := range shapes {
		below += s.Steps
		if below < n {
			continue
		}
		// P(all n among the narrowest `below`) = Π (below−i)/(total−i)
		logP := 0.0
		for i := range n {
			logP += math.Log(float64(below-i)) - math.Log(float64(total-i))
		}
		if logP >= math.Log(q) {
			return trainer.Shape{Batch: s.Batch, Width: s.Width}
		}
	}
	return e.Widest
}

// stratum is a part of the epoch that takes an equal share of its time, with
// the shape that stands for it.
type stratum struct {
	shape  trainer.Shape
	weight float64 // of the epoch's time
}

// strata divides the epoch into parts of equal time, by the time that at
// predicts for a step of each shape.
func (e *epoch) strata(parts int, at func(trainer.Shape) float64) []stratum {
	shapes := e.shapes()
	total := 0.0
	for _, s := range shapes {
		total += at(s) * float64(s.Steps)
	}
	if !(total > 0) {
		return nil
	}
	var out []stratum
	passed, i := 0.0, 0
	for p := range parts {
		middle := total * (float64(p) + 0.5) / float64(parts)
		for i < len(shapes)-1 && passed+at(shapes[i])*float64(shapes[i].Steps) < middle {
			passed += at(shapes[i]) * float64(shapes[i].Steps)
			i++
		}
		shape := trainer.Shape{Batch: shapes[i].Batch, Width: shapes[i].Width}
		if n := len(out); n > 0 && out[n-1].shape == shape {
			out[n-1].weight += 1 / float64(parts)
			continue
		}
		out = append(out, stratum{shape, 1 / float64(parts)})
	}
	return out
}
