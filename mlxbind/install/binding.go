package install

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mlxdyno/mlxdyno/mlxbind/shim"
)

//go:embed assets/bindingtest.py
var bindingTestScript string

// bind compiles the library between Go and MLX and proves that it loads.
func (s *setup) bind(ctx context.Context, made *stamp) error {
	began := time.Now()
	err := s.stage(StageBinding, func() (string, error) {
		version, err := shim.HeaderVersion(made.Env.MLX)
		if err != nil {
			return "", &Error{Code: Unsupported, Text: "MLX came without its headers, which the binding needs", Err: err, Fix: "install MLX from its wheels: python -m pip install mlx"}
		}
		supported, tested := shim.Supported(version)
		if !supported {
			return "", &Error{Code: Unsupported, Text: fmt.Sprintf("mlx %s is too old: %s or later is needed", version, shim.Oldest), Fix: "in that environment: python -m pip install -U 'mlx>=" + shim.Oldest + "'"}
		}
		if !tested {
			s.note(fmt.Sprintf("mlx %s is newer than %s, the newest that the binding was tested with", version, shim.Newest))
		}
		library, err := s.shimPath(made, version)
		if err != nil {
			return "", err
		}
		if _, err := os.Stat(library); err != nil || made.Env.Managed {
			compiler, err := findCompiler()
			if err != nil {
				return "", err
			}
			if err := buildShim(ctx, compiler, made.Env, library, s.log); err != nil {
				return "", err
			}
		}
		made.Env.Shim, made.ShimKey = library, shim.Key()
		if err := testBinding(ctx, made.Env, s.log); err != nil {
			return "", err
		}
		return library, nil
	})
	if err != nil {
		return err
	}
	made.SelfTest.Checks = append(made.SelfTest.Checks, Check{Name: "binding", OK: true, Seconds: time.Since(began).Seconds()})
	s.report.SelfTest = &made.SelfTest
	made.Files = append(made.Files, made.Env.Shim)
	slices.Sort(made.Files)
	return nil
}

// shimPath is where the library goes: into a managed environment, with which it
// is removed, and never into the user's own.
func (s *setup) shimPath(made *stamp, version string) (string, error) {
	if made.Env.Managed {
		return filepath.Join(made.Root, shim.Library()), nil
	}
	headers, err := shim.HeaderKey(made.Env.MLX)
	if err != nil {
		return "", err
	}
	return filepath.Join(s.o.Home, "shim", strings.Join([]string{version, headers, shim.Key()}, "-"), shim.Library()), nil
}

// buildShim compiles the shim's units side by side and puts the library in its
// place at once.
func buildShim(ctx context.Context, compiler []string, e Env, library string, log interface{ Write([]byte) (int, error) }) error {
	dir, err := os.MkdirTemp("", "mlxdyno-shim-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	units, err := shim.Write(dir)
	if err != nil {
		return err
	}
	compile := func(args []string) error {
		err := runCommand(ctx, command{argv: slices.Concat(compiler, args), env: append(Env{}.Environ(), "LC_ALL=C"), dir: dir, log: log})
		var failed *failure
		switch {
		case !errors.As(err, &failed):
			return err
		case diskFull(failed.said):
			return errDiskFull("the disk ran full while the binding was compiled")
		}
		return cannotCompile(compiler, failed)
	}
	objects, errs := make([]string, len(units)), make([]error, len(units))
	var all sync.WaitGroup
	for i, unit := range units {
		objects[i] = strings.TrimSuffix(unit, ".cpp") + ".o"
		all.Go(func() { errs[i] = compile(shim.CompileArguments(e.MLX, unit, objects[i])) })
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Dir(library), 0o755); err != nil {
		return err
	}
	made := filepath.Join(filepath.Dir(library), ".new-"+filepath.Base(library))
	defer os.Remove(made)
	if err := compile(shim.LinkArguments(e.MLX, made, objects)); err != nil {
		return err
	}
	return os.Rename(made, library)
}

var (
	oldCompiler  = regexp.MustCompile(`(?i)(unrecognized|unknown|invalid).{0,40}c\+\+20|invalid value 'c\+\+20'|'concept' does not name|<(concepts|source_location|span)>|fatal error: '?(concepts|span)'?`)
	firstProblem = regexp.MustCompile(`(?m)^.*\b(?:fatal )?error: .*$`)
)

// cannotCompile tells a compiler that is too old from anything else.
func cannotCompile(compiler []string, failed *failure) error {
	fix := "set CXX to GCC 11, clang 14 or a later compiler, or " + fixCompiler
	if runtime.GOOS == "darwin" {
		fix = "install the command line tools: xcode-select --install"
	}
	if oldCompiler.MatchString(failed.said) {
		return &Error{Code: CompileFailed, Text: compiler[0] + " knows no C++20, in which MLX's headers are written", Err: failed, Fix: fix}
	}
	text := "the compiler could not build the binding"
	if line := firstProblem.FindString(failed.said); line != "" {
		text += ": " + clip(strings.TrimSpace(line), 300)
	}
	return &Error{Code: CompileFailed, Text: text, Err: failed, Fix: fix}
}

// testBinding loads the library beside MLX, in a process of its own.
func testBinding(ctx context.Context, e Env, log interface{ Write([]byte) (int, error) }) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	err := runCommand(ctx, command{
		argv: []string{e.Python, "-c", bindingTestScript, "bindingtest", e.Shim, e.BLASLibrary, e.Versions["mlx"], shim.VersionFunction, shim.MLXVersionFunction},
		env:  e.Environ(), log: log,
	})
	var failed *failure
	if errors.As(err, &failed) {
		last := failed.said[strings.LastIndexByte(failed.said, '\n')+1:]
		return &Error{Code: SelfTestFailed, Text: "the binding was built and does not load: " + clip(last, 300), Err: failed, Fix: "read the log; mlxdyno setup --force installs everything anew"}
	}
	return err
}

// rebind returns the stamp of an environment that lacks nothing but the binding
// of this program, so that an upgrade of mlxdyno does not download MLX again.
func (s *setup) rebind() *stamp {
	old, err := readStamp(s.o.Home)
	if old == nil || err == nil || s.o.Force || s.differs(old) != "" {
		return nil
	}
	was := old.Env.Shim
	old.Files = slices.DeleteFunc(old.Files, func(path string) bool { return path == was })
	old.SelfTest.Checks = slices.DeleteFunc(old.SelfTest.Checks, func(c Check) bool { return c.Name == "binding" })
	if old.checkWithoutShim() != nil {
		return nil
	}
	return old
}
