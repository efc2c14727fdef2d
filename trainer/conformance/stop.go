package conformance

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/checkpoint"
	"github.com/mlxdyno/mlxdyno/trainer/wire"
)

// stopAtOnce: told to stop at the very start, perhaps in its first evaluation,
// a worker leaves, and saves only what it has trained.
func (s suite) stopAtOnce(t *testing.T) {
	t.Parallel()
	j := s.job()
	j.Evaluate, j.Dir, j.SaveOnStop = true, t.TempDir(), true
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	j.Tokens.Valid = j.Tokens.Train // more than one batch
	j.Config.Schedule.Steps, j.UntilStep = 1_000_000, 0
	r, sum := s.run(t, ctx, j, func(e trainer.Event) {
		if _, ok := e.Payload.(trainer.Hello); ok {
			cancel()
		}
	})
	if r.Outcome != trainer.Stopped || (r.Checkpoint != nil) != (len(sum.Steps) > 0) {
		t.Errorf("after %d steps: %+v", len(sum.Steps), r)
	}
}

// stopAtTheEnd: told to stop in the evaluation after its last step, a worker
// has saved that step when it leaves, and the next one makes up for the
// evaluation.
func (s suite) stopAtTheEnd(t *testing.T) {
	t.Parallel()
	j := s.job()
	j.Evaluate, j.Dir, j.SaveOnStop = true, t.TempDir(), true
	j.Tokens.Valid = j.Tokens.Train // more than one batch
	j.Config.Schedule.Steps, j.Config.Schedule.EvalEvery, j.UntilStep = 2, 2, 2
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, sum := s.run(t, ctx, j, func(e trainer.Event) {
		if _, ok := e.Payload.(trainer.Step); ok && e.Step == 2 {
			cancel()
		}
	})
	if !r.Outcome.Good() || r.Checkpoint == nil || r.Checkpoint.Step != 2 {
		t.Fatalf("%s, %+v", r.Outcome, r.Checkpoint)
	}
	if len(sum.Evals) > 1 && r.Outcome == trainer.Stopped {
		t.Logf("the evaluation was faster than the word to stop")
	}
	j.From, j.Segment = r.Checkpoint, 1
	r, rest := s.finish(t, j)
	if r.Done.Adapter == "" || len(rest.Steps) != 0 || len(sum.Evals)+len(rest.Evals) != 2 {
		t.Errorf("%d evaluations, then %d, and %d steps; adapter %q", len(sum.Evals), len(rest.Evals), len(rest.Steps), r.Done.Adapter)
	}
}

// stopWithoutSaving: a worker that shall not save leaves at the next step,
// also in mid-update, and writes nothing.
func (s suite) stopWithoutSaving(t *testing.T) {
	t.Parallel()
	j := s.job()
	j.Dir, j.UntilStep = t.TempDir(), 0
	j.Config.Schedule.Steps, j.Config.Schedule.SaveEvery = 1_000_000, 1_000_000
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, _ := s.run(t, ctx, j, func(e trainer.Event) {
		if _, ok := e.Payload.(trainer.Step); ok {
			cancel()
		}
	})
	files, err := os.ReadDir(j.Dir)
	if r.Outcome != trainer.Stopped || r.Checkpoint != nil || err != nil || len(files) > 0 {
		t.Errorf("%s with checkpoint %v, wrote %v: %v", r.Outcome, r.Checkpoint, files, err)
	}
}

// endOfInput: when its input ends, a worker leaves at the next step without
// saving.
func (s suite) endOfInput(t *testing.T) {
	t.Parallel()
	j := s.job()
	j.Dir, j.UntilStep, j.SaveOnStop = t.TempDir(), 0, true
	j.Config.Schedule.Steps = 1_000_000
	p, err := s.engine.Process(j)
	if err != nil {
		t.Fatal(err)
	}
	line, err := wire.EncodeJob(j)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), p.Argv[0], p.Argv[1:]...)
	cmd.Env = p.Env
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd.ExtraFiles = []*os.File{w}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if _, err := stdin.Write(line); err != nil {
		t.Fatal(err)
	}
	var last trainer.Event
	for events := wire.NewReader(bufio.NewReader(r)); ; {
		e, err := events.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := e.Payload.(trainer.Step); ok && e.Step == 3 {
			stdin.Close()
		}
		last = e
	}
	if d, ok := last.Payload.(trainer.Done); !ok || d.Reason != trainer.DoneStop {
		t.Errorf("last word: %+v", last)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	refs, err := checkpoint.List(filepath.Join(j.Dir, "checkpoints"))
	if err != nil {
		t.Fatal(err)
	}
	if want := last.Step / 6; len(refs) > want { // saves are due after every fifth step, at the next update
		t.Errorf("%d checkpoints after %d steps", len(refs), last.Step)
	}
}
