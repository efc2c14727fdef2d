package run

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/checkpoint"
)

// engine names itself and hands out nothing to start: sim trains in process.
type engine struct{ inexact, plain bool } // plain ones record no profiles

func (engine) Name() string { return "sim" }
func (e engine) Capabilities(context.Context) (trainer.Capabilities, error) {
	return trainer.Capabilities{ExactResume: !e.inexact, Profile: !e.plain}, nil
}
func (engine) Process(trainer.Job) (trainer.Process, error) { return trainer.Process{}, nil }

// sim is a worker without a process. Its loss depends on the step alone, so
// that an exactly continued training is known by its losses.
type sim struct {
	// fate ends the job before the given step when it returns a result.
	fate func(j trainer.Job, step int) *trainer.Result
	// memory is what a step reads; nil reads a constant.
	memory func(j trainer.Job, step int) trainer.Memory
	// after is called when a step has been taken in.
	after func(j trainer.Job, step int)
	// mute leaves the checkpoint at the end of a segment out.
	mute bool
	// dumb leaves the profile out.
	dumb bool

	jobs []trainer.Job
}

func lossAt(step int) trainer.Float { return trainer.Float(3 - 0.01*float64(step)) }

func (s *sim) run(ctx context.Context, _ trainer.Process, j trainer.Job, log string, lock *os.File, sink func(trainer.Event) error) (trainer.Result, error) {
	s.jobs = append(s.jobs, j)
	r := trainer.Result{}
	var seq int64
	var elapsed time.Duration
	step := stepsOf(j.From)
	state := "seed"
	if j.From != nil {
		b, err := os.ReadFile(filepath.Join(j.From.Dir, "adapters.safetensors"))
		if err != nil {
			return r, err
		}
		state = string(b)
	}
	say := func(p trainer.Payload) error {
		e := trainer.Event{Segment: j.Segment, Seq: seq, Elapsed: elapsed, Step: step, Payload: p}
		seq++
		return sink(e)
	}
	save := func() error {
		ref, err := saveState(j, step, state)
		if err != nil {
			return err
		}
		r.Checkpoint = &ref
		return say(trainer.Checkpoint{Ref: ref, Bytes: 1, Seconds: 0.5})
	}
	end := func(o trainer.Outcome) (trainer.Result, error) {
		r.Outcome, r.LastStep, r.Elapsed = o, step, elapsed
		return r, nil
	}
	if err := say(trainer.Hello{Protocol: [2]int{1, 0}, Engine: "sim", PID: os.Getpid(), Versions: map[string]string{"mlx": "1"}, Device: trainer.Device{Kind: "cpu", Name: "sim"}, BLAS: "none"}); err != nil {
		return r, err
	}
	elapsed += 2 * time.Second
	if err := say(trainer.Ready{LoadSeconds: 2}); err != nil {
		return r, err
	}
	for step < j.UntilStep {
		if s.fate != nil {
			if fate := s.fate(j, step+1); fate != nil {
				r = *fate
				return end(r.Outcome)
			}
		}
		step++
		state = trained(state, step)
		elapsed += 100 * time.Millisecond
		seconds := 0.08
		if j.Mode == trainer.Profile {
			seconds = 0.2
		}
		m := trainer.Memory{Active: trainer.Some[int64](100), Peak: trainer.Some[int64](200), Cache: trainer.Some[int64](0)}
		if s.memory != nil {
			m = s.memory(j, step)
		}
		if err := say(trainer.Step{Loss: lossAt(step), Tokens: 10, Supervised: 5, Seconds: seconds, DataSeconds: 0.02, Memory: m, Shape: trainer.Shape{Batch: j.Config.Plan.Batch, Width: 8}}); err != nil {
			return r, err
		}
		if j.Mode == trainer.Profile {
			if err := s.sayProfile(j, step, say); err != nil {
				return r, err
			}
		}
		if s.after != nil {
			s.after(j, step)
		}
		if step%j.Config.Schedule.EvalEvery == 0 {
			if err := say(trainer.Eval{Loss: lossAt(step) + 1, Batches: 1, Seconds: 0.1}); err != nil {
				return r, err
			}
		}
		if (step%j.Config.Schedule.SaveEvery == 0 || step == j.UntilStep) && !s.mute {
			if err := save(); err != nil {
				return r, err
			}
		}
		if ctx.Err() != nil && step < j.UntilStep {
			if err := save(); err != nil {
				return r, err
			}
			return end(trainer.Stopped)
		}
	}
	r.Done = &trainer.Done{Reason: trainer.DoneSteps}
	if step == j.Config.Schedule.Steps {
		r.Done.Adapter = filepath.Join(j.Dir, adapterName)
		if err := saveAdapter(r.Done.Adapter, state); err != nil {
			return r, err
		}
	}
	return end(trainer.Finished)
}

// trained is the state after one more step. It depends on every step before.
func trained(state string, step int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d", state, step))
	return hex.EncodeToString(sum[:])
}

func saveAdapter(dir, state string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "adapters.safetensors"), []byte(state), 0o644)
}

func saveState(j trainer.Job, step int, state string) (trainer.CheckpointRef, error) {
	final := filepath.Join(j.Dir, checkpointsName, checkpoint.Name(step))
	temp := filepath.Join(j.Dir, checkpointsName, ".tmp-"+checkpoint.Name(step))
	ref := trainer.CheckpointRef{Step: step, Dir: final}
	if err := os.MkdirAll(temp, 0o755); err != nil {
		return ref, err
	}
	content := []byte(state)
	sum := sha256.Sum256(content)
	m, err := json.Marshal(checkpoint.Manifest{Schema: checkpoint.Schema, Step: step, ConfigKey: j.Config.Key(), Engine: "sim",
		Files: []checkpoint.File{{Name: "adapters.safetensors", Bytes: int64(len(content)), SHA256: hex.EncodeToString(sum[:])}}})
	if err != nil {
		return ref, err
	}
	if err := os.WriteFile(filepath.Join(temp, "adapters.safetensors"), content, 0o644); err != nil {
		return ref, err
	}
	if err := os.WriteFile(filepath.Join(temp, checkpoint.ManifestName), m, 0o644); err != nil {
		return ref, err
	}
	if err := os.RemoveAll(final); err != nil {
		return ref, err
	}
	return ref, os.Rename(temp, final)
}

// seen is an Observer that remembers.
type seen struct {
	events []trainer.Event
	notes  []Note
}

func (s *seen) Event(e trainer.Event) { s.events = append(s.events, e) }
func (s *seen) Note(n Note)           { s.notes = append(s.notes, n) }

func (s *seen) codes() []string {
	var out []string
	for _, n := range s.notes {
		out = append(out, n.Code)
	}
	return out
}

var epoch = time.Date(2026, 11, 23, 15, 30, 12, 0, time.UTC)

// plan is a training of 20 steps in a fresh directory, saved every 5.
func plan(t testing.TB, turn ...string) Plan {
	t.Helper()
	s := trainer.NewSettings()
	args := slices.Concat([]string{"model", "/models/m", "data", "/data/d", "iters", "20", "save-every", "5", "steps-per-eval", "10"}, turn)
	for kv := range slices.Chunk(args, 2) {
		if err := s.Set(kv[0], kv[1], trainer.FromFlag); err != nil {
			t.Fatal(err)
		}
	}
	return Plan{Engine: engine{}, Config: s, Tokens: trainer.TokenFiles{Train: "/tokens/train"}, Dir: filepath.Join(t.TempDir(), "run"),
		Identity: Identity{Model: "m1", Data: "d1", Versions: map[string]string{"mlx": "1"}}, Now: func() time.Time { return epoch }}
}

// must trains and fails the test on an error of ours.
func must(t testing.TB, ctx context.Context, p Plan, s *sim) (Report, *seen) {
	t.Helper()
	obs := &seen{}
	r, err := train(ctx, p, obs, s.run)
	if err != nil {
		t.Fatal(err)
	}
	return r, obs
}

// wantWhole checks a finished run of n steps: the adapter is that of an
// undisturbed training, and every step counts at most once, in order, with its
// loss. Steps without a record are the report's to name.
func wantWhole(t testing.TB, dir string, n int) Report {
	t.Helper()
	r, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	state := "seed"
	for step := range n {
		state = trained(state, step+1)
	}
	if b, err := os.ReadFile(filepath.Join(dir, adapterName, "adapters.safetensors")); err != nil || string(b) != state {
		t.Errorf("the adapter is not that of %d steps in a row: %v", n, err)
	}
	last := 0
	for _, p := range r.Losses {
		if p.Step <= last || p.Loss != lossAt(p.Step) {
			t.Errorf("step %d with loss %v follows step %d", p.Step, p.Loss, last)
		}
		last = p.Step
	}
	if last > n || r.StepsDone != n || len(r.Losses)+r.Totals.UnrecordedSteps != n {
		t.Errorf("newest record of step %d of %d, %d done, %d with and %d without a record", last, n, r.StepsDone, len(r.Losses), r.Totals.UnrecordedSteps)
	}
	return r
}
