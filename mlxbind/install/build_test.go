package install

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/mlxdyno/mlxdyno/mlxbind/shim"
)

// realBuild is a build with this machine's compiler of a shim in few lines,
// against an MLX in few lines.
func realBuild(t *testing.T) (b build, library string) {
	t.Helper()
	c, err := findCompiler(t.Context(), t.TempDir(), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	b = build{compiler: c, version: "0.32.4", mlx: filepath.Join(t.TempDir(), "mlx, odd"), log: io.Discard, logPath: "/h/setup.log"}
	b.sources = fstest.MapFS{
		"shim.h": {Data: []byte("#pragma once\n#include <mlx/mlx.h>\n#define API extern \"C\" __attribute__((visibility(\"default\")))\n")},
		"a.cpp":  {Data: []byte("#include \"shim.h\"\nAPI long long mlxd_abi() { return 7; }\n")},
		"b.cpp":  {Data: []byte("#include \"shim.h\"\nAPI const char* mlxd_mlx_version() { return mlx::core::version(); }\n")},
	}
	edit(t, filepath.Join(b.mlx, "include/mlx/version.h"), versionHeader(b.version))
	edit(t, filepath.Join(b.mlx, "include/mlx/mlx.h"), "#include \"mlx/version.h\"\nnamespace mlx::core { const char* version(); }\n")
	makeLibMLX(t, b, "namespace mlx::core { const char* version() { return \"0.32.4\"; } }\n")
	return b, filepath.Join(t.TempDir(), "shim", "key", shim.Library(runtime.GOOS))
}

func edit(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func makeLibMLX(t *testing.T, b build, text string) {
	t.Helper()
	source := filepath.Join(t.TempDir(), "mlx.cpp")
	edit(t, source, text)
	lib := filepath.Join(b.mlx, "lib", shim.LibMLX(runtime.GOOS))
	if err := os.MkdirAll(filepath.Dir(lib), 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), b.compiler.argv[0], "-shared", "-fPIC", "-o", lib, source).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func TestRealBuild(t *testing.T) {
	b, library := realBuild(t)
	if _, err := b.examine(); err != nil {
		t.Fatal(err)
	}
	if err := b.make(t.Context(), library); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(filepath.Dir(filepath.Dir(library))); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
	e := realEnv(t)
	load := func() string {
		script := filepath.Join(t.TempDir(), "binding.py")
		edit(t, script, bindingScript)
		out, err := exec.CommandContext(t.Context(), e.Python, script, library, "", shim.VersionFunction, shim.MLXVersionFunction).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return strings.TrimSpace(string(out))
	}
	if got, want := load(), `{"abi": 7, "mlx": "0.32.4"}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	// MLX upgraded under it.
	makeLibMLX(t, b, "namespace mlx::core { const char* versions() { return \"0.33.0\"; } }\n")
	if got := load(); !strings.HasPrefix(got, `{"error": "OSError: `) || !strings.Contains(got, "version") {
		t.Errorf("with another MLX: %s", got)
	}
}

func TestRealBuildFailures(t *testing.T) {
	unit := func(name, text string) func(*testing.T, *build) {
		return func(t *testing.T, b *build) {
			b.sources.(fstest.MapFS)[name] = &fstest.MapFile{Data: []byte(text)}
		}
	}
	limited := func(t *testing.T, b *build, limit string) {
		path := filepath.Join(t.TempDir(), "c++")
		edit(t, path, "#!/bin/sh\n"+limit+"\nexec "+b.compiler.argv[0]+" \"$@\"\n")
		if err := os.Chmod(path, 0o755); err != nil {
			t.Fatal(err)
		}
		b.compiler.argv = []string{path}
	}
	cases := []struct {
		name  string
		spoil func(*testing.T, *build)
		want  Code
		text  string // at the end of the error's text
		fix   string
	}{
		{"a mistake of ours", unit("b.cpp", "#include \"shim.h\"\nint f() { return mlx::core::nothing(); }\n"), CompileFailed, "b.cpp:2:", "/h/setup.log"},
		{"no value returned", unit("b.cpp", "int f() { }\n"), CompileFailed, "b.cpp:1:", "/h/setup.log"},
		{"a newer MLX", func(t *testing.T, b *build) {
			unit("b.cpp", "#include \"shim.h\"\nint f() { return mlx::core::nothing(); }\n")(t, b)
			b.version = "0.99.0"
		}, CompileFailed, "mlx 0.99.0 is newer than 0.32.4", "mlx==0.32.4"},
		{"a damaged header", func(t *testing.T, b *build) {
			edit(t, filepath.Join(b.mlx, "include/mlx/mlx.h"), "namespace mlx::core { const chr* version(); }")
		}, BrokenMLX, "MLX's own headers do not compile", "--force-reinstall"},
		{"a library of another MLX", func(t *testing.T, b *build) {
			makeLibMLX(t, *b, "int nothing;\n")
		}, BrokenMLX, "lacks what its headers declare", "--force-reinstall"},
		{"full disk", func(t *testing.T, b *build) { limited(t, b, "trap '' XFSZ; ulimit -f 0") }, DiskFull, "disk ran full", "MLXDYNO_HOME"},
		{"no memory", func(t *testing.T, b *build) {
			limited(t, b, "case \"$*\" in *b.cpp*) echo 'c++: fatal error: Killed signal terminated program cc1plus' >&2; exit 1;; esac")
		}, CompileFailed, "memory ran out", "free some memory"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b, library := realBuild(t)
			c.spoil(t, &b)
			err := b.make(t.Context(), library)
			var told *Error
			if !errors.As(err, &told) || told.Code != c.want || !strings.Contains(told.Error(), c.text) || !strings.Contains(told.Fix, c.fix) {
				t.Fatalf("%s: %v (fix %q)", codeOf(err), err, fixOf(err))
			}
			if c.want == CompileFailed && strings.Contains(told.Error(), partial) {
				t.Errorf("a path that is gone by now: %v", err)
			}
			if left, _ := os.ReadDir(filepath.Dir(filepath.Dir(library))); len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func fixOf(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Fix
	}
	return ""
}

func TestExamine(t *testing.T) {
	b, _ := realBuild(t)
	for name, c := range map[string]struct {
		spoil   func(b *build) error
		managed bool
		text    string
		fix     string
	}{
		"no headers":              {func(b *build) error { return os.RemoveAll(filepath.Join(b.mlx, "include")) }, true, "not whole", "mlxdyno setup --force"},
		"no library":              {func(b *build) error { return os.RemoveAll(filepath.Join(b.mlx, "lib")) }, false, "not whole", "--force-reinstall"},
		"no version":              {func(b *build) error { return os.Remove(filepath.Join(b.mlx, "include/mlx/version.h")) }, false, "version", ""},
		"headers of an older one": {func(b *build) error { b.version = "0.32.5"; return nil }, false, "mlx 0.32.5 is installed with the headers of 0.32.4", ""},
		"headers of a newer one":  {func(b *build) error { b.version = "0.32.3"; return nil }, false, "mlx 0.32.3 is installed with the headers of 0.32.4", ""},
	} {
		spoilt := b
		spoilt.managed, spoilt.mlx = c.managed, filepath.Join(t.TempDir(), "mlx")
		if err := os.CopyFS(spoilt.mlx, os.DirFS(b.mlx)); err != nil {
			t.Fatal(err)
		}
		if err := c.spoil(&spoilt); err != nil {
			t.Fatal(err)
		}
		if _, err := spoilt.examine(); codeOf(err) != BrokenMLX || !strings.Contains(err.Error(), c.text) || !strings.Contains(fixOf(err), c.fix) {
			t.Errorf("%s: %v (fix %q)", name, err, fixOf(err))
		}
	}
	b.version = "0.32.4.dev20261101+abcdef"
	if _, err := b.examine(); err != nil || b.untested() {
		t.Errorf("a development version: %v", err)
	}
	b.version = "0.32.5"
	if !b.untested() {
		t.Error("a later version is known")
	}
}

// What setup installs is what the shim was tested with.
func TestPinnedMLXIsTested(t *testing.T) {
	if v := pinned()["mlx"]; olderThan(v, shim.Oldest) || olderThan(shim.Newest, v) {
		t.Errorf("mlx %s is installed, and %s to %s are tested", v, shim.Oldest, shim.Newest)
	}
}

// The units must not depend on the order or the number of jobs.
func TestFirstFailureEndsTheOthers(t *testing.T) {
	b, library := realBuild(t)
	path := writeFake(t, t.TempDir(), "c++", "bad-binding compiler")
	b.compiler.argv = []string{path}
	sources := fstest.MapFS{}
	for n := range 20 {
		sources[fmt.Sprintf("u%02d.cpp", n)] = &fstest.MapFile{}
	}
	var log strings.Builder
	b.sources, b.log = sources, &locked{w: &log}
	err := b.make(t.Context(), library)
	if codeOf(err) != CompileFailed || !strings.Contains(err.Error(), ".cpp:7:3: error: 'f' is not a member") {
		t.Errorf("got %v", err)
	}
	if ran := strings.Count(log.String(), "something that follows"); ran > 2*compilers {
		t.Errorf("%d units were compiled after the first had failed", ran)
	}
}

// locked is a writer that several may use at once, as a file is.
type locked struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}
