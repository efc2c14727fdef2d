package mlxbind

import (
	"path/filepath"
	"testing"
	"unsafe"
)

// runtimeRefusals has what makes the functions of runtime.cpp fail.
func runtimeRefusals(t *testing.T) map[function]refusal {
	dir := t.TempDir()
	file := filepath.Join(dir, "good.safetensors")
	do(t, func(s *Scope) error { return s.SaveSafetensors(file, map[string]Array{"a": s.Zeros(Float32, 2)}) })
	return map[function]refusal{
		fnOpen: {wrong: []func(*Scope){func(s *Scope) {
			if int64(s.rt.call(fnOpen)) != failed {
				return
			}
			s.Fail(s.rt.failure(fnOpen))
		}}},
		fnClose:         bare(func(s *Scope) { raw(s, fnClose) }),
		fnSynchronize:   bare(func(s *Scope) { _ = s.Synchronize() }),
		fnEnableCompile: bare(func(s *Scope) { s.EnableCompile(true) }),
		fnReturn: {with: func(s *Scope, a Array) {
			s.Checkpoint(func(*Scope, []Array) []Array { return []Array{a} }).Call(s, s.Zeros(Float32, 2))
		}},
		fnValueAndGrad: func() refusal {
			r := transformed(func(s *Scope) *Function { return s.ValueAndGrad(sumOfSquares, 0) })
			r.wrong = append(r.wrong,
				func(s *Scope) { s.ValueAndGrad(sumOfSquares).Call(s, s.Zeros(Float32, 2)) },
				func(s *Scope) { s.ValueAndGrad(sumOfSquares, 1).Call(s, s.Zeros(Float32, 2)) },
				func(s *Scope) { s.ValueAndGrad(sumOfSquares, -2).Call(s, s.Zeros(Float32, 2)) },
				func(s *Scope) { s.ValueAndGrad(sumOfSquares, 0, 0).Call(s, s.Zeros(Float32, 2)) },
				func(s *Scope) { s.ValueAndGrad(sumOfSquares, 0, -1).Call(s, s.Zeros(Float32, 2)) },
				func(s *Scope) { s.ValueAndGrad(sumOfSquares, 1<<32).Call(s, s.Zeros(Float32, 2)) },
				func(s *Scope) { s.ValueAndGrad(sumOfSquares, 0).Call(s) },
				func(s *Scope) {
					s.ValueAndGrad(func(_ *Scope, in []Array) []Array { return in }, 0).Call(s, s.Zeros(Float32, 2))
				},
				func(s *Scope) { s.ValueAndGrad(sumOfSquares, 0).Call1(s, s.Zeros(Float32, 2)) },
				func(s *Scope) { s.ValueAndGrad(nil, 0).Call(s, s.Zeros(Float32, 2)) },
			)
			return r
		}(),
		fnCompile: transformed(func(s *Scope) *Function { return s.Compile(sumOfSquares, false) }),
		fnGraph: {with: func(s *Scope, a Array) {
			s.TakeApart(sumOfSquares, []Array{a}, []int{0}, []Array{s.Scalar(1, Float32)}).Free(s)
		}},
		fnGraphSize: bare(func(s *Scope) {
			withGraph(s, func(g *Graph) { var out [3]int64; raw(s, fnGraphSize, g.handle, uintptr(unsafe.Pointer(&out))) })
		}),
		fnGraphEnds: bare(func(s *Scope) {
			withGraph(s, func(g *Graph) { var out [8]int64; raw(s, fnGraphEnds, g.handle, uintptr(unsafe.Pointer(&out))) })
		}),
		fnGraphNode: {
			without: func(s *Scope) { withGraph(s, func(g *Graph) { aNode(s, g, 0) }) },
			wrong: []func(*Scope){func(s *Scope) {
				withGraph(s, func(g *Graph) {
					var name [64]byte
					var out [64]int64
					s.number(fnGraphNode, g.handle, 1<<20, uintptr(unsafe.Pointer(&name)), uintptr(len(name)), uintptr(unsafe.Pointer(&out)), uintptr(len(out)))
				})
			}},
		},
		fnGraphPart: {
			with: func(s *Scope, a Array) { part(s, sumOfSquares, a).Call(s, a) },
			wrong: []func(*Scope){
				func(s *Scope) { withGraph(s, func(g *Graph) { g.Part(s, nil, g.Out, false) }) },
				func(s *Scope) { withGraph(s, func(g *Graph) { g.Part(s, []int{-1}, g.Out, true) }) },
			},
		},
		fnFreeGraph:  bare(func(s *Scope) { withGraph(s, func(*Graph) {}) }),
		fnCheckpoint: transformed(func(s *Scope) *Function { return s.Checkpoint(sumOfSquares) }),
		fnCustomVJP: func() refusal {
			with := func(g Gradient, inputs, outputs, given int) func(s *Scope) {
				return func(s *Scope) {
					f := s.CustomVJP(sumOfSquares, g, inputs, outputs)
					in := []Array{s.Zeros(Float32, 2), s.Zeros(Float32, 2), s.Zeros(Float32, 2)}
					s.ValueAndGrad(func(s *Scope, in []Array) []Array { return f.Call(s, in...) }, 0).Call(s, in[:given]...)
				}
			}
			same := func(_ *Scope, in, _, _ []Array) []Array { return in }
			r := transformed(func(s *Scope) *Function { return s.CustomVJP(sumOfSquares, same, 1, 1) })
			r.wrong = append(r.wrong,
				with(same, 2, 1, 1),
				with(same, 1, 2, 1),
				with(same, 1, 2, 3), // in all as many arrays as 3 inputs and 1 output
				with(func(s *Scope, in, _, _ []Array) []Array { return append(in, in...) }, 1, 1, 1),
				with(func(s *Scope, in, _, out []Array) []Array { return out }, 1, 1, 1),
				with(nil, 1, 1, 1),
			)
			return r
		}(),
		fnCall:         transformed(func(s *Scope) *Function { return s.Checkpoint(sumOfSquares) }),
		fnResults:      {without: func(s *Scope) { var none [1]uint64; raw(s, fnResults, uintptr(unsafe.Pointer(&none))) }},
		fnFreeFunction: bare(func(s *Scope) { raw(s, fnFreeFunction, 0) }),
		fnMemory:       bare(func(s *Scope) { s.Memory() }),
		fnResetPeak:    bare(func(s *Scope) { s.ResetPeak() }),
		fnClearCache:   bare(func(s *Scope) { s.ClearCache() }),
		fnSetMemoryLimit: {without: func(s *Scope) { s.SetMemoryLimit(s.Memory().Limit) }, wrong: []func(*Scope){
			func(s *Scope) { s.SetMemoryLimit(-1) },
		}},
		fnSetCacheLimit: {without: func(s *Scope) { s.SetCacheLimit(1 << 25) }, wrong: []func(*Scope){
			func(s *Scope) { s.SetCacheLimit(-1) },
		}},
		fnSetWiredLimit: {without: func(s *Scope) { s.SetWiredLimit(0) }, wrong: []func(*Scope){
			func(s *Scope) { s.SetWiredLimit(-1) },
		}},
		fnBufferBytes: {with: func(s *Scope, a Array) {
			if s.Eval(a) == nil {
				s.BufferBytes(a)
			}
		}, wrong: []func(*Scope){
			func(s *Scope) { s.BufferBytes(s.Exp(s.Zeros(Float32, 2))) }, // not computed
		}},
		fnDevice: bare(func(s *Scope) { _, _ = s.Device() }),
		fnUseCPU: bare(func(s *Scope) { s.number(fnUseCPU) }),
		fnOpenSafetensors: {without: func(s *Scope) { _, _ = s.LoadSafetensors(file) }, wrong: []func(*Scope){
			func(s *Scope) { _, _ = s.LoadSafetensors(filepath.Join(dir, "none.safetensors")) },
			func(s *Scope) { _, _ = s.LoadSafetensors("a\x00b.safetensors") },
		}},
		fnCountTensors: {without: func(s *Scope) { withFile(s, file, func(f uintptr) { s.number(fnCountTensors, f) }) }},
		fnTensor: {without: func(s *Scope) { withFile(s, file, func(f uintptr) { tensor(s, f, 0, 100) }) }, wrong: []func(*Scope){
			func(s *Scope) { withFile(s, file, func(f uintptr) { tensor(s, f, 1, 100) }) },
			func(s *Scope) { withFile(s, file, func(f uintptr) { tensor(s, f, -1, 100) }) },
			func(s *Scope) { withFile(s, file, func(f uintptr) { tensor(s, f, 0, 0) }) },
		}},
		fnCloseSafetensors: bare(func(s *Scope) { raw(s, fnCloseSafetensors, 0) }),
		fnSaveSafetensors: {with: func(s *Scope, a Array) {
			_ = s.SaveSafetensors(filepath.Join(dir, "s.safetensors"), map[string]Array{"a": a})
		}, wrong: []func(*Scope){
			func(s *Scope) {
				_ = s.SaveSafetensors(filepath.Join(dir, "none", "s.safetensors"), map[string]Array{"a": s.Zeros(Int32, 1)})
			},
			func(s *Scope) {
				_ = s.SaveSafetensors(filepath.Join(dir, "s.bin"), map[string]Array{"a": s.Zeros(Int32, 1)})
			},
			func(s *Scope) { _ = s.SaveSafetensors("a\x00b.safetensors", map[string]Array{"a": s.Zeros(Int32, 1)}) },
			func(s *Scope) {
				_ = s.SaveSafetensors(filepath.Join(dir, "s.safetensors"), map[string]Array{"a\x00b": s.Zeros(Int32, 1)})
			},
		}},
		fnJoin: {without: func(s *Scope) { alone(s, func(*Group) {}) }, wrong: []func(*Scope){
			func(s *Scope) { _, _ = s.Join("smoke signals", true) },
			func(s *Scope) { _, _ = s.Join("ring\x00", false) },
			func(s *Scope) { _, _ = s.Join("ring", true) }, // nobody said who the others are
		}},
		fnGroupRank: {without: func(s *Scope) { alone(s, func(g *Group) { s.number(fnGroupRank, g.handle) }) }},
		fnGroupSize: {without: func(s *Scope) { alone(s, func(g *Group) { s.number(fnGroupSize, g.handle) }) }},
		fnLeave:     {without: func(s *Scope) { alone(s, func(*Group) {}) }},
		fnAllSum: {with: func(s *Scope, a Array) { alone(s, func(g *Group) { s.AllSum(a, g) }) }, wrong: []func(*Scope){
			func(s *Scope) { s.AllSum(s.Zeros(Float32, 1), nil) },
			func(s *Scope) {
				var left *Group
				alone(s, func(g *Group) { left = g })
				s.AllSum(s.Zeros(Float32, 1), left)
			},
		}},
	}
}

// raw calls a function whose one way to fail is another thread.
//
//go:uintptrescapes
func raw(s *Scope, f function, args ...uintptr) {
	if s.Err() != nil || !s.rt.isForeign() {
		return
	}
	s.number(f, args...)
}

func withFile(s *Scope, path string, f func(uintptr)) {
	if s.Err() != nil {
		return
	}
	name := text(path)
	h := s.rt.call(fnOpenSafetensors, uintptr(unsafe.Pointer(unsafe.SliceData(name))))
	if uint64(h) == foreign {
		s.Fail(ErrWrongThread)
		return
	}
	f(h)
	s.rt.call(fnCloseSafetensors, h)
}

func tensor(s *Scope, file uintptr, i, capacity int) {
	buf, a := make([]byte, 100), new(Array)
	if _, ok := s.number(fnTensor, file, uintptr(i), uintptr(unsafe.Pointer(&buf[0])), uintptr(capacity), uintptr(unsafe.Pointer(a))); ok {
		s.own(*a)
	}
}

// alone runs f with the group of this process.
func alone(s *Scope, f func(*Group)) {
	if g, err := s.Join("any", false); err == nil {
		f(g)
		g.Leave(s)
	}
}

// withGraph takes a function apart, and says so when it could not.
func withGraph(s *Scope, f func(g *Graph)) {
	g := s.TakeApart(sumOfSquares, []Array{s.Zeros(Float32, 2)}, nil, nil)
	f(g)
	g.Free(s)
}

func aNode(s *Scope, g *Graph, i uintptr) {
	var name [64]byte
	var out [64]int64
	raw(s, fnGraphNode, g.handle, i, uintptr(unsafe.Pointer(&name)), uintptr(len(name)), uintptr(unsafe.Pointer(&out)), uintptr(len(out)))
}
