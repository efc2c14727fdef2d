package mlxbind

import (
	"errors"
	"fmt"
	"unsafe"
)

// Graph is a Func taken apart: what it computes, and what its gradient does,
// operation by operation. Functions can be made of parts of it, and those are
// computed without calling the Func again, on any arrays of the same shapes and
// types. With that a caller decides himself what the backward pass finds stored
// and what it computes again.
type Graph struct {
	// Nodes are all values, each after those it is computed from.
	Nodes []Node

	// In, Cotangents, Out and Gradients are the nodes of what the Func gets, of
	// the gradients with respect to its results, of its results, and of the
	// gradients with respect to the inputs that were asked for.
	In, Cotangents, Out, Gradients []int

	rt     *Runtime
	handle uintptr
}

// Node is a value in a Graph.
type Node struct {
	Op     string // MLX's name of the operation; empty for an input or a constant
	Inputs []int  // nodes
	DType  DType
	Shape  []int
	First  int // node of the first result of the operation, of which this is one
}

// Size is the number of the node's elements.
func (n Node) Size() int {
	size := 1
	for _, d := range n.Shape {
		size *= d
	}
	return size
}

// Bytes is the size of the node's elements.
func (n Node) Bytes() int { return n.Size() * n.DType.Size() }

// TakeApart runs f once on stand-ins for in, of which only shapes and types
// matter. wrt lists the inputs with respect to which gradients are wanted;
// cotangents, again only by shape and type, stand for the gradients with respect
// to what f returns, one for each. What f takes from outside of in is a
// constant. The Graph is to be freed.
func (s *Scope) TakeApart(f Func, in []Array, wrt []int, cotangents []Array) *Graph {
	g := &Graph{rt: s.rt}
	if s.err.Load() != nil {
		return g
	}
	if s.rt.isForeign() {
		s.Fail(ErrWrongThread)
		return g
	}
	for _, i := range wrt {
		if i < 0 || i >= len(in) {
			s.Fail(fmt.Errorf("mlx %s: there is no input %d", fnGraph, i))
			return g
		}
	}
	if (len(wrt) == 0) != (len(cotangents) == 0) {
		s.Fail(errors.New("mlx graph: gradients go with cotangents"))
		return g
	}
	// A Scope of its own: functions that f makes are of no use after this.
	err := s.Child(func(c *Scope) error {
		wanted := sizesOf(wrt)
		maker := c.function(fnGraph, []Func{f}, func(ids []uint64) uintptr {
			g.handle = c.rt.call(fnGraph, c.rt.back, uintptr(ids[0]),
				uintptr(unsafe.Pointer(unsafe.SliceData(in))), uintptr(len(in)),
				uintptr(unsafe.Pointer(unsafe.SliceData(wanted))), uintptr(len(wanted)),
				uintptr(unsafe.Pointer(unsafe.SliceData(cotangents))), uintptr(len(cotangents)))
			return g.handle
		})
		// A Graph is no function: nothing but its callback is freed with it.
		maker.handle = 0
		maker.forget()
		if err := c.Err(); err != nil {
			return err
		}
		return g.describe(c, len(in), len(cotangents))
	})
	if err != nil {
		g.Free(s)
		s.Fail(err)
	}
	return g
}

// describe reads nodes and ends.
func (g *Graph) describe(s *Scope, in, cotangents int) error {
	var size [3]int64
	if _, ok := s.number(fnGraphSize, g.handle, uintptr(unsafe.Pointer(&size))); !ok {
		return s.Err()
	}
	ends := make([]int64, in+cotangents+int(size[1]+size[2]))
	s.number(fnGraphEnds, g.handle, uintptr(unsafe.Pointer(unsafe.SliceData(ends))))
	cut := func(n int) []int {
		out := make([]int, n)
		for i, v := range ends[:n] {
			out[i] = int(v)
		}
		ends = ends[n:]
		return out
	}
	g.In, g.Cotangents, g.Out, g.Gradients = cut(in), cut(cotangents), cut(int(size[1])), cut(int(size[2]))
	g.Nodes = make([]Node, size[0])
	var name [64]byte
	numbers := make([]int64, 64)
	for i := range g.Nodes {
		for {
			n, ok := s.number(fnGraphNode, g.handle, uintptr(i), uintptr(unsafe.Pointer(&name)), uintptr(len(name)),
				uintptr(unsafe.Pointer(unsafe.SliceData(numbers))), uintptr(len(numbers)))
			if !ok {
				return s.Err()
			}
			if int(n) <= len(numbers) {
				g.Nodes[i] = node(name[:], numbers[:n])
				break
			}
			numbers = make([]int64, n)
		}
	}
	return s.Err()
}

func node(name []byte, numbers []int64) Node {
	end := 0
	for name[end] != 0 {
		end++
	}
	n := Node{Op: string(name[:end]), DType: DType(numbers[0]), First: int(numbers[1])}
	sizes, inputs := numbers[3:3+numbers[2]], numbers[3+numbers[2]:]
	n.Shape, n.Inputs = make([]int, len(sizes)), make([]int, len(inputs))
	for i, v := range sizes {
		n.Shape[i] = int(v)
	}
	for i, v := range inputs {
		n.Inputs[i] = int(v)
	}
	return n
}

// Part is the function from the nodes in to the nodes out. Any node can be an
// input: what lies behind it is then not computed. It belongs to s, and is of use
// when the Graph is freed. Compiled, it is fused into as few kernels as MLX can,
// and traced when it is called first.
func (g *Graph) Part(s *Scope, in, out []int, compiled bool) *Function {
	from, to := sizesOf(in), sizesOf(out)
	return s.function(fnGraphPart, nil, func([]uint64) uintptr {
		if g.handle == 0 {
			return 0
		}
		return s.rt.call(fnGraphPart, g.handle, uintptr(unsafe.Pointer(unsafe.SliceData(from))), uintptr(len(from)),
			uintptr(unsafe.Pointer(unsafe.SliceData(to))), uintptr(len(to)), flag(compiled))
	})
}

// Free frees what MLX holds of the graph.
func (g *Graph) Free(s *Scope) {
	if g.handle == 0 {
		return
	}
	if s.rt.isForeign() {
		s.Fail(ErrWrongThread)
		return
	}
	s.rt.call(fnFreeGraph, g.handle) // cannot fail on this thread
	g.handle = 0
}
