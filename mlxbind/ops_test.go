package mlxbind

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"testing"
)

// want is what an operation shall give.
type want struct {
	dtype  DType
	shape  []int
	values []float64
}

func (w want) check(t *testing.T, s *Scope, a Array) {
	t.Helper()
	in := s.Info(a)
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	if in.DType != w.dtype || !slices.Equal(in.Shape, w.shape) {
		t.Fatalf("%v %v instead of %v %v", in.DType, in.Shape, w.dtype, w.shape)
	}
	got, err := s.ReadFloat32s(a)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != len(w.values) {
		t.Fatalf("%d values instead of %d", len(got), len(w.values))
	}
	for i, v := range w.values {
		if g := float64(got[i]); math.IsNaN(g) != math.IsNaN(v) || g != v && math.Abs(g-v) > 1e-5*max(1, math.Abs(v)) {
			t.Fatalf("element %d is %v instead of %v; all: %v", i, g, v, got)
		}
	}
}

// The operands, 2 × 3.
var (
	xs = []float64{-1.5, 0.25, 2, 3, -0.5, 1}
	ys = []float64{2, -1, 0.5, 1.5, 4, 1}
	ps = []float64{0.5, 1, 2, 3, 4, 0.25}
	bs = []float64{1, 0, 1, 0, 0, 1}
	cs = []float64{1, 1, 0, 0, 1, 1}
)

func narrowed(v []float64) []float32 {
	out := make([]float32, len(v))
	for i := range v {
		out[i] = float32(v[i])
	}
	return out
}

type operands struct{ x, y, p, b, c Array }

func operandsIn(s *Scope) operands {
	of := func(v []float64) Array { return s.Float32s(narrowed(v), 2, 3) }
	return operands{of(xs), of(ys), of(ps), s.AsType(of(bs), Bool), s.AsType(of(cs), Bool)}
}

func each(v []float64, f func(float64) float64) want {
	out := make([]float64, len(v))
	for i := range v {
		out[i] = f(v[i])
	}
	return want{Float32, []int{2, 3}, out}
}

func pairs(v, w []float64, f func(a, b float64) float64) want {
	out := make([]float64, len(v))
	for i := range v {
		out[i] = f(v[i], w[i])
	}
	return want{Float32, []int{2, 3}, out}
}

func truths(v, w []float64, f func(a, b float64) bool) want {
	out := pairs(v, w, func(a, b float64) float64 { return truth(f(a, b)) })
	out.dtype = Bool
	return out
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func sum(v []float64) float64 {
	total := 0.0
	for _, a := range v {
		total += a
	}
	return total
}

// rows reduces the last axis.
func rows(f func([]float64) float64) want {
	return want{Float32, []int{2}, []float64{f(xs[:3]), f(xs[3:])}}
}

func f32(shape []int, values ...float64) want { return want{Float32, shape, values} }

func sigmoid(v float64) float64 { return 1 / (1 + math.Exp(-v)) }

func logSumExp(v []float64) float64 {
	total := 0.0
	for _, a := range v {
		total += math.Exp(a)
	}
	return math.Log(total)
}

func softmax(v []float64) []float64 {
	out, l := make([]float64, len(v)), logSumExp(v)
	for i := range v {
		out[i] = math.Exp(v[i] - l)
	}
	return out
}

// mm is the product of a (n × k) and b (k × m).
func mm(a, b []float64, n, k, m int) []float64 {
	out := make([]float64, n*m)
	for i := range n {
		for j := range m {
			for l := range k {
				out[i*m+j] += a[i*k+l] * b[l*m+j]
			}
		}
	}
	return out
}

var ops = []struct {
	method string // of Scope, and what is special
	f      func(s *Scope, o operands) Array
	want   want
}{
	{"Negative", func(s *Scope, o operands) Array { return s.Negative(o.x) }, each(xs, func(v float64) float64 { return -v })},
	{"Abs", func(s *Scope, o operands) Array { return s.Abs(o.x) }, each(xs, math.Abs)},
	{"Exp", func(s *Scope, o operands) Array { return s.Exp(o.x) }, each(xs, math.Exp)},
	{"Log", func(s *Scope, o operands) Array { return s.Log(o.p) }, each(ps, math.Log)},
	{"Log of what is negative", func(s *Scope, o operands) Array { return s.Log(o.x) }, each(xs, math.Log)},
	{"Sqrt", func(s *Scope, o operands) Array { return s.Sqrt(o.p) }, each(ps, math.Sqrt)},
	{"Rsqrt", func(s *Scope, o operands) Array { return s.Rsqrt(o.p) }, each(ps, func(v float64) float64 { return 1 / math.Sqrt(v) })},
	{"Square", func(s *Scope, o operands) Array { return s.Square(o.x) }, each(xs, func(v float64) float64 { return v * v })},
	{"Sin", func(s *Scope, o operands) Array { return s.Sin(o.x) }, each(xs, math.Sin)},
	{"Cos", func(s *Scope, o operands) Array { return s.Cos(o.x) }, each(xs, math.Cos)},
	{"Tanh", func(s *Scope, o operands) Array { return s.Tanh(o.x) }, each(xs, math.Tanh)},
	{"Sigmoid", func(s *Scope, o operands) Array { return s.Sigmoid(o.x) }, each(xs, sigmoid)},
	{"IsFinite", func(s *Scope, o operands) Array { return s.IsFinite(s.Div(o.x, s.ZerosLike(o.x))) }, truths(xs, xs, func(a, _ float64) bool { return false })},
	{"Not", func(s *Scope, o operands) Array { return s.Not(o.b) }, truths(bs, bs, func(a, _ float64) bool { return a == 0 })},
	{"StopGradient", func(s *Scope, o operands) Array { return s.StopGradient(o.x) }, each(xs, func(v float64) float64 { return v })},
	{"Contiguous", func(s *Scope, o operands) Array { return s.Contiguous(s.Transpose(o.x)) }, f32([]int{3, 2}, xs[0], xs[3], xs[1], xs[4], xs[2], xs[5])},
	{"ZerosLike", func(s *Scope, o operands) Array { return s.ZerosLike(o.x) }, each(xs, func(float64) float64 { return 0 })},

	{"Add", func(s *Scope, o operands) Array { return s.Add(o.x, o.y) }, pairs(xs, ys, func(a, b float64) float64 { return a + b })},
	{"Add a row to each", func(s *Scope, o operands) Array { return s.Add(o.x, s.Float32s([]float32{1, 2, 3}, 3)) },
		f32([]int{2, 3}, xs[0]+1, xs[1]+2, xs[2]+3, xs[3]+1, xs[4]+2, xs[5]+3)},
	{"Add promotes", func(s *Scope, o operands) Array { return s.Add(s.Int32s([]int32{1}, 1), s.Scalar(0.5, Float32)) }, f32([]int{1}, 1.5)},
	{"Sub", func(s *Scope, o operands) Array { return s.Sub(o.x, o.y) }, pairs(xs, ys, func(a, b float64) float64 { return a - b })},
	{"Mul", func(s *Scope, o operands) Array { return s.Mul(o.x, o.y) }, pairs(xs, ys, func(a, b float64) float64 { return a * b })},
	{"Div", func(s *Scope, o operands) Array { return s.Div(o.x, o.y) }, pairs(xs, ys, func(a, b float64) float64 { return a / b })},
	{"Pow", func(s *Scope, o operands) Array { return s.Pow(o.p, o.y) }, pairs(ps, ys, math.Pow)},
	{"Maximum", func(s *Scope, o operands) Array { return s.Maximum(o.x, o.y) }, pairs(xs, ys, math.Max)},
	{"Minimum", func(s *Scope, o operands) Array { return s.Minimum(o.x, o.y) }, pairs(xs, ys, math.Min)},
	{"Equal", func(s *Scope, o operands) Array { return s.Equal(o.x, o.y) }, truths(xs, ys, func(a, b float64) bool { return a == b })},
	{"Greater", func(s *Scope, o operands) Array { return s.Greater(o.x, o.y) }, truths(xs, ys, func(a, b float64) bool { return a > b })},
	{"GreaterEqual", func(s *Scope, o operands) Array { return s.GreaterEqual(o.x, o.y) }, truths(xs, ys, func(a, b float64) bool { return a >= b })},
	{"Less", func(s *Scope, o operands) Array { return s.Less(o.x, o.y) }, truths(xs, ys, func(a, b float64) bool { return a < b })},
	{"LessEqual", func(s *Scope, o operands) Array { return s.LessEqual(o.x, o.y) }, truths(xs, ys, func(a, b float64) bool { return a <= b })},
	{"And", func(s *Scope, o operands) Array { return s.And(o.b, o.c) }, truths(bs, cs, func(a, b float64) bool { return a*b != 0 })},
	{"Or", func(s *Scope, o operands) Array { return s.Or(o.b, o.c) }, truths(bs, cs, func(a, b float64) bool { return a+b != 0 })},

	{"AddN", func(s *Scope, o operands) Array { return s.AddN(o.x, 2.5) }, each(xs, func(v float64) float64 { return v + 2.5 })},
	{"AddN keeps half precision", func(s *Scope, o operands) Array { return s.AddN(s.AsType(o.x, BFloat16), 2.5) },
		want{BFloat16, []int{2, 3}, []float64{1, 2.75, 4.5, 5.5, 2, 3.5}}},
	{"AddN of a whole number to integers", func(s *Scope, o operands) Array { return s.AddN(s.Int32s([]int32{1, 2}, 2), 3) }, want{Int32, []int{2}, []float64{4, 5}}},
	{"AddN of a fraction to integers", func(s *Scope, o operands) Array { return s.AddN(s.Int32s([]int32{1, 2}, 2), 0.5) }, f32([]int{2}, 1.5, 2.5)},
	{"AddN to booleans", func(s *Scope, o operands) Array { return s.AddN(o.b, 2) }, want{Int32, []int{2, 3}, []float64{3, 2, 3, 2, 2, 3}}},
	{"AddN of infinity", func(s *Scope, o operands) Array { return s.AddN(s.Int32s([]int32{1}, 1), math.Inf(1)) }, f32([]int{1}, math.Inf(1))},
	{"MulN", func(s *Scope, o operands) Array { return s.MulN(o.x, -2) }, each(xs, func(v float64) float64 { return -2 * v })},
	{"DivN", func(s *Scope, o operands) Array { return s.DivN(o.x, 4) }, each(xs, func(v float64) float64 { return v / 4 })},
	{"DivN of integers", func(s *Scope, o operands) Array { return s.DivN(s.Int32s([]int32{3}, 1), 2) }, f32([]int{1}, 1.5)},
	{"PowN", func(s *Scope, o operands) Array { return s.PowN(o.p, 1.5) }, each(ps, func(v float64) float64 { return math.Pow(v, 1.5) })},
	{"MaximumN", func(s *Scope, o operands) Array { return s.MaximumN(o.x, 0.5) }, each(xs, func(v float64) float64 { return max(v, 0.5) })},
	{"MinimumN", func(s *Scope, o operands) Array { return s.MinimumN(o.x, 0.5) }, each(xs, func(v float64) float64 { return min(v, 0.5) })},
	{"GreaterEqualN", func(s *Scope, o operands) Array { return s.GreaterEqualN(o.x, 1) }, truths(xs, xs, func(a, _ float64) bool { return a >= 1 })},
	{"LessN", func(s *Scope, o operands) Array { return s.LessN(o.x, 1) }, truths(xs, xs, func(a, _ float64) bool { return a < 1 })},
	{"Where", func(s *Scope, o operands) Array { return s.Where(o.b, o.x, o.y) }, f32([]int{2, 3}, xs[0], ys[1], xs[2], ys[3], ys[4], xs[5])},
	{"AsType", func(s *Scope, o operands) Array { return s.AsType(o.x, Int32) }, want{Int32, []int{2, 3}, []float64{-1, 0, 2, 3, 0, 1}}},
	{"View", func(s *Scope, o operands) Array { return s.View(s.Int32s([]int32{0x3fc00000}, 1), Float32) }, f32([]int{1}, 1.5)},

	{"SumAll", func(s *Scope, o operands) Array { return s.SumAll(o.x) }, f32([]int{}, sum(xs))},
	{"MeanAll", func(s *Scope, o operands) Array { return s.MeanAll(o.x) }, f32([]int{}, sum(xs)/6)},
	{"Sum", func(s *Scope, o operands) Array { return s.Sum(o.x, -1, false) }, rows(sum)},
	{"Sum keeping the axis", func(s *Scope, o operands) Array { return s.Sum(o.x, 0, true) }, f32([]int{1, 3}, xs[0]+xs[3], xs[1]+xs[4], xs[2]+xs[5])},
	{"Mean", func(s *Scope, o operands) Array { return s.Mean(o.x, 1, false) }, rows(func(v []float64) float64 { return sum(v) / 3 })},
	{"Max", func(s *Scope, o operands) Array { return s.Max(o.x, 1, false) }, rows(slices.Max[[]float64])},
	{"Min", func(s *Scope, o operands) Array { return s.Min(o.x, 1, false) }, rows(slices.Min[[]float64])},
	{"ArgMax", func(s *Scope, o operands) Array { return s.ArgMax(o.x, 1, false) }, want{Uint32, []int{2}, []float64{2, 0}}},
	{"LogSumExp", func(s *Scope, o operands) Array { return s.LogSumExp(o.x, 1, false) }, rows(logSumExp)},
	{"Softmax", func(s *Scope, o operands) Array { return s.Softmax(o.x, 1, false) }, f32([]int{2, 3}, append(softmax(xs[:3]), softmax(xs[3:])...)...)},
	{"Softmax precisely", func(s *Scope, o operands) Array { return s.Softmax(o.x, -1, true) }, f32([]int{2, 3}, append(softmax(xs[:3]), softmax(xs[3:])...)...)},
	{"CumSum", func(s *Scope, o operands) Array { return s.CumSum(o.x, 1) }, f32([]int{2, 3}, -1.5, -1.25, 0.75, 3, 2.5, 3.5)},
	{"Sort", func(s *Scope, o operands) Array { return s.Sort(o.x, 1) }, f32([]int{2, 3}, -1.5, 0.25, 2, -0.5, 1, 3)},
	{"ArgSort", func(s *Scope, o operands) Array { return s.ArgSort(o.x, 1) }, want{Uint32, []int{2, 3}, []float64{0, 1, 2, 1, 2, 0}}},

	{"Reshape", func(s *Scope, o operands) Array { return s.Reshape(o.x, 3, -1) }, f32([]int{3, 2}, xs...)},
	{"BroadcastTo", func(s *Scope, o operands) Array { return s.BroadcastTo(s.Float32s([]float32{1, 2}, 1, 2), 2, 2) }, f32([]int{2, 2}, 1, 2, 1, 2)},
	{"Transpose", func(s *Scope, o operands) Array { return s.Transpose(o.x) }, f32([]int{3, 2}, xs[0], xs[3], xs[1], xs[4], xs[2], xs[5])},
	{"Transpose some axes", func(s *Scope, o operands) Array { return s.Transpose(s.Reshape(o.x, 1, 2, 3), 1, 0, 2) }, f32([]int{2, 1, 3}, xs...)},
	{"ExpandDims", func(s *Scope, o operands) Array { return s.ExpandDims(o.x, -2) }, f32([]int{2, 1, 3}, xs...)},
	{"Squeeze", func(s *Scope, o operands) Array { return s.Squeeze(s.ExpandDims(o.x, 0), 0) }, f32([]int{2, 3}, xs...)},
	{"Slice", func(s *Scope, o operands) Array { return s.Slice(o.x, -1, 1, 3) }, f32([]int{2, 2}, xs[1], xs[2], xs[4], xs[5])},
	{"Take", func(s *Scope, o operands) Array { return s.Take(o.x, s.Int32s([]int32{2, 0}, 2), 1) }, f32([]int{2, 2}, xs[2], xs[0], xs[5], xs[3])},
	{"TakeAlongAxis", func(s *Scope, o operands) Array { return s.TakeAlongAxis(o.x, s.Uint32s([]uint32{2, 1}, 2, 1), 1) }, f32([]int{2, 1}, xs[2], xs[4])},
	{"Concatenate", func(s *Scope, o operands) Array { return s.Concatenate(0, o.x, o.y) }, f32([]int{4, 3}, append(slices.Clone(xs), ys...)...)},

	{"Scalar", func(s *Scope, o operands) Array { return s.Scalar(2.5, Float32) }, f32([]int{}, 2.5)},
	{"Scalar of truth", func(s *Scope, o operands) Array { return s.Scalar(0.5, Bool) }, want{Bool, []int{}, []float64{1}}},
	{"Scalar of 64 bits", func(s *Scope, o operands) Array {
		return s.Equal(s.Scalar(0x1p63, Uint64), s.Scalar(0x1p63, Uint64))
	}, want{Bool, []int{}, []float64{1}}},
	{"Full", func(s *Scope, o operands) Array { return s.Full(2.5, BFloat16, 2, 1) }, want{BFloat16, []int{2, 1}, []float64{2.5, 2.5}}},
	{"Zeros", func(s *Scope, o operands) Array { return s.Zeros(Int32, 2) }, want{Int32, []int{2}, []float64{0, 0}}},
	{"Zeros of nothing", func(s *Scope, o operands) Array { return s.Zeros(Int32, 0, 2) }, want{Int32, []int{0, 2}, nil}},
	{"Arange", func(s *Scope, o operands) Array { return s.Arange(1, 3, 0.5, Float32) }, f32([]int{4}, 1, 1.5, 2, 2.5)},
	{"Float32s", func(s *Scope, o operands) Array { return o.x }, f32([]int{2, 3}, xs...)},
	{"Int32s", func(s *Scope, o operands) Array { return s.Int32s([]int32{-7, 7}, 2) }, want{Int32, []int{2}, []float64{-7, 7}}},
	{"Uint32s", func(s *Scope, o operands) Array { return s.Uint32s([]uint32{7, 1 << 31}, 2) }, want{Uint32, []int{2}, []float64{7, 1 << 31}}},
	{"Uint32s of nothing", func(s *Scope, o operands) Array { return s.Uint32s(nil, 3, 0) }, want{Uint32, []int{3, 0}, nil}},

	{"MatMul", func(s *Scope, o operands) Array { return s.MatMul(o.x, s.Transpose(o.y)) }, f32([]int{2, 2}, mm(xs, []float64{2, 1.5, -1, 4, 0.5, 1}, 2, 3, 2)...)},
	{"AddMM", func(s *Scope, o operands) Array {
		return s.AddMM(s.Full(10, Float32, 2, 2), o.x, s.Transpose(o.y))
	}, f32([]int{2, 2}, plus(10, mm(xs, []float64{2, 1.5, -1, 4, 0.5, 1}, 2, 3, 2))...)},
}

func plus(n float64, v []float64) []float64 {
	for i := range v {
		v[i] += n
	}
	return v
}

func TestOperations(t *testing.T) {
	for _, op := range ops {
		t.Run(op.method, func(t *testing.T) {
			do(t, func(s *Scope) error {
				op.want.check(t, s, op.f(s, operandsIn(s)))
				return nil
			})
		})
	}
}

// Operations that other tests of this package compute.
var elsewhere = []string{
	"RMSNorm", "LayerNorm", "RoPE", "Attention", "CrossEntropy", "Dequantize", "QuantizedMatMul", // nn_test.go
	"RandomKey", "SplitKey", "Uniform", "Normal", "Bernoulli", "Categorical", // random_test.go
	"AllSum", // distributed_test.go
}

func TestEveryOperationIsTested(t *testing.T) {
	tested := slices.Clone(elsewhere)
	for _, op := range ops {
		var method string
		_, _ = fmt.Sscan(op.method, &method)
		tested = append(tested, method)
	}
	scope := reflect.TypeFor[*Scope]()
	for m := range scope.Methods() {
		if m.Type.NumOut() > 0 && m.Type.Out(0) == reflect.TypeFor[Array]() && !slices.Contains(tested, m.Name) {
			t.Errorf("no test computes %s", m.Name)
		}
	}
	for _, name := range tested {
		if _, ok := scope.MethodByName(name); !ok {
			t.Errorf("there is no %s", name)
		}
	}
}

func TestReadingIsExact(t *testing.T) {
	do(t, func(s *Scope) error {
		const odd = 1<<24 + 1 // what float32 rounds
		for _, d := range []DType{Int32, Uint32, Int64, Uint64, Float64} {
			for _, a := range []Array{s.Scalar(odd, d), s.Reshape(s.Full(odd, d, 1), 1, 1)} {
				if v, err := s.Item(a); v != odd {
					t.Error(d, v, err)
				}
			}
		}
		if v, err := s.ReadInt32s(s.Full(odd, Int32, 2)); !slices.Equal(v, []int32{odd, odd}) {
			t.Error(v, err)
		}
		if v, err := s.ReadUint32s(s.Uint32s([]uint32{math.MaxUint32}, 1)); !slices.Equal(v, []uint32{math.MaxUint32}) {
			t.Error(v, err)
		}
		tenth := 0.1
		if v, err := s.Item(s.AddN(s.Scalar(tenth, Float64), 2*tenth)); v != tenth+2*tenth {
			t.Error(v, err)
		}
		return s.Err()
	})
}

func TestInfo(t *testing.T) {
	do(t, func(s *Scope) error {
		for d := Bool; d <= Complex64; d++ {
			in := s.Info(s.Zeros(d, 2, 3))
			if in.DType != d || in.Size != 6 || in.Bytes != 6*d.Size() || !slices.Equal(in.Shape, []int{2, 3}) {
				t.Errorf("%v: %+v", d, in)
			}
		}
		if n := len(s.Shape(s.Zeros(Float32, 1, 1, 1, 1, 1, 1, 1, 1))); n != 8 {
			t.Error(n)
		}
		return s.Err()
	})
	if Complex64.IsFloat() || !BFloat16.IsFloat() || !Float16.IsFloat() || Int64.IsFloat() || DType(99).String() != "DType(99)" || BFloat16.String() != "bfloat16" {
		t.Error("a dtype knows itself badly")
	}
}
