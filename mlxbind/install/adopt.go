package install

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/mlxdyno/mlxdyno/mlxbind/shim"
)

//go:embed assets/locate.py
var locateScript string

// The oldest that an environment of the user's own may have; of MLX it is the
// shim's.
const oldestMLXLM = "0.32.0"

// adopt examines the user's own environment and returns a stamp for it. It
// writes nothing into it: the shim goes into Home.
func (s *setup) adopt(ctx context.Context) (*stamp, error) {
	made := &stamp{Schema: stampSchema, Root: s.o.Venv}
	made.Env = Env{Home: s.o.Home, Python: filepath.Join(s.o.Venv, "bin", "python")}
	var at location
	err := s.stage(StagePython, func() (string, error) {
		if _, err := os.Stat(made.Env.Python); err != nil {
			return "", &Error{Code: NoPython, Text: s.o.Venv + " is not a Python environment", Err: err, Fix: "name the directory that holds bin/python"}
		}
		p, err := askPython(ctx, made.Env.Python)
		if err != nil {
			return "", &Error{Code: NoPython, Text: made.Env.Python + " does not answer as a Python", Err: err, Fix: "repair that environment, or let mlxdyno setup make one"}
		}
		// The oldest Python is that of managed environments: mlx-lm asks for
		// it, and our own worker is written for it. Whether it can make
		// environments does not matter, nor how new it is: the self-test says
		// whether MLX and mlx-lm run on it.
		if p.Version[0] != 3 || p.Version[1] < oldestPython {
			return "", &Error{Code: Unsupported, Text: fmt.Sprintf("Python %s is too old: mlx-lm %s needs 3.%d or later", p.version(), oldestMLXLM, oldestPython), Fix: "let mlxdyno setup make an environment, or upgrade this one"}
		}
		if at, err = locate(ctx, made.Env.Python); err != nil {
			return "", &Error{Code: BrokenMLX, Text: made.Env.Python + " does not tell its packages", Err: err, Fix: "repair that environment, or let mlxdyno setup make one"}
		}
		return p.version() + " at " + made.Env.Python, supported(at.Packages)
	})
	if err != nil {
		return nil, err
	}
	c, err := s.compiler(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.bind(ctx, made, c, at.MLX, at.Packages["mlx"]); err != nil {
		return nil, err
	}
	if err := s.prove(ctx, made, ""); err != nil {
		return nil, err
	}
	if made.Env.Backend == CPU && !strings.Contains(strings.ToLower(made.Env.BLAS), "openblas") {
		s.note("MLX computes with the " + made.Env.BLAS + " here, which is some ten times slower than the OpenBLAS of a managed environment")
	}
	if made.Env.Backend == Metal && olderThan(made.Env.Versions["mlx"], "0.32.1") {
		s.note("mlx " + made.Env.Versions["mlx"] + " ends its process at GPU errors: 0.32.1 or later reports them")
	}
	return made, nil
}

// location is where MLX is, and what is installed with it.
type location struct {
	MLX      string            `json:"mlx"`
	Packages map[string]string `json:"packages"`
}

// locate asks an interpreter, which imports nothing of MLX for it.
func locate(ctx context.Context, python string) (location, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var answer strings.Builder
	err := runCommand(ctx, command{
		argv: []string{python, "-c", locateScript, "locate"}, env: append(Env{}.Environ(), "PYTHONDONTWRITEBYTECODE=1"), stdout: &answer,
	})
	if err != nil {
		return location{}, err
	}
	var at location
	if err := json.Unmarshal([]byte(answer.String()), &at); err != nil {
		return location{}, fmt.Errorf("read its answer: %w", err)
	}
	return at, nil
}

// supported says whether what is installed will do.
func supported(packages map[string]string) error {
	for _, need := range []struct{ name, oldest string }{{"mlx", shim.Oldest}, {"mlx-lm", oldestMLXLM}} {
		fix := fmt.Sprintf("in that environment: python -m pip install -U '%s>=%s'", need.name, need.oldest)
		switch has := packages[need.name]; {
		case has == "":
			return &Error{Code: Unsupported, Text: need.name + " is not installed in that environment", Fix: fix}
		case olderThan(has, need.oldest):
			return &Error{Code: Unsupported, Text: fmt.Sprintf("%s %s is too old: %s or later is needed", need.name, has, need.oldest), Fix: fix}
		}
	}
	return nil
}

// kindOf tells the kind of MLX's wheel from what is installed.
func kindOf(packages map[string]string) string {
	switch {
	case runtime.GOOS == "darwin":
		return Metal
	case packages["mlx-cuda-13"] != "":
		return "cuda13"
	case packages["mlx-cuda-12"] != "":
		return "cuda12"
	}
	return CPU
}

// backendOf returns the backend of a kind of wheel; empty if there is no such
// kind.
func backendOf(kind string) string {
	switch kind {
	case CPU, Metal:
		return kind
	case "cuda12", "cuda13":
		return CUDA
	}
	return ""
}

// notable picks the packages that decide results.
func notable(packages map[string]string) map[string]string {
	versions := map[string]string{}
	for _, name := range []string{
		"mlx", "mlx-cpu", "mlx-metal", "mlx-cuda-12", "mlx-cuda-13", "mlx-lm",
		"transformers", "tokenizers", "safetensors", "numpy", "scipy-openblas32",
	} {
		if v := packages[name]; v != "" {
			versions[name] = v
		}
	}
	return versions
}

// essentialFiles lists what must be there for the environment to be whole:
// MLX's library, our own, and the records of the installed versions, which
// change their names when somebody upgrades a package.
func essentialFiles(made *stamp) ([]string, error) {
	suffix := map[bool]string{true: ".dylib", false: ".so"}[runtime.GOOS == "darwin"]
	files := []string{filepath.Join(made.Env.MLX, "lib", "libmlx"+suffix)}
	if _, err := os.Stat(files[0]); err != nil {
		return nil, &Error{Code: SelfTestFailed, Text: "MLX works, but its library is not where its wheels have it", Err: err, Fix: "install MLX from its wheels: python -m pip install mlx"}
	}
	for _, own := range []string{made.Env.BLASLibrary, made.Env.Shim} {
		if own != "" {
			files = append(files, own)
		}
	}
	for name, version := range made.Env.Versions {
		switch name {
		case "mlx", "mlx-cpu", "mlx-metal", "mlx-cuda-12", "mlx-cuda-13", "mlx-lm":
			record := strings.ReplaceAll(name, "-", "_") + "-" + version + ".dist-info"
			record = filepath.Join(filepath.Dir(made.Env.MLX), record)
			if _, err := os.Stat(record); err == nil { // other installers than pip may name it otherwise
				files = append(files, record)
			}
		}
	}
	slices.Sort(files)
	return files, nil
}
