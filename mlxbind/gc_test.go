package mlxbind

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
)

// grow makes the goroutine's stack grow, and with it move, by n frames of a
// kilobyte.
//
//go:noinline
func grow(n int) byte {
	var frame [1024]byte
	if n > 0 {
		frame[n%len(frame)] = grow(n - 1)
	}
	return frame[(n*7)%len(frame)]
}

// churn does to memory what makes a stale pointer show: the stack moves, garbage
// is collected, and what is free gets other contents.
func churn() {
	elsewhereDo(func() { grow(64) })
	grow(512)
	runtime.GC()
	junk := make([][]byte, 64)
	for i := range junk {
		junk[i] = slices.Repeat([]byte{0xA5}, 64<<(i%6))
	}
	runtime.KeepAlive(junk)
}

// Everything that the shim is handed by pointer lies on the stack of the Go
// function around the call, as far as the compiler would like: sizes, handles,
// texts, results. Callbacks move that stack and collect garbage meanwhile.
func TestPointersStayValidWhileTheStackMoves(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(1))
	churning := func(f Func) Func {
		return func(s *Scope, in []Array) []Array {
			churn()
			out := f(s, in)
			churn()
			return out
		}
	}
	do(t, func(s *Scope) error {
		for i := range 20 {
			err := s.Child(func(s *Scope) error {
				// Deeper each time: frames lie differently within the stack.
				return deep(3*i, func() error { return formula(t, s, churning) })
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

//go:noinline
func deep(n int, f func() error) error {
	var frame [100]byte
	if n == 0 {
		return f()
	}
	frame[n%100] = byte(n)
	err := deep(n-1, f)
	if frame[n%100] != byte(n) {
		return fmt.Errorf("frame %d changed", n)
	}
	return err
}

// formula uses each kind of argument, within callbacks at three depths.
func formula(t *testing.T, s *Scope, around func(Func) Func) error {
	values := [6]float32{1, 2, 3, 4, 5, 6}
	shape := [2]int{2, 3}
	x := s.Float32s(values[:], shape[:]...)
	inner := s.Checkpoint(around(func(s *Scope, in []Array) []Array {
		axes := [2]int{1, 0}
		turned := s.Transpose(in[0], axes[:]...)
		pair := [2]Array{turned, s.Full(0, Float32, 3, 2)}
		return []Array{s.Concatenate(1, pair[:]...), s.Reshape(s.BroadcastTo(in[0], 2, 2, 3), 4, 3)}
	}))
	middle := s.CustomVJP(around(func(s *Scope, in []Array) []Array {
		out := inner.Call(s, in...)
		if len(out) != 2 {
			return nil
		}
		return []Array{s.Add(s.SumAll(out[0]), s.SumAll(out[1]))}
	}), func(s *Scope, in, cotangents, out []Array) []Array {
		churn()
		return []Array{s.Mul(s.BroadcastTo(cotangents[0], 2, 3), s.Square(in[0]))}
	}, 1, 1)
	argnums := [1]int{0}
	outer := s.ValueAndGrad(around(func(s *Scope, in []Array) []Array { return middle.Call(s, in...) }), argnums[:]...)
	compiled := s.Compile(around(func(s *Scope, in []Array) []Array { return outer.Call(s, in...) }), false)
	in := [1]Array{x}
	out := compiled.Call(s, in[:]...)
	if err := s.Err(); err != nil {
		return err
	}
	var results [2]Array
	copy(results[:], out)
	if err := s.Eval(results[:]...); err != nil {
		return err
	}
	v, err := s.Item(results[0])
	if err != nil || v != 63 { // 21 and twice 21
		t.Errorf("value %v, %v", v, err)
	}
	g, err := s.ReadFloat32s(results[1])
	if err != nil || !slices.Equal(g, []float32{1, 4, 9, 16, 25, 36}) {
		t.Errorf("gradient %v, %v", g, err)
	}
	return err
}

// descend calls f from n frames further down.
//
//go:noinline
func descend(n int, f func()) {
	if n > 0 {
		descend(n-1, f)
		return
	}
	f()
}

// A stack also moves when a call finds no room left on it: between the moment at
// which a pointer became a number and the call of C, too. This comes to the end
// of the stack by small steps, so that each call is once the one that moves it.
func TestPointersStayValidAtTheEndOfTheStack(t *testing.T) {
	do(t, func(s *Scope) error {
		x := s.Zeros(Float32, 2, 3)
		key := s.RandomKey(1)
		wrong := 0
		for depth := range 1500 {
			runtime.GC() // halves a stack that is little used
			descend(depth, func() {
				if in := s.Info(x); in.DType != Float32 || in.Bytes != 24 || !slices.Equal(in.Shape, []int{2, 3}) {
					wrong++
				}
			})
			descend(depth, func() {
				next, use := s.SplitKey(key)
				if next.IsNone() || use.IsNone() {
					wrong++
				}
				s.Free(next, use)
			})
			descend(depth, func() {
				if m := s.Memory(); m.Limit == 0 || m.Peak < m.Active {
					wrong++
				}
			})
		}
		if wrong > 0 {
			t.Errorf("%d calls wrote their results to a stack that had moved", wrong)
		}
		return s.Err()
	})
}

// The compiler keeps what a pointer names alive and in place only where the
// conversion is an argument of a function that says //go:uintptrescapes. This
// reads the package and demands it of every conversion.
func TestPointersAreConvertedWhereTheyAreHanded(t *testing.T) {
	files := token.NewFileSet()
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	var parsed []*ast.File
	keeps := map[string]bool{}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		f, err := parser.ParseFile(files, e.Name(), nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		parsed = append(parsed, f)
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Doc != nil {
				for _, c := range fn.Doc.List {
					keeps[fn.Name.Name] = keeps[fn.Name.Name] || c.Text == "//go:uintptrescapes"
				}
			}
		}
	}
	conversions := 0
	for _, f := range parsed {
		var path []ast.Node
		ast.Inspect(f, func(n ast.Node) bool {
			if n == nil {
				path = path[:len(path)-1]
				return true
			}
			path = append(path, n)
			if !isPointerConversion(n) {
				return true
			}
			conversions++
			where := files.Position(n.Pos())
			if where.Filename == "library.go" && strings.Contains(sourceLine(t, where), "lib.words") {
				return true // a field of what outlives every call
			}
			call, ok := path[len(path)-2].(*ast.CallExpr)
			var selector *ast.SelectorExpr
			if ok {
				selector, ok = call.Fun.(*ast.SelectorExpr)
			}
			if !ok || !keeps[selector.Sel.Name] {
				t.Errorf("%s: a pointer becomes a number outside the call that it is for", where)
			}
			return true
		})
	}
	if conversions < 30 || len(keeps) == 0 {
		t.Errorf("only %d conversions seen: does this test still read them?", conversions)
	}
}

// isPointerConversion tells uintptr(unsafe.Pointer(…)).
func isPointerConversion(n ast.Node) bool {
	outer, ok := n.(*ast.CallExpr)
	if !ok || len(outer.Args) != 1 {
		return false
	}
	name, ok := outer.Fun.(*ast.Ident)
	if !ok || name.Name != "uintptr" {
		return false
	}
	inner, ok := outer.Args[0].(*ast.CallExpr)
	if !ok {
		return false
	}
	pointer, ok := inner.Fun.(*ast.SelectorExpr)
	return ok && pointer.Sel.Name == "Pointer"
}

func sourceLine(t *testing.T, at token.Position) string {
	t.Helper()
	text, err := os.ReadFile(at.Filename)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(string(text), "\n")[at.Line-1]
}
