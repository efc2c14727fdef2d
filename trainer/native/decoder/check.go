package decoder

import "math"

// largest is a bound on every size, far above any model's and far enough below
// what a product of two of them can hold.
const largest = 1 << 28

// check refuses what no model of a family is, and what MLX would fail at later
// with words of its own.
func (p *Spec) check() error {
	for _, size := range []int{p.Layers, p.Hidden, p.Intermediate, p.Heads, p.KVHeads, p.HeadDim, p.Vocab} {
		if size < 1 || size > largest {
			return unsupported("a size of %d in config.json", size)
		}
	}
	switch {
	case p.HeadDim%2 != 0:
		return unsupported("%d features each for heads, which rotary embeddings take in pairs", p.HeadDim)
	case p.Heads > largest/p.HeadDim:
		return unsupported("%d heads of %d features each", p.Heads, p.HeadDim)
	case p.Window < 0:
		return unsupported("a sliding_window of %d", p.Window)
	case !(p.AttentionScale > 0) || math.IsInf(p.AttentionScale, 0):
		return unsupported("a query_pre_attn_scalar that makes a scale of %v", p.AttentionScale)
	case p.AttentionCap < 0 || p.LogitCap < 0:
		return unsupported("a negative cap on logits")
	}
	for _, r := range p.ropes {
		switch n := len(r.long); {
		case r.dims < 2 || r.dims > p.HeadDim || r.dims%2 != 0:
			return unsupported("a partial_rotary_factor that rotates %d of %d features", r.dims, p.HeadDim)
		case n > 1 && n != r.dims/2:
			return unsupported("a rope_scaling of %d factors for %d rotated features", n, r.dims)
		case !(r.base > 0) || math.IsInf(r.base, 0):
			return unsupported("a rope_theta of %v", r.base)
		case math.IsNaN(r.input) || math.IsInf(r.input, 0):
			return unsupported("a rope_scaling that begins at no position")
		}
	}
	return nil
}
