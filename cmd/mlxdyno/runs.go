package main

import (
	"fmt"
	"path/filepath"

	"github.com/mlxdyno/mlxdyno/mlxbind/install"
	"github.com/mlxdyno/mlxdyno/report"
	"github.com/mlxdyno/mlxdyno/trainer/run"
	"github.com/spf13/cobra"
)

func (a *app) reportCommand() *cobra.Command {
	var (
		profile *profileFlags
		compare bool
	)
	cmd := &cobra.Command{
		Use:   "report [RUN]\n  mlxdyno report --verify BEFORE AFTER",
		Short: "Show a finished, running or broken-off training again",
		Long: `Rebuilds the report of a training from its run directory: a path, a name as
"mlxdyno runs" lists it, or "last", which is the default.

A run that was trained with --profile has a profile, which the report shows: where
the time of those steps went by phase, block, layer and operation, and what memory
held at the peak. --pprof and --pprof-inuse write it for go tool pprof, which draws
flame graphs.

--verify says whether a cure worked: BEFORE and AFTER are runs, or files with what
doctor --json or train --json printed. Memory limit, speed, memory pressure, want of
memory and leak each pass or fail; the exit status is 1 when one fails.`,
		Example: "  mlxdyno report last\n  mlxdyno report last --json\n  mlxdyno report --verify before.json after.json",
		Args: func(cmd *cobra.Command, args []string) error {
			if compare {
				return cobra.ExactArgs(2)(cmd, args)
			}
			return cobra.MaximumNArgs(1)(cmd, args)
		},
		RunE: func(_ *cobra.Command, args []string) error {
			if compare {
				return a.verify(args[0], args[1])
			}
			dir, err := findRun(append(args, "last")[0])
			if err != nil {
				return err
			}
			r, err := run.Load(dir)
			if err != nil {
				return err
			}
			if err := profile.write(a, r); err != nil {
				return err
			}
			return a.print(r, func() error { return a.printTraining(r) })
		},
		ValidArgsFunction: completeRuns,
	}
	profile = addProfileFlags(cmd)
	cmd.Flags().BoolVar(&compare, "verify", false, "compare two: did what was changed between them help?")
	for _, name := range []string{"pprof", "pprof-inuse"} {
		cmd.MarkFlagsMutuallyExclusive("verify", name)
	}
	return cmd
}

func (a *app) runsCommand() *cobra.Command {
	var (
		prune run.PruneOptions
		doit  bool
	)
	cmd := &cobra.Command{
		Use:   "runs",
		Short: "List trainings with their size, and prune them",
		Long: `Lists the run directories below mlxdyno's home, newest first. With --prune,
finished runs but the newest --keep are removed; a run that can still be resumed
stays unless --unfinished is given.`,
		Example: "  mlxdyno runs\n  mlxdyno runs --prune --keep 3 --dry-run",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			home, err := install.Home()
			if err != nil {
				return err
			}
			if !doit {
				if cmd.Flags().Changed("keep") || prune.Unfinished || prune.DryRun {
					return usagef("--keep, --unfinished and --dry-run go with --prune")
				}
				list, err := run.List(home)
				if err != nil {
					return err
				}
				return a.print(report.RunsDocument{Schema: report.RunsSchema, Runs: list}, func() error { return report.Runs(a.stdout, list, a.style()) })
			}
			if prune.Keep < 0 {
				return usagef("--keep: %d; use 0 or more", prune.Keep)
			}
			gone, err := run.Prune(cmd.Context(), home, prune)
			if err != nil {
				return err
			}
			verb := "removed"
			if prune.DryRun {
				verb = "would remove"
			}
			return a.print(report.RunsDocument{Schema: report.RunsSchema, Runs: gone}, func() error {
				fmt.Fprintf(a.stdout, "%s %d runs\n", verb, len(gone))
				if len(gone) == 0 {
					return nil
				}
				return report.Runs(a.stdout, gone, a.style())
			})
		},
	}
	f := cmd.Flags()
	f.BoolVar(&doit, "prune", false, "remove finished runs")
	f.IntVar(&prune.Keep, "keep", 10, "how many of the newest runs stay")
	f.BoolVar(&prune.Unfinished, "unfinished", false, "also remove runs that could be resumed")
	f.BoolVar(&prune.DryRun, "dry-run", false, "only say what would go")
	return cmd
}

// findRun returns the directory of a run by path, name or "last".
func findRun(name string) (string, error) {
	home, err := install.Home()
	if err != nil {
		return "", err
	}
	return run.Find(home, name)
}

func completeRuns(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	names := []string{"last"}
	home, err := install.Home()
	if err != nil {
		return names, cobra.ShellCompDirectiveDefault
	}
	list, err := run.List(home)
	if err != nil {
		return names, cobra.ShellCompDirectiveDefault
	}
	for _, r := range list {
		names = append(names, filepath.Base(r.Dir))
	}
	return names, cobra.ShellCompDirectiveDefault
}
