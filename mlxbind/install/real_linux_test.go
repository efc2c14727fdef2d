package install

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestBLASIsLoadedWithMLXAndNotBefore(t *testing.T) {
	e := realEnv(t)
	if e.Backend != CPU {
		return // an environment for CUDA has no BLAS of its own
	}
	got := python(t, e, nil, `
import mlxdyno_blas, sys
before = mlxdyno_blas.loaded, "ctypes" in sys.modules
import mlx.core
print(before, mlxdyno_blas.loaded, mlxdyno_blas.error, mlxdyno_blas.library)`)
	if want := "(False, False) True None " + e.BLASLibrary; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestBLASThatCannotBeLoadedBreaksNothing(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "mlxdyno_blas.py"), []byte(preloadModule), 0o644); err != nil {
		t.Fatal(err)
	}
	// A first entry on the path hides the environment's own module, and has
	// no library beside it.
	got := python(t, realEnv(t), []string{"PYTHONPATH=" + dir}, `
import mlx.core, mlxdyno_blas
print(mlxdyno_blas.loaded, mlxdyno_blas.error)`)
	if !strings.HasPrefix(got, "False OSError: ") || !strings.Contains(got, dir) {
		t.Errorf("got %q", got)
	}
}

func TestSelfTestSeesAMissingBLAS(t *testing.T) {
	e := realEnv(t)
	if e.Backend != CPU {
		return // an environment for CUDA has no BLAS of its own
	}
	e.BLASLibrary = "/another/library.so"
	test, err := selfTest(t.Context(), e, os.Stderr)
	if bad, failed := test.failed(); err != nil || !failed || bad.Name != "blas" {
		t.Errorf("%v, %+v", err, bad)
	}
}
