package mlxbind

import "unsafe"

// MatMul returns the matrix product of the last two axes.
func (s *Scope) MatMul(a, b Array) Array {
	return s.array(fnMatMul, uintptr(a.handle), uintptr(b.handle))
}

// AddMM returns c + a·b, matrices in the last two axes.
func (s *Scope) AddMM(c, a, b Array) Array {
	return s.array(fnAddMM, uintptr(c.handle), uintptr(a.handle), uintptr(b.handle))
}

// RMSNorm returns weight · a / √(mean(a²) + epsilon) over the last axis; weight
// may be none.
func (s *Scope) RMSNorm(a, weight Array, epsilon float64) Array {
	return s.array(fnRMSNorm, uintptr(a.handle), uintptr(weight.handle), float(epsilon))
}

// LayerNorm normalizes the last axis to mean 0 and variance 1, then scales by
// weight and adds bias; both may be none.
func (s *Scope) LayerNorm(a, weight, bias Array, epsilon float64) Array {
	return s.array(fnLayerNorm, uintptr(a.handle), uintptr(weight.handle), uintptr(bias.handle), float(epsilon))
}

// RoPE describes rotary position embeddings.
type RoPE struct {
	Dims        int     // leading features of a head that are rotated
	Traditional bool    // rotate neighbours instead of halves
	Base        float64 // unless there are Frequencies
	Scale       float64 // of positions
	Frequencies Array   // of shape (Dims/2), wavelengths over 2π; none takes Base
}

// RoPE rotates a of shape (…, positions, features); the first position is offset.
func (s *Scope) RoPE(a Array, r RoPE, offset int) Array {
	return s.array(fnRoPE, uintptr(a.handle), uintptr(r.Dims), flag(r.Traditional), float(r.Base), float(r.Scale), uintptr(offset), uintptr(r.Frequencies.handle))
}

// Attention returns softmax(scale · q·kᵀ + mask) · v for q of shape (batch,
// heads, positions, features) and k, v with as many or fewer heads. Without a
// mask causal says whether a position sees those after it. A boolean mask tells
// what is seen; any other is added.
func (s *Scope) Attention(q, k, v Array, scale float64, causal bool, mask Array) Array {
	return s.array(fnAttention, uintptr(q.handle), uintptr(k.handle), uintptr(v.handle), float(scale), flag(causal), uintptr(mask.handle))
}

// HasCrossEntropy reports whether this MLX has CrossEntropy.
func (rt *Runtime) HasCrossEntropy() bool { return rt.atLeast(0, 32, 2) }

// CrossEntropy returns log Σ e^logits - logits[target] over the last axis, in
// one kernel on a GPU. It needs MLX 0.32.2.
func (s *Scope) CrossEntropy(logits, targets Array) Array {
	return s.array(fnCrossEntropy, uintptr(logits.handle), uintptr(targets.handle))
}

// Packed is a quantized matrix: groups of Group weights of a row share a scale
// and a bias, w ≈ q·scale + bias with q of Bits bits.
type Packed struct {
	Weight, Scales, Biases Array
	Group, Bits            int
}

// Quantize packs the last axis of w, which group must divide.
func (s *Scope) Quantize(w Array, group, bits int) Packed {
	var out [3]Array
	if _, ok := s.number(fnQuantize, uintptr(w.handle), uintptr(group), uintptr(bits), uintptr(unsafe.Pointer(&out))); !ok {
		return Packed{}
	}
	for _, a := range out {
		s.own(a)
	}
	return Packed{out[0], out[1], out[2], group, bits}
}

// Dequantize returns the matrix that p stands for, in the dtype of its scales.
func (s *Scope) Dequantize(p Packed) Array {
	return s.array(fnDequantize, uintptr(p.Weight.handle), uintptr(p.Scales.handle), uintptr(p.Biases.handle), uintptr(p.Group), uintptr(p.Bits))
}

// QuantizedMatMul returns x·pᵀ, or x·p when not transposed. It has a gradient
// with respect to x alone.
func (s *Scope) QuantizedMatMul(x Array, p Packed, transposed bool) Array {
	return s.array(fnQuantizedMatMul, uintptr(x.handle), uintptr(p.Weight.handle), uintptr(p.Scales.handle), uintptr(p.Biases.handle), flag(transposed), uintptr(p.Group), uintptr(p.Bits))
}
