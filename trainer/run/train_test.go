package run

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mlxdyno/mlxdyno/trainer"
)

func TestTrainToTheEnd(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		turn     []string
		segments int
		reloads  int
	}{
		{"one process", nil, 1, 0},
		{"reloads", []string{"reload-interval", "6"}, 4, 3},
		{"interval divides", []string{"reload-interval", "10"}, 2, 1},
		{"interval beyond the end", []string{"reload-interval", "50"}, 1, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := plan(t, tt.turn...)
			p.Expected = &trainer.Expected{Figures: trainer.Figures{PeakBytes: trainer.Some[int64](190), TokensPerSecond: trainer.Some(150.0)}, PeakError: 0.1, TokensError: 0.15}
			r, obs := must(t, context.Background(), p, &sim{})
			if r.State != StateFinished || r.StepsDone != 20 || r.Steps != 20 || len(r.Segments) != tt.segments || r.Reloads != tt.reloads {
				t.Errorf("%s, %d of %d steps, %d segments, %d reloads", r.State, r.StepsDone, r.Steps, len(r.Segments), r.Reloads)
			}
			wantWhole(t, p.Dir, 20)
			if r.AdapterPath != filepath.Join(p.Dir, adapterName) || r.ResumeCommand != "" || r.Failure != nil {
				t.Errorf("adapter %q, resume %q, failure %v", r.AdapterPath, r.ResumeCommand, r.Failure)
			}
			if r.Totals.Tokens != 200 || r.Totals.ReplayedSteps != 0 || r.Totals.UnrecordedSteps != 0 || r.FirstEval.AfterStep != 10 || r.LastEval.AfterStep != 20 || r.BestEval.AfterStep != 20 {
				t.Errorf("totals %+v, evals %v", r.Totals, r.Evals)
			}
			within := map[string]bool{}
			for _, c := range r.Compared {
				within[c.Name] = c.Within.Or(false)
			}
			if !within["peak_bytes"] || within["tokens_per_second"] {
				t.Errorf("compared: %+v", r.Compared)
			}
			if len(r.Checkpoints) != 3 || r.Checkpoints[2].Step != 20 {
				t.Errorf("checkpoints: %v", r.Checkpoints)
			}
			if r.Identity.BLAS != "none" || r.Identity.Device.Name != "sim" || r.Identity.Model != "m1" {
				t.Errorf("identity: %+v", r.Identity)
			}
			again, err := Load(p.Dir)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(r, again, cmp.AllowUnexported(trainer.Opt[float64]{}, trainer.Opt[int64]{}, trainer.Opt[int]{}, trainer.Opt[bool]{}, trainer.Opt[trainer.Float]{})); d != "" {
				t.Errorf("loaded report differs:\n%s", d)
			}
			if len(obs.events) == 0 {
				t.Error("the observer saw nothing")
			}
			p.Resume = true
			var fin *FinishedError
			if _, err := train(context.Background(), p, obs, (&sim{}).run); !errors.As(err, &fin) || fin.Adapter != r.AdapterPath {
				t.Errorf("resume of a finished run: %v", err)
			}
		})
	}
}

func TestInterruptAndResume(t *testing.T) {
	t.Parallel()
	p := plan(t)
	ctx, stop := context.WithCancel(context.Background())
	r, _ := must(t, ctx, p, &sim{after: func(_ trainer.Job, step int) {
		if step == 7 {
			stop()
		}
	}})
	if r.State != StateInterrupted || r.StepsDone != 7 || r.ResumeCommand != "mlxdyno train --resume "+p.Dir || r.Segments[0].Reason != "interrupt" {
		t.Fatalf("%s after %d steps, resume %q, reason %q", r.State, r.StepsDone, r.ResumeCommand, r.Segments[0].Reason)
	}
	p.Resume, p.Config = true, trainer.Settings{}
	s := &sim{}
	r, _ = must(t, context.Background(), p, s)
	if r.State != StateFinished || s.jobs[0].From.Step != 7 || s.jobs[0].Segment != 1 || r.Reloads != 0 {
		t.Fatalf("%s; went on from %v as segment %d", r.State, s.jobs[0].From, s.jobs[0].Segment)
	}
	wantWhole(t, p.Dir, 20)
}

func TestInterruptedBeforeItBegan(t *testing.T) {
	t.Parallel()
	p := plan(t)
	ctx, stop := context.WithCancel(context.Background())
	stop()
	r, _ := must(t, ctx, p, &sim{})
	if r.State != StateInterrupted || len(r.Segments) != 0 {
		t.Fatalf("%s with %d segments", r.State, len(r.Segments))
	}
	p.Resume = true
	if r, _ = must(t, context.Background(), p, &sim{}); r.State != StateFinished {
		t.Fatal(r.State)
	}
}

func result(o trainer.Outcome) *trainer.Result { return &trainer.Result{Outcome: o} }

func failed(k trainer.FailKind) *trainer.Result {
	return &trainer.Result{Outcome: trainer.Failed, Failure: &trainer.Failure{FailKind: k, Code: "x.y", Text: "it is wrong", Hint: "mend it"}}
}

// times returns a fate that strikes n times at a step.
func times(n, at int, r *trainer.Result) func(trainer.Job, int) *trainer.Result {
	return func(_ trainer.Job, step int) *trainer.Result {
		if step == at && n > 0 {
			n--
			return r
		}
		return nil
	}
}

// leaks is a fate that strikes every process after so many steps.
func leaks(steps int) func(trainer.Job, int) *trainer.Result {
	return func(j trainer.Job, step int) *trainer.Result {
		if step-stepsOf(j.From) > steps {
			return result(trainer.OOM)
		}
		return nil
	}
}

func TestRecovery(t *testing.T) {
	t.Parallel()
	suspected := result(trainer.Killed)
	suspected.SuspectedOOM, suspected.Signal = true, "SIGKILL"
	tests := []struct {
		name     string
		fate     func(trainer.Job, int) *trainer.Result
		state    State
		segments int
		codes    []string
	}{
		{"one crash", times(1, 13, result(trainer.Crashed)), StateFinished, 2, []string{"retry"}},
		{"killed thrice", times(3, 13, result(trainer.Killed)), StateFinished, 4, []string{"retry", "retry", "retry"}},
		{"crash without end", times(99, 13, result(trainer.Crashed)), StateFailed, 4, []string{"retry", "retry", "retry"}},
		{"stalled", times(1, 2, result(trainer.Stalled)), StateFinished, 2, []string{"retry"}},
		{"broken once", times(1, 8, result(trainer.Broken)), StateFinished, 2, []string{"retry"}},
		{"broken twice", times(2, 8, result(trainer.Broken)), StateFailed, 2, []string{"retry"}},
		{"internal", times(1, 8, failed(trainer.FailInternal)), StateFinished, 2, []string{"retry"}},
		{"data", times(1, 8, failed(trainer.FailData)), StateFailed, 1, nil},
		{"config", times(1, 1, failed(trainer.FailConfig)), StateFailed, 1, nil},
		{"not finite", times(1, 8, failed(trainer.FailNonFinite)), StateFailed, 1, nil},
		{"out of memory at once", times(2, 1, result(trainer.OOM)), StateFinished, 3, []string{"back-off.grad-checkpoint", "back-off.batch-size"}},
		{"out of memory later", times(1, 8, result(trainer.OOM)), StateFinished, 2, []string{"back-off.grad-checkpoint"}},
		{"out of memory for good", times(9, 8, result(trainer.OOM)), StateFailed, 2, []string{"back-off.grad-checkpoint"}},
		{"a leak that gets on", leaks(7), StateFinished, 4, []string{"back-off.grad-checkpoint", "retry", "retry"}},
		{"a leak that does not", leaks(4), StateFailed, 4, []string{"back-off.grad-checkpoint", "back-off.batch-size", "back-off.batch-size"}},
		{"the worker's own word", times(1, 8, failed(trainer.FailOOM)), StateFinished, 2, []string{"back-off.grad-checkpoint"}},
		{"suspected", times(2, 8, suspected), StateFinished, 3, []string{"retry", "back-off.grad-checkpoint"}},
		{"suspected once", times(1, 8, suspected), StateFinished, 2, []string{"retry"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := plan(t)
			r, obs := must(t, context.Background(), p, &sim{fate: tt.fate})
			if r.State != tt.state || len(r.Segments) != tt.segments {
				t.Errorf("%s after %d segments, want %s after %d", r.State, len(r.Segments), tt.state, tt.segments)
			}
			if d := cmp.Diff(tt.codes, obs.codes()); d != "" {
				t.Errorf("notes: %s", d)
			}
			if r.State == StateFailed {
				if r.Failure == nil || r.Failure.Text == "" || len(r.Failure.Fix) == 0 {
					t.Errorf("failure %+v", r.Failure)
				}
				// Where nothing was trained there is nothing to go on from.
				if got, want := r.ResumeCommand != "", r.StepsDone > 0; got != want {
					t.Errorf("after %d steps the command to resume is %q", r.StepsDone, r.ResumeCommand)
				}
				return
			}
			wantWhole(t, p.Dir, r.Steps)
		})
	}
}

func TestProgressRenewsThePatience(t *testing.T) {
	t.Parallel()
	p := plan(t)
	struck := map[int]int{}
	r, _ := must(t, context.Background(), p, &sim{fate: func(_ trainer.Job, step int) *trainer.Result {
		if step%5 == 3 && struck[step] < 3 { // three times in every stretch between checkpoints
			struck[step]++
			return result(trainer.Crashed)
		}
		return nil
	}})
	if r.State != StateFinished || len(r.Segments) != 13 || r.Totals.ReplayedSteps != 3*2*4 {
		t.Fatalf("%s after %d segments, %d steps done again", r.State, len(r.Segments), r.Totals.ReplayedSteps)
	}
	wantWhole(t, p.Dir, 20)
}

func TestSmallerBatchKeepsRowsAndUpdates(t *testing.T) {
	t.Parallel()
	p := plan(t, "batch-size", "6", "grad-accumulation-steps", "2", "grad-checkpoint", "true", "cache-limit", "1GB", "reload-interval", "10")
	s := &sim{fate: func(j trainer.Job, step int) *trainer.Result {
		if j.Config.Plan.Batch > 1 {
			return result(trainer.OOM)
		}
		return nil
	}}
	r, _ := must(t, context.Background(), p, s)
	var knobs []string
	for _, b := range r.BackOffs {
		knobs = append(knobs, b.Knob+" "+b.To)
	}
	if d := cmp.Diff([]string{"cache-limit 0 B", "batch-size 3", "batch-size 1"}, knobs); d != "" {
		t.Error(d)
	}
	c := r.Config
	if c.EffectiveBatch() != p.Config.Config.EffectiveBatch() || c.Schedule.Steps*c.Plan.Batch != 20*6 || c.Schedule.ReloadInterval != 60 || r.State != StateFinished {
		t.Errorf("%s with %+v, %+v", r.State, c.Plan, c.Schedule)
	}
	wantWhole(t, p.Dir, 120)

	p = plan(t, "dropout", "0.1") // under which activations cannot be recomputed
	if r, obs := must(t, context.Background(), p, &sim{fate: times(1, 1, result(trainer.OOM))}); !slices.Equal(obs.codes(), []string{"back-off.batch-size"}) || r.Config.Plan.Checkpointing {
		t.Errorf("with dropout: %v", obs.codes())
	}
}

func TestSegmentWithoutCheckpoint(t *testing.T) {
	t.Parallel()
	p := plan(t, "reload-interval", "6")
	r, _ := must(t, context.Background(), p, &sim{mute: true})
	if r.State != StateFailed || !strings.Contains(r.Failure.Text, "left no checkpoint") {
		t.Fatalf("%s: %+v", r.State, r.Failure)
	}
}

func TestGuard(t *testing.T) {
	t.Parallel()
	grows := func(j trainer.Job, step int) trainer.Memory {
		return trainer.Memory{Footprint: trainer.Some(int64(100 + 10*(step-stepsOf(j.From))))}
	}
	t.Run("reloads what grows", func(t *testing.T) {
		t.Parallel()
		p := plan(t)
		p.GuardBytes = 185
		r, obs := must(t, context.Background(), p, &sim{memory: grows})
		if r.State != StateFinished || r.Reloads != 2 || !slices.Equal(obs.codes(), []string{"guard.reload", "guard.reload"}) {
			t.Errorf("%s, %d reloads, %v", r.State, r.Reloads, obs.codes())
		}
		wantWhole(t, p.Dir, 20)
	})
	t.Run("gives up where it does not help", func(t *testing.T) {
		t.Parallel()
		p := plan(t)
		p.GuardBytes = 105
		r, obs := must(t, context.Background(), p, &sim{memory: grows})
		if r.State != StateFinished || len(r.Segments) != 1 || !slices.Equal(obs.codes(), []string{"guard.futile"}) {
			t.Errorf("%s, %d segments, %v", r.State, len(r.Segments), obs.codes())
		}
	})
	t.Run("pressure", func(t *testing.T) {
		t.Parallel()
		p := plan(t)
		n := 0
		p.Sample = func() MemoryPressure { n++; return MemoryPressure{Critical: n == 2, Text: "level 4"} }
		r, obs := must(t, context.Background(), p, &sim{})
		if r.State != StateFinished || r.Reloads != 1 || !strings.Contains(obs.notes[0].Text, "level 4") {
			t.Errorf("%s, %d reloads, %v", r.State, r.Reloads, obs.notes)
		}
		if n > 5 {
			t.Errorf("sampled %d times in 2 s of steps", n)
		}
		wantWhole(t, p.Dir, 20)
	})
}

func TestGuardAsksOncePerProcess(t *testing.T) {
	t.Parallel()
	w := watch{guardBytes: 50}
	step := trainer.Step{Memory: trainer.Memory{Active: trainer.Some[int64](30), Cache: trainer.Some[int64](30)}}
	asked := 0
	for range 2 {
		w.segment(false)
		for i := range 10 {
			if i < reliefSteps {
				w.step(trainer.Event{Step: i}, trainer.Step{})
				continue
			}
			if notes, reload := w.step(trainer.Event{Step: i}, step); reload {
				asked++
			} else if len(notes) > 0 {
				t.Errorf("notes without a reload: %v", notes)
			}
		}
	}
	if asked != 2 {
		t.Errorf("asked %d times in two processes", asked)
	}
}

func TestDriftIsNotedOnce(t *testing.T) {
	t.Parallel()
	p := plan(t, "iters", "140")
	p.Expected = &trainer.Expected{Figures: trainer.Figures{PeakBytes: trainer.Some[int64](150), TokensPerSecond: trainer.Some(200.0)}, PeakError: 0.1, TokensError: 0.2}
	_, obs := must(t, context.Background(), p, &sim{})
	if d := cmp.Diff([]string{"drift.peak", "drift.speed"}, obs.codes()); d != "" {
		t.Error(d)
	}
}

func TestResumeRefusesAnotherTraining(t *testing.T) {
	t.Parallel()
	begun := func(t *testing.T) Plan {
		p := plan(t)
		if r, _ := must(t, context.Background(), p, &sim{fate: times(9, 8, failed(trainer.FailData))}); r.State != StateFailed {
			t.Fatal(r.State)
		}
		p.Resume = true
		return p
	}
	set := func(t *testing.T, p *Plan, knob, value string) {
		if err := p.Config.Set(knob, value, trainer.FromFlag); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		name   string
		change func(*testing.T, *Plan)
		want   []string
	}{
		{"model", func(_ *testing.T, p *Plan) { p.Identity.Model = "m2" }, []string{"model"}},
		{"data", func(_ *testing.T, p *Plan) { p.Identity.Data = "d2" }, []string{"data"}},
		{"rank and batch", func(t *testing.T, p *Plan) { set(t, p, "rank", "4"); set(t, p, "batch-size", "2") }, []string{"rank", "batch-size"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := begun(t)
			tt.change(t, &p)
			_, err := train(context.Background(), p, &seen{}, (&sim{}).run)
			var changed *ChangedError
			if !errors.As(err, &changed) {
				t.Fatalf("got %v", err)
			}
			var names []string
			for _, c := range changed.Changes {
				names = append(names, c.What)
			}
			if d := cmp.Diff(tt.want, names); d != "" {
				t.Error(d)
			}
		})
	}
	t.Run("versions and harmless knobs", func(t *testing.T) {
		t.Parallel()
		p := begun(t)
		p.Identity.Versions = map[string]string{"mlx": "2"}
		set(t, &p, "reload-interval", "5")
		set(t, &p, "cache-limit", "1GB")
		s := &sim{}
		r, obs := must(t, context.Background(), p, s)
		// Its workers still have the old version: that is a change back, told once for all of them.
		if d := cmp.Diff([]string{"resume.changed", "worker.changed"}, obs.codes()); d != "" {
			t.Error(d)
		}
		if len(s.jobs) != 3 || r.Config.Plan.CacheLimit != trainer.LimitOf(1e9) {
			t.Errorf("%d segments, cache limit %s", len(s.jobs), r.Config.Plan.CacheLimit)
		}
		wantWhole(t, p.Dir, 20)
	})
}

// A power cut may take the newest events and leave the checkpoints.
func TestSegmentsEndBehindUpdates(t *testing.T) {
	t.Parallel()
	p := plan(t, "reload-interval", "5", "grad-accumulation-steps", "4", "save-every", "4")
	s := &sim{}
	must(t, context.Background(), p, s)
	var ends []int
	for _, j := range s.jobs {
		ends = append(ends, j.UntilStep)
	}
	if d := cmp.Diff([]int{8, 16, 20}, ends); d != "" {
		t.Error(d)
	}
}

func TestLostStepsDoNotCount(t *testing.T) {
	t.Parallel()
	// Segment 0 came to step 9; segment 1 went on from 5 and died after 7.
	k := newKeeper([]Segment{{Number: 0}, {Number: 1, FromStep: 5}})
	for _, at := range [][2]int{{0, 1}, {0, 2}, {0, 3}, {0, 4}, {0, 5}, {0, 6}, {0, 7}, {0, 8}, {0, 9}, {1, 6}, {1, 7}} {
		k.add(trainer.Event{Segment: at[0], Step: at[1], Payload: trainer.Step{Loss: lossAt(at[1])}})
	}
	events, lost := k.result()
	var got [][2]int
	for _, e := range events {
		got = append(got, [2]int{e.Segment, e.Step})
	}
	if d := cmp.Diff([][2]int{{0, 1}, {0, 2}, {0, 3}, {0, 4}, {0, 5}, {1, 6}, {1, 7}}, got); d != "" || lost != 4 {
		t.Errorf("%d lost: %s", lost, d)
	}
}
