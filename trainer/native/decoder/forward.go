package decoder

import (
	"math"
	"slices"

	"github.com/mlxdyno/mlxdyno/mlxbind"
)

// build makes a rotary embedding of its form, with the arithmetic of mlx-lm so
// that frequencies have the same bits.
func (r ropeForm) build(s *mlxbind.Scope) mlxbind.RoPE {
	out := mlxbind.RoPE{Dims: r.dims, Traditional: r.traditional, Base: r.base, Scale: r.scale}
	powers := func() mlxbind.Array { // base^(0, 2, … / dims)
		steps := s.DivN(s.Arange(0, float64(r.dims), 2, mlxbind.Float32), float64(r.dims))
		return s.Pow(s.Scalar(r.base, mlxbind.Float32), steps)
	}
	switch {
	case r.llama3 != nil:
		factor, old := *r.llama3.Factor, float64(or(r.llama3.OriginalMax, 8192))
		low, high := or(r.llama3.LowFreqFactor, 1), or(r.llama3.HighFreqFactor, 4)
		freqs := powers()
		waves := s.MulN(freqs, 2*math.Pi)
		number := func(v float64) mlxbind.Array { return s.Scalar(v, mlxbind.Float32) }
		slowed := s.Where(s.Greater(waves, number(old/low)), s.MulN(freqs, factor), freqs)
		medium := s.And(s.Greater(waves, number(old/high)), s.Less(waves, number(old/low)))
		smooth := s.DivN(s.Sub(s.Div(number(old), waves), number(low)), high-low)
		mixed := s.Div(slowed, s.Add(s.DivN(s.Sub(number(1), smooth), factor), smooth))
		out.Frequencies = s.Where(medium, mixed, slowed)
	case r.long != nil:
		long := make([]float32, len(r.long))
		for i, v := range r.long {
			long[i] = float32(v)
		}
		factors := s.Float32s(long, len(long))
		if len(long) == 1 {
			factors = s.Squeeze(factors, 0)
		}
		out.Frequencies = s.Mul(factors, powers())
	}
	return out
}

// apply is y = x·Wᵀ + b.
func (l *linear) apply(s *mlxbind.Scope, x mlxbind.Array, o Forms) mlxbind.Array {
	switch {
	case l.isPacked():
		y := l.unpacked(s, x, o)
		if !l.bias.IsNone() {
			y = s.Add(y, l.bias)
		}
		return y
	case !l.bias.IsNone():
		return s.AddMM(l.bias, x, s.Transpose(l.weight))
	}
	return s.MatMul(x, s.Transpose(l.weight))
}

// linear is l with its adapter, if it has one.
func (m *Model) linear(s *mlxbind.Scope, l *linear, x mlxbind.Array, p params) mlxbind.Array {
	y := l.apply(s, x, m.Forms)
	i, ok := m.lora[l.name]
	if !ok || p.arrays == nil {
		return y
	}
	a, b, key := p.of(i)
	in := x
	if !key.IsNone() {
		keep := 1 - m.dropout
		in = s.MulN(s.Mul(s.Bernoulli(key, keep, s.Shape(x)...), x), 1/keep)
	}
	if m.Forms.LowRankInHalf {
		// The factor goes on the narrow side, and the second product adds.
		a, b = s.AsType(a, s.DTypeOf(x)), s.AsType(b, s.DTypeOf(x))
		return s.AddMM(y, s.MulN(s.MatMul(in, a), m.scale), b)
	}
	z := s.MatMul(s.MatMul(in, a), b)
	return s.Add(y, s.AsType(s.MulN(z, m.scale), s.DTypeOf(x)))
}

// mask is what a position sees.
type mask struct {
	causal bool
	array  mlxbind.Array // of shape (queries, keys), boolean; none unless it is needed
}

// stretch is rows of one length: its mask, and how many they are.
type stretch struct {
	rows, length int
	mask
}

// causalMask is the boolean mask of queries at offset.. that see window keys
// back, or all when window is 0.
func causalMask(s *mlxbind.Scope, n, offset, window int) mlxbind.Array {
	right := s.ExpandDims(s.Arange(0, float64(offset+n), 1, mlxbind.Int32), 0)
	left := s.ExpandDims(s.Arange(float64(offset), float64(offset+n), 1, mlxbind.Int32), 1)
	seen := s.GreaterEqual(left, right)
	if window > 0 {
		seen = s.And(seen, s.Less(left, s.AddN(right, float64(window))))
	}
	return seen
}

// masks are those of layers that see everything before, and of those that see
// a window.
func (m *Model) masks(s *mlxbind.Scope, n, offset int) (full, sliding mask) {
	p := m.Spec
	switch {
	case n == 1:
	case p.AttentionCap > 0, offset > 0:
		full.array = causalMask(s, n, offset, 0)
	default:
		full.causal = true
	}
	sliding = full
	if p.Window > 0 && offset+n > p.Window {
		for _, is := range p.Sliding {
			if is {
				sliding = mask{array: causalMask(s, n, offset, p.Window)}
				break
			}
		}
	}
	return full, sliding
}

// seen are the stretches of hidden states: one of all rows, or, where rows of these
// lengths lie end to end, of rows of equal length, each of which is attended to on
// its own. A mask for all of them together would have the square of their positions.
func (m *Model) seen(s *mlxbind.Scope, shape []int, rows []int) (full, sliding []stretch) {
	add := func(count, length int) {
		f, w := m.masks(s, length, 0)
		full, sliding = append(full, stretch{count, length, f}), append(sliding, stretch{count, length, w})
	}
	if len(rows) == 0 && len(shape) == 3 {
		add(shape[0], shape[1])
	}
	for len(rows) > 0 {
		alike := 1
		for alike < len(rows) && rows[alike] == rows[0] {
			alike++
		}
		n := m.together(alike, rows[0])
		add(n, rows[0])
		rows = rows[n:]
	}
	return full, sliding
}

// together is how many of rows of a length are attended to at once: about as many
// each time, and no more than ScoreBytes allow.
func (m *Model) together(rows, length int) int {
	if m.Forms.ScoreBytes == 0 {
		return rows
	}
	most := max(m.Forms.ScoreBytes/(4*m.Spec.Heads*length*length), 1)
	times := (rows + most - 1) / most
	return (rows + times - 1) / times
}

// attend computes attention from heads of shape (batch, heads, positions, features).
func (m *Model) attend(s *mlxbind.Scope, q, k, v mlxbind.Array, seen mask) mlxbind.Array {
	p := m.Spec
	inTwos := m.Forms.PowersOfTwo && s.DTypeOf(q) == mlxbind.Float32
	if p.AttentionCap == 0 && !inTwos {
		return s.Attention(q, k, v, p.AttentionScale, seen.causal, seen.array)
	}
	shape := s.Shape(q)
	if len(shape) != 4 {
		return mlxbind.Array{}
	}
	scale := p.AttentionScale
	if p.AttentionCap == 0 {
		scale *= math.Log2E // of powers of two
	}
	q = s.MulN(q, scale)
	if repeats := p.Heads / p.KVHeads; repeats > 1 {
		q = s.Reshape(q, shape[0], p.KVHeads, repeats, shape[2], p.HeadDim)
		k, v = s.ExpandDims(k, 2), s.ExpandDims(v, 2)
	}
	scores := s.MatMul(q, swapLast(s, k))
	if p.AttentionCap > 0 {
		scores = s.MulN(s.Tanh(s.DivN(scores, p.AttentionCap)), p.AttentionCap)
	}
	visible := seen.array
	if visible.IsNone() && seen.causal {
		queries, keys := shape[2], s.Shape(v)
		visible = causalMask(s, queries, keys[len(keys)-2]-queries, 0)
	}
	if !visible.IsNone() {
		d := s.DTypeOf(scores)
		scores = s.Where(visible, scores, s.Scalar(lowest(d), d))
	}
	if p.AttentionCap > 0 {
		return s.Reshape(s.MatMul(s.Softmax(scores, -1, true), v), shape...)
	}
	return s.Reshape(s.MatMul(softmaxOfTwos(s, scores), v), shape...)
}

// softmaxOfTwos is 2^x / Σ 2^x over the last axis.
func softmaxOfTwos(s *mlxbind.Scope, x mlxbind.Array) mlxbind.Array {
	return s.CustomVJP(
		func(s *mlxbind.Scope, in []mlxbind.Array) []mlxbind.Array {
			e := s.Pow(s.Scalar(2, mlxbind.Float32), s.Sub(in[0], s.Max(in[0], -1, true)))
			return []mlxbind.Array{s.Div(e, s.Sum(e, -1, true))}
		},
		func(s *mlxbind.Scope, _, cotangents, out []mlxbind.Array) []mlxbind.Array {
			weighed := s.Mul(cotangents[0], out[0])
			return []mlxbind.Array{s.MulN(s.Sub(weighed, s.Mul(out[0], s.Sum(weighed, -1, true))), math.Ln2)}
		}, 1, 1).Call1(s, x)
}

// lowest is the most negative finite number.
func lowest(d mlxbind.DType) float64 {
	switch d {
	case mlxbind.Float16:
		return -65504
	case mlxbind.BFloat16:
		return -0x1.fep127
	}
	return -math.MaxFloat32
}

// attention is the first half of a block. cache may be nil.
func (m *Model) attention(s *mlxbind.Scope, l *layer, x mlxbind.Array, p params, seen []stretch, cache *keyValues) mlxbind.Array {
	spec := m.Spec
	shape := s.Shape(x)
	if len(shape) != 3 {
		return mlxbind.Array{}
	}
	var q, k, v mlxbind.Array
	if l.qkv != nil {
		all := m.linear(s, l.qkv, x, p)
		query, kv := spec.Heads*spec.HeadDim, spec.KVHeads*spec.HeadDim
		q, k, v = s.Slice(all, -1, 0, query), s.Slice(all, -1, query, query+kv), s.Slice(all, -1, query+kv, query+2*kv)
	} else {
		q, k, v = m.linear(s, l.q, x, p), m.linear(s, l.k, x, p), m.linear(s, l.v, x, p)
	}
	offset := cache.length()
	var outs []mlxbind.Array
	at := 0
	for _, r := range seen {
		heads := func(a mlxbind.Array, heads int, norm mlxbind.Array) mlxbind.Array {
			if len(seen) > 1 {
				a = s.Slice(a, 1, at, at+r.rows*r.length)
			}
			a = s.Reshape(a, r.rows, r.length, heads, -1)
			if !norm.IsNone() {
				a = s.RMSNorm(a, norm, spec.Eps)
			}
			return s.Transpose(a, 0, 2, 1, 3)
		}
		q, k, v := heads(q, spec.Heads, l.queryNorm), heads(k, spec.KVHeads, l.keyNorm), heads(v, spec.KVHeads, mlxbind.Array{})
		q, k = m.rotate(s, l, q, offset), m.rotate(s, l, k, offset)
		k, v = cache.extend(s, l.index, k, v)
		out := s.Transpose(m.attend(s, q, k, v, r.mask), 0, 2, 1, 3)
		if len(seen) > 1 {
			out = s.Reshape(out, 1, r.rows*r.length, -1)
		}
		outs = append(outs, out)
		at += r.rows * r.length
	}
	out := outs[0]
	if len(outs) > 1 {
		out = s.Concatenate(1, outs...)
	}
	return m.linear(s, l.o, s.Reshape(out, shape[0], shape[1], -1), p)
}

func (m *Model) rotate(s *mlxbind.Scope, l *layer, x mlxbind.Array, offset int) mlxbind.Array {
	i := m.Spec.ropeOf[l.index]
	if factor := m.Spec.ropes[i].input; factor != 0 && factor != 1 {
		dims := m.Spec.ropes[i].dims
		head := s.MulN(s.Slice(x, -1, 0, dims), factor)
		if dims < m.Spec.HeadDim {
			head = s.Concatenate(-1, head, s.Slice(x, -1, dims, m.Spec.HeadDim))
		}
		x = head
	}
	return s.RoPE(x, m.ropes[i], offset)
}

// mlp is the second half of a block.
func (m *Model) mlp(s *mlxbind.Scope, l *layer, x mlxbind.Array, p params) mlxbind.Array {
	var gate, up mlxbind.Array
	if l.gateUp != nil {
		both := m.linear(s, l.gateUp, x, p)
		gate, up = s.Slice(both, -1, 0, m.Spec.Intermediate), s.Slice(both, -1, m.Spec.Intermediate, 2*m.Spec.Intermediate)
	} else {
		gate, up = m.linear(s, l.gate, x, p), m.linear(s, l.up, x, p)
	}
	if m.Spec.Gelu {
		gate = gelu(s, gate)
	} else {
		gate = s.Mul(gate, m.sigmoid(s, gate))
	}
	return m.linear(s, l.down, s.Mul(gate, up), p)
}

// gelu is the approximation x/2 · (1 + tanh(√(2/π) · (x + 0.044715·x³))).
func gelu(s *mlxbind.Scope, x mlxbind.Array) mlxbind.Array {
	inner := s.MulN(s.Add(x, s.MulN(s.PowN(x, 3), 0.044715)), math.Sqrt(2/math.Pi))
	return s.Mul(s.MulN(x, 0.5), s.AddN(s.Tanh(inner), 1))
}

// block is one layer. p holds its own adapters at least.
func (m *Model) block(s *mlxbind.Scope, l *layer, h mlxbind.Array, p params, seen []stretch, cache *keyValues) mlxbind.Array {
	eps := m.Spec.Eps
	r := m.attention(s, l, s.RMSNorm(h, l.inputNorm, eps), p, seen, cache)
	if !m.Spec.PostNorms {
		h = s.Add(h, r)
		return s.Add(h, m.mlp(s, l, s.RMSNorm(h, l.postAttentionNorm, eps), p))
	}
	h = m.residual(s, h, s.RMSNorm(r, l.postAttentionNorm, eps))
	r = m.mlp(s, l, s.RMSNorm(h, l.preFeedForward, eps), p)
	return m.residual(s, h, s.RMSNorm(r, l.postFeedForward, eps))
}

func (m *Model) residual(s *mlxbind.Scope, x, y mlxbind.Array) mlxbind.Array {
	if !m.Spec.ClipResidual || s.DTypeOf(x) != mlxbind.Float16 {
		return s.Add(x, y)
	}
	sum := s.Add(s.AsType(x, mlxbind.Float32), s.AsType(y, mlxbind.Float32))
	return s.AsType(s.MinimumN(s.MaximumN(sum, -65504), 65504), mlxbind.Float16)
}

func (m *Model) embedding(s *mlxbind.Scope, tokens mlxbind.Array) mlxbind.Array {
	var h mlxbind.Array
	if e := &m.embed; e.isPacked() {
		row := mlxbind.Packed{Weight: s.Take(e.packed.Weight, tokens, 0), Scales: s.Take(e.packed.Scales, tokens, 0),
			Biases: s.Take(e.packed.Biases, tokens, 0), Group: e.packed.Group, Bits: e.packed.Bits}
		h = s.Dequantize(row)
	} else {
		h = s.Take(e.weight, tokens, 0)
	}
	switch {
	case m.Spec.EmbedScaleInBF16:
		h = s.Mul(h, s.AsType(s.Scalar(m.Spec.EmbedScale, mlxbind.BFloat16), s.DTypeOf(h)))
	case m.Spec.EmbedScale != 0:
		h = s.MulN(h, m.Spec.EmbedScale)
	}
	return h
}

// Pass is how a forward pass is done.
type Pass struct {
	Checkpoint bool            // compute layers with adapters again in the backward pass
	Keys       []mlxbind.Array // of dropout, from DropoutKeys; none for evaluation
	Only       mlxbind.Array   // positions whose scores are wanted, counted through the batch; none is all
	cache      *keyValues
}

// Logits returns scores of shape (batch, positions, vocabulary) for tokens of
// shape (batch, positions), or with pass.Only of shape (wanted, vocabulary).
// adapters are the arrays of m.Adapters; none of them
// computes the base.
func (m *Model) Logits(s *mlxbind.Scope, tokens mlxbind.Array, adapters []mlxbind.Array, pass Pass) mlxbind.Array {
	shape := s.Shape(tokens)
	if len(shape) != 2 {
		return mlxbind.Array{}
	}
	f, w := m.masks(s, shape[1], pass.cache.length())
	full, sliding := []stretch{{shape[0], shape[1], f}}, []stretch{{shape[0], shape[1], w}}
	p := all(adapters, pass.Keys)
	h := m.embedding(s, tokens)
	for _, l := range m.layers {
		seen := full
		if m.Spec.Sliding[l.index] {
			seen = sliding
		}
		if pass.Checkpoint && l.adapters > 0 && p.arrays != nil {
			h = m.checkpointed(s, l, h, p.part(l), seen)
		} else {
			h = m.block(s, l, h, p, seen, pass.cache)
		}
	}
	if !pass.Only.IsNone() {
		h = s.Take(s.Reshape(h, -1, m.Spec.Hidden), pass.Only, 0)
	}
	return m.scores(s, m.output(), s.RMSNorm(h, m.norm, m.Spec.Eps))
}

// output is the linear map from hidden states to scores.
func (m *Model) output() *linear {
	if m.head != nil {
		return m.head
	}
	return &linear{weight: m.embed.weight, packed: m.embed.packed}
}

func (m *Model) scores(s *mlxbind.Scope, out *linear, h mlxbind.Array) mlxbind.Array {
	logits := out.apply(s, h, m.Forms)
	if c := m.Spec.LogitCap; c > 0 {
		logits = s.MulN(s.Tanh(s.DivN(logits, c)), c)
	}
	return logits
}

// checkpointed is block, computed again in the backward pass. All that varies
// or has a gradient goes in as an argument, and so does what must live until
// then: keys of dropout, which drawn from again give the same masks, and the mask
// of attention, which would be freed with the Scope of the forward pass.
func (m *Model) checkpointed(s *mlxbind.Scope, l *layer, h mlxbind.Array, p params, seen []stretch) mlxbind.Array {
	in := append([]mlxbind.Array{h}, p.arrays...)
	in = append(in, p.keys...)
	if !seen[0].array.IsNone() {
		in = append(in, seen[0].array)
	}
	arrays, keys := 1+len(p.arrays), 1+len(p.arrays)+len(p.keys)
	f := s.Checkpoint(func(s *mlxbind.Scope, in []mlxbind.Array) []mlxbind.Array {
		p, seen := params{first: p.first, arrays: in[1:arrays]}, slices.Clone(seen)
		for _, key := range in[arrays:keys] {
			p.keys = append(p.keys, s.StopGradient(key)) // MLX asks for one, and random bits have none
		}
		if len(in) > keys {
			seen[0].array = s.StopGradient(in[keys])
		}
		return []mlxbind.Array{m.block(s, l, in[0], p, seen, nil)}
	})
	return f.Call1(s, in...)
}

func swapLast(s *mlxbind.Scope, a mlxbind.Array) mlxbind.Array {
	axes := make([]int, len(s.Shape(a)))
	if len(axes) < 2 {
		return mlxbind.Array{}
	}
	for i := range axes {
		axes[i] = i
	}
	n := len(axes)
	axes[n-1], axes[n-2] = n-2, n-1
	return s.Transpose(a, axes...)
}
