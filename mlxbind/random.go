package mlxbind

import "unsafe"

// Keys of random numbers. MLX's generator has no state: equal keys give equal
// numbers, whatever else happens, and one key is split into two for more.

// RandomKey returns the key of a seed, of shape (2).
func (s *Scope) RandomKey(seed uint64) Array { return s.array(fnRandomKey, uintptr(seed)) }

// SplitKey returns two keys. MLX's own generator goes on with the first and
// draws with the second.
func (s *Scope) SplitKey(key Array) (next, use Array) {
	var out [2]Array
	if _, ok := s.number(fnRandomSplit, uintptr(key.handle), uintptr(unsafe.Pointer(&out))); !ok {
		return Array{}, Array{}
	}
	s.own(out[0])
	s.own(out[1])
	return out[0], out[1]
}

// Uniform draws from [low, high).
func (s *Scope) Uniform(key Array, low, high float64, d DType, shape ...int) Array {
	sizes := sizesOf(shape)
	return s.array(fnRandomUniform, float(low), float(high), uintptr(unsafe.Pointer(unsafe.SliceData(sizes))), uintptr(len(sizes)), uintptr(d), uintptr(key.handle))
}

// Normal draws from the normal distribution.
func (s *Scope) Normal(key Array, mean, deviation float64, d DType, shape ...int) Array {
	sizes := sizesOf(shape)
	return s.array(fnRandomNormal, float(mean), float(deviation), uintptr(unsafe.Pointer(unsafe.SliceData(sizes))), uintptr(len(sizes)), uintptr(d), uintptr(key.handle))
}

// Bernoulli draws true with probability p.
func (s *Scope) Bernoulli(key Array, p float64, shape ...int) Array {
	sizes := sizesOf(shape)
	return s.array(fnRandomBernoulli, float(p), uintptr(unsafe.Pointer(unsafe.SliceData(sizes))), uintptr(len(sizes)), uintptr(key.handle))
}

// Categorical draws indices of axis with probabilities softmax(logits).
func (s *Scope) Categorical(key, logits Array, axis int) Array {
	return s.array(fnRandomCategorical, uintptr(logits.handle), uintptr(axis), uintptr(key.handle))
}
