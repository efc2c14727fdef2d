package main

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/pprof/profile"
	"github.com/mlxdyno/mlxdyno/report"
	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/run"
	"github.com/mlxdyno/mlxdyno/trainer/worker/fake"
	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	fake.Main()
	testscript.Main(m, map[string]func(){"mlxdyno": main})
}

// TestScripts runs the command line as a person would. Scripts have a home of
// their own, which is empty.
func TestScripts(t *testing.T) {
	testscript.Run(t, scripts("testdata/script", func(*testscript.Env) error { return nil }))
}

func scripts(dir string, setup func(*testscript.Env) error) testscript.Params {
	return testscript.Params{
		Dir:                 dir,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("MLXDYNO_HOME", filepath.Join(e.WorkDir, "home"))
			e.Setenv("HF_HUB_CACHE", filepath.Join(e.WorkDir, "hub"))
			e.Setenv("LC_ALL", "C.UTF-8")
			return setup(e)
		},
		Cmds: commands,
	}
}

// deaf is an observer that does not listen.
type deaf struct{}

func (deaf) Event(trainer.Event) {}
func (deaf) Note(run.Note)       {}

// commands are what scripts can do beyond testscript's own.
var commands = map[string]func(*testscript.TestScript, bool, []string){
	"bare-model": bareModel,
	// schema NAME FILE checks that FILE (or stdout) is one document of that schema.
	"schema": func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) != 2 {
			ts.Fatalf("usage: schema NAME FILE")
		}
		if err := report.Validate(args[0], []byte(ts.ReadFile(args[1]))); err != nil {
			ts.Fatalf("%v", err)
		}
	},
	// status N COMMAND… runs a command and checks its exit status.
	"status": func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) < 2 {
			ts.Fatalf("usage: status N COMMAND…")
		}
		err := ts.Exec(args[1], args[2:]...)
		got := "0"
		if err != nil {
			got = strings.TrimPrefix(err.Error(), "exit status ")
		}
		if got != args[0] {
			ts.Fatalf("%s ended with status %s, want %s", strings.Join(args[1:], " "), got, args[0])
		}
	},
	// copydir FROM TO copies a flat directory.
	"copydir": func(ts *testscript.TestScript, _ bool, args []string) {
		ts.Check(os.CopyFS(ts.MkAbs(args[1]), os.DirFS(ts.MkAbs(args[0]))))
	},
	// fakerun DIR STEPS trains without MLX, in a run directory DIR, with a profile
	// of that many steps.
	"fakerun": func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) != 2 {
			ts.Fatalf("usage: fakerun DIR STEPS")
		}
		steps, err := strconv.Atoi(args[1])
		ts.Check(err)
		s := trainer.NewSettings()
		for _, kv := range [][2]string{{"model", "/models/fake"}, {"data", "/data/fake"}, {"iters", "12"}} {
			ts.Check(s.Set(kv[0], kv[1], trainer.FromFlag))
		}
		_, err = run.Train(context.Background(), run.Plan{Engine: fake.Engine(fake.Script{Blocks: 6, Cost: fake.Cost{StepSeconds: 0.5, Bytes: 5e6, PositionBytes: 1000}}),
			Config: s, Dir: ts.MkAbs(args[0]), ProfileSteps: steps}, deaf{})
		ts.Check(err)
	},
	// pprof FILE TYPE… checks that FILE is a profile with these types of samples.
	"pprof": func(ts *testscript.TestScript, neg bool, args []string) {
		p, err := profile.ParseData([]byte(ts.ReadFile(args[0])))
		if neg {
			if err == nil {
				ts.Fatalf("%s is a profile", args[0])
			}
			return
		}
		ts.Check(err)
		var types []string
		for _, t := range p.SampleType {
			types = append(types, t.Type+"/"+t.Unit)
		}
		if !slices.Equal(types, args[1:]) || len(p.Sample) == 0 {
			ts.Fatalf("%d samples of %v", len(p.Sample), types)
		}
	},
	// unpack FILE DIR unpacks a .zip or .tar.gz.
	"unpack": func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) != 2 {
			ts.Fatalf("usage: unpack FILE DIR")
		}
		put := func(name string, r io.Reader) {
			path := filepath.Join(ts.MkAbs(args[1]), filepath.FromSlash(name))
			ts.Check(os.MkdirAll(filepath.Dir(path), 0o755))
			text, err := io.ReadAll(r)
			ts.Check(err)
			ts.Check(os.WriteFile(path, text, 0o644))
		}
		if strings.HasSuffix(args[0], ".zip") {
			z, err := zip.OpenReader(ts.MkAbs(args[0]))
			ts.Check(err)
			defer z.Close()
			for _, f := range z.File {
				r, err := f.Open()
				ts.Check(err)
				put(f.Name, r)
			}
			return
		}
		f, err := os.Open(ts.MkAbs(args[0]))
		ts.Check(err)
		defer f.Close()
		g, err := gzip.NewReader(f)
		ts.Check(err)
		for t := tar.NewReader(g); ; {
			h, err := t.Next()
			if err == io.EOF {
				return
			}
			ts.Check(err)
			put(h.Name, t)
		}
	},
	// lacks DIR WORD… checks that no file below DIR, nor its name, has one of the words.
	"lacks": func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) < 2 {
			ts.Fatalf("usage: lacks DIR WORD…")
		}
		files := 0
		ts.Check(filepath.WalkDir(ts.MkAbs(args[0]), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			files++
			text, err := os.ReadFile(path)
			for _, word := range args[1:] {
				if strings.Contains(string(text), word) || strings.Contains(d.Name(), word) {
					ts.Logf("%s has %q", path, word)
					err = errors.Join(err, fmt.Errorf("%s has %q", d.Name(), word))
				}
			}
			return err
		}))
		if files == 0 {
			ts.Fatalf("there are no files below %s", args[0])
		}
	},
	// beheaded DIR leaves a run as the crash of its machine does: nobody wrote
	// down how its worker ended, and its last event is torn.
	"beheaded": func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) != 1 {
			ts.Fatalf("usage: beheaded DIR")
		}
		journal := filepath.Join(ts.MkAbs(args[0]), "journal.jsonl")
		text := ts.ReadFile(journal)
		i := strings.Index(text, `{"kind":"segment ended"`)
		if i < 0 {
			ts.Fatalf("no worker ended in %s", text)
		}
		ts.Check(os.WriteFile(journal, []byte(text[:i]), 0o644))
		events := filepath.Join(ts.MkAbs(args[0]), "events.jsonl")
		lines := strings.SplitAfter(ts.ReadFile(events), "\n")
		ts.Check(os.WriteFile(events, []byte(strings.Join(lines[:len(lines)/2], "")+`{"kind":"st`), 0o644))
	},
	// truncate FILE cuts the last third of a file off.
	"truncate": func(ts *testscript.TestScript, _ bool, args []string) {
		path := ts.MkAbs(args[0])
		info, err := os.Stat(path)
		ts.Check(err)
		ts.Check(os.Truncate(path, info.Size()/3*2))
	},
	// replace FILE OLD NEW changes a text in a file.
	"replace": func(ts *testscript.TestScript, _ bool, args []string) {
		old := ts.ReadFile(args[0])
		if !strings.Contains(old, args[1]) {
			ts.Fatalf("%s does not contain %q", args[0], args[1])
		}
		ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(strings.ReplaceAll(old, args[1], args[2])), 0o644))
	},
}
