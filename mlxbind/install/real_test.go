package install

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// realEnv is the environment that `make setup` made. Where there is none
// these tests fail: what they prove cannot be had without it.
func realEnv(t *testing.T) Env {
	t.Helper()
	home, err := Home()
	if err != nil {
		t.Fatal(err)
	}
	e, err := Find(home)
	if err != nil {
		t.Fatalf("%v (make setup, or name its home in MLXDYNO_HOME)", err)
	}
	return e
}

func python(t *testing.T, e Env, env []string, script string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), e.Python, "-c", script)
	cmd.Env = append(e.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr.Bytes())
	}
	return strings.TrimSpace(string(out))
}

func TestRealEnvironmentPassesItsSelfTest(t *testing.T) {
	e := realEnv(t)
	test, err := selfTest(t.Context(), e, os.Stderr)
	if err := verdict(test, err, filepath.Dir(e.MLX)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(e.Versions, notable(test.Packages)); diff != "" {
		t.Errorf("versions: %s", diff)
	}
	if err := testBinding(t.Context(), e, os.Stderr); err != nil {
		t.Error(err)
	}
	wrong := e
	wrong.Shim = filepath.Join(e.MLX, "lib", "libmlx.so") // a library, and no binding
	if err := testBinding(t.Context(), wrong, io.Discard); codeOf(err) != SelfTestFailed {
		t.Errorf("a library that is no binding: %v", err)
	}
	if e.Backend == CPU && e.Managed && !strings.Contains(test.BLAS, "OpenBLAS") {
		t.Errorf("BLAS: %q", test.BLAS)
	}
	t.Logf("%s, %s, %.0f GFLOP/s", test.Device, test.BLAS, test.GFLOPS)
}

// The list must be closed: with pip resolving nothing, a package that it
// lacks would be missed by nobody until it is imported.
func TestRealEnvironmentHoldsExactlyTheList(t *testing.T) {
	e := realEnv(t)
	if !e.Managed {
		t.Fatal("the tests need a managed environment: mlxdyno setup --force")
	}
	s, err := readStamp(e.Home)
	if err != nil {
		t.Fatal(err)
	}
	text, err := requirements(s.Kind)
	if err != nil {
		t.Fatal(err)
	}
	installed := map[string]string{}
	for name, version := range s.Packages {
		if name != "pip" && name != "setuptools" { // venv's own
			installed[name] = version
		}
	}
	if diff := cmp.Diff(pins(text), installed); diff != "" {
		t.Errorf("listed (-), installed (+): %s", diff)
	}
	cmd := exec.CommandContext(t.Context(), e.Python, "-m", "pip", "check")
	cmd.Env = pipEnviron(t.TempDir())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("pip check: %v\n%s", err, out)
	}
}

// A limit on the size of files is a full disk that needs no disk.
func TestRealPythonOnAFullDisk(t *testing.T) {
	base := python(t, realEnv(t), nil, "import sys; print(getattr(sys, '_base_executable', sys.executable))")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", `trap "" XFSZ; ulimit -f 200; exec "$0"`, self)
	cmd.Env = append(os.Environ(), helperVariable+"="+home, "INSTALL_TEST_PYTHON="+base)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "is full") {
		t.Errorf("%v: %s", err, out)
	}
	if left := environments(home); !slices.Equal(left, nil) {
		t.Errorf("left behind: %v", left)
	}
}
