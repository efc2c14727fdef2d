package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/mlxdyno/mlxdyno/mlxbind/install"
	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/probe/diagnose"
	"github.com/mlxdyno/mlxdyno/probe/patient"
	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/command"
	"github.com/spf13/cobra"
)

// patientFlags say which training that is not ours to look at, and how.
type patientFlags struct {
	argv   []string // after --
	logs   []string
	follow bool
	pid    int

	steps      int
	lasts      time.Duration
	silence    time.Duration
	adapter    string
	transcript string
	overwrite  bool
	again      bool

	help, lockfile, commandLine, proposed string

	claims []string
}

// patientNames are the flags that go with a patient only.
var patientNames = []string{"follow", "for", "steps", "silence", "adapter", "transcript", "allow-overwrite", "again", "patient-help", "lockfile", "command-line", "proposed", "claim"}

func addPatientFlags(cmd *cobra.Command) *patientFlags {
	p := &patientFlags{}
	f := cmd.Flags()
	f.StringArrayVar(&p.logs, "log", nil, "diagnose a training that is not ours from its log `FILE`; may be repeated for its metrics and debug files")
	f.BoolVarP(&p.follow, "follow", "f", false, "with --log: go on reading until --for is over or Ctrl-C")
	f.IntVar(&p.pid, "pid", 0, "watch a running process `N` that is not ours: footprint, threads, CPU, swap, pressure")
	f.DurationVar(&p.lasts, "for", 0, "how long to watch; unless given: --pid 1m, -- COMMAND 2m or --steps, --log -f until Ctrl-C; 0 is to its end")
	f.IntVar(&p.steps, "steps", 0, "with -- COMMAND: end it after that many of its steps, and 16 looks at its memory")
	f.DurationVar(&p.silence, "silence", 10*time.Minute, "with -- COMMAND: end it when it has printed nothing for that long")
	f.StringVar(&p.adapter, "adapter", "", "how its lines are read: your_ai, mlx-lm, jsonl, steps or a `FILE`.yaml that describes them (default: found out)")
	f.StringVar(&p.transcript, "transcript", "", "with -- COMMAND: keep what it prints in `FILE`")
	f.BoolVar(&p.overwrite, "allow-overwrite", false, "with -- COMMAND: let it overwrite its own results")
	f.BoolVar(&p.again, "again", false, "with -- COMMAND: run it once more with what is suspected switched off, as proof: a growing cache (Python only), compiled steps of ever new shapes")
	f.StringVar(&p.help, "patient-help", "", "`FILE` with the text of its --help: only flags that it has are recommended")
	f.StringVar(&p.lockfile, "lockfile", "", "its Cargo.lock `FILE`: versions of its libraries")
	f.StringVar(&p.commandLine, "command-line", "", "its command line, as `TEXT`, where it is not run here")
	f.StringVar(&p.proposed, "proposed", "", "a command line that somebody proposes for it, as `TEXT`: are there such flags")
	f.StringArrayVar(&p.claims, "claim", nil, "a speed that somebody says it has, such as `SPEED` \"8 steps/s\"; may be repeated")
	return p
}

// named says whether there is a patient.
func (p *patientFlags) named() bool { return len(p.argv) > 0 || len(p.logs) > 0 || p.pid != 0 }

// check refuses what does not go together.
func (p *patientFlags) check(cmd *cobra.Command) error {
	if cmd.Flags().Changed("pid") && p.pid <= 0 {
		return usagef("--pid %d: want the number of a process", p.pid)
	}
	if !p.named() {
		return refuse(cmd, patientNames, "--log, --pid or -- COMMAND")
	}
	kinds := 0
	for _, is := range []bool{len(p.argv) > 0, len(p.logs) > 0, p.pid != 0} {
		if is {
			kinds++
		}
	}
	changed := cmd.Flags().Changed
	switch {
	case kinds > 1:
		return usagef("--log, --pid and -- COMMAND are three ways to look at a training: give one")
	case len(p.argv) == 0 && (changed("steps") || changed("silence") || changed("transcript") || p.overwrite || p.again):
		return usagef("--steps, --silence, --transcript, --again and --allow-overwrite go with -- COMMAND")
	case len(p.logs) == 0 && p.follow:
		return usagef("--follow goes with --log")
	case p.follow && len(p.logs) > 1:
		return usagef("--follow reads one --log")
	case len(p.logs) > 0 && !p.follow && changed("for"):
		return usagef("--for goes with --pid, -- COMMAND, or --log with --follow")
	case changed("snapshot") && len(p.logs) == 0:
		return usagef("--snapshot is of another machine or time: it goes with --log")
	case p.steps < 0 || p.lasts < 0:
		return usagef("--steps and --for are not below 0")
	}
	if len(p.argv) > 0 && !changed("for") && !changed("steps") {
		p.lasts = burstFor
	}
	return nil
}

// burstFor is how long a command runs when nobody says.
const burstFor = 2 * time.Minute

// patient looks at a training that is not ours and reports on it.
func (a *app) patient(ctx context.Context, settings trainer.Settings, snapshot *probe.Snapshot, p *patientFlags) (*diagnose.Report, error) {
	began := time.Now()
	record, err := p.given()
	if err != nil {
		return nil, err
	}
	adapters, err := p.adapters()
	if err != nil {
		return nil, err
	}
	q := diagnose.PatientRequest{Settings: settings}
	if snapshot != nil {
		q.Snapshot = *snapshot
	} else if q.Settings, q.Snapshot, err = a.machine(ctx, settings); err != nil {
		return nil, err
	}
	switch {
	case len(p.argv) > 0:
		err = a.runPatient(ctx, p, adapters, nil, &record)
	case p.pid != 0:
		err = a.watchProcess(ctx, p, &record)
	default:
		err = a.readLogs(ctx, p, adapters, &record)
	}
	if err != nil {
		return nil, err
	}
	q.Record = record
	r := diagnose.Patient(q)
	if e, ok := suspected(r); ok && p.again && ctx.Err() == nil {
		if q.Again, err = a.runAgain(ctx, p, adapters, e); err != nil {
			return nil, err
		}
		r = diagnose.Patient(q)
	}
	r.Seconds = time.Since(began).Seconds()
	return &r, nil
}

// machine reads the machine and the model, if one was named. It starts no Python.
func (a *app) machine(ctx context.Context, settings trainer.Settings) (trainer.Settings, probe.Snapshot, error) {
	home, err := install.Home()
	if err != nil {
		return settings, probe.Snapshot{}, err
	}
	env, envErr := install.Find(home)
	s := &subject{settings: settings, home: home, env: env}
	q := probe.Request{Home: home, Install: installState(env, envErr), TopProcesses: 8}
	if settings.Config.Model.Path != "" {
		if err := s.openModel(); err != nil {
			return settings, probe.Snapshot{}, err
		}
		q.ModelPath = s.settings.Config.Model.Path
	}
	return s.settings, probe.Collect(ctx, q), nil
}

// maxGiven bounds what a user gives beside a patient.
const maxGiven = 16 << 20

// given reads what the user knows of the patient.
func (p *patientFlags) given() (patient.Record, error) {
	var r patient.Record
	read := func(flag, path string) (string, error) {
		info, err := os.Stat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return "", usagef("--%s %s: there is no such file", flag, path)
		case err != nil:
			return "", usagef("--%s: %v", flag, err)
		case !info.Mode().IsRegular() || info.Size() > maxGiven:
			return "", usagef("--%s %s: want a plain file of at most %d MiB", flag, path, maxGiven>>20)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return "", usagef("--%s: %v", flag, err)
		}
		return string(b), nil
	}
	if p.help != "" {
		text, err := read("patient-help", p.help)
		if err != nil {
			return r, err
		}
		h := patient.ParseHelp(text)
		if len(h.Flags) == 0 {
			return r, usagef("--patient-help %s: it names no flag; write one with COMMAND --help > FILE", p.help)
		}
		r.Help = &h
	}
	if p.lockfile != "" {
		text, err := read("lockfile", p.lockfile)
		if err != nil {
			return r, err
		}
		if r.Versions, err = patient.ParseLock(text); err != nil {
			return r, usagef("--lockfile %s: %v", p.lockfile, err)
		}
	}
	for _, text := range p.claims {
		c, err := patient.ParseClaim(text)
		if err != nil {
			return r, usagef("--claim: %v", err)
		}
		r.Claims = append(r.Claims, c)
	}
	if r.Argv = p.argv; p.commandLine != "" {
		r.Argv = strings.Fields(p.commandLine)
	}
	r.Proposed = strings.Fields(p.proposed)
	return r, nil
}

// adapters are those to pick from.
func (p *patientFlags) adapters() ([]command.Adapter, error) {
	if p.adapter == "" {
		return command.Adapters(), nil
	}
	if ext := filepath.Ext(p.adapter); ext == ".yaml" || ext == ".yml" {
		text, err := os.ReadFile(p.adapter)
		if err != nil {
			return nil, usagef("--adapter: %v", err)
		}
		one, err := command.ParseAdapter(text)
		if err != nil {
			return nil, usagef("--adapter %s: %v", p.adapter, err)
		}
		return []command.Adapter{one}, nil
	}
	one, err := command.AdapterNamed(p.adapter)
	if err != nil {
		return nil, usagef("--adapter: %v", err)
	}
	return []command.Adapter{one}, nil
}

// readLogs reads one log after the other.
func (a *app) readLogs(ctx context.Context, p *patientFlags, adapters []command.Adapter, r *patient.Record) error {
	r.Source, r.Name = patient.Log, strings.Join(p.logs, ", ")
	if p.follow && p.lasts > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, p.lasts)
		defer cancel()
	}
	for _, path := range p.logs {
		if p.follow {
			a.progress("following %s; Ctrl-C ends it and reports", path)
		}
		seen, err := command.FollowLog(ctx, path, p.follow, command.LogOptions{Adapters: adapters, OnReading: a.follows(p.follow)})
		if err != nil {
			if ctx.Err() != nil {
				return err
			}
			return &userError{Code: "log", Message: err.Error(), Hint: "name the text file that the trainer's output went to: … 2>&1 | tee train.log", Status: statusOurs}
		}
		addObservations(r, seen.Observations)
		addDetected(r, seen.Detected)
		for _, n := range seen.Notes {
			r.Notes = append(r.Notes, filepath.Base(path)+": "+n)
		}
	}
	return nil
}

// follows shows how far a patient has come, now and then.
func (a *app) follows(shown bool) func(command.Reading) error {
	var last time.Time
	return func(r command.Reading) error {
		step, ok := r.Step.Get()
		if shown && ok && time.Since(last) > 5*time.Second {
			last = time.Now()
			a.progress("step %d%s", step, lossOf(r))
		}
		return nil
	}
}

func lossOf(r command.Reading) string {
	if v, ok := r.Loss.Get(); ok {
		return fmt.Sprintf(", loss %.4g", float64(v))
	}
	return ""
}

// fewestSamples make a verdict on memory that only the system tells possible,
// however quick a patient's steps are.
const (
	fewestSamples = 16
	longest       = 5 // times the steps that were asked for, that this may take
)

// sampleEvery gives a burst enough samples for statistics, and a long watch no
// load.
func sampleEvery(lasts time.Duration) time.Duration {
	if lasts <= 0 {
		return 100 * time.Millisecond // nobody knows how long
	}
	return min(max(lasts/240, 100*time.Millisecond), time.Second)
}

// runPatient runs a command and watches it. env is its environment; nil is ours.
func (a *app) runPatient(ctx context.Context, p *patientFlags, adapters []command.Adapter, env []string, r *patient.Record) error {
	argv := p.argv
	if !p.overwrite {
		cwd, err := os.Getwd()
		if err != nil {
			return fmt.Errorf("find the working directory: %w", err)
		}
		guarded, notes, err := command.Guard(argv, cwd)
		if err != nil {
			return &userError{Code: "patient.guard", Message: err.Error(), Hint: "or let it, with --allow-overwrite", Status: statusOurs}
		}
		argv = guarded
		for _, n := range notes {
			a.progress("%s", n.Text)
			r.Notes = append(r.Notes, n.Text)
		}
	}
	a.progress("running %s", strings.Join(argv, " "))
	seen, err := command.Run(ctx, argv, command.Options{
		Env: env, Adapters: adapters, OnReading: a.follows(true), Steps: p.steps, Samples: fewestSamples, MostSteps: longest * p.steps, Budget: p.lasts, Silence: p.silence,
		LogPath: p.transcript, Meter: &meter{}, SampleEvery: sampleEvery(p.lasts), OOMKills: oomKills,
	})
	if err != nil && seen.Result.Outcome == "" {
		return &userError{Code: "patient.start", Message: err.Error(), Hint: "give a program that can be started here, after --, and a --transcript that can be written", Status: statusOurs}
	}
	if err != nil {
		return err
	}
	r.Source, r.Name, r.Argv = patient.Command, trainer.CommandLine(argv...), argv
	addObservations(r, seen.Observations)
	addDetected(r, seen.Detected)
	addResult(r, seen)
	for _, s := range seen.Samples {
		r.Samples = append(r.Samples, sampleOf(s))
	}
	return nil
}
