package install

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The test binary stands in for Python and the compiler, and for a mlxdyno
// that can be killed, when these variables say so.
const (
	fakeVariable   = "INSTALL_TEST_FAKE"   // what to play
	helperVariable = "INSTALL_TEST_HELPER" // home to set up
)

func TestMain(m *testing.M) {
	switch play := os.Getenv(fakeVariable); {
	case play != "":
		os.Exit(fakeProgram(play, os.Args[1:]))
	case os.Getenv(helperVariable) != "":
		_, _, err := Ensure(context.Background(), Options{Home: os.Getenv(helperVariable), Backend: hostKind(), Python: os.Getenv("INSTALL_TEST_PYTHON")})
		fmt.Println(err)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// hostKind is the backend that every machine of this system has.
func hostKind() string {
	if runtime.GOOS == "darwin" {
		return Metal
	}
	return CPU
}

// fakePython writes an interpreter that behaves as play says, and a compiler
// beside it that CXX names. The plays are those of fakeProgram, in words.
func fakePython(t *testing.T, play string) string {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("CXX", writeFake(t, dir, "c++", play+" compiler"))
	return writeFake(t, dir, "python3", play)
}

func writeFake(t *testing.T, dir, name, play string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, name)
	// The race detector sleeps for a second at the end of a program.
	script := fmt.Sprintf("#!/bin/sh\nSELF=$0 GORACE=atexit_sleep_ms=0 %s='%s' exec '%s' \"$@\"\n", fakeVariable, play, self)
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func fakeProgram(play string, args []string) int {
	plays := func(word string) bool { return slices.Contains(strings.Fields(play), word) }
	fail := func(text string) int {
		fmt.Fprintln(os.Stderr, text)
		return 1
	}
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	put := func(path string) {
		must(os.MkdirAll(filepath.Dir(path), 0o755))
		must(os.WriteFile(path, nil, 0o644))
	}
	self := os.Getenv("SELF")
	site := filepath.Join(filepath.Dir(filepath.Dir(self)), "lib", "python3.13", "site-packages")
	line := strings.Join(args, " ")
	switch {
	case plays("compiler"):
		return fakeCompiler(plays, put, args)

	case args[len(args)-1] == "probe":
		p := interpreter{Executable: self, Version: [3]int{3, 13, 1}, Implementation: "CPython", Bits: 64, Machine: "arm64", Libc: [2]string{"glibc", "2.36"}}
		for word, minor := range map[string]int{"old": 9, "python3.10": 10, "python3.11": 11, "python3.15": 15} {
			if plays(word) {
				p.Version[1] = minor
			}
		}
		if plays("mute") {
			return fail("no such version")
		}
		must(json.NewEncoder(os.Stdout).Encode(p))

	case args[len(args)-1] == "locate":
		at := location{MLX: filepath.Join(site, "mlx"), Packages: pinned()}
		if plays("old-mlx") {
			at.Packages["mlx"] = "0.31.1"
		}
		if plays("new-mlx") {
			at.Packages["mlx"] = "0.33.0"
		}
		if plays("no-mlx-lm") {
			delete(at.Packages, "mlx-lm")
		}
		if plays("no-mlx-core") {
			at.MLX = ""
		}
		must(json.NewEncoder(os.Stdout).Encode(at))

	case strings.HasPrefix(line, "-m venv "):
		if plays("no-ensurepip") {
			return fail("Error: Command '-m ensurepip' returned non-zero exit status 1.")
		}
		script, err := os.ReadFile(self)
		must(err)
		must(os.MkdirAll(filepath.Join(args[2], "bin"), 0o755))
		must(os.WriteFile(filepath.Join(args[2], "bin", "python"), script, 0o755))

	case strings.HasPrefix(line, "-m pip install "):
		return fakePip(plays, site, put, args[len(args)-1])

	case slices.Contains(args, "selftest"):
		out := os.NewFile(3, "out")
		versions := pinned()
		if plays("new-mlx") {
			versions["mlx"] = "0.33.0"
		}
		test := SelfTest{PythonVersion: "3.13.1", Device: "Device(cpu, 0)", MLX: filepath.Join(site, "mlx"), Packages: versions, BLAS: "reference BLAS"}
		say := func() { must(json.NewEncoder(out).Encode(test)) }
		say()
		test.Checks = append(test.Checks, Check{Name: "import mlx", OK: true})
		say()
		switch {
		case plays("crash"):
			must(syscall.Kill(os.Getpid(), syscall.SIGKILL))
		case plays("quits"):
			return 0
		case plays("quarantined"):
			test.Checks[0] = Check{Name: "import mlx", Detail: "ImportError: dlopen(libmlx.dylib): library load disallowed by system policy"}
		case plays("miscomputes"):
			test.Checks = append(test.Checks, Check{Name: "matrix product", Detail: "a product is wrong"})
		case plays("unbound"):
			test.Checks = append(test.Checks, Check{Name: bindingCheck, Detail: "MLX lacks what it was compiled for, OSError: undefined symbol: _ZN3mlx"})
		}
		test.Finished = true
		say()
	default:
		return fail("a fake was asked for " + line)
	}
	return 0
}

func fakePip(plays func(string) bool, site string, put func(string), list string) int {
	text, err := os.ReadFile(list)
	if err != nil {
		panic(err)
	}
	for name, version := range pins(string(text)) {
		fmt.Printf("Collecting %s==%s (from -r %s (line 1))\n", name, version, list)
	}
	switch {
	case plays("offline"):
		fmt.Fprintln(os.Stderr, "WARNING: Retrying (Retry(total=4, connect=None, read=None, redirect=None, status=None)) after connection broken by 'NewConnectionError'")
		fmt.Fprintln(os.Stderr, "ERROR: Could not find a version that satisfies the requirement mlx==0.32.4 (from versions: none)\nERROR: No matching distribution found for mlx==0.32.4")
		return 1
	case plays("enospc"):
		fmt.Fprintln(os.Stderr, "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device")
		return 1
	case plays("waits"):
		// A child of pip's is in its process group, and holds the pipe too.
		child := exec.Command("sleep", "1000")
		alive, err := os.OpenFile(os.Getenv("INSTALL_TEST_ALIVE"), os.O_WRONLY, 0)
		if err != nil {
			panic(err)
		}
		child.ExtraFiles = []*os.File{alive}
		if err := child.Start(); err != nil {
			panic(err)
		}
		fmt.Fprintf(alive, "%d\n", os.Getpid())
		// Installs until it is told to finish: a directory under its feet
		// that another set-up clears.
		for n := 0; ; n++ {
			if _, err := os.Stat(os.Getenv("INSTALL_TEST_ALIVE") + ".release"); err == nil {
				break
			}
			path := filepath.Join(site, "package", fmt.Sprint(n%100))
			if os.MkdirAll(filepath.Dir(path), 0o755) == nil {
				_ = os.WriteFile(path, nil, 0o644)
			}
		}
		_ = child.Process.Kill()
	}
	put(filepath.Join(site, "mlx", "lib", "libmlx.so"))
	put(filepath.Join(site, "mlx", "lib", "libmlx.dylib"))
	version := filepath.Join(site, "mlx", "include", "mlx", "version.h")
	put(version)
	if err := os.WriteFile(version, []byte(versionHeader(pinned()["mlx"])), 0o644); err != nil {
		panic(err)
	}
	put(filepath.Join(site, "scipy_openblas32", "lib", "libscipy_openblas.so"))
	for name, version := range pinned() {
		put(filepath.Join(site, strings.ReplaceAll(name, "-", "_")+"-"+version+".dist-info", "METADATA"))
	}
	return 0
}

// versionHeader is MLX's version.h.
func versionHeader(version string) string {
	numbers := strings.Split(version, ".")
	return fmt.Sprintf("#define MLX_VERSION_MAJOR %s\n#define MLX_VERSION_MINOR %s\n#define MLX_VERSION_PATCH %s\n", numbers[0], numbers[1], numbers[2])
}

func fakeCompiler(plays func(string) bool, put func(string), args []string) int {
	unit := "" // of the shim
	if i := slices.Index(args, "-c"); i >= 0 && filepath.Base(args[i+1]) != "cxx20.cpp" {
		unit = args[i+1]
	}
	said := ""
	switch {
	case slices.Contains(args, "--version"):
		fmt.Println("fake 12.2.0\nThere is NO warranty.")
		if plays("no-tools") {
			said = "xcrun: error: invalid active developer path (/Library/Developer/CommandLineTools), missing xcrun"
		}
	case plays("old-compiler") && slices.Contains(args, "-std=c++20"):
		said = "fake: error: unrecognized command line option '-std=c++20'; did you mean '-std=c++2a'?"
	case plays("no-headers") && slices.Contains(args, "-c"):
		said = "cxx20.cpp:11:10: fatal error: concepts: No such file or directory"
	case plays("bad-compiler") && slices.Contains(args, "-x"): // BLAS
		said = "internal compiler error"
	case plays("bad-binding") && unit != "":
		said = "In file included from x.h:1:\n" + unit + ":7:3: error: 'f' is not a member of 'mlx::core'\n" + unit + ":9:3: error: something that follows\n"
	case plays("full-compiler") && unit != "":
		said = "fake: fatal error: error writing to /t/x.s: No space left on device"
	case plays("no-symbol") && slices.Contains(args, "-lmlx"):
		said = "/usr/bin/ld: x.o: in function `f':\nx.cpp:(.text+0x1): undefined reference to `mlx::core::f()'\ncollect2: error: ld returned 1 exit status"
	}
	if said != "" {
		fmt.Fprintln(os.Stderr, said)
		return 1
	}
	if i := slices.Index(args, "-o"); i >= 0 {
		put(args[i+1])
	}
	slow := plays("slow-linker") && slices.Contains(args, "-lmlx")
	if plays("slow-compiler") && unit != "" { // of those that run at once, one
		_, err := os.OpenFile(os.Getenv("INSTALL_TEST_ALIVE")+".first", os.O_CREATE|os.O_EXCL, 0o600)
		slow = err == nil
	}
	if slow {
		alive, err := os.OpenFile(os.Getenv("INSTALL_TEST_ALIVE"), os.O_WRONLY, 0)
		if err != nil {
			panic(err)
		}
		fmt.Fprintf(alive, "%d\n", os.Getpid())
		time.Sleep(time.Hour)
	}
	return 0
}

// pinned is what the list for this machine installs.
func pinned() map[string]string {
	text, err := requirements(hostKind())
	if err != nil {
		panic(err)
	}
	return pins(text)
}

func codeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

func stateOf(err error) State {
	var e *NotReadyError
	switch {
	case err == nil:
		return Ready
	case errors.As(err, &e):
		return e.State
	}
	return State(err.Error())
}
