package install

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mlxdyno/mlxdyno/mlxbind/shim"
)

// An upgrade of mlxdyno, or what is left after one that failed, needs another
// shim and nothing else: with the interpreter that makes environments out of
// the way, nothing else could be had.
func TestOnlyTheShimIsRenewed(t *testing.T) {
	change := func(edit func(*stamp)) func(home string) error {
		return func(home string) error {
			s, err := readStamp(home)
			if err != nil {
				return err
			}
			edit(s)
			return s.write(home)
		}
	}
	cases := []struct {
		name   string
		spoil  func(home string) error
		want   State
		reason string
	}{
		{"of another version", change(func(s *stamp) { s.ShimKey = "another" }), Stale, "another version of mlxdyno"},
		{"set up before there was one", change(func(s *stamp) {
			s.Files = slices.DeleteFunc(s.Files, func(path string) bool { return path == s.Env.Shim })
			s.ShimKey, s.Env.Shim = "", ""
		}), Stale, "had no binding"},
		{"gone", func(home string) error {
			s, err := readStamp(home)
			if err != nil {
				return err
			}
			return os.RemoveAll(filepath.Dir(s.Env.Shim))
		}, Broken, "is gone"},
	}
	for _, c := range cases {
		for _, kind := range []string{"managed", "adopted"} {
			t.Run(c.name+", "+kind, func(t *testing.T) {
				o := fakeOptions(t, "well")
				root := ""
				if kind == "adopted" {
					root = ownVenv(t, "well")
					o = Options{Home: o.Home, Venv: root}
				}
				made, _, err := Ensure(t.Context(), o)
				if err != nil {
					t.Fatal(err)
				}
				if err := c.spoil(o.Home); err != nil {
					t.Fatal(err)
				}
				_, err = Find(o.Home)
				var not *NotReadyError
				if !errors.As(err, &not) || not.State != c.want || !strings.Contains(not.Reason, c.reason) || not.Fix != "mlxdyno setup" {
					t.Fatalf("Find: %#v", err)
				}
				var before map[string]string
				if kind == "adopted" {
					before = snapshot(t, root)
				} else if err := os.WriteFile(o.Python, []byte("#!/bin/sh\nexit 1\n"), 0o755); err != nil {
					t.Fatal(err)
				}
				// Neither needs to be asked for again.
				again, report, err := Ensure(t.Context(), Options{Home: o.Home})
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(made, again); diff != "" {
					t.Errorf("another environment: %s", diff)
				}
				var stages []string
				for _, stage := range report.Stages {
					stages = append(stages, stage.Name)
				}
				if diff := cmp.Diff([]string{StageCompiler, StageBinding, StageSelfTest}, stages); diff != "" {
					t.Errorf("stages: %s", diff)
				}
				if report.UpToDate || !strings.Contains(report.Before, c.reason) || len(report.Notes) != 0 {
					t.Errorf("report: %+v", report)
				}
				if found, err := Find(o.Home); err != nil || found.Shim != made.Shim {
					t.Errorf("Find: %+v, %v", found, err)
				}
				if kind == "adopted" {
					if diff := cmp.Diff(before, snapshot(t, root)); diff != "" {
						t.Errorf("the user's environment changed: %s", diff)
					}
				}
			})
		}
	}
}

// A shim that cannot be renewed costs no environment.
func TestFailedRenewalKeepsTheRest(t *testing.T) {
	for play, want := range map[string]Code{"bad-binding": CompileFailed, "full-compiler": DiskFull, "old-compiler": CompilerTooOld} {
		o := fakeOptions(t, "well")
		made, _, err := Ensure(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		s, err := readStamp(o.Home)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(filepath.Dir(s.Env.Shim)); err != nil {
			t.Fatal(err)
		}
		good := os.Getenv("CXX")
		t.Setenv("CXX", writeFake(t, t.TempDir(), "c++", play+" compiler"))
		if _, _, err := Ensure(t.Context(), Options{Home: o.Home}); codeOf(err) != want {
			t.Errorf("%s: %v", play, err)
		}
		if left, _ := filepath.Glob(filepath.Join(filepath.Dir(filepath.Dir(made.Shim)), "*")); len(left) != 0 {
			t.Errorf("%s: left behind: %v", play, left)
		}
		t.Setenv("CXX", good)
		if again, _, err := Ensure(t.Context(), Options{Home: o.Home}); err != nil || again.Python != made.Python {
			t.Errorf("%s: the run after it: %+v, %v", play, again, err)
		}
	}
}

// Without a stamp a new environment is of no use to anyone; one that was there
// before is.
func TestStampThatCannotBeWritten(t *testing.T) {
	o := fakeOptions(t, "well")
	path := filepath.Join(o.Home, stampName)
	o.Progress = func(p Progress) {
		if p.Stage != StageSelfTest {
			return
		}
		if err := errors.Join(os.RemoveAll(path), os.MkdirAll(filepath.Join(path, "in the way"), 0o755)); err != nil {
			t.Error(err)
		}
	}
	if _, _, err := Ensure(t.Context(), o); err == nil || len(environments(o.Home)) != 0 {
		t.Errorf("a new one: %v, %v", err, environments(o.Home))
	}
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	made, _, err := Ensure(t.Context(), Options{Home: o.Home, Python: o.Python, Backend: o.Backend})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(made.Shim); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Ensure(t.Context(), o); err == nil {
		t.Error("no error")
	}
	if _, err := os.Stat(made.Python); err != nil {
		t.Errorf("the environment went with its stamp: %v", err)
	}
}

// The library of each compiler and each mlxdyno stays for a while, and is used
// again.
func TestShimsAreKeptForAWhile(t *testing.T) {
	o := fakeOptions(t, "well")
	other := func() Env {
		s, err := readStamp(o.Home)
		if err != nil {
			t.Fatal(err)
		}
		s.ShimKey = "another"
		if err := s.write(o.Home); err != nil {
			t.Fatal(err)
		}
		e, _, err := Ensure(t.Context(), Options{Home: o.Home})
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	e, _, err := Ensure(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	first := e.Shim
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(filepath.Dir(first), old, old); err != nil {
		t.Fatal(err)
	}
	theFirst := os.Getenv("CXX")
	for n := range shimsKept - 1 {
		t.Setenv("CXX", writeFake(t, t.TempDir(), "c++", fmt.Sprint("compiler ", n)))
		if e = other(); e.Shim == first {
			t.Fatal("two compilers share a library")
		}
	}
	// With the first compiler again nothing is compiled, and the library now
	// counts as used.
	info, err := os.Stat(first)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("CXX", theFirst)
	if e = other(); e.Shim != first {
		t.Errorf("the first compiler makes %s, not %s", e.Shim, first)
	}
	if again, err := os.Stat(first); err != nil || !again.ModTime().Equal(info.ModTime()) {
		t.Errorf("it was made anew: %v", err)
	}
	t.Setenv("CXX", writeFake(t, t.TempDir(), "c++", "compiler one too many"))
	e = other()
	left, err := filepath.Glob(filepath.Join(filepath.Dir(filepath.Dir(first)), "*", shim.Library(runtime.GOOS)))
	if err != nil || len(left) != shimsKept || !slices.Contains(left, first) || !slices.Contains(left, e.Shim) {
		t.Errorf("left: %v, %v", left, err)
	}
}

// Whatever ends a build, no part of a library has a library's name.
func TestNoHalfLibrary(t *testing.T) {
	for _, c := range []struct{ ending, play string }{
		{"cancelled", "slow-compiler"}, {"cancelled", "slow-linker"}, {"killed", "slow-linker"},
	} {
		t.Run(c.ending+", "+c.play, func(t *testing.T) {
			o := fakeOptions(t, "well")
			made, _, err := Ensure(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.RemoveAll(filepath.Dir(made.Shim)); err != nil {
				t.Fatal(err)
			}
			started, _, gone := waitingPip(t)
			good := os.Getenv("CXX")
			t.Setenv("CXX", writeFake(t, t.TempDir(), "c++", c.play+" compiler"))
			shims := filepath.Dir(filepath.Dir(made.Shim))
			libraries := func() []string {
				found, _ := filepath.Glob(filepath.Join(shims, "*", shim.Library(runtime.GOOS)))
				return slices.DeleteFunc(found, func(path string) bool {
					return strings.HasPrefix(filepath.Base(filepath.Dir(path)), partial)
				})
			}
			if c.ending == "cancelled" {
				ctx, cancel := context.WithCancel(t.Context())
				result := make(chan error, 1)
				go func() {
					_, _, err := Ensure(ctx, Options{Home: o.Home})
					result <- err
				}()
				started()
				cancel()
				if err := <-result; codeOf(err) != Interrupted {
					t.Errorf("got %v", err)
				}
				gone()
				if left, _ := os.ReadDir(shims); len(left) != 0 {
					t.Errorf("left behind: %v", left)
				}
			} else {
				self, err := os.Executable()
				if err != nil {
					t.Fatal(err)
				}
				cmd := exec.Command(self)
				cmd.Env = append(os.Environ(), helperVariable+"="+o.Home, "INSTALL_TEST_PYTHON="+o.Python)
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				pid := started()
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
				_ = cmd.Wait()
				compiler, err := os.FindProcess(pid) // it has outlived its parent
				if err != nil {
					t.Fatal(err)
				}
				_ = compiler.Kill()
				gone()
			}
			if left := libraries(); len(left) != 0 {
				t.Errorf("libraries: %v", left)
			}
			t.Setenv("CXX", good)
			again, _, err := Ensure(t.Context(), Options{Home: o.Home})
			if err != nil || !slices.Equal(libraries(), []string{again.Shim}) {
				t.Errorf("the run after it: %v, %v", err, libraries())
			}
			if left, _ := os.ReadDir(shims); len(left) != 1 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

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
