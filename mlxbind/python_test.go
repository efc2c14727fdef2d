package mlxbind

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"testing"

	"github.com/mlxdyno/mlxdyno/mlxbind/install"
)

// python runs a script in the managed environment and decodes what it leaves in
// the variable out.
func python(t *testing.T, script string, out any) {
	t.Helper()
	home, err := install.Home()
	if err != nil {
		t.Fatal(err)
	}
	env, err := install.Find(home)
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	c := exec.CommandContext(t.Context(), env.Python, "-c", "import json\nimport mlx.core as mx\nmx.set_default_device(mx.cpu)\n"+script+"\nprint(json.dumps(out))")
	c.Env, c.Stderr = env.Environ(), &stderr
	text, err := c.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, &stderr)
	}
	if err := json.Unmarshal(text, out); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
}
