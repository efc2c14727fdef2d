package mlxbind

import (
	"fmt"
	"math"
	"slices"
	"testing"
)

func TestNorms(t *testing.T) {
	weight := []float64{2, -1, 0.5}
	bias := []float64{0.1, 0.2, 0.3}
	const epsilon = 1e-3
	rms, layer := make([]float64, 6), make([]float64, 6)
	for r := range 2 {
		row := xs[3*r : 3*r+3]
		mean := sum(row) / 3
		var square, variance float64
		for _, v := range row {
			square += v * v / 3
			variance += (v - mean) * (v - mean) / 3
		}
		for i, v := range row {
			rms[3*r+i] = weight[i] * v / math.Sqrt(square+epsilon)
			layer[3*r+i] = weight[i]*(v-mean)/math.Sqrt(variance+epsilon) + bias[i]
		}
	}
	unweighted := make([]float64, 6)
	for i := range rms {
		unweighted[i] = rms[i] / weight[i%3]
	}
	do(t, func(s *Scope) error {
		x, w, b := operandsIn(s).x, s.Float32s(narrowed(weight), 3), s.Float32s(narrowed(bias), 3)
		f32([]int{2, 3}, rms...).check(t, s, s.RMSNorm(x, w, epsilon))
		f32([]int{2, 3}, unweighted...).check(t, s, s.RMSNorm(x, Array{}, epsilon))
		f32([]int{2, 3}, layer...).check(t, s, s.LayerNorm(x, w, b, epsilon))
		centred := make([]float64, 6)
		for i := range centred {
			centred[i] = (layer[i] - bias[i%3]) / weight[i%3]
		}
		f32([]int{2, 3}, centred...).check(t, s, s.LayerNorm(x, Array{}, Array{}, epsilon))
		return nil
	})
}

// rotated is rotary embedding written out, for one head.
func rotated(rows [][]float64, dims int, traditional bool, frequency func(i int) float64, offset int) []float64 {
	var out []float64
	for p, row := range rows {
		r := slices.Clone(row)
		for i := range dims / 2 {
			a, b := i, i+dims/2
			if traditional {
				a, b = 2*i, 2*i+1
			}
			sin, cos := math.Sincos(float64(p+offset) * frequency(i))
			r[a], r[b] = row[a]*cos-row[b]*sin, row[a]*sin+row[b]*cos
		}
		out = append(out, r...)
	}
	return out
}

func TestRoPE(t *testing.T) {
	rows := [][]float64{{1, 2, 3, 4, 5}, {-1, 0.5, 2, 0, 1}, {2, 2, -3, 1, 7}}
	flat := slices.Concat(rows...)
	byBase := func(i int) float64 { return 0.5 * math.Pow(100, -float64(i)/2) }
	periods := []float64{3, 7}
	byPeriod := func(i int) float64 { return 1 / periods[i] }
	do(t, func(s *Scope) error {
		x := s.Float32s(narrowed(flat), 1, 3, 5)
		shape := []int{1, 3, 5}
		for _, traditional := range []bool{false, true} {
			for _, offset := range []int{0, 5} {
				got := s.RoPE(x, RoPE{Dims: 4, Traditional: traditional, Base: 100, Scale: 0.5}, offset)
				f32(shape, rotated(rows, 4, traditional, byBase, offset)...).check(t, s, got)
				got = s.RoPE(x, RoPE{Dims: 4, Traditional: traditional, Scale: 1, Frequencies: s.Float32s(narrowed(periods), 2)}, offset)
				f32(shape, rotated(rows, 4, traditional, byPeriod, offset)...).check(t, s, got)
			}
		}
		return nil
	})
}

// attended is attention written out, for queries of two heads that share one
// head of keys and values. seen tells what is added to a score.
func attended(q, k, v [][]float64, scale float64, added func(i, j int) float64) []float64 {
	var out []float64
	for i, row := range q {
		i %= len(k)
		scores := make([]float64, len(k))
		for j := range k {
			for l := range row {
				scores[j] += scale * row[l] * k[j][l]
			}
			scores[j] += added(i, j)
		}
		weights := softmax(scores)
		for l := range v[0] {
			total := 0.0
			for j := range v {
				total += weights[j] * v[j][l]
			}
			out = append(out, total)
		}
	}
	return out
}

func TestAttention(t *testing.T) {
	q := [][]float64{{1, 0.5}, {-1, 2}, {0.25, 1}, {2, 2}, {-0.5, 0}, {1, -1}} // two heads of three positions
	k := [][]float64{{0.5, 1}, {1, -1}, {2, 0.25}}
	v := [][]float64{{1, 2}, {3, 4}, {-5, 6}}
	added := [][]float64{{0, 0.5, -1}, {1, 0, 2}, {-0.5, 0, 0.25}}
	hidden := func(hide bool) float64 {
		if hide {
			return math.Inf(-1)
		}
		return 0
	}
	do(t, func(s *Scope) error {
		of := func(heads int, rows [][]float64) Array {
			return s.Float32s(narrowed(slices.Concat(rows...)), 1, heads, 3, 2)
		}
		Q, K, V := of(2, q), of(1, k), of(1, v)
		shape := []int{1, 2, 3, 2}
		f32(shape, attended(q, k, v, 0.7, func(i, j int) float64 { return 0 })...).check(t, s, s.Attention(Q, K, V, 0.7, false, Array{}))
		f32(shape, attended(q, k, v, 0.7, func(i, j int) float64 { return hidden(j > i) })...).check(t, s, s.Attention(Q, K, V, 0.7, true, Array{}))
		f32(shape, attended(q, k, v, 0.7, func(i, j int) float64 { return added[i][j] })...).check(t, s,
			s.Attention(Q, K, V, 0.7, false, s.Float32s(narrowed(slices.Concat(added...)), 3, 3)))
		seen := s.AsType(s.Int32s([]int32{1, 1, 0, 0, 1, 0, 1, 0, 1}, 3, 3), Bool)
		f32(shape, attended(q, k, v, 0.7, func(i, j int) float64 { return hidden(i != j && (i != 0 || j != 1) && (i != 2 || j != 0)) })...).check(t, s,
			s.Attention(Q, K, V, 0.7, false, seen))
		return nil
	})
}

func TestCrossEntropy(t *testing.T) {
	if !rt.HasCrossEntropy() {
		t.Fatal("the MLX of the tests is too old")
	}
	do(t, func(s *Scope) error {
		got := s.CrossEntropy(operandsIn(s).x, s.Int32s([]int32{2, 1}, 2))
		f32([]int{2}, logSumExp(xs[:3])-xs[2], logSumExp(xs[3:])-xs[4]).check(t, s, got)
		return nil
	})
}

// quantizations are all that MLX has for its affine mode.
func quantizations(t *testing.T, f func(t *testing.T, group, bits int)) {
	for _, bits := range []int{2, 3, 4, 5, 6, 8} {
		for _, group := range []int{32, 64, 128} {
			t.Run(fmt.Sprintf("%d bits in groups of %d", bits, group), func(t *testing.T) { f(t, group, bits) })
		}
	}
}

func TestQuantizationIsPythons(t *testing.T) {
	var all map[string]struct {
		Weight         []uint32
		Scales, Biases []float32
		Dequantized    []float32
		Transposed     []float32
		Plain          []float32
	}
	python(t, `
def flat(a): return a.reshape(-1).tolist()
w = mx.random.normal((128, 128), key=mx.random.key(3))
x = mx.random.normal((2, 128), key=mx.random.key(4))
out = {}
for bits in (2, 3, 4, 5, 6, 8):
    for group in (32, 64, 128):
        p = mx.quantize(w, group_size=group, bits=bits)
        out[f"{bits} {group}"] = {
            "weight": flat(p[0]), "scales": flat(p[1]), "biases": flat(p[2]),
            "dequantized": flat(mx.dequantize(*p, group_size=group, bits=bits)),
            "transposed": flat(mx.quantized_matmul(x, *p, transpose=True, group_size=group, bits=bits)),
            "plain": flat(mx.quantized_matmul(x, *p, transpose=False, group_size=group, bits=bits)),
        }
`, &all)
	quantizations(t, func(t *testing.T, group, bits int) {
		want := all[fmt.Sprint(bits, group)]
		do(t, func(s *Scope) error {
			w := s.Normal(s.RandomKey(3), 0, 1, Float32, 128, 128)
			x := s.Normal(s.RandomKey(4), 0, 1, Float32, 2, 128)
			p := s.Quantize(w, group, bits)
			if got, err := s.ReadUint32s(p.Weight); err != nil || len(got) == 0 || !slices.Equal(got, want.Weight) {
				t.Error("weights differ", err)
			}
			for name, pair := range map[string]struct {
				a    Array
				want []float32
			}{
				"scales": {p.Scales, want.Scales}, "biases": {p.Biases, want.Biases}, "dequantized": {s.Dequantize(p), want.Dequantized},
				"x·pᵀ": {s.QuantizedMatMul(x, p, true), want.Transposed}, "x·p": {s.QuantizedMatMul(x, p, false), want.Plain},
			} {
				if got, err := s.ReadFloat32s(pair.a); err != nil || len(got) == 0 || !slices.Equal(got, pair.want) {
					t.Errorf("%s differs from Python's: %v", name, err)
				}
			}
			return s.Err()
		})
	})
}

// The product with packed weights is the product with what they stand for.
func TestQuantizedProducts(t *testing.T) {
	quantizations(t, func(t *testing.T, group, bits int) {
		do(t, func(s *Scope) error {
			w := s.Normal(s.RandomKey(5), 0, 1, Float32, 128, 128)
			x := s.Normal(s.RandomKey(6), 0, 1, Float32, 2, 128)
			p := s.Quantize(w, group, bits)
			plain := s.Dequantize(p)
			for _, transposed := range []bool{true, false} {
				by := plain
				if transposed {
					by = s.Transpose(plain)
				}
				off := s.SumAll(s.Abs(s.Sub(s.QuantizedMatMul(x, p, transposed), s.MatMul(x, by))))
				if v, err := s.Item(off); err != nil || v > 1e-2 {
					t.Errorf("transposed %t: off by %v in all, %v", transposed, v, err)
				}
			}
			// Half a step of the largest scale is as far as rounding moves.
			worst, err := s.Item(s.Sub(s.Max(s.Reshape(s.Abs(s.Sub(plain, w)), -1), 0, false), s.MulN(s.Max(s.Reshape(s.Abs(p.Scales), -1), 0, false), 1.01)))
			if err != nil || worst > 0 {
				t.Errorf("packing moves a weight by %v more than a step: %v", worst, err)
			}
			return s.Err()
		})
	})
}
