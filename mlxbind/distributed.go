package mlxbind

import (
	"fmt"
	"strings"
	"unsafe"
)

// Group is the processes that compute together. It stays valid until Leave.
type Group struct {
	rt         *Runtime
	handle     uintptr
	Rank, Size int
}

// Join finds the other processes by MLX's own means: backend is ring, jaccl,
// nccl, mpi or any, and the environment says who they are (MLX_RANK,
// MLX_HOSTFILE and others of MLX). Not strict, a process on its own gets a group
// of one.
func (s *Scope) Join(backend string, strict bool) (*Group, error) {
	if err := s.Err(); err != nil {
		return nil, err
	}
	if strings.ContainsRune(backend, 0) {
		err := fmt.Errorf("join: %q is no backend", backend)
		s.Fail(err)
		return nil, err
	}
	name := text(backend)
	h := s.rt.call(fnJoin, flag(strict), uintptr(unsafe.Pointer(unsafe.SliceData(name))))
	switch uint64(h) {
	case none:
		err := fmt.Errorf("join %s: %w", backend, s.rt.failure(fnJoin))
		s.Fail(err)
		return nil, err
	case foreign:
		s.Fail(ErrWrongThread)
		return nil, ErrWrongThread
	}
	rank, _ := s.number(fnGroupRank, h)
	size, _ := s.number(fnGroupSize, h)
	return &Group{s.rt, h, int(rank), int(size)}, s.Err()
}

// Leave frees the group.
func (g *Group) Leave(s *Scope) {
	if s.rt.isForeign() {
		s.Fail(ErrWrongThread)
		return
	}
	if g.handle != 0 && g.rt == s.rt {
		s.rt.call(fnLeave, g.handle)
		g.handle = 0
	}
}

// AllSum adds a over all processes of the group.
func (s *Scope) AllSum(a Array, g *Group) Array {
	if g == nil || g.handle == 0 || g.rt != s.rt {
		s.Fail(ErrFreed)
		return Array{}
	}
	return s.array(fnAllSum, uintptr(a.handle), g.handle)
}
