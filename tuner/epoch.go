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
}

func (r *run) epoch(batch, limit int) *epoch {
	key := [2]int{batch, limit}
	if e, ok := r.plans[key]; ok {
		return e
	}
	e := &epoch{batches: data.PlanBatches(r.Lengths, batch, limit, r.Base.Config.Data.GroupByLength)}
	slices.SortStableFunc(e.batches, func(a, b data.Batch) int { return cmp.Compare(a.Shape.Width, b.Shape.Width) })
	for _, b := range e.batches {
		e.Work = e.Work.Plus(predict.WorkOf(b.Shape), 1)
		e.Tokens += b.Tokens
		e.Positions += b.Shape.Positions()
		for _, row := range b.Rows {
			e.Useful += data.Supervised(r.Lengths[row], r.Prompts[row], limit)
		}
		e.Widest = b.Shape
	}
	e.Batches = len(e.batches)
	r.plans[key] = e
	return e
}

// shapes counts the distinct widths, narrowest first.
func (e *epoch) shapes() []trainer.Shape {
	var out []trainer.Shape
	for _, b := range e.batches {
		if n := len(out); n > 0 && out[n-1].Width == b.Shape.Width {
			out[n-1].Steps++
			continue
		}
		out = append(out, trainer.Shape{Batch: b.Shape.Batch, Width: b.Shape.Width, Steps: 1})
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
