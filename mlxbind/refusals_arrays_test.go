package mlxbind

import (
	"math"
	"unsafe"
)

// arrayRefusals has what makes the functions of arrays.cpp fail.
func arrayRefusals() map[function]refusal {
	return map[function]refusal{
		fnFree:  {with: func(s *Scope, a Array) { s.Free(a) }, harmless: true},
		fnInUse: {without: func(s *Scope) { raw(s, fnInUse, 0, 0) }},
		fnDescribe: {with: func(s *Scope, a Array) { s.Info(a) }, wrong: []func(*Scope){
			func(s *Scope) { s.Info(s.Zeros(Float32, 1, 1, 1, 1, 1, 1, 1, 1, 1)) },
		}},
		fnScalar: {without: func(s *Scope) { s.Scalar(1, Float32) }, wrong: []func(*Scope){
			func(s *Scope) { s.Scalar(1, DType(99)) },
			func(s *Scope) { s.Scalar(1, DType(-1)) },
			func(s *Scope) { s.Scalar(math.NaN(), Int32) },
			func(s *Scope) { s.Scalar(math.MaxUint64, Uint64) },
			func(s *Scope) { s.Scalar(-1e300, Int64) },
		}},
		fnFrom: {without: func(s *Scope) { s.Float32s([]float32{1}, 1) }, wrong: []func(*Scope){
			func(s *Scope) { s.Float32s([]float32{1, 2}, 3) },
			func(s *Scope) { s.Int32s([]int32{1, 2, 3, 4}, -2, -2) },
			func(s *Scope) { s.Uint32s(nil, 2) },
			func(s *Scope) { s.Float32s(nil, 1<<40, 0) },
			func(s *Scope) { s.Float32s(nil, 1<<32, 1<<32) },
			func(s *Scope) { from(s, []float32{1}, DType(99), []int{1}) },
		}},
		fnCopy: {with: func(s *Scope, a Array) { _, _ = s.ReadFloat32s(a) }, wrong: []func(*Scope){
			func(s *Scope) { _, _ = s.Item(s.Zeros(Float32, 2)) },
			func(s *Scope) { _, _ = s.Item(s.Zeros(Float32, 0)) },
			func(s *Scope) {
				a, dst := s.Zeros(Float32, 2), make([]byte, 16)
				s.compute(fnCopy, uintptr(a.handle), uintptr(unsafe.Pointer(&dst[0])), 16)
			},
		}},
		fnEval:       {with: func(s *Scope, a Array) { _ = s.Eval(a) }, wrong: []func(*Scope){func(s *Scope) { _ = s.Keep(Array{}) }}},
		fnAsyncEval:  {with: func(s *Scope, a Array) { s.AsyncEval(a) }},
		fnIsComputed: {with: func(s *Scope, a Array) { s.IsComputed(a) }},
		fnFull: {without: func(s *Scope) { s.Full(1, Float32, 2) }, wrong: []func(*Scope){
			func(s *Scope) { s.Full(1, Float32, -1) },
			func(s *Scope) { s.Full(1, Float32, -2, -2) },
			func(s *Scope) { s.Full(1, Float32, 1<<31) },
			func(s *Scope) { s.Full(1, DType(14), 1) },
			func(s *Scope) { s.Full(math.Inf(1), Int8, 1) },
		}},
		fnArange: {without: func(s *Scope) { s.Arange(0, 1, 1, Float32) }, wrong: []func(*Scope){
			func(s *Scope) { s.Arange(0, 1, 0, Float32) },
			func(s *Scope) { s.Arange(0, math.NaN(), 1, Float32) },
			func(s *Scope) { s.Arange(0, math.Inf(1), 1, Float32) },
			func(s *Scope) { s.Arange(0, 1e18, 1, Float32) },
			func(s *Scope) { s.Arange(0, 1, 1, Bool) },
		}},
		fnNegative:     ofOne((*Scope).Negative),
		fnAbs:          ofOne((*Scope).Abs),
		fnExp:          ofOne((*Scope).Exp),
		fnLog:          ofOne((*Scope).Log),
		fnSqrt:         ofOne((*Scope).Sqrt),
		fnRsqrt:        ofOne((*Scope).Rsqrt),
		fnSquare:       ofOne((*Scope).Square),
		fnSin:          ofOne((*Scope).Sin),
		fnCos:          ofOne((*Scope).Cos),
		fnTanh:         ofOne((*Scope).Tanh),
		fnSigmoid:      ofOne((*Scope).Sigmoid),
		fnIsFinite:     ofOne((*Scope).IsFinite),
		fnLogicalNot:   ofOne((*Scope).Not),
		fnStopGradient: ofOne((*Scope).StopGradient),
		fnContiguous:   ofOne((*Scope).Contiguous),
		fnZerosLike:    ofOne((*Scope).ZerosLike),
		fnSumAll:       ofOne((*Scope).SumAll),
		fnMeanAll:      ofOne((*Scope).MeanAll),
		fnAdd:          ofTwo((*Scope).Add),
		fnSubtract:     ofTwo((*Scope).Sub),
		fnMultiply:     ofTwo((*Scope).Mul),
		fnDivide:       ofTwo((*Scope).Div),
		fnPower:        ofTwo((*Scope).Pow),
		fnMaximum:      ofTwo((*Scope).Maximum),
		fnMinimum:      ofTwo((*Scope).Minimum),
		fnEqual:        ofTwo((*Scope).Equal),
		fnGreater:      ofTwo((*Scope).Greater),
		fnGreaterEqual: ofTwo((*Scope).GreaterEqual),
		fnLess:         ofTwo((*Scope).Less),
		fnLessEqual:    ofTwo((*Scope).LessEqual),
		fnLogicalAnd:   ofTwo((*Scope).And),
		fnLogicalOr:    ofTwo((*Scope).Or),
		fnMatMul: {with: func(s *Scope, a Array) { s.MatMul(a, s.Transpose(a)) }, wrong: []func(*Scope){
			func(s *Scope) { s.MatMul(s.Zeros(Float32, 2, 3), s.Zeros(Float32, 2, 3)) },
			func(s *Scope) { s.MatMul(s.Scalar(1, Float32), s.Zeros(Float32, 2, 3)) },
			func(s *Scope) { s.MatMul(s.Zeros(Int32, 2, 2), s.Zeros(Int32, 2, 2)) },
		}},
		fnAddNumber:          numbered((*Scope).AddN),
		fnMultiplyNumber:     numbered((*Scope).MulN),
		fnDivideNumber:       numbered((*Scope).DivN),
		fnPowerNumber:        numbered((*Scope).PowN),
		fnMaximumNumber:      numbered((*Scope).MaximumN),
		fnMinimumNumber:      numbered((*Scope).MinimumN),
		fnGreaterEqualNumber: numbered((*Scope).GreaterEqualN),
		fnLessNumber:         numbered((*Scope).LessN),
		fnSum:                reduced((*Scope).Sum),
		fnMean:               reduced((*Scope).Mean),
		fnMax:                reduced((*Scope).Max),
		fnMin:                reduced((*Scope).Min),
		fnArgMax:             reduced((*Scope).ArgMax),
		fnLogSumExp:          reduced((*Scope).LogSumExp),
		fnSoftmax:            reduced((*Scope).Softmax),
		fnSort:               alongAxis((*Scope).Sort),
		fnArgSort:            alongAxis((*Scope).ArgSort),
		fnCumSum:             alongAxis((*Scope).CumSum),
		fnExpandDims:         alongAxis((*Scope).ExpandDims),
		fnSqueeze: {with: func(s *Scope, a Array) { s.Squeeze(s.ExpandDims(a, 0), 0) }, wrong: []func(*Scope){
			func(s *Scope) { s.Squeeze(s.Zeros(Float32, 2, 3), 0) },
			func(s *Scope) { s.Squeeze(s.Zeros(Float32, 1), 1<<32) },
		}},
		fnWhere: {with: func(s *Scope, a Array) { s.Where(a, a, a) }, wrong: []func(*Scope){
			func(s *Scope) { a := s.Zeros(Float32, 2); s.Where(s.Zeros(Bool, 3), a, a) },
			func(s *Scope) { a := s.Zeros(Float32, 2); s.Where(a, Array{}, a) },
			func(s *Scope) { a := s.Zeros(Float32, 2); s.Where(a, a, Array{}) },
		}},
		fnAddMM: {with: func(s *Scope, a Array) { s.AddMM(s.Zeros(Float32, 2, 2), a, s.Transpose(a)) }, wrong: []func(*Scope){
			func(s *Scope) { a := s.Zeros(Float32, 2, 3); s.AddMM(a, a, a) },
			func(s *Scope) { a := s.Zeros(Float32, 2, 2); s.AddMM(s.Zeros(Float32, 3), a, a) },
			func(s *Scope) { a := s.Zeros(Float32, 2, 2); s.AddMM(Array{}, a, a) },
			func(s *Scope) { a := s.Zeros(Float32, 2, 2); s.AddMM(a, a, Array{}) },
		}},
		fnAsType: {with: func(s *Scope, a Array) { s.AsType(a, Float16) }, wrong: []func(*Scope){func(s *Scope) { s.AsType(s.Zeros(Float32, 2), 77) }}},
		fnView: {with: func(s *Scope, a Array) { s.View(a, Uint32) }, wrong: []func(*Scope){
			func(s *Scope) { s.View(s.Zeros(Float32, 2), 77) },
			func(s *Scope) { s.View(s.Zeros(Float32, 3), Float64) },
		}},
		fnReshape: {with: func(s *Scope, a Array) { s.Reshape(a, 3, 2) }, wrong: []func(*Scope){
			func(s *Scope) { s.Reshape(s.Zeros(Float32, 2, 3), 4) },
			func(s *Scope) { s.Reshape(s.Zeros(Float32, 2, 3), -1, -1) },
			func(s *Scope) { s.Reshape(s.Zeros(Float32, 2, 3), -2, -3) },
			func(s *Scope) { s.Reshape(s.Zeros(Float32, 2, 3), 1<<40) },
		}},
		fnBroadcastTo: {with: func(s *Scope, a Array) { s.BroadcastTo(a, 4, 2, 3) }, wrong: []func(*Scope){
			func(s *Scope) { s.BroadcastTo(s.Zeros(Float32, 2, 3), 2) },
			func(s *Scope) { s.BroadcastTo(s.Zeros(Float32, 1), -4) },
		}},
		fnTranspose: {with: func(s *Scope, a Array) { s.Transpose(a) }, wrong: []func(*Scope){
			func(s *Scope) { s.Transpose(s.Zeros(Float32, 2, 3), 0) },
			func(s *Scope) { s.Transpose(s.Zeros(Float32, 2, 3), 0, 0) },
			func(s *Scope) { s.Transpose(s.Zeros(Float32, 2, 3), 0, 7) },
			func(s *Scope) { s.Transpose(s.Zeros(Float32, 2, 3), 0, 1<<32+1) },
		}},
		fnSlice: {with: func(s *Scope, a Array) { s.Slice(a, 0, 0, 1) }, wrong: []func(*Scope){
			func(s *Scope) { s.Slice(s.Zeros(Float32, 2, 3), 2, 0, 1) },
			func(s *Scope) { s.Slice(s.Zeros(Float32, 2, 3), -3, 0, 1) },
			func(s *Scope) { s.Slice(s.Zeros(Float32, 2, 3), 0, 0, 1<<33) },
		}},
		fnTake: {with: func(s *Scope, a Array) { s.Take(a, s.Int32s([]int32{0}, 1), 0) }, wrong: []func(*Scope){
			func(s *Scope) { s.Take(s.Zeros(Float32, 2, 3), s.Int32s([]int32{0}, 1), 2) },
			func(s *Scope) { s.Take(s.Zeros(Float32, 2, 3), s.Float32s([]float32{0}, 1), 0) },
			func(s *Scope) { s.Take(s.Zeros(Float32, 0, 3), s.Int32s([]int32{0}, 1), 0) },
			func(s *Scope) { s.Take(s.Zeros(Float32, 2, 3), Array{}, 0) },
		}},
		fnTakeAlongAxis: {with: func(s *Scope, a Array) { s.TakeAlongAxis(a, s.Zeros(Int32, 2, 1), 1) }, wrong: []func(*Scope){
			func(s *Scope) { s.TakeAlongAxis(s.Zeros(Float32, 2, 3), s.Zeros(Int32, 2, 1), 2) },
			func(s *Scope) { s.TakeAlongAxis(s.Zeros(Float32, 2, 3), s.Zeros(Int32, 2), 1) },
			func(s *Scope) { s.TakeAlongAxis(s.Zeros(Float32, 2, 3), Array{}, 1) },
		}},
		fnConcatenate: {with: func(s *Scope, a Array) { s.Concatenate(0, a, a) }, wrong: []func(*Scope){
			func(s *Scope) { s.Concatenate(0) },
			func(s *Scope) { s.Concatenate(0, s.Zeros(Float32, 2, 3), s.Zeros(Float32, 2)) },
			func(s *Scope) { s.Concatenate(0, s.Zeros(Float32, 2, 3), s.Zeros(Float32, 2, 4)) },
			func(s *Scope) { s.Concatenate(3, s.Zeros(Float32, 2), s.Zeros(Float32, 2)) },
		}},
		fnRMSNorm: {with: func(s *Scope, a Array) { s.RMSNorm(a, Array{}, 1e-5) }, wrong: []func(*Scope){
			func(s *Scope) { s.RMSNorm(s.Zeros(Float32, 2, 3), s.Zeros(Float32, 4), 1e-5) },
			func(s *Scope) { s.RMSNorm(s.Scalar(1, Float32), Array{}, 1e-5) },
			func(s *Scope) { s.RMSNorm(s.Zeros(Float32, 2, 3), s.Zeros(Float32, 1, 3), 1e-5) },
		}},
		fnLayerNorm: {with: func(s *Scope, a Array) { s.LayerNorm(a, Array{}, Array{}, 1e-5) }, wrong: []func(*Scope){
			func(s *Scope) { s.LayerNorm(s.Zeros(Float32, 2, 3), s.Zeros(Float32, 4), Array{}, 1e-5) },
			func(s *Scope) { s.LayerNorm(s.Zeros(Float32, 2, 3), Array{}, s.Zeros(Float32, 4), 1e-5) },
		}},
		fnRoPE: {with: func(s *Scope, a Array) { s.RoPE(s.ExpandDims(a, 0), RoPE{Dims: 2, Base: 10, Scale: 1}, 0) }, wrong: []func(*Scope){
			func(s *Scope) { s.RoPE(s.Zeros(Float32, 3), RoPE{Dims: 2, Base: 10, Scale: 1}, 0) },
			func(s *Scope) { s.RoPE(s.Zeros(Int32, 1, 2, 4), RoPE{Dims: 2, Base: 10, Scale: 1}, 0) },
			func(s *Scope) { s.RoPE(s.Zeros(Float32, 1, 2, 4), RoPE{Dims: 6, Base: 10, Scale: 1}, 0) },
			func(s *Scope) { s.RoPE(s.Zeros(Float32, 1, 2, 4), RoPE{Dims: 3, Base: 10, Scale: 1}, 0) },
			func(s *Scope) { s.RoPE(s.Zeros(Float32, 1, 2, 4), RoPE{Dims: 0, Base: 10, Scale: 1}, 0) },
			func(s *Scope) { s.RoPE(s.Zeros(Float32, 1, 2, 4), RoPE{Dims: -2, Base: 10, Scale: 1}, 0) },
			func(s *Scope) {
				s.RoPE(s.Zeros(Float32, 1, 2, 4), RoPE{Dims: 4, Scale: 1, Frequencies: s.Zeros(Float32, 3)}, 0)
			},
			func(s *Scope) { s.RoPE(s.Zeros(Float32, 1, 2, 4), RoPE{Dims: 4, Base: 10, Scale: 1}, 1<<40) },
		}},
		fnAttention: {with: func(s *Scope, a Array) { q := s.Reshape(a, 1, 1, 2, 3); s.Attention(q, q, q, 1, false, Array{}) }, wrong: []func(*Scope){
			func(s *Scope) { q := s.Zeros(Float32, 2, 3); s.Attention(q, q, q, 1, false, Array{}) },
			func(s *Scope) {
				s.Attention(s.Zeros(Float32, 1, 3, 2, 4), s.Zeros(Float32, 1, 2, 2, 4), s.Zeros(Float32, 1, 2, 2, 4), 1, false, Array{})
			},
			func(s *Scope) {
				s.Attention(s.Zeros(Float32, 1, 1, 2, 4), s.Zeros(Float32, 1, 1, 2, 5), s.Zeros(Float32, 1, 1, 2, 4), 1, false, Array{})
			},
			func(s *Scope) {
				q := s.Zeros(Float32, 1, 1, 2, 4)
				s.Attention(q, q, q, 1, false, s.Zeros(Float32, 7, 7))
			},
			func(s *Scope) { q := s.Zeros(Float32, 1, 1, 2, 4); s.Attention(q, q, q, 1, true, s.Zeros(Bool, 2, 2)) },
			func(s *Scope) { q := s.Zeros(Float32, 1, 1, 2, 4); s.Attention(q, Array{}, q, 1, false, Array{}) },
		}},
		fnCrossEntropy: {with: func(s *Scope, a Array) { s.CrossEntropy(a, s.Zeros(Int32, 2)) }, wrong: []func(*Scope){
			func(s *Scope) { s.CrossEntropy(s.Zeros(Float32, 2, 3), s.Zeros(Int32, 5)) },
			func(s *Scope) { s.CrossEntropy(s.Zeros(Float32, 2, 3), s.Zeros(Float32, 2)) },
			func(s *Scope) { s.CrossEntropy(s.Zeros(Float32, 2, 3), Array{}) },
		}},
		fnQuantize: {with: func(s *Scope, a Array) { s.Quantize(s.BroadcastTo(s.Reshape(a, 6, 1), 6, 64), 32, 4) }, wrong: []func(*Scope){
			func(s *Scope) { s.Quantize(s.Zeros(Float32, 2, 48), 32, 4) },
			func(s *Scope) { s.Quantize(s.Zeros(Float32, 2, 64), 32, 7) },
			func(s *Scope) { s.Quantize(s.Zeros(Float32, 2, 64), 16, 4) },
			func(s *Scope) { s.Quantize(s.Zeros(Float32, 2, 64), 0, 4) },
			func(s *Scope) { s.Quantize(s.Zeros(Float32, 2, 64), 32, 1<<32+4) },
			func(s *Scope) { s.Quantize(s.Zeros(Float32, 64), 32, 4) },
			func(s *Scope) { s.Quantize(s.Zeros(Int32, 2, 64), 32, 4) },
		}},
		fnDequantize: {with: func(s *Scope, a Array) {
			p := packed(s)
			p.Scales = s.Slice(a, 1, 0, 2)
			p.Biases = p.Scales
			s.Dequantize(p)
		}, wrong: []func(*Scope){
			func(s *Scope) { p := packed(s); p.Bits = 8; s.Dequantize(p) },
			func(s *Scope) { p := packed(s); p.Weight = s.Zeros(Float32, 2, 8); s.Dequantize(p) },
			func(s *Scope) { p := packed(s); p.Scales = s.Zeros(Float32, 3, 2); s.Dequantize(p) },
			func(s *Scope) { p := packed(s); p.Biases = Array{}; s.Dequantize(p) },
			func(s *Scope) { s.Dequantize(Packed{}) },
		}},
		fnQuantizedMatMul: {with: func(s *Scope, a Array) { s.QuantizedMatMul(s.BroadcastTo(s.Reshape(a, 6, 1), 6, 64), packed(s), true) }, wrong: []func(*Scope){
			func(s *Scope) { s.QuantizedMatMul(s.Zeros(Float32, 2, 32), packed(s), true) },
			func(s *Scope) { s.QuantizedMatMul(s.Zeros(Float32, 2, 64), packed(s), false) },
			func(s *Scope) { p := packed(s); p.Group = 64; s.QuantizedMatMul(s.Zeros(Float32, 2, 64), p, true) },
			func(s *Scope) {
				p := packed(s)
				p.Biases = Array{}
				s.QuantizedMatMul(s.Zeros(Float32, 2, 64), p, true)
			},
		}},
		fnRandomKey: {without: func(s *Scope) { s.RandomKey(1) }},
		fnRandomSplit: {with: func(s *Scope, a Array) { s.SplitKey(s.View(s.Slice(s.Reshape(a, -1), 0, 0, 2), Uint32)) }, wrong: []func(*Scope){
			func(s *Scope) { s.SplitKey(s.Zeros(Uint32, 3)) },
			func(s *Scope) { s.SplitKey(s.Zeros(Float32, 2)) },
		}},
		fnRandomUniform: {with: func(s *Scope, a Array) {
			s.Uniform(s.View(s.Slice(s.Reshape(a, -1), 0, 0, 2), Uint32), 0, 1, Float32, 2)
		}, wrong: []func(*Scope){
			func(s *Scope) { s.Uniform(s.Zeros(Float32, 2), 0, 1, Float32, 2) },
			func(s *Scope) { s.Uniform(key(s), 0, 1, Int32, 2) },
			func(s *Scope) { s.Uniform(key(s), 0, 1, Float32, -2) },
			func(s *Scope) { s.Uniform(Array{}, 0, 1, Float32, 2) },
		}},
		fnRandomNormal: {with: func(s *Scope, a Array) {
			s.Normal(s.View(s.Slice(s.Reshape(a, -1), 0, 0, 2), Uint32), 0, 1, Float32, 2)
		}, wrong: []func(*Scope){
			func(s *Scope) { s.Normal(s.Zeros(Uint32, 3), 0, 1, Float32, 2) },
			func(s *Scope) { s.Normal(key(s), 0, 1, Int32, 2) },
			func(s *Scope) { s.Normal(key(s), 0, 1, Float32, -2) },
		}},
		fnRandomBernoulli: {with: func(s *Scope, a Array) { s.Bernoulli(s.View(s.Slice(s.Reshape(a, -1), 0, 0, 2), Uint32), 0.5, 2) }, wrong: []func(*Scope){
			func(s *Scope) { s.Bernoulli(s.Zeros(Float32, 2), 0.5, 2) },
			func(s *Scope) { s.Bernoulli(key(s), 0.5, -2) },
		}},
		fnRandomCategorical: {with: func(s *Scope, a Array) { s.Categorical(key(s), a, 1) }, wrong: []func(*Scope){
			func(s *Scope) { s.Categorical(key(s), s.Zeros(Float32, 2), 5) },
			func(s *Scope) { s.Categorical(Array{}, s.Zeros(Float32, 2), 0) },
			func(s *Scope) { s.Categorical(s.Zeros(Uint32, 3), s.Zeros(Float32, 2), 0) },
		}},
	}
}

// key and packed are proper operands of what needs them.
func key(s *Scope) Array { return s.RandomKey(1) }

func packed(s *Scope) Packed { return s.Quantize(s.Zeros(Float32, 2, 64), 32, 4) }
