package tuner

import (
	"math"

	"github.com/mlxdyno/mlxdyno/trainer/data"
	"github.com/mlxdyno/mlxdyno/tuner/predict"
)

// A training that sees a fraction of its epoch meets the widest batch or does
// not, which moves its peak by more than any error of the prediction. mlx-lm
// draws the order from numpy's generator, seeded by the configuration, so the
// order is known beforehand. That an engine really keeps to it is not taken for
// granted: the rehearsal has to show the same shapes in the same order.

// drawn returns the batches of the first steps of a training, in order.
func (r *run) drawn(f *finalist, steps int) []data.Batch {
	c := f.config
	plan := data.PlanBatches(r.Lengths, r.batching(c.Plan.Batch, c.Data.MaxSeqLength))
	rng := newTwister(uint32(c.Seed))
	out := make([]data.Batch, 0, steps)
	for len(out) < steps && len(plan) > 0 {
		for _, i := range rng.permutation(len(plan)) {
			if len(out) < steps {
				out = append(out, plan[i])
			}
		}
	}
	return out
}

// foreseen is what the known batches of a training take.
type foreseen struct {
	work   []predict.Work
	tokens int64
	widest int
}

func (r *run) foresee(f *finalist, steps int) foreseen {
	var out foreseen
	for _, b := range r.drawn(f, steps) {
		out.work = append(out.work, r.workOf(b, f.config.Data.MaxSeqLength))
		out.tokens += b.Tokens
		out.widest = max(out.widest, b.Shape.Even().Width)
	}
	return out
}

// twister is the Mersenne twister MT19937 (Matsumoto and Nishimura, 1998), as
// numpy.random.seed starts it.
type twister struct {
	key [624]uint32
	pos int
}

func newTwister(seed uint32) *twister {
	t := &twister{pos: 624}
	for i := range t.key {
		t.key[i] = seed
		seed = 1812433253*(seed^seed>>30) + uint32(i) + 1
	}
	return t
}

func (t *twister) next() uint32 {
	if t.pos == len(t.key) {
		for i := range t.key {
			y := t.key[i]&0x80000000 | t.key[(i+1)%624]&0x7fffffff
			t.key[i] = t.key[(i+397)%624] ^ y>>1 ^ -(y&1)&0x9908b0df
		}
		t.pos = 0
	}
	y := t.key[t.pos]
	t.pos++
	y ^= y >> 11
	y ^= y << 7 & 0x9d2c5680
	y ^= y << 15 & 0xefc60000
	return y ^ y>>18
}

// permutation is numpy.random.permutation: Fisher and Yates's shuffle from the
// end, with numbers out of range drawn again.
func (t *twister) permutation(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	for i := n - 1; i > 0; i-- {
		mask := uint32(math.MaxUint32)
		for mask>>1 >= uint32(i) {
			mask >>= 1
		}
		j := t.next() & mask
		for j > uint32(i) {
			j = t.next() & mask
		}
		out[i], out[j] = out[j], out[i]
	}
	return out
}
