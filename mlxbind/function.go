package mlxbind

import (
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/ebitengine/purego"
)

// Func is a function over arrays. MLX calls it with a Scope of its own and
// arrays that stand for any values: it builds a graph, so it must not compute,
// must do the same whenever it is called, and gets whatever shall have a
// gradient or vary between calls through in. What goes wrong in its Scope, and
// a panic, is the error of the call that ran it.
type Func func(s *Scope, in []Array) []Array

// Gradient is the hand-written gradient of a Func: it gets the inputs, the
// gradients of the outputs (cotangents) and the outputs, and returns a gradient
// for every input.
type Gradient func(s *Scope, in, cotangents, out []Array) []Array

// Function is a transformed Func. It is freed with the Scope that made it, or,
// when a Func made it in its own, with the Scope that called that.
type Function struct {
	rt        *Runtime
	handle    uintptr
	callbacks []uint64
	running   int
	traces    int
}

// callback is a Go function that C++ may call.
type callback struct {
	f     Func
	owner *Function
}

// ErrFreed: a Function was used after it was freed.
var ErrFreed = errors.New("mlx: a function is used after it was freed")

var errNothing = errors.New("mlx: a function returned no arrays")

var errBusy = errors.New("mlx: a function is freed while it runs")

// ValueAndGrad returns a function that gives the values of f and then the
// gradients of the first of them, a scalar, with respect to the inputs argnums,
// in that order; a negative one counts from the last input.
func (s *Scope) ValueAndGrad(f Func, argnums ...int) *Function {
	list := sizesOf(argnums)
	return s.function(fnValueAndGrad, []Func{f}, func(ids []uint64) uintptr {
		return s.rt.call(fnValueAndGrad, s.rt.back, uintptr(ids[0]), uintptr(unsafe.Pointer(unsafe.SliceData(list))), uintptr(len(list)))
	})
}

// Compile returns f fused into as few kernels as MLX can. Every combination of
// shapes and dtypes is traced once, and its trace is kept for as long as the
// function lives; shapeless traces once for all shapes, which few functions
// stand. What f takes from outside of in becomes constant.
func (s *Scope) Compile(f Func, shapeless bool) *Function {
	return s.function(fnCompile, []Func{f}, func(ids []uint64) uintptr {
		return s.rt.call(fnCompile, s.rt.back, uintptr(ids[0]), flag(shapeless))
	})
}

// Checkpoint returns f such that it is computed again when its gradient is,
// instead of keeping what lies between inputs and outputs.
func (s *Scope) Checkpoint(f Func) *Function {
	return s.function(fnCheckpoint, []Func{f}, func(ids []uint64) uintptr {
		return s.rt.call(fnCheckpoint, s.rt.back, uintptr(ids[0]))
	})
}

// CustomVJP returns f with a gradient of its own. inputs and outputs are the
// numbers of arrays that f takes and returns.
func (s *Scope) CustomVJP(f Func, gradient Gradient, inputs, outputs int) *Function {
	// MLX itself does not count, and would read what is not there.
	front := func(s *Scope, in []Array) []Array {
		if len(in) != inputs {
			s.Fail(fmt.Errorf("custom gradient: %d inputs instead of %d", len(in), inputs))
			return nil
		}
		out := f(s, in)
		if s.Err() == nil && len(out) != outputs && len(out) > 0 {
			s.Fail(fmt.Errorf("custom gradient: %d outputs instead of %d", len(out), outputs))
		}
		return out
	}
	back := func(s *Scope, all []Array) []Array {
		out := gradient(s, all[:inputs:inputs], all[inputs:inputs+outputs:inputs+outputs], all[inputs+outputs:])
		if s.Err() == nil && len(out) != inputs && len(out) > 0 {
			s.Fail(fmt.Errorf("custom gradient: %d gradients for %d inputs", len(out), inputs))
		}
		return out
	}
	return s.function(fnCustomVJP, []Func{front, back}, func(ids []uint64) uintptr {
		return s.rt.call(fnCustomVJP, s.rt.back, uintptr(ids[0]), uintptr(ids[1]))
	})
}

// function registers callbacks and has C++ make a function of them. It never
// returns nil: a Function that could not be made fails when it is called.
func (s *Scope) function(f function, funcs []Func, build func(ids []uint64) uintptr) *Function {
	fn := &Function{rt: s.rt}
	if s.err.Load() != nil {
		return fn
	}
	if s.rt.isForeign() {
		s.Fail(ErrWrongThread)
		return fn
	}
	for _, g := range funcs {
		s.rt.named++
		s.rt.callbacks[s.rt.named] = &callback{g, fn}
		fn.callbacks = append(fn.callbacks, s.rt.named)
	}
	fn.handle = build(fn.callbacks)
	if fn.handle == 0 {
		s.Fail(s.rt.failure(f))
		fn.forget()
		return fn
	}
	s.functions = append(s.functions, fn)
	return fn
}

// Call runs the function on arrays of any live Scope; the results belong to s.
func (f *Function) Call(s *Scope, in ...Array) []Array {
	if s.err.Load() != nil {
		return nil
	}
	if err := s.ctx.Err(); err != nil {
		s.Fail(fmt.Errorf("mlx %s: %w", fnCall, err))
		return nil
	}
	if f.rt.isForeign() {
		s.Fail(ErrWrongThread)
		return nil
	}
	if f.handle == 0 {
		s.Fail(ErrFreed)
		return nil
	}
	before := s.rt.current
	s.rt.current = s
	f.running++
	n, ok := s.number(fnCall, f.handle, uintptr(unsafe.Pointer(unsafe.SliceData(in))), uintptr(len(in)))
	f.running--
	s.rt.current = before
	if !ok || n == 0 {
		return nil
	}
	out := make([]Array, n)
	if _, ok := s.number(fnResults, uintptr(unsafe.Pointer(unsafe.SliceData(out)))); !ok {
		return nil
	}
	for _, a := range out {
		s.own(a)
	}
	return out
}

// Call1 is Call for a function with one result.
func (f *Function) Call1(s *Scope, in ...Array) Array {
	out := f.Call(s, in...)
	if len(out) != 1 {
		s.Fail(fmt.Errorf("mlx %s: %d results instead of one", fnCall, len(out)))
		return Array{}
	}
	return out[0]
}

// Traces is how many times MLX ran the Func, or its Gradient: for a compiled
// function, the number of traces that it keeps.
func (f *Function) Traces() int { return f.traces }

// Free frees f before its Scope ends.
func (f *Function) Free(s *Scope) {
	switch {
	case f.rt.isForeign():
		s.Fail(ErrWrongThread)
	case f.running > 0:
		s.Fail(errBusy)
	default:
		f.free()
	}
}

func (f *Function) free() {
	if f.handle != 0 {
		f.rt.call(fnFreeFunction, f.handle) // cannot fail on this thread
		f.handle = 0
	}
	f.forget()
}

func (f *Function) forget() {
	for _, id := range f.callbacks {
		delete(f.rt.callbacks, id)
	}
	f.callbacks = nil
}

// running is the one Runtime of this process: what C++ calls back has no other
// way to find it.
var running atomic.Pointer[Runtime]

// trampoline is the one function of Go that C++ knows; callbacks are never
// freed, so that there must be few.
var trampoline = sync.OnceValue(func() uintptr {
	return purego.NewCallback(func(id, in, n, out uintptr) uintptr {
		return running.Load().called(uint64(id), in, int(n), out)
	})
})

// called runs a callback between frames of C++, which no panic may cross. It
// returns 0, or 1 with the reason in rt.pending.
func (rt *Runtime) called(id uint64, in uintptr, n int, out uintptr) (status uintptr) {
	status = 1
	outer := rt.current
	s := rt.newScope(outer.ctx, outer)
	rt.current = s
	returned := false
	defer func() {
		rt.current = outer
		v := recover()
		switch {
		case v != nil:
			rt.pending = &PanicError{v, debug.Stack()}
		case !returned:
			// Goexit: this goroutine and MLX's thread die with what C++ was
			// about. Do tells; nothing can be repaired.
			return
		}
		// The gradient of what f did is taken after it returned, and runs the
		// functions that it made: they live as long as the Scope of the call.
		outer.functions = append(outer.functions, s.functions...)
		s.functions, s.kept = nil, nil
		if err := s.end(); err != nil && status == 0 {
			rt.pending, status = err, 1
		}
	}()
	args := make([]Array, n)
	copy(args, unsafe.Slice(*(**Array)(unsafe.Pointer(&in)), n))
	for _, a := range args {
		s.own(a)
	}
	c, ok := rt.callbacks[id]
	if !ok {
		rt.pending = ErrFreed
		returned = true
		return 1
	}
	c.owner.traces++
	results := slices.Clone(c.f(s, args)) // heap: C++ reads it
	if s.Err() == nil && len(results) == 0 {
		s.Fail(errNothing) // with no results MLX's own code runs off its arrays
	}
	if s.Err() == nil {
		s.number(fnReturn, out, uintptr(unsafe.Pointer(unsafe.SliceData(results))), uintptr(len(results)))
	}
	returned = true
	if rt.pending = s.Err(); rt.pending != nil {
		return 1
	}
	return 0
}
