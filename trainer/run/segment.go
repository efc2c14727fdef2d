package run

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/checkpoint"
)

// segment runs one worker process from a checkpoint to the next planned end.
// asked reports whether the guard ended it early.
func (t *training) segment(ctx context.Context, from *trainer.CheckpointRef) (_ trainer.Result, asked bool, _ error) {
	job := trainer.Job{Config: t.config, Tokens: t.spec.Tokens, Dir: t.dir, From: from, Segment: t.next,
		UntilStep: t.end(stepsOf(from)), SaveOnStop: true, Evaluate: true, Mode: trainer.Normal}
	if t.profiling() {
		job.Mode = trainer.Profile
	}
	process, err := t.plan.Engine.Process(job)
	if err != nil {
		return trainer.Result{}, false, fmt.Errorf("start %s: %w", t.plan.Engine.Name(), err)
	}
	if err := t.noteInexact(ctx, from); err != nil {
		return trainer.Result{}, false, err
	}
	if err := t.record(didStart, startRecord{Segment: job.Segment, From: from, UntilStep: job.UntilStep, ConfigKey: t.config.Key(), Profile: job.Mode == trainer.Profile}); err != nil {
		return trainer.Result{}, false, err
	}
	t.next++
	t.watch.segment(job.Mode == trainer.Profile)
	if t.plan.Segment != nil {
		t.plan.Segment(t.config)
	}

	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	result, err := t.supervise(ctx, process, job, t.path(logName), t.lock.file, func(e trainer.Event) error {
		reload, err := t.take(e)
		if reload {
			stop(errGuard)
		}
		return err
	})
	end := endRecord{Segment: job.Segment, Result: result}
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errGuard):
		end.Reason, asked = "guard", true
	case cause != nil:
		end.Reason = "interrupt"
	}
	if err != nil {
		_ = t.record(didEnd, end) // the error matters more, and may be that nothing can be written
		return result, asked, fmt.Errorf("supervise %s: %w", t.plan.Engine.Name(), err)
	}
	return result, asked, t.record(didEnd, end)
}

// take puts one event on disk, does what it asks for and hands it on.
func (t *training) take(e trainer.Event) (reload bool, err error) {
	if err := t.events.add(e); err != nil {
		return false, err
	}
	var notes []Note
	switch p := e.Payload.(type) {
	case trainer.Hello:
		err = t.meet(p)
	case trainer.Step:
		notes, reload = t.watch.step(e, p)
	case trainer.Profiled:
		err = t.profiled(e.Segment, p)
	case trainer.Checkpoint:
		if err = t.events.sync(); err == nil {
			err = t.record(didSave, p)
		}
		if err == nil {
			err = checkpoint.Retain(t.path(checkpointsName), t.plan.Policy.Keep)
		}
	}
	if err != nil {
		return false, err
	}
	t.obs.Event(e)
	for _, n := range notes {
		if err := t.note(n); err != nil {
			return false, err
		}
	}
	return reload, nil
}

// meet compares a worker with those before it, and keeps in run.json what it
// is the first to tell.
func (t *training) meet(h trainer.Hello) error {
	if err := t.noteChanges("worker.changed", identityOf(h)); err != nil {
		return err
	}
	known := identityOf(h).with(t.spec.Identity)
	if reflect.DeepEqual(known, t.spec.Identity) {
		return nil
	}
	t.spec.Identity = known
	return writeSpec(t.dir, t.spec)
}

// noteInexact notes once that a training went on from a checkpoint with an engine
// that does not repeat the uninterrupted one.
func (t *training) noteInexact(ctx context.Context, from *trainer.CheckpointRef) error {
	if from == nil || t.inexact {
		return nil
	}
	engine := t.plan.Engine
	can, err := engine.Capabilities(ctx)
	if err != nil {
		return fmt.Errorf("ask %s what it is capable of: %w", engine.Name(), err)
	}
	if can.ExactResume {
		return nil
	}
	t.inexact = true
	return t.note(Note{Code: "resume.not-exact", Step: from.Step,
		Text: fmt.Sprintf("%s does not go on exactly: losses after step %d may differ from an uninterrupted run's", engine.Name(), from.Step)})
}

// noteChanges notes once what differs from the ground on which the training
// stood so far.
func (t *training) noteChanges(code string, is Identity) error {
	changes := groundChanges(t.ground, is)
	t.ground = t.ground.with(is)
	for _, c := range changes {
		if err := t.note(Note{Code: code, Text: c.String() + ": the last digits of the losses may differ from an uninterrupted run"}); err != nil {
			return err
		}
	}
	return nil
}

// segmentEnd is the step at which a worker process that starts after step ends:
// behind a whole optimizer update, since half of one cannot be saved.
func segmentEnd(step int, c trainer.Config) int {
	n, updates := c.Schedule.ReloadInterval, max(1, c.Plan.Accumulation)
	if n == 0 {
		return c.Schedule.Steps
	}
	n = (n + updates - 1) / updates * updates
	return min(step+n, c.Schedule.Steps)
}
