package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/mlxdyno/mlxdyno/mlxbind/install"
	"github.com/mlxdyno/mlxdyno/probe/model"
	"github.com/mlxdyno/mlxdyno/report"
	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/data"
	"github.com/mlxdyno/mlxdyno/trainer/run"
	"github.com/spf13/cobra"
)

// The exit statuses, the same for text and JSON.
const (
	statusOK          = 0
	statusSubject     = 1   // a required check failed, no stable configuration, or training failed
	statusOurs        = 2   // wrong usage, input that cannot be used, or our own failure
	statusInterrupted = 130 // interrupted, state saved
)

// userError is what a person sees: what failed and why, and what to do next.
type userError struct {
	Code    string // stable, dotted
	Message string
	Hint    string
	Status  int
}

func (e *userError) Error() string { return e.Message }

func usagef(format string, args ...any) error {
	return &userError{Code: "usage", Message: fmt.Sprintf(format, args...), Status: statusOurs}
}

// reported ends a command whose document already says everything, errors
// included: only the exit status is left to give.
type reported struct{ status int }

func (r reported) Error() string { return fmt.Sprintf("exit status %d", r.status) }

// explain turns any error into what a person sees.
func explain(ctx context.Context, err error) *userError {
	var (
		user     *userError
		notReady *install.NotReadyError
		setup    *install.Error
		mdl      *model.Error
		dat      *data.Error
		cfg      *trainer.ConfigError
		busy     *run.BusyError
		changed  *run.ChangedError
		finished *run.FinishedError
		none     *run.NoRunError
	)
	switch {
	case errors.As(err, &user):
		return user
	case errors.As(err, &notReady):
		return &userError{Code: "install." + string(notReady.State), Message: "MLX is not ready: " + notReady.Reason, Hint: notReady.Fix, Status: statusOurs}
	case errors.As(err, &setup) && setup.Code == install.Interrupted:
		return &userError{Code: "interrupted", Message: setup.Error(), Hint: setup.Fix, Status: statusInterrupted}
	case errors.As(err, &setup):
		return &userError{Code: "setup." + string(setup.Code), Message: setup.Error(), Hint: setup.Fix, Status: statusOurs}
	case errors.As(err, &mdl):
		return &userError{Code: mdl.Code, Message: "read model: " + mdl.Path + ": " + mdl.Text, Hint: mdl.Hint, Status: statusOurs}
	case errors.As(err, &dat):
		return &userError{Code: "data", Message: "read data: " + place(dat) + ": " + dat.Text, Hint: dat.Fix, Status: statusOurs}
	case errors.As(err, &cfg):
		return &userError{Code: "config", Message: err.Error(), Hint: "see mlxdyno train --help", Status: statusOurs}
	case errors.As(err, &busy):
		return &userError{Code: "run.busy", Message: err.Error(), Hint: "wait for it, or choose another --run-dir", Status: statusOurs}
	case errors.As(err, &changed):
		return &userError{Code: "run.changed", Message: err.Error(), Status: statusOurs}
	case errors.As(err, &finished):
		return &userError{Code: "run.finished", Message: err.Error(), Hint: "mlxdyno report " + finished.Dir, Status: statusOurs}
	case errors.As(err, &none):
		return &userError{Code: "run.none", Message: err.Error(), Hint: "mlxdyno runs lists what there is", Status: statusOurs}
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		return &userError{Code: "interrupted", Message: "interrupted", Status: statusInterrupted}
	}
	return &userError{Code: "internal", Message: err.Error(), Status: statusOurs}
}

// fail reports err in the form that was asked for and returns the exit status.
func (a *app) fail(ctx context.Context, cmd *cobra.Command, args []string, err error) int {
	var done reported
	if errors.As(err, &done) {
		return done.status
	}
	e := explain(ctx, err)
	if a.json || asksJSON(args) {
		_ = report.JSON(a.stdout, report.Error{Schema: report.ErrorSchema, Code: e.Code, Message: e.Message, Hint: e.Hint, ExitStatus: e.Status})
		return e.Status
	}
	fmt.Fprintf(a.stderr, "mlxdyno: %s\n", e.Message)
	if e.Hint != "" {
		fmt.Fprintf(a.stderr, "  → %s\n", e.Hint)
	}
	return e.Status
}

// asksJSON finds --json on a command line that could not be parsed.
func asksJSON(args []string) bool {
	for _, s := range args {
		if s == "--" {
			return false
		}
		if s == "--json" || s == "--json=true" {
			return true
		}
	}
	return false
}

// place is where in the data something is wrong.
func place(e *data.Error) string {
	if e.Line > 0 {
		return fmt.Sprintf("%s:%d", e.Path, e.Line)
	}
	return e.Path
}
