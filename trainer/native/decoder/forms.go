package decoder

import "github.com/mlxdyno/mlxdyno/mlxbind"

// Forms are other ways to compute the same. The zero value is mlx-lm's.
type Forms struct {
	// Dequantize makes a dense matrix of a packed one for every product with
	// many rows, in the backward pass again, instead of multiplying packed.
	// MLX's packed products are made for the single rows of generation: with
	// hundreds of rows they are several times slower on CPUs and on CUDA.
	Dequantize bool

	// LowRankInHalf computes the low-rank path in the dtype of what goes
	// through the model, from float32 masters. mlx-lm computes it, and keeps
	// what it needs of it for the backward pass, in float32.
	LowRankInHalf bool
}

// fewRows is where products with packed matrices stop to pay.
const fewRows = 16

// unpacked is x·Wᵀ of a packed W.
func (l *linear) unpacked(s *mlxbind.Scope, x mlxbind.Array, o Forms) mlxbind.Array {
	info := s.Info(x)
	if !o.Dequantize || len(info.Shape) == 0 || info.Size/max(info.Shape[len(info.Shape)-1], 1) < fewRows {
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
