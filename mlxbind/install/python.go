package install

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

//go:embed assets/probe.py
var probeScript string

// The versions for which the package list is known to have wheels.
const (
	oldestPython = 11 // 3.11: mlx-lm 0.32 and transformers 5.23 want it
	newestPython = 14
)

// interpreter is a Python that may make the environment.
type interpreter struct {
	Executable     string    `json:"executable"`
	Version        [3]int    `json:"version"`
	Implementation string    `json:"implementation"`
	Bits           int       `json:"bits"`
	Machine        string    `json:"machine"`
	Libc           [2]string `json:"libc"`
	FreeThreaded   bool      `json:"free_threaded"`
	NoVenv         string    `json:"no_venv"` // why it cannot make an environment
}

func (p interpreter) version() string {
	return fmt.Sprintf("%d.%d.%d", p.Version[0], p.Version[1], p.Version[2])
}

// sitePackages is where a virtual environment that p made in root keeps its
// packages.
func (p interpreter) sitePackages(root string) string {
	return filepath.Join(root, "lib", fmt.Sprintf("python%d.%d", p.Version[0], p.Version[1]), "site-packages")
}

// refusal says why p will not do, or nil.
func (p interpreter) refusal(goos, goarch string) *Error {
	unsupported := func(fix, format string, args ...any) *Error {
		return &Error{Code: Unsupported, Text: fmt.Sprintf(format, args...), Fix: fix}
	}
	fix := pythonFix(goos)
	switch minor := p.Version[1]; {
	case p.Version[0] != 3 || minor < oldestPython:
		return &Error{Code: NoPython, Text: fmt.Sprintf("Python %s is too old: 3.%d or later is needed", p.version(), oldestPython), Fix: fix}
	case minor > newestPython:
		return unsupported(fix, "Python %s is too new: the newest with wheels of every package is 3.%d", p.version(), newestPython)
	case p.Implementation != "CPython" || p.FreeThreaded:
		return unsupported(fix, "it is not the ordinary CPython, for which MLX's wheels are made")
	case p.Bits != 64:
		return unsupported(fix, "it is a %d-bit Python: MLX needs 64 bits", p.Bits)
	case goos == "darwin" && goarch == "arm64" && p.Machine != "arm64":
		return unsupported("install an arm64 Python: brew install python@3.13, with Homebrew in /opt/homebrew", "it is a Python for Intel, running under Rosetta: MLX has no wheels for that")
	case goos == "linux" && p.Libc[0] != "glibc":
		return unsupported("use a distribution with glibc 2.35 or later, such as Ubuntu 22.04 or Debian 12", "MLX's wheels need glibc: this Python is linked with another C library")
	case goos == "linux" && olderThan(p.Libc[1], "2.35"):
		return unsupported("use a distribution with glibc 2.35 or later, such as Ubuntu 22.04 or Debian 12", "glibc %s is too old: MLX's wheels need 2.35 or later", p.Libc[1])
	case p.NoVenv != "":
		return &Error{Code: NoVenv, Text: fmt.Sprintf("Python %s cannot make virtual environments: %s", p.version(), p.NoVenv),
			Fix: fmt.Sprintf("install the missing part (Debian and Ubuntu: sudo apt install python3.%d-venv)", p.Version[1])}
	}
	return nil
}

func pythonFix(goos string) string {
	if goos == "darwin" {
		return "brew install python@3.13, or name one: mlxdyno setup --python PATH"
	}
	return "install Python 3.11 to 3.14 (Debian and Ubuntu: sudo apt install python3 python3-venv), or name one: mlxdyno setup --python PATH"
}

// findPython returns the interpreter named, or the best one on PATH and in
// dirs.
func findPython(ctx context.Context, named string, dirs []string) (interpreter, error) {
	if named != "" {
		path, err := exec.LookPath(named)
		if err != nil {
			return interpreter{}, &Error{Code: NoPython, Text: "Python was named as " + named, Err: err, Fix: pythonFix(runtime.GOOS)}
		}
		p, err := askPython(ctx, path)
		if err != nil {
			return interpreter{}, &Error{Code: NoPython, Text: path + " does not answer as a Python", Err: err, Fix: pythonFix(runtime.GOOS)}
		}
		if refused := p.refusal(runtime.GOOS, runtime.GOARCH); refused != nil {
			refused.Text = path + ": " + refused.Text
			return interpreter{}, refused
		}
		return p, nil
	}
	// The first refusal of one that is otherwise what we want tells more than
	// that of a system Python of long ago.
	var first *Error
	var seen []string
	for _, path := range pythonCandidates(dirs) {
		p, err := askPython(ctx, path)
		if ctx.Err() != nil {
			return interpreter{}, ctx.Err()
		}
		if err != nil {
			seen = append(seen, path+": does not run")
			continue
		}
		refused := p.refusal(runtime.GOOS, runtime.GOARCH)
		if refused == nil {
			return p, nil
		}
		seen = append(seen, path+": "+refused.Text)
		if first == nil || first.Code == NoPython {
			first = refused
		}
	}
	if first != nil && first.Code != NoPython {
		return interpreter{}, &Error{Code: first.Code, Text: "no Python here will do: " + strings.Join(seen, "; "), Fix: first.Fix}
	}
	text := fmt.Sprintf("found no Python 3.%d to 3.%d", oldestPython, newestPython)
	if len(seen) > 0 {
		text += " (" + strings.Join(seen, "; ") + ")"
	}
	return interpreter{}, &Error{Code: NoPython, Text: text, Fix: pythonFix(runtime.GOOS)}
}

// installerDirs are where installers put a Python that may not be on PATH.
func installerDirs() []string {
	dirs := []string{"/opt/homebrew/bin", "/usr/local/bin"}
	if user, err := os.UserHomeDir(); err == nil {
		dirs = append(dirs, filepath.Join(user, ".local", "bin"))
	}
	return dirs
}

// pythonCandidates lists interpreters, the preferred version first: on PATH,
// then in dirs.
func pythonCandidates(dirs []string) []string {
	var found []string
	known := map[string]bool{}
	add := func(path string) {
		// Apple's stub offers to install developer tools, with a Python 3.9.
		if path == "/usr/bin/python3" && runtime.GOOS == "darwin" {
			return
		}
		if !known[path] {
			known[path] = true
			found = append(found, path)
		}
	}
	for _, name := range []string{"python3.13", "python3.12", "python3.11", "python3.14", "python3", "python"} {
		if path, err := exec.LookPath(name); err == nil {
			add(path)
		}
		for _, dir := range dirs {
			if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
				add(path)
			}
		}
	}
	return found
}

// askPython runs an interpreter to learn what it is.
func askPython(ctx context.Context, path string) (interpreter, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	var answer strings.Builder
	if err := runCommand(ctx, command{
		argv: []string{path, "-c", probeScript, "probe"}, env: Env{}.Environ(), stdout: &answer,
	}); err != nil {
		return interpreter{}, err
	}
	var p interpreter
	if err := json.Unmarshal([]byte(answer.String()), &p); err != nil {
		return interpreter{}, fmt.Errorf("read its answer: %w", err)
	}
	if p.Executable == "" {
		p.Executable = path
	}
	return p, nil
}

// olderThan compares dotted versions by their leading numbers; what is not a
// number counts as 0.
func olderThan(version, than string) bool {
	a, b := strings.Split(version, "."), strings.Split(than, ".")
	for i := range max(len(a), len(b)) {
		x, y := 0, 0
		if i < len(a) {
			x = leadingNumber(a[i])
		}
		if i < len(b) {
			y = leadingNumber(b[i])
		}
		if x != y {
			return x < y
		}
	}
	return false
}

func leadingNumber(s string) int {
	end := 0
	for end < len(s) && s[end] >= '0' && s[end] <= '9' {
		end++
	}
	n, _ := strconv.Atoi(s[:end])
	return n
}
