package mlxbind

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"unsafe"
)

// What callers may tell apart.
var (
	// ErrWrongThread: a Scope was used by another goroutine than its Do's.
	ErrWrongThread = errors.New("mlx: a scope is used outside the goroutine that it belongs to")
	// ErrEnded: a Scope was used after it ended.
	ErrEnded = errors.New("mlx: a scope is used after it ended")
	// ErrNested: Do was called within Do; use the Scope at hand.
	ErrNested = errors.New("mlx: Do is called within Do")
	// ErrClosed: the Runtime was closed.
	ErrClosed = errors.New("mlx: the runtime is closed")
	// ErrGoexit: a function ended its goroutine, and MLX's thread with it.
	// There is no way back: the Runtime is of no more use.
	ErrGoexit = errors.New("mlx: runtime.Goexit was called on MLX's thread, which is lost")
)

// Error is what MLX refused, in its own words.
type Error struct {
	Op   string
	Text string
}

func (e *Error) Error() string { return "mlx " + e.Op + ": " + e.Text }

// PanicError is a panic of a function that Do, Child or a transformation
// ran.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("mlx: panic: %v", e.Value) }

// Unwrap returns the value when it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// Options of Open.
type Options struct {
	Shim string // the library that mlxbind/install built
	BLAS string // loaded before MLX, so that it serves MLX's products; empty for none
	CPU  bool   // compute on the CPU though there is a GPU
}

// Runtime is MLX in this process; there can be one. Its methods may be called
// from any goroutine.
type Runtime struct {
	work   chan work
	gone   chan struct{} // closed when MLX's goroutine has ended
	ending error         // why; to be read after gone
	close  sync.Once

	// The rest belongs to MLX's goroutine.
	*library
	root      *Scope // owns what Do kept
	current   *Scope // innermost
	callbacks map[uint64]*callback
	named     uint64 // callbacks so far
	pending   error  // why a callback failed, on its way through C++
}

type work struct {
	ctx  context.Context
	f    func(*Scope) error
	done chan error
	last bool // close after this
}

// Open loads the shim and with it MLX, and starts the thread on which MLX
// lives. Errors say which file is missing or does not fit.
func Open(o Options) (*Runtime, error) {
	lib, err := load(o)
	if err != nil {
		return nil, err
	}
	rt := &Runtime{work: make(chan work), gone: make(chan struct{}), library: lib, callbacks: map[uint64]*callback{}}
	started := make(chan error)
	go rt.live(o, started)
	if err := <-started; err != nil {
		return nil, err
	}
	return rt, nil
}

// live is MLX's goroutine.
func (rt *Runtime) live(o Options, started chan<- error) {
	runtime.LockOSThread() // never unlocked: the thread ends with its MLX state
	if int64(rt.call(fnOpen)) != 0 {
		err := rt.failure(fnOpen)
		if before := running.Load(); before != nil && before.isGone() {
			err = before.ending // and left the process without a way to MLX
		}
		started <- fmt.Errorf("open mlx: %w", err)
		return
	}
	running.Store(rt)
	rt.root = rt.newScope(context.Background(), nil)
	if o.CPU && int64(rt.call(fnUseCPU)) != 0 {
		started <- errors.Join(fmt.Errorf("open mlx: %w", rt.failure(fnUseCPU)), rt.shut())
		return
	}
	started <- nil
	rt.ending = ErrGoexit
	defer close(rt.gone)
	for w := range rt.work {
		if w.last {
			rt.ending = ErrClosed
			w.done <- rt.shut()
			return
		}
		w.done <- rt.guarded(w.ctx, w.f)
	}
}

// guarded runs f in a fresh Scope; its panic is an error.
func (rt *Runtime) guarded(ctx context.Context, f func(*Scope) error) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	s := rt.newScope(ctx, rt.root)
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{v, debug.Stack()}
		}
	}()
	return s.run(f)
}

// Do runs f on MLX's thread with a fresh Scope, and returns f's error or else
// what went wrong in the Scope. Calls wait for one another. A context that ends
// keeps f from starting, and from then on from computing.
func (rt *Runtime) Do(ctx context.Context, f func(*Scope) error) error {
	if !rt.isForeign() {
		return ErrNested
	}
	w := work{ctx: ctx, f: f, done: make(chan error, 1)}
	select {
	case rt.work <- w:
	case <-rt.gone:
		return rt.ending
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-w.done:
		return err
	case <-rt.gone:
		select { // f may have returned just before the end
		case err := <-w.done:
			return err
		default:
			return rt.ending
		}
	}
}

// isGone reports whether MLX's goroutine has ended.
func (rt *Runtime) isGone() bool {
	select {
	case <-rt.gone:
		return true
	default:
		return false
	}
}

// Close frees everything, waits for the GPU and ends MLX's thread. MLX itself
// stays loaded; another Open makes a new Runtime.
func (rt *Runtime) Close() error {
	if !rt.isForeign() {
		return ErrNested
	}
	var err error
	rt.close.Do(func() {
		w := work{done: make(chan error, 1), last: true}
		select {
		case rt.work <- w:
			err = <-w.done
		case <-rt.gone:
			err = rt.ending
		}
		<-rt.gone
	})
	return err
}

func (rt *Runtime) shut() error {
	err := rt.root.end()
	rt.root.err.Store(nil)
	if int64(rt.call(fnClose)) != 0 {
		err = errors.Join(err, rt.failure(fnClose))
	}
	return err
}

// Live is the number of arrays that are not freed.
func (rt *Runtime) Live() int { return int(rt.callAny(fnLive)) }

// isForeign reports whether this is another thread than MLX's.
func (rt *Runtime) isForeign() bool { return rt.callAny(fnIsOwner) == 0 }

// failure is why the latest call of f failed: what a callback noted on its way
// out, or MLX's own words.
func (rt *Runtime) failure(f function) error {
	if err := rt.pending; err != nil {
		rt.pending = nil
		return err
	}
	return rt.library.failure(f)
}

// free frees arrays whatever went wrong before.
func (rt *Runtime) free(arrays []Array) error {
	if len(arrays) == 0 {
		return nil
	}
	switch int64(rt.call(fnFree, uintptr(unsafe.Pointer(unsafe.SliceData(arrays))), uintptr(len(arrays)))) {
	case 0:
		return nil
	case foreignNumber:
		return ErrWrongThread
	}
	return fmt.Errorf("free arrays: %w", rt.failure(fnFree))
}

// inUse moves those arrays that are not freed to the front and returns how many
// they are.
func (rt *Runtime) inUse(arrays []Array) int {
	n := int64(rt.call(fnInUse, uintptr(unsafe.Pointer(unsafe.SliceData(arrays))), uintptr(len(arrays))))
	if n < 0 {
		return len(arrays)
	}
	return int(n)
}
