package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/mlxdyno/mlxdyno/mlxbind/install"
	"github.com/mlxdyno/mlxdyno/probe/model"
	"github.com/mlxdyno/mlxdyno/report"
	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/data"
	"github.com/mlxdyno/mlxdyno/trainer/journal"
	"github.com/mlxdyno/mlxdyno/trainer/run"
	"github.com/mlxdyno/mlxdyno/tuner"
	"github.com/mlxdyno/mlxdyno/tuner/fits"
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
func explain(ctx context.Context, err error, started bool) *userError {
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
		damaged  *journal.DamagedError
		noPlace  *run.PlaceError
		plain    *run.NoProfilesError
		wish     *tuner.WishError
		searched *tuner.BusyError
		open     *fits.Unanswerable
	)
	switch {
	case errors.As(err, &user):
		return user
	case !started:
		return &userError{Code: "usage", Message: err.Error(), Hint: "see mlxdyno --help", Status: statusOurs}
	case errors.As(err, &wish):
		return &userError{Code: "usage", Message: wish.Error(), Hint: wish.Hint(), Status: statusOurs}
	case errors.As(err, &open):
		return &userError{Code: "usage", Message: open.Error(), Hint: open.Hint, Status: statusOurs}
	case errors.As(err, &searched):
		return &userError{Code: "tune.busy", Message: searched.Error(), Hint: "wait for it, or name other data or another model", Status: statusOurs}
	case errors.As(err, &damaged):
		return &userError{Code: "journal.damaged", Message: err.Error(), Hint: "restore the file from a copy, or start afresh: a new run, or tune --fresh", Status: statusOurs}
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
		return &userError{Code: "config", Message: err.Error(), Hint: "knobs are flags, or stand in a file that -c names; mlxdyno train --help lists them", Status: statusOurs}
	case errors.As(err, &busy):
		return &userError{Code: "run.busy", Message: err.Error(), Hint: "wait for it, or choose another --run-dir", Status: statusOurs}
	case errors.As(err, &changed):
		return &userError{Code: "run.changed", Message: err.Error(), Status: statusOurs}
	case errors.As(err, &plain):
		return &userError{Code: "usage", Message: "--profile: " + plain.Error(), Hint: "leave --profile out", Status: statusOurs}
	case errors.As(err, &noPlace):
		return &userError{Code: "usage", Message: "--adapter-path: " + err.Error(), Hint: "name a directory that is not there yet", Status: statusOurs}
	case errors.As(err, &finished):
		return &userError{Code: "run.finished", Message: err.Error(), Hint: "mlxdyno report " + finished.Dir, Status: statusOurs}
	case errors.As(err, &none):
		return &userError{Code: "run.none", Message: err.Error(), Hint: "mlxdyno runs lists the runs in mlxdyno's home; name another by its directory", Status: statusOurs}
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		return &userError{Code: "interrupted", Message: "interrupted", Status: statusInterrupted}
	}
	return &userError{Code: "internal", Message: err.Error(), Hint: hintFor(err), Status: statusOurs}
}

// hintFor knows what to do about the system's refusals.
func hintFor(err error) string {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.EFBIG):
		return "make room there, or name another place with --run-dir, --output or MLXDYNO_HOME; mlxdyno runs --prune removes old runs"
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS), errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.EISDIR):
		return "name a place that can be written, with --run-dir, --output or MLXDYNO_HOME"
	}
	return "this is a failure of mlxdyno itself; please report it with the command line and what mlxdyno doctor --bundle mlxdyno.zip packs"
}

// fail reports err in the form that was asked for and returns the exit status.
func (a *app) fail(ctx context.Context, cmd *cobra.Command, args []string, err error) int {
	var done reported
	if errors.As(err, &done) {
		return done.status
	}
	e := explain(ctx, err, a.started)
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
