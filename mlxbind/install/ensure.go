package install

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// Options of Ensure. The zero value makes a managed environment in Home with
// the backend that fits this machine.
type Options struct {
	Home    string // empty: Home()
	Backend string // cpu, metal, cuda, cuda12 or cuda13; empty: what fits
	Python  string // interpreter that makes the environment; empty: the best found
	Venv    string // directory of the user's own environment, to be used instead
	Check   bool   // change nothing, say how things are
	Force   bool   // make it anew though it is ready
	Wait    bool   // wait while another set-up runs, instead of failing

	Progress func(Progress) // called from several goroutines, never at once; may be nil
}

// Stages of a set-up.
const (
	StageWait     = "wait for another set-up"
	StagePython   = "find Python"
	StageCompiler = "test C++ compiler"
	StageVenv     = "create environment"
	StagePackages = "install packages"
	StageBLAS     = "build BLAS"
	StageBinding  = "build binding"
	StageSelfTest = "self-test"
)

// Progress says what a set-up is doing.
type Progress struct {
	Stage       string
	Done, Total int    // packages; Total is 0 in other stages
	Item        string // what it is at, or empty
}

// Stage is a finished stage.
type Stage struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
	Detail  string  `json:"detail,omitempty"`
}

// Report is what Ensure did.
type Report struct {
	State    State     `json:"state"`            // in which Ensure left the environment
	UpToDate bool      `json:"up_to_date"`       // there was nothing to do, and nothing was done
	Before   string    `json:"before,omitempty"` // why there was something to do
	Stages   []Stage   `json:"stages"`
	Seconds  float64   `json:"seconds"`
	Notes    []string  `json:"notes,omitempty"`
	SelfTest *SelfTest `json:"self_test,omitempty"` // of this run, or when UpToDate of the run that set it up
	Log      string    `json:"log,omitempty"`       // everything that pip, the compiler and the self-test said
}

// Ensure makes Find succeed: it returns at once if it does already and what it
// finds is what o asks for, and otherwise sets up an environment, or with
// o.Venv adopts one.
//
// With o.Check it only tells; the error is then what Find's would be. Any
// other failure that a user can do something about is an *Error; the
// environment that was there before is then as it was.
func Ensure(ctx context.Context, o Options) (Env, Report, error) {
	began := time.Now()
	s := &setup{o: o, report: Report{Stages: []Stage{}}}
	env, err := s.run(ctx)
	s.report.Seconds = time.Since(began).Seconds()
	if err != nil {
		if ctx.Err() != nil {
			err = &Error{Code: Interrupted, Text: "the set-up was interrupted", Fix: "run mlxdyno setup again: it starts from a clean state", Err: ctx.Err()}
		}
		err = explainWrite(s.o.Home, err)
	}
	return env, s.report, err
}

// setup is one run of Ensure.
type setup struct {
	o      Options
	report Report
	log    io.Writer
	fresh  string // directory of the managed environment that this run made
}

func (s *setup) run(ctx context.Context) (Env, error) {
	if err := s.resolve(); err != nil {
		return Env{}, err
	}
	old, err := s.current()
	if err == nil && !s.o.Force {
		return s.nothingToDo(old), nil
	}
	var not *NotReadyError
	switch {
	case err == nil && s.o.Check:
		return s.nothingToDo(old), nil
	case err == nil:
		s.report.State = Ready
	case !errors.As(err, &not):
		return Env{}, err
	default:
		s.report.State = not.State
		if s.o.Check {
			return Env{}, err
		}
	}

	if err := os.MkdirAll(filepath.Join(s.o.Home, "tmp"), 0o755); err != nil {
		return Env{}, err
	}
	unlock, err := s.lock(ctx)
	if err != nil {
		return Env{}, err
	}
	defer unlock()
	// Whoever held the lock may have done the work.
	old, err = s.current()
	switch {
	case err == nil && !s.o.Force:
		return s.nothingToDo(old), nil
	case err == nil:
		s.report.Before = "it was to be made anew"
	case errors.As(err, &not):
		s.report.Before = not.Error()
	default:
		return Env{}, err
	}

	s.report.Log = filepath.Join(s.o.Home, "setup.log")
	log, err := os.Create(s.report.Log)
	if err != nil {
		return Env{}, err
	}
	defer log.Close()
	s.log = quietly{log}

	made, err := s.make(ctx)
	if err != nil {
		fmt.Fprintf(log, "\nset-up failed: %v\n", err)
		return Env{}, err
	}
	if err := made.write(s.o.Home); err != nil {
		if s.fresh != "" {
			removeEnvironment(s.fresh)
		}
		return Env{}, err
	}
	if removeEnvironments(s.o.Home, made.Root) > 0 {
		s.note("removed the environment that this one replaces")
	}
	s.report.State, s.report.SelfTest = Ready, &made.SelfTest
	return made.Env, nil
}

// resolve makes s.o complete and its paths absolute, or says what is wrong.
func (s *setup) resolve() (err error) {
	if s.o.Home == "" {
		s.o.Home, err = Home()
	} else {
		s.o.Home, err = filepath.Abs(s.o.Home)
	}
	if err != nil {
		return err
	}
	if s.o.Venv != "" {
		if s.o.Python != "" || s.o.Backend != "" {
			return &Error{Code: Unsupported, Text: "an environment of your own has its own Python and backend", Fix: "leave out --python and --backend, or --venv"}
		}
		if s.o.Venv, err = filepath.Abs(s.o.Venv); err != nil {
			return err
		}
	}
	switch s.o.Backend {
	case "", CPU, Metal, CUDA, "cuda12", "cuda13":
	default:
		return &Error{Code: Unsupported, Text: fmt.Sprintf("there is no backend %q", s.o.Backend), Fix: "name one of cpu, metal, cuda, cuda12 and cuda13, or none"}
	}
	if (s.o.Backend == Metal) != (runtime.GOOS == "darwin") && s.o.Backend != "" {
		return &Error{Code: Unsupported, Text: fmt.Sprintf("MLX has no %s backend for %s", s.o.Backend, runtime.GOOS), Fix: "leave out --backend: the one that fits is chosen"}
	}
	return nil
}

// current returns the stamp if it is ready and is what the options ask for.
func (s *setup) current() (*stamp, error) {
	old, err := readStamp(s.o.Home)
	if err != nil {
		return nil, err
	}
	if differs := s.differs(old); differs != "" {
		return nil, &NotReadyError{Stale, differs, fixSetup}
	}
	return old, nil
}

// differs says in what an environment is not what the options ask for.
func (s *setup) differs(old *stamp) string {
	switch {
	case s.o.Venv != "" && (old.Env.Managed || old.Root != s.o.Venv):
		return "it is in " + old.Root + ", and " + s.o.Venv + " is asked for"
	case s.o.Backend != "" && old.Env.Managed && s.o.Backend != old.Kind && s.o.Backend != old.Env.Backend:
		return "it is for " + old.Kind + ", and " + s.o.Backend + " is asked for"
	case s.o.Python != "" && old.Env.Managed && old.AskedPython != s.o.Python:
		return "it was made with another Python than " + s.o.Python
	case (s.o.Backend != "" || s.o.Python != "") && !old.Env.Managed:
		return "it is an environment of your own, and a managed one is asked for"
	}
	return ""
}

func (s *setup) nothingToDo(old *stamp) Env {
	s.report.State, s.report.UpToDate, s.report.SelfTest = Ready, true, &old.SelfTest
	return old.Env
}

func (s *setup) stage(name string, body func() (detail string, err error)) error {
	s.progress(Progress{Stage: name})
	fmt.Fprintf(s.log, "\n== %s\n", name)
	began := time.Now()
	detail, err := body()
	s.report.Stages = append(s.report.Stages, Stage{name, time.Since(began).Seconds(), detail})
	return err
}

func (s *setup) progress(p Progress) {
	if s.o.Progress != nil {
		s.o.Progress(p)
	}
}

func (s *setup) note(text string) { s.report.Notes = append(s.report.Notes, text) }
