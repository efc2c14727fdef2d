package data_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"sync"
	"testing"
)

// python returns the environment's interpreter; without one a test fails.
func python(t testing.TB) (path string, environ []string) {
	t.Helper()
	path = os.Getenv("MLXDYNO_TEST_PYTHON")
	if path == "" {
		t.Fatal("no Python environment: run `mlxdyno setup`")
	}
	return path, os.Environ()
}

func runPython(t testing.TB, stdin []byte, args ...string) []byte {
	t.Helper()
	path, environ := python(t)
	cmd := exec.Command(path, append([]string{"-I", "-X", "utf8"}, args...)...)
	cmd.Env = environ
	cmd.Stdin = bytes.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("python %v: %v\n%s", args, err, stderr.Bytes())
	}
	return out
}

// reference asks mlx-lm itself.
func reference(t testing.TB, answer any, stdin []byte, args ...string) {
	t.Helper()
	out := bytes.TrimSpace(runPython(t, stdin, append([]string{"testdata/reference.py"}, args...)...))
	if err := json.Unmarshal(out[bytes.LastIndexByte(out, '\n')+1:], answer); err != nil {
		t.Fatal(err)
	}
}

var model struct {
	once sync.Once
	dir  string
}

// modelDir returns a directory with a tokenizer, made once.
func modelDir(t testing.TB) string {
	t.Helper()
	model.once.Do(func() {
		dir, err := os.MkdirTemp("", "mlxdyno-data")
		if err != nil {
			t.Fatal(err)
		}
		runPython(t, nil, "testdata/tokenizer.py", dir)
		model.dir = dir
	})
	if model.dir == "" {
		t.Fatal("no tokenizer")
	}
	return model.dir
}
