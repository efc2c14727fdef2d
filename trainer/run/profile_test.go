package run

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// sayProfile says a step's phases and, behind the last one, the whole profile.
// Each phase takes a tenth of a second a step.
func (s *sim) sayProfile(j trainer.Job, step int, say func(trainer.Payload) error) error {
	out := []trainer.Payload{trainer.Phases{Seconds: map[string]float64{"forward": 0.1, "backward": 0.1}}}
	steps := step - stepsOf(j.From)
	if step == j.UntilStep && !s.dumb {
		for _, phase := range []string{"forward", "backward"} {
			out = append(out, trainer.Span{Path: []string{phase, "block 0", "mlp.up_proj", "Matmul"}, Seconds: 0.1 * float64(steps), Calls: int64(steps), GFLOP: trainer.Some(trainer.Float(2 * steps)), Modelled: phase == "backward"})
		}
		out = append(out, trainer.Held{Path: []string{"weights"}, Bytes: 150}, trainer.Held{Path: []string{"activations", "block 0"}, Bytes: 50, Modelled: true},
			trainer.Profiled{Steps: steps, Seconds: 0.2 * float64(steps), Tokens: 30, Positions: 40, Supervised: 10, CeilingGFLOPS: trainer.Some(trainer.Float(100)), PeakBytes: 200, Spans: 2, Helds: 2})
	}
	for _, p := range out {
		if err := say(p); err != nil {
			return err
		}
	}
	return nil
}

// ends are the steps at which segments were to end, those of profiles marked.
func ends(s *sim) []string {
	var out []string
	for _, j := range s.jobs {
		out = append(out, string(j.Mode[:1])+string(rune('0'+j.UntilStep/10))+string(rune('0'+j.UntilStep%10)))
	}
	return out
}

func TestTheProfileIsASegmentOfItsOwn(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		steps int
		turn  []string
		ends  []string
		of    int
	}{
		{"first steps", 3, nil, []string{"p03", "n20"}, 3},
		{"whole updates", 3, []string{"grad-accumulation-steps", "4", "save-every", "4"}, []string{"p04", "n20"}, 4},
		{"all there are", 30, nil, []string{"p20"}, 20},
		{"with reloads", 3, []string{"reload-interval", "10"}, []string{"p03", "n13", "n20"}, 3},
		{"a process is replaced before it is whole", 15, []string{"reload-interval", "10"}, []string{"p10", "n20"}, 10},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, s := plan(t, tt.turn...), &sim{}
			p.ProfileSteps = tt.steps
			r, obs := must(t, context.Background(), p, s)
			if d := cmp.Diff(tt.ends, ends(s)); d != "" || r.State != StateFinished || len(obs.notes) != 0 {
				t.Errorf("%s, %v: %s", r.State, obs.codes(), d)
			}
			wantWhole(t, p.Dir, 20)
			if r.Profile == nil || r.Profile.Steps != tt.of || !r.Segments[0].Profile || r.Profile.Missing != 0 {
				t.Fatalf("profile %+v", r.Profile)
			}
			for _, segment := range r.Segments[1:] {
				if segment.Profile {
					t.Errorf("segment %d is one of a profile too", segment.Number)
				}
			}
			if tt.name == "first steps" && r.Reloads != 0 {
				t.Errorf("%d reloads", r.Reloads)
			}
		})
	}
}

// The promise is one for a training without a profile.
func TestFiguresLeaveTheProfileOut(t *testing.T) {
	t.Parallel()
	larger := func(j trainer.Job, _ int) trainer.Memory {
		peak := int64(200)
		if j.Mode == trainer.Profile {
			peak = 900
		}
		return trainer.Memory{Active: trainer.Some[int64](100), Peak: trainer.Some(peak)}
	}
	p := plan(t, "iters", "160", "steps-per-eval", "200")
	p.Expected = &trainer.Expected{Figures: trainer.Figures{PeakBytes: trainer.Some[int64](200), TokensPerSecond: trainer.Some(100.0), TotalSeconds: trainer.Some(10.0)}, PeakError: 0.1, TokensError: 0.1}
	p.ProfileSteps = 20
	r, obs := must(t, context.Background(), p, &sim{memory: larger})
	if len(obs.notes) != 0 || r.Figures.PeakBytes.Or(0) != 200 || math.Abs(r.Figures.TokensPerSecond.Or(0)-100) > 1e-6 || r.Figures.TotalSeconds.Known() || len(r.Compared) != 2 {
		t.Errorf("%v, figures %+v, compared %+v", obs.codes(), r.Figures, r.Compared)
	}
	if r.Segments[0].PeakBytes.Or(0) != 900 || r.Totals.Tokens != 1600 {
		t.Errorf("segment %+v, totals %+v", r.Segments[0], r.Totals)
	}
}

func TestProfileAndResume(t *testing.T) {
	t.Parallel()
	t.Run("interrupted in the middle of it", func(t *testing.T) {
		t.Parallel()
		p := plan(t)
		p.ProfileSteps = 6
		ctx, stop := context.WithCancel(context.Background())
		r, _ := must(t, ctx, p, &sim{after: func(_ trainer.Job, step int) {
			if step == 2 {
				stop()
			}
		}})
		if r.State != StateInterrupted || r.Profile != nil {
			t.Fatalf("%s, profile %+v", r.State, r.Profile)
		}
		s := &sim{}
		r, _ = must(t, context.Background(), asRun(t, p), s)
		if d := cmp.Diff([]string{"p08", "n20"}, ends(s)); d != "" || r.Profile == nil || r.Profile.Steps != 6 || r.Profile.FromStep != 2 || r.Profile.Segment != 1 {
			t.Errorf("%+v: %s", r.Profile, d)
		}
		wantWhole(t, p.Dir, 20)
	})
	t.Run("not repeated", func(t *testing.T) {
		t.Parallel()
		p := plan(t)
		p.ProfileSteps = 3
		must(t, context.Background(), p, broken(8))
		q, s := asRun(t, p), &sim{}
		q.ProfileSteps = 4 // asked for once more
		r, obs := must(t, context.Background(), q, s)
		if d := cmp.Diff([]string{"n20"}, ends(s)); d != "" || r.Profile == nil || r.Profile.Steps != 3 || !slices.Equal(obs.codes(), []string{"profile.kept"}) {
			t.Errorf("%+v, %v: %s", r.Profile, obs.codes(), d)
		}
		wantWhole(t, p.Dir, 20)
	})
	t.Run("asked for later", func(t *testing.T) {
		t.Parallel()
		p := plan(t)
		must(t, context.Background(), p, broken(8))
		q, s := asRun(t, p), &sim{}
		q.ProfileSteps = 4
		r, _ := must(t, context.Background(), q, s)
		if d := cmp.Diff([]string{"p09", "n20"}, ends(s)); d != "" || r.Profile == nil || r.Profile.FromStep != 5 {
			t.Errorf("%+v: %s", r.Profile, d)
		}
		wantWhole(t, p.Dir, 20)
	})
	t.Run("asked for again after it was given up", func(t *testing.T) {
		t.Parallel()
		p := plan(t)
		p.ProfileSteps = 3
		s := &sim{dumb: true, fate: times(9, 8, failed(trainer.FailData))}
		if _, obs := must(t, context.Background(), p, s); !slices.Equal(obs.codes(), []string{"profile.given-up"}) {
			t.Fatal(obs.codes())
		}
		s = broken(8)
		must(t, context.Background(), asRun(t, p), s)
		if d := cmp.Diff([]string{"n20"}, ends(s)); d != "" {
			t.Error("nobody asked: " + d)
		}
		q := asRun(t, p)
		q.ProfileSteps = 6
		ctx, stop := context.WithCancel(context.Background())
		must(t, ctx, q, &sim{after: func(trainer.Job, int) { stop() }})
		q = asRun(t, p) // which remembers that it was asked for
		q.Policy.MaxRetries = 1
		s = &sim{fate: times(9, 7, result(trainer.Killed))}
		must(t, context.Background(), q, s)
		if d := cmp.Diff([]string{"p12", "p12", "n20", "n20"}, ends(s)); d != "" {
			t.Error(d)
		}
	})
}

// What goes wrong while a profile is recorded changes nothing of the training.
func TestAProfileThatFailsCostsOnlyItself(t *testing.T) {
	t.Parallel()
	inProfile := func(then *trainer.Result) func(trainer.Job, int) *trainer.Result {
		return func(j trainer.Job, step int) *trainer.Result {
			if j.Mode == trainer.Profile && step == 3 {
				return then
			}
			return nil
		}
	}
	suspected := result(trainer.Killed)
	suspected.SuspectedOOM = true
	tests := []struct {
		name  string
		sim   sim
		guard int64
		ends  []string
		codes []string
	}{
		{"out of memory", sim{fate: inProfile(result(trainer.OOM))}, 0, []string{"p08", "n20"}, []string{"profile.given-up"}},
		{"memory suspected", sim{fate: inProfile(suspected)}, 0, []string{"p08", "p08", "n20"}, []string{"retry", "profile.given-up"}},
		{"a failure of its own", sim{fate: inProfile(failed(trainer.FailConfig))}, 0, []string{"p08", "n20"}, []string{"profile.given-up"}},
		{"crashes without end", sim{fate: inProfile(result(trainer.Crashed))}, 0, []string{"p08", "p08", "p08", "p08", "n20"}, []string{"retry", "retry", "retry", "profile.given-up"}},
		{"killed once", sim{fate: times(1, 6, result(trainer.Killed))}, 0, []string{"p08", "p13", "n20"}, []string{"retry"}},
		{"killed behind it", sim{fate: times(1, 9, result(trainer.Killed))}, 0, []string{"p08", "n20", "n20"}, []string{"retry"}},
		{"no word of it", sim{dumb: true}, 0, []string{"p08", "n20"}, []string{"profile.given-up"}},
		{"no checkpoint behind it", sim{mute: true}, 0, []string{"p08", "n20"}, []string{"retry"}},
		{"above the guard", sim{memory: func(j trainer.Job, _ int) trainer.Memory {
			if j.Mode == trainer.Profile {
				return trainer.Memory{Footprint: trainer.Some[int64](900)}
			}
			return trainer.Memory{Footprint: trainer.Some[int64](100)}
		}}, 500, []string{"p08", "n20"}, []string{"guard.futile"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := plan(t)
			p.ProfileSteps, p.GuardBytes = 8, tt.guard
			r, obs := must(t, context.Background(), p, &tt.sim)
			if d := cmp.Diff(tt.ends, ends(&tt.sim)); d != "" || r.State != StateFinished || len(r.BackOffs) != 0 {
				t.Errorf("%s, back-offs %v: %s", r.State, r.BackOffs, d)
			}
			if d := cmp.Diff(tt.codes, obs.codes()); d != "" {
				t.Error(d)
			}
			if given := slices.Contains(obs.codes(), "profile.given-up"); given == (r.Profile != nil) {
				t.Errorf("given up: %v, profile %+v", given, r.Profile)
			}
			if len(tt.sim.jobs) > 0 && !tt.sim.mute {
				wantWhole(t, p.Dir, 20)
			}
		})
	}
}

func TestGuardEndsAProfile(t *testing.T) {
	t.Parallel()
	grows := func(j trainer.Job, step int) trainer.Memory {
		if j.Mode == trainer.Profile {
			return trainer.Memory{Footprint: trainer.Some(int64(100 * (step - stepsOf(j.From))))}
		}
		return trainer.Memory{Footprint: trainer.Some[int64](100)}
	}
	p, s := plan(t), &sim{memory: grows}
	p.ProfileSteps, p.GuardBytes = 12, 650
	r, obs := must(t, context.Background(), p, s)
	if d := cmp.Diff([]string{"p12", "n20"}, ends(s)); d != "" || r.Profile != nil || !slices.Equal(obs.codes(), []string{"guard.reload", "profile.given-up"}) {
		t.Errorf("%v: %s", obs.codes(), d)
	}
	if len(obs.notes) > 1 && !strings.Contains(obs.notes[1].Text, "above the guard; the training goes on without one from step 7") {
		t.Error(obs.notes[1].Text)
	}
	wantWhole(t, p.Dir, 20)
}

func TestEnginesWithoutProfilesRefuse(t *testing.T) {
	t.Parallel()
	p := plan(t)
	p.ProfileSteps, p.Engine = 3, engine{plain: true}
	var none *NoProfilesError
	if _, err := train(context.Background(), p, &seen{}, (&sim{}).run); !errors.As(err, &none) || none.Engine != "sim" {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(p.Dir); err == nil {
		t.Error("a directory was made")
	}
	p.Engine, p.ProfileSteps = engine{}, -1
	if _, err := train(context.Background(), p, &seen{}, (&sim{}).run); err == nil {
		t.Error("-1 steps were accepted")
	}
}

// While a profile is recorded steps are slow; what is left is judged by the
// others.
func TestProgressForgetsTheProfile(t *testing.T) {
	t.Parallel()
	p := plan(t)
	p.ProfileSteps = 10
	_, obs := must(t, context.Background(), p, &sim{})
	m := NewMeter(p.Config.Config.Schedule)
	for _, e := range obs.events {
		m.Add(e)
		if _, step := e.Payload.(trainer.Step); step && e.Step == 11 {
			break
		}
	}
	if p := m.Progress(); p.TokensPerSecond.Known() || p.ETA.Known() {
		t.Errorf("judged by the profile: %+v", p)
	}
	for _, e := range obs.events {
		m.Add(e)
	}
	if got := m.Progress().TokensPerSecond.Or(0); math.Abs(got-100) > 1e-6 {
		t.Errorf("%v tokens/s", got)
	}
}

// A profile is recorded although workers die in the middle of it, and nothing
// of the training is lost.
func TestWorkerKilledWhileItProfiles(t *testing.T) {
	t.Parallel()
	p := realPlan(filepath.Join(t.TempDir(), "run"))
	p.ProfileSteps = 9
	report, err := Train(context.Background(), p, &killer{at: []int{3, 6, 20}})
	// A worker may have said all of it before the kill that its step asked for
	// reaches it, so that which of them did is not certain.
	if err != nil || report.State != StateFinished || report.Profile == nil || report.Profile.Steps != 9 {
		t.Fatalf("%s, profile %+v, %v", report.State, report.Profile, err)
	}
	wantWhole(t, report.Dir, 48)
}
