package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// shortened are flags that make an example of a command end soon; the example
// itself is run as it stands in the help.
var shortened = map[string][]string{
	"doctor": {"--burst", "1s", "--max-seq-length", "65"},
	"tune":   {"--iters", "4", "--budget", "10s", "--max-seq-length", "65"},
	"train":  {"--iters", "4", "--max-seq-length", "65"},
}

// TestExamples runs every example of every command's help, in the order in
// which a person reads them.
func TestExamples(t *testing.T) {
	w, dir := theWorld(), t.TempDir()
	home := filepath.Join(dir, "home")
	if err := w.prepare(home); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{
		"Llama-3.2-1B": w.paths.Model, "my-data": w.paths.Completions,
		"mlx-env": filepath.Dir(filepath.Dir(w.env.Python)),
	} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{
		"my-lora.yaml": "batch_size: 2\ngrad_checkpoint: true\n",
		"train.log":    "step 1 loss 2.5\nstep 2 loss 2.4\n",
		"train.py":     "for step in range(60):\n    print('step', step, 'loss 2.5', flush=True)\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"before.json", "after.json"} { // what report --verify compares
		if err := os.WriteFile(filepath.Join(dir, name), quick(t, home), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			walk(sub)
		}
		if c.Name() == "help" || strings.Contains(c.CommandPath(), "completion") {
			return // cobra's own
		}
		if c.Example == "" {
			t.Errorf("%s has no example", c.CommandPath())
		}
		if c.Name() == "demo" {
			return // takes minutes; make demo runs it
		}
		for line := range strings.Lines(c.Example) {
			line = strings.TrimSpace(line)
			args := strings.Fields(line)[1:]
			finished := strings.Contains(line, "--resume") // what it resumes is finished by now
			foreign := strings.Contains(line, "--log") || strings.Contains(line, " -- ")
			if !finished && !foreign && !strings.Contains(line, "explain") && !strings.Contains(line, "--quick") {
				args = append(args, shortened[args[0]]...)
			}
			if strings.Contains(line, "--auto") {
				args = append(args, "--budget", "10s")
			}
			if len(args) > 1 && args[1] == "--venv" {
				args[2] = strings.Replace(args[2], "~", dir, 1) // a shell would
			}
			t.Run(line, func(t *testing.T) {
				cmd := exec.CommandContext(t.Context(), "mlxdyno", args...)
				cmd.Dir = dir
				cmd.Env = append(os.Environ(), "MLXDYNO_HOME="+home, "OPENBLAS_NUM_THREADS=1", "PATH="+filepath.Dir(w.env.Python)+":"+os.Getenv("PATH"))
				out, err := cmd.CombinedOutput()
				if finished && strings.Contains(string(out), "already finished") {
					return
				}
				if err != nil {
					t.Errorf("%v\n%s", err, out)
				}
			})
		}
	}
	// Commands are sorted by name: doctor, report, runs, setup, train, tune.
	// tune must come before what reads its file, train before what shows runs.
	root := (&app{}).root()
	for _, name := range []string{"setup", "doctor", "tune", "train", "report", "runs", "demo"} {
		c, _, err := root.Find([]string{name})
		if err != nil {
			t.Fatal(err)
		}
		walk(c)
	}
	for _, c := range root.Commands() {
		if c.Example == "" && !c.Hidden && c.Name() != "help" && c.Name() != "completion" {
			t.Errorf("%s has no example", c.Name())
		}
	}
}
