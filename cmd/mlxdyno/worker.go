package main

import (
	"os"

	"github.com/mlxdyno/mlxdyno/trainer/native"
	"github.com/spf13/cobra"
)

// workerCommand is what the native engine starts: a process of its own for every
// burst and every stretch of a training. People have no use for it.
func (a *app) workerCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:    "worker",
		Short:  "Do one job that comes on standard input",
		Hidden: true,
		Args:   cobra.NoArgs,
		Run:    func(*cobra.Command, []string) { os.Exit(native.Work()) },
	}
	cmd.AddCommand(fuseWorkerCommand())
	return cmd
}
