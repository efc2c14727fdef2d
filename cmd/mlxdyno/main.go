// Command mlxdyno finds out why a LoRA fine-tuning run on MLX is slow or
// leaking, measures which configuration is best on this machine, and trains
// with it.
//
// This package is wiring: flags, exit statuses, colours and progress. How
// anything is measured, chosen or trained is in the packages that it calls.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// Version is set by the Makefile from git.
var Version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program at once
	a := &app{stdout: os.Stdout, stderr: os.Stderr}
	os.Exit(a.execute(ctx, os.Args[1:]))
}
