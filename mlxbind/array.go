package mlxbind

import (
	"fmt"
	"unsafe"
)

// Array names an MLX array that some Scope owns. The zero Array is none.
type Array struct{ handle uint64 }

// IsNone reports whether a names no array, as results of failed operations do.
func (a Array) IsNone() bool { return a.handle == 0 }

// DType is the type of an array's elements.
type DType int64

// The numbers are MLX's own.
const (
	Bool DType = iota
	Uint8
	Uint16
	Uint32
	Uint64
	Int8
	Int16
	Int32
	Int64
	Float16
	Float32
	Float64 // on CPUs only
	BFloat16
	Complex64
)

var dtypeNames = [...]string{"bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float16", "float32", "float64", "bfloat16", "complex64"}

func (d DType) String() string {
	if d < 0 || int(d) >= len(dtypeNames) {
		return fmt.Sprintf("DType(%d)", int64(d))
	}
	return dtypeNames[d]
}

// Size is the number of bytes of an element.
func (d DType) Size() int {
	switch d {
	case Bool, Uint8, Int8:
		return 1
	case Uint16, Int16, Float16, BFloat16:
		return 2
	case Uint64, Int64, Float64, Complex64:
		return 8
	}
	return 4
}

// IsFloat reports whether d is a floating-point type.
func (d DType) IsFloat() bool { return d >= Float16 && d <= BFloat16 }

// maxDims is the largest number of dimensions that this package describes.
const maxDims = 8

// Info describes an array without computing it.
type Info struct {
	DType DType
	Shape []int
	Size  int // elements
	Bytes int
}

// Info describes a. It is the zero Info after an error.
func (s *Scope) Info(a Array) Info {
	var out [4 + maxDims]int64
	if _, ok := s.number(fnDescribe, uintptr(a.handle), uintptr(unsafe.Pointer(&out))); !ok {
		return Info{}
	}
	in := Info{DType: DType(out[1]), Size: int(out[2]), Bytes: int(out[3]), Shape: make([]int, out[0])}
	for i := range in.Shape {
		in.Shape[i] = int(out[4+i])
	}
	return in
}

// Shape returns the sizes of a's dimensions.
func (s *Scope) Shape(a Array) []int { return s.Info(a).Shape }

// DTypeOf returns the type of a's elements.
func (s *Scope) DTypeOf(a Array) DType { return s.Info(a).DType }

// Scalar returns an array without dimensions.
func (s *Scope) Scalar(v float64, d DType) Array {
	return s.array(fnScalar, float(v), uintptr(d))
}

// Full returns an array of one value.
func (s *Scope) Full(v float64, d DType, shape ...int) Array {
	sizes := sizesOf(shape)
	return s.array(fnFull, float(v), uintptr(unsafe.Pointer(unsafe.SliceData(sizes))), uintptr(len(sizes)), uintptr(d))
}

// Zeros returns an array of zeros.
func (s *Scope) Zeros(d DType, shape ...int) Array { return s.Full(0, d, shape...) }

// Arange returns start, start+step, … below stop.
func (s *Scope) Arange(start, stop, step float64, d DType) Array {
	return s.array(fnArange, float(start), float(stop), float(step), uintptr(d))
}

// Float32s returns an array with a copy of values, of the given shape.
func (s *Scope) Float32s(values []float32, shape ...int) Array {
	return from(s, values, Float32, shape)
}

// Int32s returns an array with a copy of values, of the given shape.
func (s *Scope) Int32s(values []int32, shape ...int) Array { return from(s, values, Int32, shape) }

// Uint32s returns an array with a copy of values, of the given shape.
func (s *Scope) Uint32s(values []uint32, shape ...int) Array { return from(s, values, Uint32, shape) }

func from[T any](s *Scope, values []T, d DType, shape []int) Array {
	n := 1
	for _, size := range shape {
		if size < 0 {
			n = -1
			break
		}
		n *= size
	}
	if n != len(values) {
		s.Fail(fmt.Errorf("make array: %d values do not fill the shape %v", len(values), shape))
		return Array{}
	}
	if n == 0 {
		return s.Zeros(d, shape...)
	}
	sizes := sizesOf(shape)
	return s.array(fnFrom, uintptr(unsafe.Pointer(&values[0])), uintptr(unsafe.Pointer(unsafe.SliceData(sizes))), uintptr(len(sizes)), uintptr(d))
}

// ReadFloat32s computes a and returns its elements, row by row, as float32.
func (s *Scope) ReadFloat32s(a Array) ([]float32, error) { return read[float32](s, a, Float32) }

// ReadInt32s computes a and returns its elements, row by row, as int32.
func (s *Scope) ReadInt32s(a Array) ([]int32, error) { return read[int32](s, a, Int32) }

// ReadUint32s computes a and returns its elements, row by row, as uint32.
func (s *Scope) ReadUint32s(a Array) ([]uint32, error) { return read[uint32](s, a, Uint32) }

func read[T any](s *Scope, a Array, d DType) ([]T, error) {
	if s.DTypeOf(a) != d {
		a = s.AsType(a, d)
	}
	out := make([]T, s.Info(a).Size)
	if len(out) > 0 {
		s.compute(fnCopy, uintptr(a.handle), uintptr(unsafe.Pointer(&out[0])), uintptr(len(out)*d.Size()))
	}
	if err := s.Err(); err != nil {
		return nil, err
	}
	return out, nil
}

// Item computes a, which has one element, and returns that; of a complex one
// the real part.
func (s *Scope) Item(a Array) (float64, error) {
	in := s.Info(a)
	if s.err.Load() == nil && in.Size != 1 {
		s.Fail(fmt.Errorf("read item: the array has %d elements", in.Size))
	}
	switch in.DType { // what a float32 would round is read as it is
	case Uint32, Int32, Int64:
		return item[int64](s, a, Int64)
	case Uint64:
		return item[uint64](s, a, Uint64)
	case Float64:
		return item[float64](s, a, Float64)
	}
	return item[float32](s, a, Float32)
}

func item[T int64 | uint64 | float32 | float64](s *Scope, a Array, d DType) (float64, error) {
	v, err := read[T](s, a, d)
	if err != nil {
		return 0, err
	}
	return float64(v[0]), nil
}

// Eval computes arrays and waits for them.
func (s *Scope) Eval(arrays ...Array) error {
	if len(arrays) > 0 {
		s.compute(fnEval, uintptr(unsafe.Pointer(unsafe.SliceData(arrays))), uintptr(len(arrays)))
	}
	return s.Err()
}

// AsyncEval has arrays computed and does not wait.
func (s *Scope) AsyncEval(arrays ...Array) {
	if len(arrays) > 0 {
		s.compute(fnAsyncEval, uintptr(unsafe.Pointer(unsafe.SliceData(arrays))), uintptr(len(arrays)))
	}
}

// IsComputed reports whether a has been computed.
func (s *Scope) IsComputed(a Array) bool {
	n, ok := s.number(fnIsComputed, uintptr(a.handle))
	return ok && n == 1
}

// Synchronize waits for everything that was started, and reports what went
// wrong meanwhile: a GPU tells of some errors only then.
func (s *Scope) Synchronize() error {
	s.compute(fnSynchronize)
	return s.Err()
}
