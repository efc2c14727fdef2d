package mlxbind

import (
	"fmt"
	"math"
	"runtime"
	"unsafe"

	"github.com/ebitengine/purego"
)

// abi numbers the shim's signatures, which must be those of this package.
const abi = 2

// errorBytes is the room that the shim writes the words of an error to.
const errorBytes = 1024

// Answers of the shim's functions, as shim.h has them.
const (
	none          = uint64(0)
	foreign       = ^uint64(0)
	failed        = math.MinInt64
	foreignNumber = math.MinInt64 + 1
)

// library is the loaded shim.
type library struct {
	entry [functions]uintptr
	words *[errorBytes]byte // of the latest error; MLX's thread only
	back  uintptr           // the one callback that C++ knows
	built int               // version of MLX that the shim was compiled for
	mlx   string            // version of MLX that was loaded
}

func load(o Options) (*library, error) {
	if o.Shim == "" {
		return nil, fmt.Errorf("open mlx: no shim is named; run `mlxdyno setup`")
	}
	if o.BLAS != "" {
		if _, err := purego.Dlopen(o.BLAS, purego.RTLD_NOW|purego.RTLD_GLOBAL); err != nil {
			return nil, fmt.Errorf("open mlx: load its BLAS: %w; run `mlxdyno setup`", err)
		}
	}
	h, err := purego.Dlopen(o.Shim, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return nil, fmt.Errorf("open mlx: load the shim: %w; `mlxdyno setup` builds it for the MLX that is installed", err)
	}
	lib := &library{words: new([errorBytes]byte), back: trampoline()}
	for f, name := range functionNames {
		if lib.entry[f], err = purego.Dlsym(h, "mlxd_"+name); err != nil {
			return nil, fmt.Errorf("open mlx: %s is not a shim of this version: %w; run `mlxdyno setup`", o.Shim, err)
		}
	}
	if got := lib.callAny(fnABI); got != abi {
		return nil, fmt.Errorf("open mlx: the shim %s has version %d and this program needs %d; run `mlxdyno setup`", o.Shim, got, abi)
	}
	lib.built = int(lib.callAny(fnBuiltFor))
	lib.mlx = goString(lib.callAny(fnMLXVersion))
	return lib, nil
}

// MLXVersion is the version of the MLX that is loaded.
func (lib *library) MLXVersion() string { return lib.mlx }

// atLeast reports whether the MLX that the shim was compiled for is that
// version or a later one.
func (lib *library) atLeast(major, minor, patch int) bool {
	return lib.built >= 100000*major+1000*minor+patch
}

// call calls a function that only MLX's thread may call: its first argument is
// the room for an error.
//
//go:uintptrescapes
func (lib *library) call(f function, args ...uintptr) uintptr {
	var all [maxArgs]uintptr
	all[0] = uintptr(unsafe.Pointer(lib.words))
	n := 1 + copy(all[1:], args)
	r, _, _ := purego.SyscallN(lib.entry[f], all[:n]...)
	return r
}

// maxArgs is the largest number of arguments of a function, the error included.
const maxArgs = 10

// callAny calls a function that any thread may call.
func (lib *library) callAny(f function) uintptr {
	r, _, _ := purego.SyscallN(lib.entry[f])
	return r
}

// failure is the error that the latest call of f left.
func (lib *library) failure(f function) error {
	n := 0
	for n < errorBytes && lib.words[n] != 0 {
		n++
	}
	return &Error{f.String(), string(lib.words[:n])}
}

// Arguments. A pointer is converted to uintptr in the very call that takes it:
// there //go:uintptrescapes keeps what it points to alive and in place, which
// matters since a callback may move the stack.

func float(v float64) uintptr { return uintptr(math.Float64bits(v)) }

func flag(b bool) uintptr {
	if b {
		return 1
	}
	return 0
}

func sizesOf(shape []int) []int64 {
	out := make([]int64, len(shape))
	for i, n := range shape {
		out[i] = int64(n)
	}
	return out
}

// text is s as C has it.
func text(s string) []byte { return append([]byte(s), 0) }

// goString copies a string of C.
func goString(p uintptr) string {
	if p == 0 {
		return ""
	}
	start := *(**byte)(unsafe.Pointer(&p)) // the address is C's: nothing that the collector moves
	n := 0
	for *(*byte)(unsafe.Add(unsafe.Pointer(start), n)) != 0 {
		n++
	}
	out := string(unsafe.Slice(start, n))
	runtime.KeepAlive(p)
	return out
}
