package decoder

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/mlxdyno/mlxdyno/mlxbind"
	"github.com/mlxdyno/mlxdyno/mlxbind/install"
	"github.com/mlxdyno/mlxdyno/probe/model"
)

// rt is the one Runtime of this process, python mlx-lm in another.
var (
	rt     *mlxbind.Runtime
	python *reference
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	home, err := install.Home()
	if err == nil {
		var env install.Env
		if env, err = install.Find(home); err == nil {
			rt, err = mlxbind.Open(mlxbind.Options{Shim: env.Shim, BLAS: env.BLASLibrary, CPU: true})
		}
		if err == nil {
			python, err = startReference(env)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer python.in.Close()
	return m.Run()
}

// reference is mlx-lm itself, which answers jobs.
type reference struct {
	in  io.WriteCloser
	out *bufio.Reader
}

func startReference(env install.Env) (*reference, error) {
	cmd := exec.Command(env.Python, "testdata/reference.py")
	cmd.Env, cmd.Stderr = env.Environ(), os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	return &reference{in, bufio.NewReader(out)}, cmd.Start()
}

type job map[string]any

func (r *reference) ask(t *testing.T, j job) job {
	t.Helper()
	text, err := json.Marshal(j)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.in.Write(append(text, '\n')); err != nil {
		t.Fatal(err)
	}
	line, err := r.out.ReadBytes('\n')
	if err != nil {
		t.Fatalf("mlx-lm failed at %s: %v", text, err)
	}
	var answer job
	if err := json.Unmarshal(line, &answer); err != nil {
		t.Fatal(err)
	}
	return answer
}

// makeModel has mlx-lm make a model and returns its directory.
func makeModel(t *testing.T, config job, dtype string, more job) string {
	t.Helper()
	j := job{"do": "make", "config": config, "dir": filepath.Join(t.TempDir(), "model"), "dtype": dtype, "seed": 1}
	for k, v := range more {
		j[k] = v
	}
	python.ask(t, j)
	return j["dir"].(string)
}

func facts(t *testing.T, dir string) (*model.Facts, *Spec) {
	t.Helper()
	f, err := model.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	spec, err := ReadSpec(f)
	if err != nil {
		t.Fatal(err)
	}
	return f, spec
}

// do runs f and demands that nothing is left of it.
func do(t *testing.T, f func(s *mlxbind.Scope) error) {
	t.Helper()
	before := rt.Live()
	if err := rt.Do(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	if n := rt.Live() - before; n != 0 {
		t.Errorf("%d arrays are left", n)
	}
}
