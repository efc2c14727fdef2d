package run

import (
	"context"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// broken is a sim whose training fails for good at a step.
func broken(at int) *sim { return &sim{fate: times(9, at, failed(trainer.FailData))} }

// asRun is p as a caller resumes it: the run's own settings under its flags.
func asRun(t *testing.T, p Plan, flags ...string) Plan {
	t.Helper()
	r, err := Open(p.Dir)
	if err != nil {
		t.Fatal(err)
	}
	q := Plan{Engine: p.Engine, Dir: p.Dir, Config: r.Spec.Settings(), Resume: true, Now: p.Now}
	for kv := range slices.Chunk(flags, 2) {
		if err := q.Config.Set(kv[0], kv[1], trainer.FromFlag); err != nil {
			t.Fatal(err)
		}
	}
	return q
}

func TestWhatAResumptionChangesStays(t *testing.T) {
	t.Parallel()
	p := plan(t)
	p.GuardBytes = 1 << 30
	must(t, context.Background(), p, broken(4))

	target := filepath.Join(t.TempDir(), "out")
	q := asRun(t, p, "cache-limit", "1GB", "adapter-path", target)
	q.Tokens = trainer.TokenFiles{Train: "/tokens/moved"}
	q.GuardBytes = 77
	q.Expected = &trainer.Expected{Figures: trainer.Figures{PeakBytes: trainer.Some[int64](150)}, PeakError: 0.1}
	must(t, context.Background(), q, broken(8))

	s := &sim{}
	r, _ := must(t, context.Background(), asRun(t, p), s)
	if r.AdapterPath != target {
		t.Errorf("the adapter is in %s", r.AdapterPath)
	}
	if j := s.jobs[0]; j.Tokens != q.Tokens || j.Config.Plan.CacheLimit != trainer.LimitOf(1e9) {
		t.Errorf("trained %+v with a cache limit of %s", j.Tokens, j.Config.Plan.CacheLimit)
	}
	if r.Expected == nil || len(r.Compared) == 0 {
		t.Error("the promise is forgotten")
	}
	again, err := Open(p.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if spec := again.Spec; spec.GuardBytes != 77 || spec.ConfigKey != spec.Config.Key() || spec.ConfigKey != r.ConfigKey {
		t.Errorf("guard of %d bytes, key %s of %s", spec.GuardBytes, spec.ConfigKey, r.ConfigKey)
	}
}

// An engine that does not go on exactly is told of, once a resumption.
func TestInexactEnginesAreTold(t *testing.T) {
	t.Parallel()
	for _, inexact := range []bool{false, true} {
		p := plan(t)
		p.Engine, p.Config.Config.Schedule.ReloadInterval = engine{inexact: inexact}, 2
		r, _ := must(t, context.Background(), p, &sim{})
		notes := 0
		for _, n := range r.Notes {
			if n.Code == "resume.not-exact" {
				notes++
			}
		}
		want := 0
		if inexact {
			want = 1
		}
		if len(r.Segments) < 3 || notes != want {
			t.Errorf("inexact: %v, %d segments, %d notes", inexact, len(r.Segments), notes)
		}
	}
}

// A change that was accepted, or made for want of memory, can be taken back.
func TestAValueCanBeSetBack(t *testing.T) {
	t.Parallel()
	cache := func(s *sim) string { return s.jobs[0].Config.Plan.CacheLimit.String() }
	t.Run("a wish", func(t *testing.T) {
		t.Parallel()
		p := plan(t)
		must(t, context.Background(), p, broken(4))
		must(t, context.Background(), asRun(t, p, "cache-limit", "1GB"), broken(8))
		s := broken(9)
		if must(t, context.Background(), asRun(t, p, "cache-limit", "default"), s); cache(s) != "default" {
			t.Errorf("cache limit %s", cache(s))
		}
	})
	t.Run("a back-off", func(t *testing.T) {
		t.Parallel()
		p := plan(t, "cache-limit", "1GB")
		fate := func(j trainer.Job, step int) *trainer.Result {
			switch {
			case step == 4 && j.Config.Plan.CacheLimit.Bytes > 0:
				return result(trainer.OOM)
			case step == 8:
				return failed(trainer.FailData)
			}
			return nil
		}
		must(t, context.Background(), p, &sim{fate: fate})
		s := broken(9)
		if must(t, context.Background(), asRun(t, p), s); cache(s) != trainer.LimitOf(0).String() {
			t.Errorf("nobody asked, and the cache limit is %s", cache(s))
		}
		s = broken(13)
		if must(t, context.Background(), asRun(t, p, "cache-limit", "1GB"), s); cache(s) != trainer.LimitOf(1e9).String() {
			t.Errorf("cache limit %s", cache(s))
		}
	})
	t.Run("what is in force is no change", func(t *testing.T) {
		t.Parallel()
		p := plan(t, "grad-checkpoint", "true")
		must(t, context.Background(), p, &sim{fate: func(j trainer.Job, step int) *trainer.Result {
			if j.Config.Plan.Batch == 4 {
				return result(trainer.OOM)
			}
			return times(9, 12, failed(trainer.FailData))(j, step)
		}})
		for _, batch := range []string{"2", "4"} { // as it is, and as it was asked for
			s := broken(13)
			if must(t, context.Background(), asRun(t, p, "batch-size", batch), s); s.jobs[0].Config.Plan.Batch != 2 {
				t.Errorf("asked for %s: batch %d", batch, s.jobs[0].Config.Plan.Batch)
			}
		}
	})
}

func TestDefaultsAreNoWishes(t *testing.T) {
	t.Parallel()
	p := plan(t, "cache-limit", "1GB")
	must(t, context.Background(), p, broken(4))
	p.Resume = true
	p.Config.Config.Plan.CacheLimit = trainer.Limit{}
	delete(p.Config.Origins, "cache-limit")
	s := &sim{}
	if must(t, context.Background(), p, s); s.jobs[0].Config.Plan.CacheLimit != trainer.LimitOf(1e9) {
		t.Errorf("cache limit %s", s.jobs[0].Config.Plan.CacheLimit)
	}
}

// A relative path is meant from where the run was begun, not from where it is
// gone on with.
func TestRelativeAdapterPathOnResume(t *testing.T) {
	begun, later := t.TempDir(), t.TempDir()
	t.Chdir(begun)
	p := plan(t, "adapter-path", "out")
	must(t, context.Background(), p, broken(4))
	t.Chdir(later)
	same := p // a caller who says the same once more
	same.Resume = true
	for i, q := range []Plan{asRun(t, p), same} {
		must(t, context.Background(), q, broken(8+i))
		r, err := Open(p.Dir)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(filepath.Join(begun, "out"), r.Spec.Publish); d != "" {
			t.Error(d)
		}
	}
	r, _ := must(t, context.Background(), asRun(t, p, "adapter-path", filepath.Join(later, "else")), &sim{})
	if r.AdapterPath != filepath.Join(later, "else") {
		t.Errorf("adapter in %s", r.AdapterPath)
	}
}

func TestTheFreshGuardCounts(t *testing.T) {
	t.Parallel()
	p := plan(t)
	p.GuardBytes = 1 << 40
	must(t, context.Background(), p, broken(4))
	q := asRun(t, p)
	q.GuardBytes = 150
	grows := func(j trainer.Job, step int) trainer.Memory {
		return trainer.Memory{Footprint: trainer.Some(int64(100 + 10*(step-stepsOf(j.From))))}
	}
	if r, obs := must(t, context.Background(), q, &sim{memory: grows}); r.Reloads == 0 || !slices.Contains(obs.codes(), "guard.reload") {
		t.Errorf("%d reloads, %v", r.Reloads, obs.codes())
	}
}

func TestTimeOfAKilledSupervisorIsUnknown(t *testing.T) {
	t.Parallel()
	var r Report
	expected := &trainer.Expected{Figures: trainer.Figures{TotalSeconds: trainer.Some(9.0)}}
	segments := []Segment{{Seconds: trainer.Some(4.0)}, {Number: 1}, {Number: 2, Seconds: trainer.Some(5.0)}}
	for _, tt := range []struct {
		name  string
		which []Segment
		want  trainer.Opt[float64]
	}{
		{"none yet", nil, trainer.Some(0.0)},
		{"all were seen to end", []Segment{segments[0], segments[2]}, trainer.Some(9.0)},
		{"one was not", segments, trainer.Opt[float64]{}},
	} {
		r = Report{State: StateFinished, Expected: expected}
		r.tell(history{segments: slices.Clone(tt.which)}, newKeeper(tt.which))
		if r.Totals.Seconds != tt.want || r.Figures.TotalSeconds != tt.want || (len(r.Compared) > 0) != tt.want.Known() {
			t.Errorf("%s: %v s, compared %v", tt.name, r.Totals.Seconds, r.Compared)
		}
	}
}

func TestResumeCommandIsQuoted(t *testing.T) {
	t.Parallel()
	for dir, want := range map[string]string{
		"/home/a/.mlxdyno/runs/2026-11-23-153012-0123": "/home/a/.mlxdyno/runs/2026-11-23-153012-0123",
		"/r/a@b%c+d=e:f,g.h_i":                         "/r/a@b%c+d=e:f,g.h_i",
		"/r/#1":                                        "'/r/#1'",
		"~/r":                                          "'~/r'",
		"/r/!x":                                        "'/r/!x'",
		"/r/{a,b}":                                     "'/r/{a,b}'",
		"/r/a b":                                       "'/r/a b'",
		"/r/it's":                                      `'/r/it'\''s'`,
		"/r/a\nb":                                      "'/r/a\nb'",
		"/r/ä":                                         "'/r/ä'",
	} {
		if got := resumeCommand(dir); got != "mlxdyno train --resume "+want {
			t.Errorf("%q: %s", dir, got)
		}
	}
}
