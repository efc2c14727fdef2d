package model

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"math/bits"
	"slices"
)

// maxHeaderBytes is the limit of the safetensors format itself.
const maxHeaderBytes = 100_000_000

// dtypeBits is the size of one element of every type that safetensors defines.
var dtypeBits = map[string]uint64{
	"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
	"BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
	"U16": 16, "I16": 16, "F16": 16, "BF16": 16,
	"U32": 32, "I32": 32, "F32": 32,
	"U64": 64, "I64": 64, "F64": 64, "C64": 64,
}

var lfsPointer = []byte("version https://git-lfs")

// readHeader returns the tensors of one safetensors file of size bytes, sorted
// by name. It reads the header alone: 8 bytes of length, then JSON. Every
// error is an *Error without a path.
func readHeader(r io.ReaderAt, size int64) ([]Tensor, error) {
	start := make([]byte, min(size, int64(len(lfsPointer))))
	if _, err := r.ReadAt(start, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, unreadable(err)
	}
	if bytes.Equal(start, lfsPointer) {
		return nil, &Error{Code: CodePointer, Text: "is a Git LFS pointer, not the weights", Hint: "run `git lfs pull` in the model's directory"}
	}
	if len(start) < 8 {
		return nil, &Error{Code: CodeTruncated, Text: fmt.Sprintf("has %d bytes, too few for a safetensors header", size), Hint: downloadAgain, ExpectedBytes: 8, ActualBytes: size}
	}
	length := binary.LittleEndian.Uint64(start)
	if length < 2 || length > maxHeaderBytes {
		return nil, badHeader("claims a header of %d bytes, which no safetensors file has", length)
	}
	if int64(length) > size-8 {
		return nil, &Error{Code: CodeTruncated, Text: fmt.Sprintf("ends inside its header: %d bytes are there, at least %d expected", size, 8+length), Hint: downloadAgain, ExpectedBytes: 8 + int64(length), ActualBytes: size}
	}
	header := make([]byte, length)
	if n, err := r.ReadAt(header, 8); n < len(header) {
		return nil, unreadable(err)
	}
	return parseHeader(header, size-8-int64(length), size)
}

// parseHeader decodes a header that dataBytes of tensor data follow, and
// checks that the tensors tile the data exactly.
func parseHeader(header []byte, dataBytes, fileBytes int64) ([]Tensor, error) {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(header, &raw); err != nil {
		return nil, badHeader("has a header that is not JSON (%v)", err)
	}
	delete(raw, "__metadata__")

	type placed struct {
		Tensor
		begin, end uint64
	}
	tensors := make([]placed, 0, len(raw))
	for _, name := range slices.Sorted(maps.Keys(raw)) {
		var e struct {
			DType   *string  `json:"dtype"`
			Shape   []uint64 `json:"shape"`
			Offsets []uint64 `json:"data_offsets"`
		}
		if err := json.Unmarshal(raw[name], &e); err != nil {
			return nil, badHeader("describes tensor %q wrongly (%v)", name, err)
		}
		if e.DType == nil || e.Shape == nil || len(e.Offsets) != 2 {
			return nil, badHeader("describes tensor %q without dtype, shape and two data_offsets", name)
		}
		width, ok := dtypeBits[*e.DType]
		if !ok {
			return nil, &Error{Code: CodeDType, Text: fmt.Sprintf("stores tensor %q as %q, a type that safetensors does not define", name, *e.DType), Hint: "convert the model with mlx_lm.convert on a machine that knows the type"}
		}
		begin, end := e.Offsets[0], e.Offsets[1]
		shape, need, ok := sizeOf(e.Shape, width)
		if !ok {
			return nil, badOffsets("gives tensor %q the impossible shape %v", name, e.Shape)
		}
		if begin > end || end > math.MaxInt64 || end-begin != need {
			return nil, badOffsets("gives tensor %q bytes %d to %d, but its shape %v of %s needs %d", name, begin, end, e.Shape, *e.DType, need)
		}
		tensors = append(tensors, placed{Tensor{Name: name, DType: *e.DType, Shape: shape, Bytes: int64(need)}, begin, end})
	}

	byPlace := slices.Clone(tensors)
	slices.SortFunc(byPlace, func(a, b placed) int {
		return cmp.Or(cmp.Compare(a.begin, b.begin), cmp.Compare(a.end, b.end))
	})
	var at uint64
	for _, t := range byPlace {
		switch {
		case t.begin < at:
			return nil, badOffsets("stores tensor %q over the one before it", t.Name)
		case t.begin > at:
			return nil, badOffsets("leaves %d unused bytes before tensor %q", t.begin-at, t.Name)
		}
		at = t.end
	}
	switch data := uint64(dataBytes); {
	case at > data:
		expected := int64(min(uint64(fileBytes)-data+at, math.MaxInt64))
		return nil, &Error{Code: CodeTruncated, Text: fmt.Sprintf("is cut off: %d bytes expected, %d there", expected, fileBytes), Hint: downloadAgain, ExpectedBytes: expected, ActualBytes: fileBytes}
	case at < data:
		return nil, badOffsets("has %d bytes after its last tensor", data-at)
	}

	out := make([]Tensor, len(tensors))
	for i, t := range tensors {
		out[i] = t.Tensor
	}
	return out, nil
}

// sizeOf returns the shape as ints and the bytes it takes, or false when
// either does not fit.
func sizeOf(dims []uint64, elementBits uint64) (shape []int, size uint64, ok bool) {
	shape = make([]int, len(dims))
	total := elementBits
	for i, d := range dims {
		if d > math.MaxInt {
			return nil, 0, false
		}
		shape[i] = int(d)
		hi, lo := bits.Mul64(total, d)
		if hi != 0 {
			return nil, 0, false
		}
		total = lo
	}
	return shape, total / 8, total%8 == 0
}

func badHeader(format string, args ...any) *Error {
	return &Error{Code: CodeHeader, Text: fmt.Sprintf(format, args...), Hint: downloadAgain}
}

func badOffsets(format string, args ...any) *Error {
	return &Error{Code: CodeOffsets, Text: fmt.Sprintf(format, args...), Hint: downloadAgain}
}

func unreadable(err error) *Error {
	return &Error{Code: CodeUnreadable, Text: fmt.Sprintf("could not be read (%v)", err), Hint: "check its permissions and the disk", err: err}
}
