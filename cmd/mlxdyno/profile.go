package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/google/renameio/v2"
	"github.com/mlxdyno/mlxdyno/mlxbind/install"
	"github.com/mlxdyno/mlxdyno/report"
	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/native"
	"github.com/mlxdyno/mlxdyno/trainer/run"
	"github.com/spf13/cobra"
)

// refuseProfile refuses --profile with an engine that records none, or none of
// this configuration, before anything is read or searched for.
func refuseProfile(ctx context.Context, c trainer.Config, t *trainingFlags) error {
	if t.profile == 0 {
		return nil
	}
	can := func(name string) bool {
		e, err := engineFor(name, install.Env{})
		if err != nil {
			return false
		}
		caps, err := e.Capabilities(ctx)
		return err == nil && caps.Profile
	}
	if can(c.Engine) {
		if why, fix := native.RefusesProfile(c); c.Engine == native.Name && why != "" {
			return &userError{Code: "usage", Message: "--profile: " + why, Hint: fix + ", or leave --profile out", Status: statusOurs}
		}
		return nil
	}
	hint := "leave --profile out: no engine of this build records profiles"
	engines, _ := trainer.FindKnob("engine")
	for _, name := range engines.Choices {
		if can(name) {
			hint = "use --engine " + name + ", or leave --profile out"
			break
		}
	}
	return &userError{Code: "usage", Message: fmt.Sprintf("--profile: the %s engine records no profiles", c.Engine), Hint: hint, Status: statusOurs}
}

// profileFlags are the files into which a run's profile is drawn.
type profileFlags struct{ time, inUse string }

func addProfileFlags(cmd *cobra.Command) *profileFlags {
	p := &profileFlags{}
	f := cmd.Flags()
	f.StringVar(&p.time, "pprof", "", "also write the profile of the run, time, work and bytes written, to `FILE` for go tool pprof")
	f.StringVar(&p.inUse, "pprof-inuse", "", "also write what the profiled steps held at their peak to `FILE` for go tool pprof")
	for _, name := range []string{"pprof", "pprof-inuse"} {
		_ = cmd.MarkFlagFilename(name, "pb.gz", "pprof")
	}
	return p
}

// write writes the files that are asked for, each whole or not at all.
func (p *profileFlags) write(a *app, r run.Report) error {
	if p.time != "" && p.time == p.inUse {
		return usagef("--pprof and --pprof-inuse name the same file, %s", p.time)
	}
	for _, f := range []struct {
		path string
		draw func(io.Writer, run.Report) error
	}{{p.time, report.Pprof}, {p.inUse, report.PprofInUse}} {
		if f.path == "" {
			continue
		}
		var b bytes.Buffer
		err := f.draw(&b, r)
		if errors.Is(err, report.ErrNoProfile) {
			return noProfile(r)
		}
		if err != nil {
			return err
		}
		if err := writeWhole(f.path, b.Bytes()); err != nil {
			return &userError{Code: "report.write", Message: fmt.Sprintf("write profile to %s: %v", f.path, err),
				Hint: "name a file in a directory that is there, that can be written, and has room", Status: statusOurs}
		}
		a.progress("wrote %s; to look at it: %s", f.path, trainer.CommandLine("go", "tool", "pprof", "-http", "localhost:", f.path))
	}
	return nil
}

// noProfile says how a run gets a profile.
func noProfile(r run.Report) error {
	hint := "record one with a new run: mlxdyno train --profile 4 …"
	if r.ResumeCommand != "" {
		hint = "record one while it goes on: " + r.ResumeCommand + " --profile 4"
	}
	return &userError{Code: "run.no-profile", Message: r.Dir + " has no profile", Hint: hint, Status: statusOurs}
}

// writeWhole puts a file in its place at once, so that nobody sees half of one
// and a full disk leaves what was there. What is no file, such as a pipe, is
// written to and stays what it is.
func writeWhole(path string, content []byte) error {
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		return syscall.EISDIR
	case err == nil && !info.Mode().IsRegular():
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.Write(content)
		return errors.Join(err, f.Close())
	case err == nil: // the file, not a link to it
		if path, err = filepath.EvalSymlinks(path); err != nil {
			return err
		}
	}
	return renameio.WriteFile(path, content, 0o644, renameio.WithTempDir(filepath.Dir(path)))
}
