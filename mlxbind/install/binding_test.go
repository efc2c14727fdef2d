package install

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
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
