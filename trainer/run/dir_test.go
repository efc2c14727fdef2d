package run

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/checkpoint"
)

func TestDirectories(t *testing.T) {
	t.Parallel()
	t.Run("second train on the same run", func(t *testing.T) {
		t.Parallel()
		p := plan(t)
		var errs []error
		must(t, context.Background(), p, &sim{after: func(_ trainer.Job, step int) {
			if step != 3 {
				return
			}
			for _, resume := range []bool{false, true} {
				q := p
				q.Resume = resume
				_, err := train(context.Background(), q, &seen{}, (&sim{}).run)
				errs = append(errs, err)
			}
			if r, err := Load(p.Dir); err != nil || r.State != StateRunning || r.StepsDone != 3 || r.ResumeCommand != "" {
				t.Errorf("while it runs: %s, %d steps, %v", r.State, r.StepsDone, err)
			}
		}})
		for _, err := range errs {
			var busy *BusyError
			if !errors.As(err, &busy) || busy.PID != os.Getpid() {
				t.Errorf("got %v", err)
			}
		}
		_, err := train(context.Background(), p, &seen{}, (&sim{}).run)
		if err == nil || !strings.Contains(err.Error(), "--resume") {
			t.Errorf("fresh train on a finished run: %v", err)
		}
		wantWhole(t, p.Dir, 20)
	})
	t.Run("not empty", func(t *testing.T) {
		t.Parallel()
		p := plan(t)
		p.Dir = t.TempDir()
		if err := os.WriteFile(filepath.Join(p.Dir, "thesis.txt"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := train(context.Background(), p, &seen{}, (&sim{}).run)
		if err == nil || !strings.Contains(err.Error(), "thesis.txt") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("making was cut short", func(t *testing.T) {
		t.Parallel()
		p := plan(t)
		for _, d := range []string{p.Dir, filepath.Join(p.Dir, checkpointsName)} {
			if err := os.MkdirAll(d, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		for _, f := range []string{lockName, "." + specName + "123"} {
			if err := os.WriteFile(filepath.Join(p.Dir, f), []byte("{"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		var none *NoRunError
		q := p
		q.Resume = true
		if _, err := train(context.Background(), q, &seen{}, (&sim{}).run); !errors.As(err, &none) {
			t.Errorf("resume: %v", err)
		}
		if r, _ := must(t, context.Background(), p, &sim{}); r.State != StateFinished {
			t.Error(r.State)
		}
	})
	t.Run("nothing there", func(t *testing.T) {
		t.Parallel()
		p := plan(t)
		p.Resume = true
		var none *NoRunError
		if _, err := train(context.Background(), p, &seen{}, (&sim{}).run); !errors.As(err, &none) {
			t.Errorf("got %v", err)
		}
		if _, err := os.Stat(p.Dir); err == nil {
			t.Error("a refused resume made the directory")
		}
	})
	t.Run("names", func(t *testing.T) {
		t.Parallel()
		home := t.TempDir()
		a, err := NewDir(home, "0123456789abcdef", epoch)
		if err != nil {
			t.Fatal(err)
		}
		b, err := NewDir(home, "0123456789abcdef", epoch)
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Base(a) != "2026-11-23-153012-01234567" || filepath.Base(b) != "2026-11-23-153012-01234567-2" {
			t.Errorf("%s, %s", a, b)
		}
	})
}

func TestDamagedCheckpointIsPassedOver(t *testing.T) {
	t.Parallel()
	p := plan(t)
	must(t, context.Background(), p, &sim{fate: times(9, 18, failed(trainer.FailConfig))})
	newest := filepath.Join(p.Dir, checkpointsName, checkpoint.Name(15))
	if err := os.Truncate(filepath.Join(newest, "adapters.safetensors"), 3); err != nil {
		t.Fatal(err)
	}
	p.Resume = true
	s := &sim{}
	r, obs := must(t, context.Background(), p, s)
	if s.jobs[0].From.Step != 10 || obs.codes()[0] != "checkpoint.damaged" || r.State != StateFinished {
		t.Errorf("%s; went on from %v with notes %v", r.State, s.jobs[0].From, obs.codes())
	}
	if _, err := os.Stat(newest + ".damaged"); err != nil {
		t.Error(err)
	}
	wantWhole(t, p.Dir, 20)
}

func TestCheckpointAheadOfTheEvents(t *testing.T) {
	t.Parallel()
	p := plan(t)
	must(t, context.Background(), p, &sim{fate: times(9, 18, failed(trainer.FailConfig))})
	path := filepath.Join(p.Dir, eventsName)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := strings.Index(string(b), `"step":12`)
	if at < 0 {
		t.Fatal("no event of step 12")
	}
	if err := os.Truncate(path, int64(at)); err != nil {
		t.Fatal(err)
	}
	r, err := Load(p.Dir)
	if err != nil || r.StepsDone != 15 || r.Totals.UnrecordedSteps != 4 || len(r.Warnings) != 2 {
		t.Fatalf("%d done, %d without a record, warnings %v, %v", r.StepsDone, r.Totals.UnrecordedSteps, r.Warnings, err)
	}
	p.Resume = true
	must(t, context.Background(), p, &sim{})
	if r = wantWhole(t, p.Dir, 20); r.Totals.UnrecordedSteps != 4 {
		t.Errorf("%d steps without a record", r.Totals.UnrecordedSteps)
	}
}

func TestTornLines(t *testing.T) {
	t.Parallel()
	p := plan(t)
	must(t, context.Background(), p, &sim{fate: times(9, 18, failed(trainer.FailConfig))})
	for _, name := range []string{eventsName, journalName} {
		appendTo(t, filepath.Join(p.Dir, name), `{"kind":"st`+strings.Repeat("e", 9999))
	}
	r, err := Load(p.Dir)
	if err != nil || r.StepsDone != 17 || len(r.Warnings) != 1 {
		t.Fatalf("%d steps, warnings %v, %v", r.StepsDone, r.Warnings, err)
	}
	p.Resume = true
	if r, _ = must(t, context.Background(), p, &sim{}); r.State != StateFinished || len(r.Warnings) != 0 {
		t.Errorf("%s, warnings %v", r.State, r.Warnings)
	}
	wantWhole(t, p.Dir, 20)
}

func TestListAndPrune(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	var dirs []string
	for i := range 4 {
		p := plan(t)
		at := epoch.Add(time.Duration(i) * time.Hour)
		dir, err := NewDir(home, p.Config.Config.Key(), at)
		if err != nil {
			t.Fatal(err)
		}
		p.Dir, p.Now = dir, func() time.Time { return at }
		s := &sim{}
		if i == 1 {
			s.fate = times(9, 8, failed(trainer.FailConfig))
		}
		must(t, context.Background(), p, s)
		dirs = append(dirs, dir)
	}
	if err := os.Mkdir(filepath.Join(home, "runs", "stray"), 0o755); err != nil {
		t.Fatal(err)
	}
	infos, err := List(home)
	if err != nil {
		t.Fatal(err)
	}
	if len(infos) != 5 || infos[0].Dir != dirs[3] || infos[2].State != StateFailed || infos[2].Done != 7 || infos[0].Bytes == 0 || infos[4].Problem == "" {
		t.Errorf("listed %+v", infos)
	}
	for _, name := range []string{"last", filepath.Base(dirs[3]), dirs[3]} {
		if got, err := Find(home, name); err != nil || got != dirs[3] {
			t.Errorf("find %s: %s, %v", name, got, err)
		}
	}
	var none *NoRunError
	if _, err := Find(home, "nonsense"); !errors.As(err, &none) {
		t.Errorf("find nonsense: %v", err)
	}
	left := func() (out []string) {
		for _, d := range append(dirs, filepath.Join(home, "runs", "stray")) {
			if _, err := os.Stat(d); err == nil {
				out = append(out, d)
			}
		}
		return out
	}
	halfGone := filepath.Join(home, "runs", removing+"2026-01-01-000000-x")
	if err := os.Mkdir(halfGone, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Prune(context.Background(), home, PruneOptions{Keep: -1}); err == nil {
		t.Error("kept -1 runs")
	}
	steps := []struct {
		o    PruneOptions
		gone int
		left int
	}{
		{PruneOptions{Keep: 1, DryRun: true}, 2, 5},
		{PruneOptions{Keep: 1}, 2, 3},
		{PruneOptions{Keep: 1, Unfinished: true}, 1, 2},
	}
	for _, s := range steps {
		gone, err := Prune(context.Background(), home, s.o)
		if err != nil || len(gone) != s.gone || len(left()) != s.left {
			t.Errorf("%+v: %d gone, left %v, %v", s.o, len(gone), left(), err)
		}
	}
	if _, err := os.Stat(halfGone); err == nil {
		t.Error("a removal that was cut short is still there")
	}
}

func TestPublish(t *testing.T) {
	t.Parallel()
	target := filepath.Join(t.TempDir(), "out", "adapters")
	var p Plan
	for i, want := range []string{"", "publish.aside"} {
		p = plan(t, "adapter-path", target)
		if i == 1 { // somebody's own work is where the adapter should go
			if err := os.WriteFile(filepath.Join(target, "adapters.safetensors"), []byte("precious"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		r, obs := must(t, context.Background(), p, &sim{})
		if got := strings.Join(obs.codes(), " "); got != want || r.AdapterPath != target {
			t.Errorf("run %d: notes %q, adapter %s", i, got, r.AdapterPath)
		}
	}
	kept, err := os.ReadFile(filepath.Join(target+".bak-20261123-153012", "adapters.safetensors"))
	if err != nil || string(kept) != "precious" {
		t.Errorf("kept %q, %v", kept, err)
	}
	if aside, err := publish(filepath.Join(p.Dir, adapterName), target, epoch); aside != "" || err != nil {
		t.Errorf("the same again: %q, %v", aside, err)
	}
	entries, err := os.ReadDir(filepath.Dir(target))
	if err != nil || len(entries) != 2 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestPublishFailureKeepsTheAdapter(t *testing.T) {
	t.Parallel()
	parent := filepath.Join(t.TempDir(), "out")
	p := plan(t, "adapter-path", filepath.Join(parent, "adapters"))
	block := sync.OnceFunc(func() { // a place that was fine when the training began
		if err := errors.Join(os.RemoveAll(parent), os.WriteFile(parent, nil, 0o644)); err != nil {
			t.Error(err)
		}
	})
	r, obs := must(t, context.Background(), p, &sim{fate: func(trainer.Job, int) *trainer.Result { block(); return nil }})
	if r.State != StateFinished || r.AdapterPath != filepath.Join(p.Dir, adapterName) || !slices.Equal(obs.codes(), []string{"publish.failed"}) {
		t.Errorf("%s, adapter %s, notes %v", r.State, r.AdapterPath, obs.codes())
	}
}
