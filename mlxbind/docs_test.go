package mlxbind

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The program of docs/mlxbind.md is built and run, and prints what it says there.
func TestTheProgramInTheDocs(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "docs", "mlxbind.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "```go\n")
	program, rest, closed := strings.Cut(rest, "```\n")
	_, rest, prints := strings.Cut(rest, "It prints `")
	output, _, ends := strings.Cut(rest, "`")
	if !found || !closed || !prints || !ends {
		t.Fatal("there is no program, or not what it prints")
	}
	file := filepath.Join(t.TempDir(), "main.go")
	if err := os.WriteFile(file, []byte(program), 0o644); err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), "go", "run", file)
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	got, err := c.CombinedOutput()
	if err != nil || strings.TrimSpace(string(got)) != output {
		t.Errorf("%v; it printed %q instead of %q", err, got, output)
	}
}
