package mlxbind

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unsafe"
)

// LoadSafetensors returns the arrays of a file by name. They are read when they
// are computed, and until then hold the file open. Check beforehand that a file
// is whole: some versions of MLX notice a truncated one only when they read.
func (s *Scope) LoadSafetensors(path string) (map[string]Array, error) {
	if err := s.Err(); err != nil {
		return nil, err
	}
	if strings.ContainsRune(path, 0) {
		s.Fail(fmt.Errorf("load safetensors: the path %q holds a zero byte", path))
		return nil, s.Err()
	}
	name := text(path)
	file := s.rt.call(fnOpenSafetensors, uintptr(unsafe.Pointer(unsafe.SliceData(name))))
	switch uint64(file) {
	case none:
		err := fmt.Errorf("load %s: %w", path, s.rt.failure(fnOpenSafetensors))
		s.Fail(err)
		return nil, err
	case foreign:
		s.Fail(ErrWrongThread)
		return nil, ErrWrongThread
	}
	defer s.rt.call(fnCloseSafetensors, file)
	n, _ := s.number(fnCountTensors, file)
	out := make(map[string]Array, n)
	buf, a := make([]byte, 4096), new(Array)
	for i := range n {
		length, ok := s.number(fnTensor, file, uintptr(i), uintptr(unsafe.Pointer(unsafe.SliceData(buf))), uintptr(len(buf)), uintptr(unsafe.Pointer(a)))
		if !ok {
			break
		}
		s.own(*a)
		out[string(buf[:length])] = *a
	}
	if err := s.Err(); err != nil {
		return nil, err
	}
	return out, nil
}

// SaveSafetensors computes arrays and writes them to a file, whose name must
// end in .safetensors. MLX does not notice a disk that runs full: compare the
// size of the file with its header afterwards.
func (s *Scope) SaveSafetensors(path string, arrays map[string]Array) error {
	if strings.ContainsRune(path, 0) || !strings.HasSuffix(path, ".safetensors") {
		s.Fail(fmt.Errorf("save safetensors: %q is no name for the file", path))
	}
	var names []byte
	all := make([]Array, 0, len(arrays))
	for _, name := range slices.Sorted(maps.Keys(arrays)) { // equal arrays make equal files
		if strings.ContainsRune(name, 0) {
			s.Fail(fmt.Errorf("save safetensors: the name %q holds a zero byte", name))
		}
		names = append(names, text(name)...)
		all = append(all, arrays[name])
	}
	file := text(path)
	s.compute(fnSaveSafetensors, uintptr(unsafe.Pointer(unsafe.SliceData(file))), uintptr(unsafe.Pointer(unsafe.SliceData(names))), uintptr(unsafe.Pointer(unsafe.SliceData(all))), uintptr(len(all)))
	return s.Err()
}
