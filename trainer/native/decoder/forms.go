package decoder

import (
	"math"

	"github.com/mlxdyno/mlxdyno/mlxbind"
)

// Forms are other ways to compute the same. The zero value is mlx-lm's.
type Forms struct {
	// DenseFrom is for how many rows a product is computed with a dense matrix made of
	// a packed one, in the backward pass again, instead of multiplying packed; 0 never.
	// MLX's packed products are made for the single rows of generation: with
	// hundreds of rows they are several times slower on CPUs and on CUDA.
	DenseFrom int

	// LowRankInHalf computes the low-rank path in the dtype of what goes
	// through the model, from float32 masters. mlx-lm computes it, and keeps
	// what it needs of it for the backward pass, in float32.
	LowRankInHalf bool

	// PowersOfTwo computes e^x as 2^(x·log₂e). MLX's exponential calls the C
	// library's for one element after another on x86, which takes 2.6 times as
	// long as its power of two.
	PowersOfTwo bool

	// ScoreBytes bounds the scores of attention that packed rows of equal length
	// hold at once, where no kernel does without them; 0 is no bound. With it
	// such rows, which bursts are made of, need no more memory than others.
	ScoreBytes int
}

// Exp is e^x in the model's form, without a gradient.
func (o Forms) Exp(s *mlxbind.Scope, x mlxbind.Array) mlxbind.Array {
	if !o.PowersOfTwo || s.DTypeOf(x) != mlxbind.Float32 {
		return s.Exp(x)
	}
	return s.Pow(s.Scalar(2, mlxbind.Float32), s.MulN(x, math.Log2E))
}

// sigmoid is 1 / (1 + e^-x).
func (m *Model) sigmoid(s *mlxbind.Scope, x mlxbind.Array) mlxbind.Array {
	if !m.Forms.PowersOfTwo {
		return s.Sigmoid(x)
	}
	one := func(s *mlxbind.Scope, a mlxbind.Array) mlxbind.Array { return s.AddN(a, 1) }
	return s.CustomVJP(
		func(s *mlxbind.Scope, in []mlxbind.Array) []mlxbind.Array {
			sum := one(s, m.Forms.Exp(s, s.Negative(in[0])))
			return []mlxbind.Array{s.Div(s.Scalar(1, s.DTypeOf(sum)), sum)}
		},
		func(s *mlxbind.Scope, _, cotangents, out []mlxbind.Array) []mlxbind.Array {
			return []mlxbind.Array{s.Mul(cotangents[0], s.Mul(out[0], one(s, s.Negative(out[0]))))}
		}, 1, 1).Call1(s, x)
}

// LogSumExp is log Σ e^x over the last axis, which stays, of x that is nowhere
// far above zero.
func (o Forms) LogSumExp(s *mlxbind.Scope, x mlxbind.Array) mlxbind.Array {
	if !o.PowersOfTwo || s.DTypeOf(x) != mlxbind.Float32 {
		return s.LogSumExp(x, -1, true)
	}
	return s.CustomVJP(
		func(s *mlxbind.Scope, in []mlxbind.Array) []mlxbind.Array {
			e := o.Exp(s, in[0])
			sum := s.Sum(e, -1, true)
			return []mlxbind.Array{s.Log(sum), e, sum}
		},
		func(s *mlxbind.Scope, _, cotangents, out []mlxbind.Array) []mlxbind.Array {
			return []mlxbind.Array{s.Mul(out[1], s.Div(cotangents[0], out[2]))}
		}, 1, 3).Call(s, x)[0]
}

// Rehearse makes dense matrices of packed ones as a step will. Where that is done
// by a kernel that has to prove itself first, it cannot while a function is taken
// apart.
func (m *Model) Rehearse(s *mlxbind.Scope) error {
	if m.Forms.DenseFrom == 0 {
		return nil
	}
	return s.Child(func(c *mlxbind.Scope) error {
		for _, l := range m.layers {
			for _, lin := range l.linears() {
				if lin.isPacked() {
					c.Free(c.Dequantize(lin.packed))
				}
			}
		}
		return c.Err()
	})
}

// dense reports whether products with so many rows are computed with dense matrices.
func (o Forms) dense(rows int) bool { return o.DenseFrom > 0 && rows >= o.DenseFrom }

// unpacked is x·Wᵀ of a packed W, in a step that is computed as a whole. Steps by blocks
// unpack before (Block.Unpacked).
func (l *linear) unpacked(s *mlxbind.Scope, x mlxbind.Array, o Forms) mlxbind.Array {
	info := s.Info(x)
	if len(info.Shape) == 0 || !o.dense(info.Size/max(info.Shape[len(info.Shape)-1], 1)) {
		return s.QuantizedMatMul(x, l.packed, true)
	}
	dense := func(s *mlxbind.Scope, d mlxbind.DType) mlxbind.Array {
		return s.AsType(s.Dequantize(l.packed), d)
	}
	// Without a gradient of its own the product would keep the dense matrix
	// until its gradient is taken, of every layer at once.
	product := s.CustomVJP(
		func(s *mlxbind.Scope, in []mlxbind.Array) []mlxbind.Array {
			return []mlxbind.Array{s.MatMul(in[0], s.Transpose(dense(s, info.DType)))}
		},
		func(s *mlxbind.Scope, _, cotangents, _ []mlxbind.Array) []mlxbind.Array {
			return []mlxbind.Array{s.MatMul(cotangents[0], dense(s, info.DType))}
		}, 1, 1)
	return product.Call1(s, x)
}
