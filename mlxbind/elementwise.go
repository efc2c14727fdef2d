package mlxbind

// Operations element by element. Shapes broadcast as in numpy; dtypes promote
// as in MLX.

// Negative returns -a.
func (s *Scope) Negative(a Array) Array { return s.array(fnNegative, uintptr(a.handle)) }

// Abs returns |a|.
func (s *Scope) Abs(a Array) Array { return s.array(fnAbs, uintptr(a.handle)) }

// Exp returns eᵃ.
func (s *Scope) Exp(a Array) Array { return s.array(fnExp, uintptr(a.handle)) }

// Log returns the natural logarithm.
func (s *Scope) Log(a Array) Array { return s.array(fnLog, uintptr(a.handle)) }

// Sqrt returns √a.
func (s *Scope) Sqrt(a Array) Array { return s.array(fnSqrt, uintptr(a.handle)) }

// Rsqrt returns 1/√a.
func (s *Scope) Rsqrt(a Array) Array { return s.array(fnRsqrt, uintptr(a.handle)) }

// Square returns a².
func (s *Scope) Square(a Array) Array { return s.array(fnSquare, uintptr(a.handle)) }

// Sin returns sin a.
func (s *Scope) Sin(a Array) Array { return s.array(fnSin, uintptr(a.handle)) }

// Cos returns cos a.
func (s *Scope) Cos(a Array) Array { return s.array(fnCos, uintptr(a.handle)) }

// Tanh returns tanh a.
func (s *Scope) Tanh(a Array) Array { return s.array(fnTanh, uintptr(a.handle)) }

// Sigmoid returns 1/(1+e⁻ᵃ).
func (s *Scope) Sigmoid(a Array) Array { return s.array(fnSigmoid, uintptr(a.handle)) }

// IsFinite tells which elements are neither infinite nor NaN.
func (s *Scope) IsFinite(a Array) Array { return s.array(fnIsFinite, uintptr(a.handle)) }

// Not returns the logical negation.
func (s *Scope) Not(a Array) Array { return s.array(fnLogicalNot, uintptr(a.handle)) }

// StopGradient returns a, through which no gradient flows.
func (s *Scope) StopGradient(a Array) Array { return s.array(fnStopGradient, uintptr(a.handle)) }

// ZerosLike returns zeros of the shape and dtype of a.
func (s *Scope) ZerosLike(a Array) Array { return s.array(fnZerosLike, uintptr(a.handle)) }

// Add returns a + b.
func (s *Scope) Add(a, b Array) Array {
	return s.array(fnAdd, uintptr(a.handle), uintptr(b.handle))
}

// Sub returns a - b.
func (s *Scope) Sub(a, b Array) Array {
	return s.array(fnSubtract, uintptr(a.handle), uintptr(b.handle))
}

// Mul returns a · b, element by element.
func (s *Scope) Mul(a, b Array) Array {
	return s.array(fnMultiply, uintptr(a.handle), uintptr(b.handle))
}

// Div returns a / b.
func (s *Scope) Div(a, b Array) Array {
	return s.array(fnDivide, uintptr(a.handle), uintptr(b.handle))
}

// Pow returns aᵇ.
func (s *Scope) Pow(a, b Array) Array {
	return s.array(fnPower, uintptr(a.handle), uintptr(b.handle))
}

// Maximum returns the larger of each pair.
func (s *Scope) Maximum(a, b Array) Array {
	return s.array(fnMaximum, uintptr(a.handle), uintptr(b.handle))
}

// Minimum returns the smaller of each pair.
func (s *Scope) Minimum(a, b Array) Array {
	return s.array(fnMinimum, uintptr(a.handle), uintptr(b.handle))
}

// Equal returns a = b.
func (s *Scope) Equal(a, b Array) Array {
	return s.array(fnEqual, uintptr(a.handle), uintptr(b.handle))
}

// Greater returns a > b.
func (s *Scope) Greater(a, b Array) Array {
	return s.array(fnGreater, uintptr(a.handle), uintptr(b.handle))
}

// GreaterEqual returns a ≥ b.
func (s *Scope) GreaterEqual(a, b Array) Array {
	return s.array(fnGreaterEqual, uintptr(a.handle), uintptr(b.handle))
}

// Less returns a < b.
func (s *Scope) Less(a, b Array) Array {
	return s.array(fnLess, uintptr(a.handle), uintptr(b.handle))
}

// LessEqual returns a ≤ b.
func (s *Scope) LessEqual(a, b Array) Array {
	return s.array(fnLessEqual, uintptr(a.handle), uintptr(b.handle))
}

// And returns the logical and.
func (s *Scope) And(a, b Array) Array {
	return s.array(fnLogicalAnd, uintptr(a.handle), uintptr(b.handle))
}

// Or returns the logical or.
func (s *Scope) Or(a, b Array) Array {
	return s.array(fnLogicalOr, uintptr(a.handle), uintptr(b.handle))
}

// With a plain number, which takes the dtype of a, as in MLX for Python: it does
// not turn half precision into single. Only with a fraction, or with booleans,
// the result has a dtype that can hold it.

// AddN returns a + v.
func (s *Scope) AddN(a Array, v float64) Array {
	return s.array(fnAddNumber, uintptr(a.handle), float(v))
}

// MulN returns a · v.
func (s *Scope) MulN(a Array, v float64) Array {
	return s.array(fnMultiplyNumber, uintptr(a.handle), float(v))
}

// DivN returns a / v.
func (s *Scope) DivN(a Array, v float64) Array {
	return s.array(fnDivideNumber, uintptr(a.handle), float(v))
}

// PowN returns aᵛ.
func (s *Scope) PowN(a Array, v float64) Array {
	return s.array(fnPowerNumber, uintptr(a.handle), float(v))
}

// MaximumN returns the larger of each element and v.
func (s *Scope) MaximumN(a Array, v float64) Array {
	return s.array(fnMaximumNumber, uintptr(a.handle), float(v))
}

// MinimumN returns the smaller of each element and v.
func (s *Scope) MinimumN(a Array, v float64) Array {
	return s.array(fnMinimumNumber, uintptr(a.handle), float(v))
}

// GreaterEqualN returns a ≥ v.
func (s *Scope) GreaterEqualN(a Array, v float64) Array {
	return s.array(fnGreaterEqualNumber, uintptr(a.handle), float(v))
}

// LessN returns a < v.
func (s *Scope) LessN(a Array, v float64) Array {
	return s.array(fnLessNumber, uintptr(a.handle), float(v))
}

// Where returns a where the condition holds and b elsewhere.
func (s *Scope) Where(condition, a, b Array) Array {
	return s.array(fnWhere, uintptr(condition.handle), uintptr(a.handle), uintptr(b.handle))
}

// AsType converts to another dtype.
func (s *Scope) AsType(a Array, d DType) Array {
	return s.array(fnAsType, uintptr(a.handle), uintptr(d))
}

// View takes the same bytes for another dtype.
func (s *Scope) View(a Array, d DType) Array { return s.array(fnView, uintptr(a.handle), uintptr(d)) }
