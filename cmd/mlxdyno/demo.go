package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/mlxdyno/mlxdyno/mlxbind/install"
	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/demo"
	"github.com/spf13/cobra"
)

func (a *app) demoCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run the whole line on a small real model and real text",
		Long: strings.TrimSpace(`
Makes a small language model and real text on the spot (prompts and completions
from Python's own standard library, a tokenizer, a llama trained from scratch,
a 4-bit copy), then runs doctor, tune and train --auto on it, and asks base and
adapter the same question. Nothing is downloaded. Needs mlxdyno setup.

The model and text are kept and reused; remove the directory to make them anew.`),
		Example: "  mlxdyno demo",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if a.json {
				return usagef("demo has no --json; the commands that it runs have")
			}
			return a.demo(cmd.Context(), dir)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "where to work (default: demo in mlxdyno's home)")
	return cmd
}

func (a *app) demo(ctx context.Context, dir string) error {
	home, err := install.Home()
	if err != nil {
		return err
	}
	env, err := install.Find(home)
	if err != nil {
		return err
	}
	if dir == "" {
		dir = filepath.Join(home, "demo")
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the running program: %w", err)
	}
	d := &demonstration{app: a, self: self, env: env}

	var paths demo.Paths
	err = d.phase("model and text", func() error {
		paths, err = demo.Make(ctx, demo.Options{
			Python: env.Python, Environ: env.Environ(), Dir: dir, Size: demo.Full,
			Progress: func(stage, detail string) { a.progress("  %s: %s", stage, detail) },
		})
		return err
	})
	if err != nil {
		return err
	}
	if !paths.Base.Strong() {
		return &userError{Code: "demo.base", Status: statusOurs,
			Message: fmt.Sprintf("the base beats a guess without context by %.2f nats only; %.1f are needed", paths.Base.Margin(), demo.RequiredMargin),
			Hint:    "the machine was too busy to train it in time: remove " + paths.Dir + " and run the demo again"}
	}
	fmt.Fprintf(a.stdout, "base: %s parameters, %.2f nats a token on unseen text; the best guess without context has %.2f\n",
		count(paths.Base.Parameters), paths.Base.Loss, paths.Base.UnigramLoss)
	work := filepath.Join(dir, "work")
	if err := os.MkdirAll(work, 0o755); err != nil {
		return fmt.Errorf("make the demo's directory: %w", err)
	}
	subject := []string{"--model", paths.Model, "--data", paths.Completions}
	config, adapter := filepath.Join(work, "mlxdyno.yaml"), filepath.Join(work, "adapter")
	training := append(subject, "--iters", strconv.Itoa(demo.TuneSteps), "--learning-rate", strconv.FormatFloat(demo.LearningRate, 'g', -1, 64),
		"--steps-per-eval", strconv.Itoa(demo.TuneSteps/2), "--val-batches", "8")

	steps := []struct {
		name string
		run  func() error
	}{
		{"doctor", func() error { return d.command(ctx, append([]string{"doctor"}, training...)...) }},
		{"tune", func() error {
			return d.command(ctx, append([]string{"tune", "--budget", "60s", "--output", config}, training...)...)
		}},
		{"train", func() error {
			return d.command(ctx, append([]string{"train", "--auto", "--budget", "60s", "--output", config, "--adapter-path", adapter}, training...)...)
		}},
		{"generate", func() error { return d.ask(ctx, paths, adapter) }},
	}
	for _, s := range steps {
		if err := d.phase(s.name, s.run); err != nil {
			return err
		}
	}
	d.summary(config, adapter)
	return nil
}

// demonstration runs phases one after another and remembers how long each took.
type demonstration struct {
	*app
	self   string
	env    install.Env
	phases []phase
}

type phase struct {
	name string
	took time.Duration
}

func (d *demonstration) phase(name string, f func() error) error {
	fmt.Fprintf(d.stdout, "\n── %s ──\n", name)
	start := time.Now()
	err := f()
	d.phases = append(d.phases, phase{name, time.Since(start)})
	if err != nil {
		return fmt.Errorf("demo, %s: %w", name, err)
	}
	return nil
}

// command runs mlxdyno itself, as a person would, and shows the command line.
func (d *demonstration) command(ctx context.Context, args ...string) error {
	args = append(args, "--color", d.color)
	fmt.Fprintf(d.stdout, "$ mlxdyno %s\n", trainer.CommandLine(args[:len(args)-2]...))
	cmd := exec.CommandContext(ctx, d.self, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // it saves its state and leaves
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}                 // a Ctrl-C reaches it once, from here
	cmd.Stdout, cmd.Stderr = d.stdout, d.stderr
	err := cmd.Run()
	if ctx.Err() != nil {
		return &userError{Code: "interrupted", Message: "interrupted", Hint: "mlxdyno demo goes on with what it has made", Status: statusInterrupted}
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return &userError{Code: "demo.command", Message: fmt.Sprintf("mlxdyno %s ended with status %d", args[0], exit.ExitCode()), Status: exit.ExitCode()}
	}
	return err
}

// ask lets mlx-lm itself load base and adapter and answer the same question.
func (d *demonstration) ask(ctx context.Context, paths demo.Paths, adapter string) error {
	base, err := d.generate(ctx, paths.Model, "", paths.Question)
	if err != nil {
		return err
	}
	tuned, err := d.generate(ctx, paths.Model, adapter, paths.Question)
	if err != nil {
		return err
	}
	fmt.Fprintf(d.stdout, "question:\n%s\n\nbase:\n%s\n\nwith the adapter:\n%s\n", indent(paths.Question), indent(base), indent(tuned))
	if base == tuned {
		return &userError{Code: "demo.adapter", Message: "the adapter changes nothing: mlx-lm gives the base's answer with it", Status: statusSubject}
	}
	return nil
}

func (d *demonstration) generate(ctx context.Context, model, adapter, question string) (string, error) {
	args := []string{"-m", "mlx_lm", "generate", "--model", model, "--prompt", question, "--max-tokens", "60", "--temp", "0", "--verbose", "False"}
	if adapter != "" {
		args = append(args, "--adapter-path", adapter)
		fmt.Fprintf(d.stdout, "$ %s …\n", trainer.CommandLine(d.env.Python, "-m", "mlx_lm", "generate", "--model", model, "--adapter-path", adapter))
	}
	cmd := exec.CommandContext(ctx, d.env.Python, args...)
	cmd.Env = d.env.Environ()
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("run mlx_lm generate: %w: %s", err, lastLine(stderr.String()))
	}
	return strings.TrimSpace(string(out)), nil
}

func (d *demonstration) summary(config, adapter string) {
	fmt.Fprintf(d.stdout, "\n── done ──\nseconds: ")
	var total time.Duration
	for _, p := range d.phases {
		fmt.Fprintf(d.stdout, "%s %.1f, ", p.name, p.took.Seconds())
		total += p.took
	}
	fmt.Fprintf(d.stdout, "in all %.1f\n", total.Seconds())
	fmt.Fprintf(d.stdout, `
configuration  %s
adapter        %s

Now the same with your own model and data (a directory with train.jsonl and
valid.jsonl, rows as {"messages": …}, {"prompt": …, "completion": …} or {"text": …}):

  hf download mlx-community/Llama-3.2-1B-Instruct-bf16
  mlxdyno doctor       --model mlx-community/Llama-3.2-1B-Instruct-bf16 --data ./my-data
  mlxdyno train --auto --model mlx-community/Llama-3.2-1B-Instruct-bf16 --data ./my-data
`, config, adapter)
}

func indent(s string) string {
	return "  │ " + strings.ReplaceAll(strings.TrimSpace(s), "\n", "\n  │ ")
}

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return s[strings.LastIndexByte(s, '\n')+1:]
}

// count renders a number of parameters.
func count(n int64) string {
	if n >= 1e9 {
		return fmt.Sprintf("%.2f B", float64(n)/1e9)
	}
	return fmt.Sprintf("%.1f M", float64(n)/1e6)
}
