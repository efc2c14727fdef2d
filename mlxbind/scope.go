package mlxbind

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
)

// Scope owns what is made in it: arrays and functions are freed when it ends.
// It belongs to one call of Do, Child or a Func, and is of no use after that.
type Scope struct {
	rt     *Runtime
	ctx    context.Context
	parent *Scope
	err    atomic.Pointer[error] // the first; also written by a foreign goroutine

	arrays    []Array
	compactAt int // number of arrays at which those freed by hand are forgotten
	kept      map[Array]bool
	functions []*Function
}

const compactFrom = 4096

func (rt *Runtime) newScope(ctx context.Context, parent *Scope) *Scope {
	return &Scope{rt: rt, ctx: ctx, parent: parent, compactAt: compactFrom}
}

// Context is the context of the surrounding Do.
func (s *Scope) Context() context.Context { return s.ctx }

// Err returns the first thing that went wrong in s.
func (s *Scope) Err() error {
	if p := s.err.Load(); p != nil {
		return *p
	}
	return nil
}

// Fail records err, as operations do, unless something went wrong before.
func (s *Scope) Fail(err error) {
	if err != nil {
		s.err.CompareAndSwap(nil, &err)
	}
}

// Child runs f with a Scope of its own, which ends with it. What went wrong in
// that Scope is returned, and leaves s as it was.
func (s *Scope) Child(f func(*Scope) error) error {
	if err := s.Err(); err != nil {
		return err
	}
	if err := s.ctx.Err(); err != nil {
		return err
	}
	if s.rt.isForeign() {
		s.Fail(ErrWrongThread)
		return ErrWrongThread
	}
	c := s.rt.newScope(s.ctx, s)
	return c.run(f)
}

// Build runs f with a Scope of its own and hands its results, not computed, to s.
// What lies between is freed at once: a handle that lives on keeps its array in
// memory when it is computed, which is what a formula written directly in a long
// Scope does with every intermediate result.
func (s *Scope) Build(f Func, in ...Array) []Array {
	if s.err.Load() != nil {
		return nil
	}
	if s.rt.isForeign() {
		s.Fail(ErrWrongThread)
		return nil
	}
	var out []Array
	c := s.rt.newScope(s.ctx, s)
	s.Fail(c.run(func(c *Scope) error {
		out = f(c, in)
		if err := c.Err(); err != nil {
			return err
		}
		c.kept = map[Array]bool{}
		for _, a := range out {
			c.kept[a] = true
		}
		for _, a := range in { // still the caller's
			delete(c.kept, a)
		}
		// A gradient of the results runs the functions that made them.
		s.functions = append(s.functions, c.functions...)
		c.functions = nil
		return nil
	}))
	if s.err.Load() != nil {
		return nil
	}
	return out
}

// run runs f in s and ends s.
func (s *Scope) run(f func(*Scope) error) (err error) {
	before := s.rt.current
	s.rt.current = s
	well := false // not after a panic either
	defer func() {
		s.rt.current = before
		if !well {
			s.kept = nil
		}
		err = errors.Join(err, s.end())
	}()
	if err = f(s); err == nil {
		err = s.Err()
	}
	well = err == nil
	return err
}

// end frees what s owns, and hands what it kept to the parent.
func (s *Scope) end() error {
	for _, f := range slices.Backward(s.functions) {
		f.free()
	}
	s.functions = nil
	owned, kept := s.arrays, s.kept
	s.arrays, s.kept = nil, nil
	s.Fail(ErrEnded)
	if len(kept) == 0 {
		return s.rt.free(owned)
	}
	all := len(owned)
	owned = slices.DeleteFunc(owned, func(a Array) bool {
		if !kept[a] {
			return false
		}
		s.parent.own(a)
		return true
	})
	err := s.rt.free(owned)
	if all-len(owned) != len(kept) {
		err = errors.Join(err, errors.New("keep array: it is not of this scope"))
	}
	return err
}

// own makes s the owner of a.
func (s *Scope) own(a Array) {
	if len(s.arrays) >= s.compactAt {
		s.arrays = s.arrays[:s.rt.inUse(s.arrays)]
		s.compactAt = max(compactFrom, 2*len(s.arrays))
	}
	s.arrays = append(s.arrays, a)
}

// Keep computes arrays of s, and when s ends without an error their owner is the
// parent: the Scope around a Child, or after a Do the Runtime, until it closes or
// they are freed by hand.
func (s *Scope) Keep(arrays ...Array) error {
	if err := s.Eval(arrays...); err != nil || len(arrays) == 0 {
		return err
	}
	if s.kept == nil {
		s.kept = map[Array]bool{}
	}
	for _, a := range arrays {
		s.kept[a] = true
	}
	return nil
}

// Free frees arrays before their Scope ends, whichever that is, and whatever
// went wrong in s.
func (s *Scope) Free(arrays ...Array) {
	s.Fail(s.rt.free(arrays))
}

// array calls a function of the shim that makes an array.
//
//go:uintptrescapes
func (s *Scope) array(f function, args ...uintptr) Array {
	if s.err.Load() != nil {
		return Array{}
	}
	switch r := uint64(s.rt.call(f, args...)); r {
	case none:
		s.Fail(s.rt.failure(f))
	case foreign:
		s.Fail(ErrWrongThread)
	default:
		a := Array{r}
		s.own(a)
		return a
	}
	return Array{}
}

// number calls a function of the shim that answers with a number; ok is false
// when it failed.
//
//go:uintptrescapes
func (s *Scope) number(f function, args ...uintptr) (n int64, ok bool) {
	if s.err.Load() != nil {
		return 0, false
	}
	switch n := int64(s.rt.call(f, args...)); n {
	case failed:
		s.Fail(s.rt.failure(f))
	case foreignNumber:
		s.Fail(ErrWrongThread)
	default:
		return n, true
	}
	return 0, false
}

// compute is number for what may take long: not when the context has ended.
//
//go:uintptrescapes
func (s *Scope) compute(f function, args ...uintptr) {
	if err := s.ctx.Err(); err != nil {
		s.Fail(fmt.Errorf("mlx %s: %w", f, err))
		return
	}
	s.number(f, args...)
}
