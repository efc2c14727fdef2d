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
	"testing/fstest"

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
	if e.Backend == CPU && e.Managed && !strings.Contains(test.BLAS, "OpenBLAS") {
		t.Errorf("BLAS: %q", test.BLAS)
	}
	t.Logf("%s, %s, %.0f GFLOP/s", test.Device, test.BLAS, test.GFLOPS)
}

func TestRealSelfTestLoadsTheBinding(t *testing.T) {
	e := realEnv(t)
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("not a library"), 0o644); err != nil {
		t.Fatal(err)
	}
	tiny := func(abi, version string) string {
		b, library := realBuild(t)
		b.sources = fstest.MapFS{"a.cpp": {Data: []byte("#include <cstdlib>\n#define API extern \"C\" __attribute__((visibility(\"default\")))\n" +
			"API long long mlxd_abi() { " + abi + " }\nAPI const char* mlxd_mlx_version() { return \"" + version + "\"; }\n")}}
		if err := b.make(t.Context(), library); err != nil {
			t.Fatal(err)
		}
		return library
	}
	for _, c := range []struct{ name, shim, want string }{
		{"as it is", e.Shim, ""},
		{"of another MLX", tiny("return 1;", "0.0.1"), "it loads MLX 0.0.1, and Python loads " + e.Versions["mlx"]},
		{"crash", tiny("abort();", ""), "signal 6"},
		{"no library", text, text},
	} {
		e.Shim = c.shim
		test, err := selfTest(t.Context(), e, io.Discard)
		i := slices.IndexFunc(test.Checks, func(c Check) bool { return c.Name == bindingCheck })
		if err != nil || i < 0 {
			t.Fatalf("%s: %v, %+v", c.name, err, test.Checks)
		}
		if got := test.Checks[i]; got.OK != (c.want == "") || !strings.Contains(got.Detail, c.want) || strings.Contains(got.Detail, "compiled for") {
			t.Errorf("%s: %+v", c.name, got)
		}
		err = verdict(test, err, filepath.Dir(e.MLX))
		if c.want != "" && (codeOf(err) != SelfTestFailed || !strings.Contains(err.Error(), "binding to MLX does not work")) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
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
