package install

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// make makes, adopts or renews an environment and returns its stamp, not yet
// written.
func (s *setup) make(ctx context.Context) (*stamp, error) {
	old, _ := readStamp(s.o.Home)
	if old != nil && !s.o.Force && s.differs(old) == "" && old.whole() == nil {
		return s.renew(ctx, old)
	}
	if s.o.Venv != "" {
		return s.adopt(ctx)
	}
	// What is there and not in use is from a set-up that did not finish.
	keep := ""
	if old != nil && old.Env.Managed {
		keep = old.Root
	}
	if removeEnvironments(s.o.Home, keep) > 0 {
		s.note("removed what an interrupted set-up had left")
	}
	return s.install(ctx)
}

// renew gives an environment that lacks nothing else the shim of this
// mlxdyno: an upgrade downloads nothing.
func (s *setup) renew(ctx context.Context, old *stamp) (*stamp, error) {
	made := *old
	c, err := s.compiler(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.bind(ctx, &made, c, old.Env.MLX, old.Env.Versions["mlx"]); err != nil {
		return nil, err
	}
	return &made, s.prove(ctx, &made, filepath.Dir(old.Env.MLX))
}

// compiler finds the compiler that everything is built with.
func (s *setup) compiler(ctx context.Context) (c compiler, err error) {
	err = s.stage(StageCompiler, func() (string, error) {
		c, err = findCompiler(ctx, filepath.Join(s.o.Home, "tmp"), s.log)
		return strings.Join(append(c.argv, c.version), " "), err
	})
	return c, err
}

// install makes a managed environment.
func (s *setup) install(ctx context.Context) (made *stamp, err error) {
	made = &stamp{Schema: stampSchema, AskedPython: s.o.Python}
	var python interpreter
	err = s.stage(StagePython, func() (detail string, err error) {
		if made.Kind, err = s.kind(ctx); err != nil {
			return "", err
		}
		if err := checkSpace(s.o.Home, needBytes(made.Kind)); err != nil {
			return "", err
		}
		python, err = findPython(ctx, s.o.Python, installerDirs())
		return python.version() + " at " + python.Executable, err
	})
	if err != nil {
		return nil, err
	}
	c, err := s.compiler(ctx)
	if err != nil {
		return nil, err
	}
	if made.Recipe, err = recipe(made.Kind); err != nil {
		return nil, err
	}
	root, err := newEnvironment(s.o.Home)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			removeEnvironment(root)
		}
	}()
	made.Root, s.fresh = root, root

	err = s.stage(StageVenv, func() (string, error) {
		err := runCommand(ctx, command{argv: []string{python.Executable, "-m", "venv", made.Root}, env: Env{}.Environ(), log: s.log})
		var failed *failure
		if errors.As(err, &failed) {
			// venv keeps to itself what its pip said.
			if err := tryWriting(made.Root); err != nil {
				return "", err
			}
			return "", &Error{Code: NoVenv, Text: python.Executable + " could not create a virtual environment", Err: err,
				Fix: fmt.Sprintf("repair that Python (Debian and Ubuntu: sudo apt install python3.%d-venv), or name another: mlxdyno setup --python PATH", python.Version[1])}
		}
		return made.Root, err
	})
	if err != nil {
		return nil, err
	}
	site := python.sitePackages(made.Root)
	made.Env = Env{Home: s.o.Home, Python: filepath.Join(made.Root, "bin", "python"), Backend: backendOf(made.Kind), Managed: true}

	text, err := requirements(made.Kind)
	if err != nil {
		return nil, err
	}
	err = s.stage(StagePackages, func() (string, error) {
		total := len(pins(text))
		return fmt.Sprintf("%d packages", total), installPackages(ctx, made.Env.Python, made.Root, text, s.log, func(done int, item string) {
			s.progress(Progress{StagePackages, done, total, item})
		})
	})
	if err != nil {
		return nil, err
	}
	if made.Kind == CPU && runtime.GOOS == "linux" {
		err = s.stage(StageBLAS, func() (string, error) {
			made.Env.BLASLibrary, err = buildBLAS(ctx, c.argv, site, s.log)
			return "", err
		})
		if err != nil {
			return nil, err
		}
	}
	if err = s.bind(ctx, made, c, filepath.Join(site, "mlx"), pins(text)["mlx"]); err != nil {
		return nil, err
	}
	return made, s.prove(ctx, made, site)
}

// kind chooses the wheel of MLX's backend.
func (s *setup) kind(ctx context.Context) (string, error) {
	switch asked := s.o.Backend; {
	case runtime.GOOS == "darwin":
		if runtime.GOARCH != "arm64" {
			return "", &Error{Code: Unsupported, Text: "MLX needs Apple silicon: this program runs as an Intel one", Fix: "use the arm64 build of mlxdyno on an Apple silicon Mac"}
		}
		return Metal, nil
	case asked != "" && asked != CUDA:
		return asked, nil
	default:
		card, found := findGPU(ctx)
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		why := "no NVIDIA driver answers"
		if found {
			var kind string
			if kind, why = card.kind(); kind != "" {
				return kind, nil
			}
		}
		if asked == CUDA {
			return "", &Error{Code: Unsupported, Text: "CUDA is asked for, and will not do: " + why, Fix: "install a current NVIDIA driver (nvidia-smi must work), or use --backend cpu"}
		}
		if found {
			s.note("the CPU is used: " + why)
		}
		return CPU, nil
	}
}

// prove runs the self-test and completes the stamp with what it learned.
func (s *setup) prove(ctx context.Context, made *stamp, site string) error {
	err := s.stage(StageSelfTest, func() (string, error) {
		test, err := selfTest(ctx, made.Env, s.log)
		s.report.SelfTest = &test
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		made.SelfTest = test
		made.SelfTest.Packages = nil // in the stamp once
		made.Packages = test.Packages
		if site == "" {
			site = filepath.Dir(test.MLX)
			made.Kind = kindOf(test.Packages)
			made.Env.Backend = backendOf(made.Kind)
		}
		return test.Device, verdict(test, err, site)
	})
	if err != nil {
		return err
	}
	test := made.SelfTest
	made.Env.PythonVersion, made.Env.Device, made.Env.MLX, made.Env.BLAS = test.PythonVersion, test.Device, test.MLX, test.BLAS
	made.Env.Versions = notable(made.Packages)
	made.At = time.Now().UTC().Truncate(time.Second)
	made.Files, err = essentialFiles(made)
	return err
}
