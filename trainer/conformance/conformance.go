// Package conformance is what every engine must do, as tests that each engine
// runs in its own room.
//
// It is about the contract alone: that a training which is stopped, killed or
// restarted repeats the uninterrupted one bit for bit, what stopping does, what
// is refused and with which words, and the order of events. What is learned is
// compared elsewhere. It knows no engine; nothing but tests imports it.
package conformance

import (
	"context"
	"strings"
	"testing"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/worker"
)

// World is what an engine is tested on.
type World struct {
	// Model is stored unquantized and has three blocks, some of whose linear
	// maps have a width that groups of 64 do not divide.
	Model string
	// Text was made into Tokens: 26 rows to train on, 5 to validate, prompts of
	// 4 tokens and more that do not count, and rows of more than 64 tokens.
	Text   string
	Tokens trainer.TokenFiles
	// Kills is how many workers are killed at random moments.
	Kills int
}

// Run runs every test on an engine.
func Run(t *testing.T, e trainer.Engine, w World) {
	s := suite{e, w}
	t.Run("resume", s.resume)
	t.Run("other batches", s.otherBatches)
	t.Run("stop at once", s.stopAtOnce)
	t.Run("stop at the end", s.stopAtTheEnd)
	t.Run("stop without saving", s.stopWithoutSaving)
	t.Run("end of input", s.endOfInput)
	t.Run("shapes", s.shapes)
	t.Run("budget", s.budget)
	t.Run("most memory", s.mostMemory)
	t.Run("limits", s.limits)
	t.Run("short shapes", s.shortShapes)
	t.Run("profile", s.profile)
	t.Run("failures", s.failures)
	t.Run("damaged checkpoints", s.damagedCheckpoints)
	t.Run("full disk", s.fullDisk)
}

type suite struct {
	engine trainer.Engine
	World
}

// job is a training of 16 steps, more than two passes over the data, with all
// that has a state: dropout, accumulation, and an optimizer with moments.
func (s suite) job() trainer.Job {
	c := trainer.DefaultConfig()
	c.Engine = s.engine.Name()
	c.Model.Path, c.Data.Path = s.Model, s.Text
	c.Data.MaskPrompt, c.Data.MaxSeqLength, c.Data.GroupByLength = true, 64, true
	c.Quality.Rank, c.Quality.Dropout, c.Quality.LearningRate, c.Quality.Optimizer = 4, 0.1, 1e-3, "adamw"
	c.Plan.Batch, c.Plan.Accumulation = 4, 2
	c.Schedule = trainer.Schedule{Steps: 16, EvalEvery: 4, ValBatches: -1, SaveEvery: 5}
	c.Seed = 5
	return trainer.Job{Config: c, Tokens: s.Tokens, UntilStep: c.Schedule.Steps, Mode: trainer.Normal}
}

// run runs a job; each hears every event, and may be nil.
func (s suite) run(t *testing.T, ctx context.Context, j trainer.Job, each func(trainer.Event)) (trainer.Result, trainer.Summary) {
	t.Helper()
	p, err := s.engine.Process(j)
	if err != nil {
		t.Fatal(err)
	}
	return runProcess(t, ctx, p, j, each)
}

func runProcess(t *testing.T, ctx context.Context, p trainer.Process, j trainer.Job, each func(trainer.Event)) (trainer.Result, trainer.Summary) {
	t.Helper()
	var events []trainer.Event
	r, err := worker.Run(ctx, p, j, worker.Options{}, func(e trainer.Event) error {
		events = append(events, e)
		if each != nil {
			each(e)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	inOrder(t, j, r, events)
	return r, trainer.Summarize(events)
}

// finish runs a job that must do what it is asked to.
func (s suite) finish(t *testing.T, j trainer.Job) (trainer.Result, trainer.Summary) {
	t.Helper()
	r, sum := s.run(t, t.Context(), j, nil)
	if r.Outcome != trainer.Finished {
		t.Fatalf("%s: %+v\n%s", r.Outcome, r.Failure, r.LogTail)
	}
	return r, sum
}

// inOrder checks that events are numbered, say what they belong to, and come as
// the protocol has it: hello, ready, then the others, and one last word.
func inOrder(t *testing.T, j trainer.Job, r trainer.Result, events []trainer.Event) {
	t.Helper()
	var kinds []string
	step := 0
	if j.From != nil {
		step = j.From.Step
	}
	for i, e := range events {
		kinds = append(kinds, string(e.Payload.Kind()))
		if _, ok := e.Payload.(trainer.Step); ok {
			step++
		}
		if e.Seq != int64(i) || e.Segment != j.Segment || e.Step != step {
			t.Errorf("event %d, a %s of step %d in segment %d, says that it is event %d of step %d in segment %d",
				i, e.Payload.Kind(), step, j.Segment, e.Seq, e.Step, e.Segment)
		}
		if i > 0 && e.Elapsed < events[i-1].Elapsed {
			t.Errorf("event %d is of %s, the one before of %s", i, e.Elapsed, events[i-1].Elapsed)
		}
	}
	said := strings.Join(kinds, " ")
	middle, ended := said, false
	for _, last := range []trainer.Kind{trainer.KindDone, trainer.KindError} {
		if head, ok := strings.CutSuffix(said, string(last)); ok {
			middle, ended = head, true
		}
	}
	dead := r.Outcome == trainer.Killed || r.Outcome == trainer.Crashed
	if !ended && !dead {
		t.Errorf("%s without a last word: %s", r.Outcome, said)
	}
	fields := strings.Fields(middle)
	for i, kind := range fields {
		want := map[int]trainer.Kind{0: trainer.KindHello, 1: trainer.KindReady}[i]
		// What makes a job hopeless may be found and warned of while it loads.
		if i == 1 && len(fields) == 2 && !dead && r.Ready == nil {
			want = trainer.KindWarning
		}
		switch {
		case want != "" && kind != string(want):
			t.Errorf("event %d is a %s instead of a %s: %s", i, kind, want, said)
		case want == "" && (kind == string(trainer.KindHello) || kind == string(trainer.KindReady) || kind == string(trainer.KindDone) || kind == string(trainer.KindError)):
			t.Errorf("event %d is a %s: %s", i, kind, said)
		}
	}
}

func losses(s trainer.Summary) []float64 {
	var out []float64
	for _, r := range s.Steps {
		out = append(out, float64(r.Loss))
	}
	return out
}

func expectFailure(t *testing.T, r trainer.Result, kind trainer.FailKind, code, says string) {
	t.Helper()
	f := r.Failure
	if f == nil {
		t.Fatalf("%s without a word: %+v\n%s", r.Outcome, r, r.LogTail)
	}
	if f.FailKind != kind || f.Code != code || !strings.Contains(f.Text, says) || f.Hint == "" || f.Detail == "" {
		t.Errorf("got %+v\nwant %s %s with %q and a hint", f, kind, code, says)
	}
	if strings.Contains(f.Text, "Traceback") || strings.Contains(f.Text, "\n") {
		t.Errorf("not one line for a person: %s", f.Text)
	}
}
