package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/mlxdyno/mlxdyno/mlxbind/install"
	"github.com/mlxdyno/mlxdyno/report"
	"github.com/spf13/cobra"
)

func (a *app) setupCommand() *cobra.Command {
	var o install.Options
	cmd := &cobra.Command{
		Use:   "setup",
		Short: "Make the Python environment with MLX, once",
		Long: strings.TrimSpace(`
Makes a managed Python environment with pinned versions of MLX (Metal on Apple
silicon, CUDA where an NVIDIA driver answers, else CPU) and mlx-lm, and tests it.
On a Linux CPU it adds OpenBLAS, which makes MLX about ten times faster there.
The binding to MLX is compiled with the C++ compiler of this machine (GCC 11,
clang 14 or later; on a Mac: xcode-select --install).

It lives in MLXDYNO_HOME, or in the user's data directory when that is not set.
A second run finds it ready and does nothing; a run that was cut off is repaired
by the next one.`),
		Example: "  mlxdyno setup\n  mlxdyno setup --check\n  mlxdyno setup --venv ~/mlx-env",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Progress = a.setupProgress()
			env, r, err := install.Ensure(cmd.Context(), o)
			if err != nil {
				return err
			}
			doc := report.SetupDocument{Schema: report.SetupSchema, Environment: &env, Report: r}
			return a.print(doc, func() error { return report.Setup(a.stdout, &env, r, a.style()) })
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Backend, "backend", "", "cpu, metal, cuda, cuda12 or cuda13 (default: what fits this machine)")
	f.StringVar(&o.Python, "python", "", "interpreter that makes the environment (default: the best found, 3.11 or newer)")
	f.StringVar(&o.Venv, "venv", "", "use the environment in this `DIR`, which you keep, instead of making one")
	f.BoolVar(&o.Check, "check", false, "change nothing, only say how things are")
	f.BoolVar(&o.Force, "force", false, "make it anew though it is ready")
	f.BoolVar(&o.Wait, "wait", false, "wait while another set-up runs, instead of failing")
	cmd.MarkFlagsMutuallyExclusive("check", "force")
	_ = cmd.MarkFlagDirname("venv")
	_ = cmd.RegisterFlagCompletionFunc("backend", cobra.FixedCompletions([]string{"cpu", "metal", "cuda", "cuda12", "cuda13"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// setupProgress shows one line that changes on a terminal, else a line a stage.
func (a *app) setupProgress() func(install.Progress) {
	if a.quiet {
		return nil
	}
	terminal, stage, start := isTerminal(a.stderr), "", time.Now()
	return func(p install.Progress) {
		text := p.Stage
		if p.Total > 0 {
			text = fmt.Sprintf("%s %d of %d", p.Stage, p.Done, p.Total)
		}
		if terminal {
			fmt.Fprintf(a.stderr, "\r\x1b[K%4.0f s  %s %s", time.Since(start).Seconds(), text, p.Item)
			return
		}
		if p.Stage != stage {
			stage = p.Stage
			fmt.Fprintf(a.stderr, "%4.0f s  %s\n", time.Since(start).Seconds(), p.Stage)
		}
	}
}
