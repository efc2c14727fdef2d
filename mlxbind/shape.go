package mlxbind

import "unsafe"

// Reductions and changes of shape. A negative axis counts from the last.

// SumAll adds all elements.
func (s *Scope) SumAll(a Array) Array { return s.array(fnSumAll, uintptr(a.handle)) }

// MeanAll averages all elements.
func (s *Scope) MeanAll(a Array) Array { return s.array(fnMeanAll, uintptr(a.handle)) }

// Sum adds along axis.
func (s *Scope) Sum(a Array, axis int, keepDims bool) Array {
	return s.array(fnSum, uintptr(a.handle), uintptr(axis), flag(keepDims))
}

// Mean averages along axis.
func (s *Scope) Mean(a Array, axis int, keepDims bool) Array {
	return s.array(fnMean, uintptr(a.handle), uintptr(axis), flag(keepDims))
}

// Max returns the largest along axis.
func (s *Scope) Max(a Array, axis int, keepDims bool) Array {
	return s.array(fnMax, uintptr(a.handle), uintptr(axis), flag(keepDims))
}

// Min returns the smallest along axis.
func (s *Scope) Min(a Array, axis int, keepDims bool) Array {
	return s.array(fnMin, uintptr(a.handle), uintptr(axis), flag(keepDims))
}

// ArgMax returns where the largest along axis is.
func (s *Scope) ArgMax(a Array, axis int, keepDims bool) Array {
	return s.array(fnArgMax, uintptr(a.handle), uintptr(axis), flag(keepDims))
}

// LogSumExp returns log Σ eᵃ along axis.
func (s *Scope) LogSumExp(a Array, axis int, keepDims bool) Array {
	return s.array(fnLogSumExp, uintptr(a.handle), uintptr(axis), flag(keepDims))
}

// Softmax returns eᵃ / Σ eᵃ along axis; precise computes it in float32.
func (s *Scope) Softmax(a Array, axis int, precise bool) Array {
	return s.array(fnSoftmax, uintptr(a.handle), uintptr(axis), flag(precise))
}

// CumSum returns the running sums along axis.
func (s *Scope) CumSum(a Array, axis int) Array {
	return s.array(fnCumSum, uintptr(a.handle), uintptr(axis))
}

// Sort sorts along axis, smallest first.
func (s *Scope) Sort(a Array, axis int) Array {
	return s.array(fnSort, uintptr(a.handle), uintptr(axis))
}

// ArgSort returns the indices that sort along axis.
func (s *Scope) ArgSort(a Array, axis int) Array {
	return s.array(fnArgSort, uintptr(a.handle), uintptr(axis))
}

// Reshape gives a another shape with as many elements; one size may be -1.
func (s *Scope) Reshape(a Array, shape ...int) Array {
	sizes := sizesOf(shape)
	return s.array(fnReshape, uintptr(a.handle), uintptr(unsafe.Pointer(unsafe.SliceData(sizes))), uintptr(len(sizes)))
}

// BroadcastTo repeats a to fill shape.
func (s *Scope) BroadcastTo(a Array, shape ...int) Array {
	sizes := sizesOf(shape)
	return s.array(fnBroadcastTo, uintptr(a.handle), uintptr(unsafe.Pointer(unsafe.SliceData(sizes))), uintptr(len(sizes)))
}

// Transpose permutes the axes; without any it reverses them.
func (s *Scope) Transpose(a Array, axes ...int) Array {
	list := sizesOf(axes)
	return s.array(fnTranspose, uintptr(a.handle), uintptr(unsafe.Pointer(unsafe.SliceData(list))), uintptr(len(list)))
}

// ExpandDims inserts an axis of size 1.
func (s *Scope) ExpandDims(a Array, axis int) Array {
	return s.array(fnExpandDims, uintptr(a.handle), uintptr(axis))
}

// Squeeze removes an axis of size 1.
func (s *Scope) Squeeze(a Array, axis int) Array {
	return s.array(fnSqueeze, uintptr(a.handle), uintptr(axis))
}

// Slice cuts start ≤ i < stop out of axis, as far as there are such; negative
// ones count from the end.
func (s *Scope) Slice(a Array, axis, start, stop int) Array {
	shape := s.Shape(a)
	if axis < 0 {
		axis += len(shape)
	}
	if s.err.Load() != nil {
		return Array{}
	}
	if axis < 0 || axis >= len(shape) {
		s.Fail(&Error{"slice", "there is no such axis"})
		return Array{}
	}
	from, to := make([]int64, len(shape)), sizesOf(shape)
	from[axis], to[axis] = int64(start), int64(stop)
	return s.array(fnSlice, uintptr(a.handle), uintptr(unsafe.Pointer(unsafe.SliceData(from))), uintptr(unsafe.Pointer(unsafe.SliceData(to))), uintptr(len(from)))
}

// Take picks indices along axis. MLX does not check that there are such.
func (s *Scope) Take(a, indices Array, axis int) Array {
	return s.array(fnTake, uintptr(a.handle), uintptr(indices.handle), uintptr(axis))
}

// TakeAlongAxis picks, at each place, the element of axis that indices names,
// unchecked.
func (s *Scope) TakeAlongAxis(a, indices Array, axis int) Array {
	return s.array(fnTakeAlongAxis, uintptr(a.handle), uintptr(indices.handle), uintptr(axis))
}

// Concatenate joins arrays along axis.
func (s *Scope) Concatenate(axis int, arrays ...Array) Array {
	return s.array(fnConcatenate, uintptr(unsafe.Pointer(unsafe.SliceData(arrays))), uintptr(len(arrays)), uintptr(axis))
}

// Contiguous returns a with its elements one after another, row by row.
func (s *Scope) Contiguous(a Array) Array { return s.array(fnContiguous, uintptr(a.handle)) }
