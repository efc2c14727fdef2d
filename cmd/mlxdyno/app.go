package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// app is one invocation: where it writes, and what every command shares.
type app struct {
	stdout, stderr io.Writer

	json    bool   // one JSON document on stdout and nothing else
	quiet   bool   // no progress on stderr
	verbose bool   // passed checks and worker logs too
	color   string // auto, always or never

	started bool // a command's own work has begun: what failed before is usage
}

// execute runs the command line and returns the exit status.
func (a *app) execute(ctx context.Context, args []string) int {
	root := a.root()
	root.SetArgs(args)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return statusOK
	}
	return a.fail(ctx, cmd, args, err)
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "mlxdyno",
		Short: "Diagnose, tune and supervise LoRA fine-tuning on MLX",
		Long: strings.TrimSpace(`
mlxdyno finds out why a LoRA fine-tuning run on MLX is slow, leaks or dies,
measures which configuration is best on this machine, and trains with it.

Start with "mlxdyno setup", once. Then "mlxdyno doctor --model M --data D"
says what is wrong, "mlxdyno tune" finds the best stable configuration, and
"mlxdyno train --auto" does everything and trains.

Exit status: 0 fine or only warnings; 1 a required check failed, no stable
configuration, or training failed; 2 wrong usage or a failure of mlxdyno
itself; 130 interrupted with the state saved.`),
		Example:       "  mlxdyno setup\n  mlxdyno train --auto --model ./Llama-3.2-1B --data ./my-data",
		Version:       Version,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(*cobra.Command, []string) error {
			switch a.color {
			case "auto", "always", "never":
				return nil
			}
			return usagef("--color: %q is not one of auto, always, never", a.color)
		},
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef("%s; see %s --help", flagText(err), cmd.CommandPath())
	})
	root.SetVersionTemplate("mlxdyno {{.Version}}\n")
	f := root.PersistentFlags()
	f.BoolVar(&a.json, "json", false, "print one JSON document on stdout and nothing else there, errors too")
	f.BoolVarP(&a.quiet, "quiet", "q", false, "no progress on stderr")
	f.BoolVarP(&a.verbose, "verbose", "v", false, "say more: passed checks, where values come from")
	f.StringVar(&a.color, "color", "auto", "auto, always or never")
	_ = root.RegisterFlagCompletionFunc("color", cobra.FixedCompletions([]string{"auto", "always", "never"}, cobra.ShellCompDirectiveNoFileComp))
	root.AddCommand(a.setupCommand(), a.doctorCommand(), a.tuneCommand(), a.trainCommand(), a.reportCommand(), a.runsCommand(), a.demoCommand(), a.benchCommand(), a.fuseCommand(), a.workerCommand())
	a.noteStart(root)
	return root
}

// flagText is what pflag says of a value, without the names of Go's functions.
func flagText(err error) string {
	text := err.Error()
	if strings.Contains(text, "time: missing unit") {
		return strings.Split(text, ": time:")[0] + ": a time has a unit, as 90s or 3m"
	}
	return goFunction.ReplaceAllString(text, "")
}

var goFunction = regexp.MustCompile(`strconv\.\w+: parsing "[^"]*": |time: `)

// noteStart makes every command note when its own work begins.
func (a *app) noteStart(cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		a.noteStart(sub)
	}
	if work := cmd.RunE; work != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			a.started = true
			return work(cmd, args)
		}
	}
}

// progress writes a line about what is going on to stderr, unless asked not to.
func (a *app) progress(format string, args ...any) {
	if a.quiet {
		return
	}
	fmt.Fprintf(a.stderr, format+"\n", args...)
}

// isTerminal reports whether w is one.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
