package data_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"sync"
	"testing"

	"github.com/mlxdyno/mlxdyno/mlxbind/install"
)

// python returns the environment that `make setup` made; without one a test fails.
func python(t testing.TB) (path string, environ []string) {
	t.Helper()
	home, err := install.Home()
	if err != nil {
		t.Fatal(err)
	}
	e, err := install.Find(home)
	if err != nil {
		t.Fatalf("%v (make setup, or name its home in MLXDYNO_HOME)", err)
	}
	return e.Python, e.Environ()
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

// reference asks mlx-lm itself about every case.
func reference[C any](t testing.TB, answers any, what string, cases []C) {
	t.Helper()
	var stdin bytes.Buffer
	for _, c := range cases {
		if err := json.NewEncoder(&stdin).Encode(c); err != nil {
			t.Fatal(err)
		}
	}
	out := bytes.TrimSpace(runPython(t, stdin.Bytes(), "testdata/reference.py", what))
	if err := json.Unmarshal(out[bytes.LastIndexByte(out, '\n')+1:], answers); err != nil {
		t.Fatal(err)
	}
}

// modelRoot is where modelDir makes its model, for all tests.
var (
	modelRoot string
	makeModel sync.Once
)

// modelDir returns a directory with a tokenizer.
func modelDir(t testing.TB) string {
	t.Helper()
	makeModel.Do(func() { runPython(t, nil, "testdata/tokenizer.py", modelRoot) })
	return modelRoot
}

func TestMain(m *testing.M) {
	var err error
	if modelRoot, err = os.MkdirTemp("", "mlxdyno-data"); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(modelRoot)
	os.Exit(code)
}
