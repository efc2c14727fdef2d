package replay

import (
	"math/rand/v2"
	"slices"

	"github.com/mlxdyno/mlxdyno/tuner/search"
)

// random tries all configurations in an order drawn at random.
func random(r *race, rng *rand.Rand) {
	for _, i := range rng.Perm(len(r.points)) {
		if r.consider(r.points[i]); r.over() {
			return
		}
	}
}

// grid tries all configurations in the order in which nested loops list them,
// from a place drawn at random.
func grid(r *race, rng *rand.Rand) {
	from := rng.IntN(len(r.points))
	for i := range r.points {
		if r.consider(r.points[(from+i)%len(r.points)]); r.over() {
			return
		}
	}
}

// doubling is what Lightning, accelerate and Composer do: the batch is doubled
// until a process dies, with everything else as it was: a stopping rule. From the
// default configuration, or from one drawn at random.
func doubling(anywhere bool) searcher {
	return func(r *race, rng *rand.Rand) {
		start := r.points[0]
		if anywhere {
			start = r.points[rng.IntN(len(r.points))]
		}
		for _, b := range r.m.table.Head.Batches() {
			if v := r.consider(withBatch(start, b, r.m.table.Head.Effective)); v.value == 0 {
				return
			}
		}
	}
}

func withBatch(p search.Point, batch, effective int) search.Point {
	p.Batch, p.Accumulation = batch, effective/batch
	return p
}

// deepspeed is DeepSpeed's autotuner in its fast mode, with our knobs that save
// memory in the place of ZeRO's stages: a profile of one process gives the bytes
// of a row, which give the largest batch that fits; that one and the two below it
// are run, and the next stage is tried as long as the last one was better. It
// takes any death for the end of a stage. Like doubling it has a stopping rule.
func deepspeed(r *race, _ *rand.Rand) {
	h := r.m.table.Head
	stages := []search.Point{r.points[0]}
	for _, bits := range h.Bits[1:] {
		p := r.points[0]
		p.Bits = bits
		stages = append(stages, p)
	}
	for _, p := range slices.Clone(stages) {
		p.Checkpointing = true
		stages = append(stages, p)
	}
	best := 0.0
	for _, stage := range stages {
		profile := r.consider(withBatch(stage, 1, h.Effective))
		if profile.value == 0 {
			continue // not even one row fits
		}
		weights := float64(h.Facts.WeightBytes)
		row := float64(profile.peak) - weights
		most := int((float64(r.limit) - weights) / row)
		ours, tries := profile.value, 0
		for _, b := range slices.Backward(h.Batches()) {
			if b == 1 || b > most || tries == 3 {
				continue
			}
			tries++
			v := r.consider(withBatch(stage, b, h.Effective))
			if v.value == 0 {
				break
			}
			ours = min(ours, v.value)
		}
		if best > 0 && ours > best*(1-near) {
			return // no better than the stage before
		}
		best = ours
	}
}
