package mlxbind

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unsafe"
)

// Memory is what MLX's allocator counts, in bytes, for the whole process.
type Memory struct {
	Active int64 // of live buffers
	Peak   int64 // highest Active since the start or ResetPeak
	Cache  int64 // freed buffers that are kept for reuse, not in Active
	Limit  int64 // above which an evaluation waits and drops its cache; not a cap
}

// Memory reads the counters.
func (s *Scope) Memory() Memory {
	var out [4]int64
	s.number(fnMemory, uintptr(unsafe.Pointer(&out)))
	return Memory{out[0], out[1], out[2], out[3]}
}

// ResetPeak makes Peak start anew.
func (s *Scope) ResetPeak() { s.number(fnResetPeak) }

// ClearCache gives cached buffers back to the system.
func (s *Scope) ClearCache() { s.number(fnClearCache) }

// SetMemoryLimit sets the limit above which an evaluation waits for what runs
// and drops its cache, and returns the one before. MLX overcommits all the same.
func (s *Scope) SetMemoryLimit(bytes int64) int64 { return s.limit(fnSetMemoryLimit, bytes) }

// SetCacheLimit sets how much freed memory is kept, and returns the limit before.
func (s *Scope) SetCacheLimit(bytes int64) int64 { return s.limit(fnSetCacheLimit, bytes) }

// SetWiredLimit sets how much memory macOS must keep resident, and returns the
// limit before. More than the system allows is an error; elsewhere it does nothing.
func (s *Scope) SetWiredLimit(bytes int64) int64 { return s.limit(fnSetWiredLimit, bytes) }

func (s *Scope) limit(f function, bytes int64) int64 {
	if bytes < 0 {
		s.Fail(fmt.Errorf("mlx %s: %d bytes", f, bytes))
		return 0
	}
	before, _ := s.number(f, uintptr(bytes))
	if before < 0 { // as much as there is
		return math.MaxInt64
	}
	return before
}

// BufferBytes is what the buffers behind computed arrays occupy, each counted
// once. It needs MLX 0.32.3.
func (s *Scope) BufferBytes(arrays ...Array) int64 {
	n, _ := s.number(fnBufferBytes, uintptr(unsafe.Pointer(unsafe.SliceData(arrays))), uintptr(len(arrays)))
	return n
}

// EnableCompile makes compiled functions compile, which they do by default, or
// run as they are.
func (s *Scope) EnableCompile(on bool) { s.number(fnEnableCompile, flag(on)) }

// Device is what MLX computes on.
type Device struct {
	Kind       string            // cpu, metal or cuda
	Properties map[string]string // device_name, memory_size and more, as MLX calls them
}

// Bytes returns a property that is a number of bytes.
func (d Device) Bytes(property string) (int64, bool) {
	n, err := strconv.ParseInt(d.Properties[property], 10, 64)
	return n, err == nil
}

// Device describes the default device.
func (s *Scope) Device() (Device, error) {
	buf := make([]byte, 8192)
	n, ok := s.number(fnDevice, uintptr(unsafe.Pointer(unsafe.SliceData(buf))), uintptr(len(buf)))
	if !ok {
		return Device{}, s.Err()
	}
	kind, rest, ok := strings.Cut(string(buf[:n]), "\n")
	if !ok {
		return Device{}, errors.New("mlx device: a description without a kind")
	}
	d := Device{Kind: kind, Properties: map[string]string{}}
	for line := range strings.Lines(rest) {
		if key, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "="); ok {
			d.Properties[key] = value
		}
	}
	return d, nil
}
