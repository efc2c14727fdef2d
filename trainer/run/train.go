package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/checkpoint"
	"github.com/mlxdyno/mlxdyno/trainer/journal"
	"github.com/mlxdyno/mlxdyno/trainer/worker"
)

// errGuard is the cause with which the guard ends a segment.
var errGuard = errors.New("guard")

// Train does what p says and returns the report of the directory as it then
// is. Cancelling ctx ends the training with its state saved. What befalls the
// training is in the report; an error means that this program failed or that
// it refused the plan (*BusyError, *ChangedError, *FinishedError, *NoRunError,
// *trainer.ConfigError).
func Train(ctx context.Context, p Plan, obs Observer) (Report, error) {
	return train(ctx, p, obs, func(ctx context.Context, process trainer.Process, j trainer.Job, log string, lock *os.File, sink func(trainer.Event) error) (trainer.Result, error) {
		o := p.Worker
		o.LogPath, o.Lock = log, lock
		return worker.Run(ctx, process, j, o, sink)
	})
}

// supervise runs one worker process from start to classified end, with its
// prints appended to the file at log and the lock handed on to it.
type supervise func(ctx context.Context, p trainer.Process, j trainer.Job, log string, lock *os.File, sink func(trainer.Event) error) (trainer.Result, error)

func train(ctx context.Context, p Plan, obs Observer, supervise supervise) (Report, error) {
	t, err := begin(ctx, p, obs)
	if err != nil {
		return Report{}, err
	}
	t.supervise = supervise
	err = t.segments(ctx)
	if err != nil {
		err = explain(t.dir, fmt.Errorf("train: %w", err))
		// The record may fail for the same reason; the error is told either way.
		_ = t.finish(finishRecord{State: StateFailed, Failure: &Failure{Text: err.Error()}})
	}
	report, loadErr := load(t.dir, false)
	if err != nil && loadErr == nil {
		report.State, report.Failure = StateFailed, &Failure{Text: err.Error()}
	}
	return report, errors.Join(err, loadErr, t.close())
}

// training is a run at work: the lock is held, the files are open.
type training struct {
	dir       string
	plan      Plan
	obs       Observer
	now       func() time.Time
	supervise supervise

	spec    Spec
	config  trainer.Config // in force
	ground  Identity       // on which it stood last
	next    int            // number of the next segment
	lock    *lock
	journal *journal.Journal
	events  *eventLog
	watch   watch
	profile *profileRecord // nil until it is recorded or given up
	inexact bool           // it was noted that the engine does not continue exactly
}

func begin(ctx context.Context, p Plan, obs Observer) (_ *training, err error) {
	if err := canProfile(ctx, p); err != nil {
		return nil, err
	}
	p.Policy = p.Policy.withDefaults()
	dir, err := filepath.Abs(p.Dir)
	if err != nil {
		return nil, fmt.Errorf("run directory: %w", err)
	}
	t := &training{dir: dir, plan: p, obs: obs, now: p.Now}
	if t.now == nil {
		t.now = time.Now
	}
	defer func() {
		if err != nil {
			err = errors.Join(explain(dir, err), t.close())
		}
	}()
	if p.Resume {
		err = t.reopen(ctx)
	} else {
		err = t.create(ctx)
	}
	if err != nil {
		return nil, err
	}
	t.watch = watch{guardBytes: t.spec.GuardBytes, sample: p.Sample, expected: t.spec.Expected}
	return t, nil
}

func (t *training) create(ctx context.Context) error {
	c := t.plan.Config
	if err := c.Config.Validate(); err != nil {
		return err
	}
	publish, err := publishPath(c, t.dir)
	if err != nil {
		return err
	}
	if err := makeDir(t.dir); err != nil {
		return err
	}
	if t.lock, err = acquire(ctx, t.dir, t.path(lockName)); err != nil {
		return err
	}
	t.config = c.Config
	t.spec = Spec{Schema: SpecSchema, Created: t.now(), Config: c.Config, ConfigKey: c.Config.Key(), Origins: c.Origins, Tokens: t.plan.Tokens,
		Identity: t.plan.Identity, Expected: t.plan.Expected, GuardBytes: t.plan.GuardBytes, Publish: publish, ProfileSteps: t.plan.ProfileSteps}
	t.ground = t.spec.Identity
	if err := create(t.dir, t.spec); err != nil {
		return err
	}
	if err := t.open(); err != nil {
		return err
	}
	return t.record(didCreate, createRecord{ConfigKey: t.spec.ConfigKey})
}

func (t *training) reopen(ctx context.Context) (err error) {
	if _, err := readSpec(t.dir); err != nil { // before a lock file is made in a directory that is no run
		return err
	}
	if t.lock, err = acquire(ctx, t.dir, t.path(lockName)); err != nil {
		return err
	}
	if t.spec, err = readSpec(t.dir); err != nil {
		return err
	}
	past, err := readHistory(t.dir, t.spec)
	if err != nil {
		return err
	}
	if past.finish != nil && past.finish.State == StateFinished {
		return &FinishedError{Dir: t.dir, Adapter: past.finish.Adapter}
	}
	refused := subjectChanges(t.spec.Identity, t.plan.Identity)
	t.config = past.config
	if is := t.plan.Config; is.Config != (trainer.Config{}) {
		was := t.spec.Settings()
		if movesAdapter(was, is) {
			if t.spec.Publish, err = publishPath(is, t.dir); err != nil {
				return err
			}
		}
		var changes []Change
		t.config, was, changes = adopt(past.config, was, is)
		t.spec.Config, t.spec.ConfigKey, t.spec.Origins = was.Config, was.Config.Key(), was.Origins
		refused = append(refused, changes...)
	}
	if len(refused) > 0 {
		return &ChangedError{Dir: t.dir, Changes: refused}
	}
	if t.plan.Tokens != (trainer.TokenFiles{}) {
		t.spec.Tokens = t.plan.Tokens
	}
	if t.plan.Expected != nil {
		t.spec.Expected = t.plan.Expected
	}
	if t.plan.GuardBytes != 0 {
		t.spec.GuardBytes = t.plan.GuardBytes
	}
	t.next = past.nextSegment()
	if err := t.open(); err != nil {
		return err
	}
	t.ground = t.spec.Identity
	if err := t.askProfile(past); err != nil {
		return err
	}
	if err := t.noteChanges("resume.changed", t.plan.Identity); err != nil {
		return err
	}
	if err := checkpoint.Sweep(t.path(checkpointsName)); err != nil {
		return err
	}
	ref, err := t.newest()
	if err != nil {
		return err
	}
	if err := t.record(didResume, resumeRecord{FromStep: stepsOf(ref), Config: t.config, Profile: t.plan.ProfileSteps}); err != nil {
		return err
	}
	return writeSpec(t.dir, t.spec) // what was accepted now holds for the next resumption too
}

func (t *training) open() (err error) {
	if t.journal, err = journal.Open(t.path(journalName)); err != nil {
		return fmt.Errorf("open journal: %w", err)
	}
	t.events, err = openEvents(t.path(eventsName))
	return err
}

func (t *training) close() error {
	var errs []error
	if t.events != nil {
		errs = append(errs, t.events.close())
	}
	if t.journal != nil {
		errs = append(errs, t.journal.Close())
	}
	if t.lock != nil {
		errs = append(errs, t.lock.release())
	}
	return errors.Join(errs...)
}

// segments runs worker processes until the training has an end.
func (t *training) segments(ctx context.Context) error {
	from, err := t.newest()
	if err != nil {
		return err
	}
	for tries := 0; ; {
		if ctx.Err() != nil {
			return t.finish(finishRecord{State: StateInterrupted})
		}
		profiling := t.profiling()
		result, asked, err := t.segment(ctx, from)
		if err != nil {
			return err
		}
		saved, err := t.newest()
		if err != nil {
			return err
		}
		if stepsOf(saved) > stepsOf(from) {
			tries = 0
		}
		d := decide(ending{config: t.config, result: result, from: stepsOf(from), saved: stepsOf(saved), tries: tries,
			interrupted: ctx.Err() != nil, asked: asked}, t.plan.Policy)
		if profiling {
			if d, err = t.afterProfile(d, result, asked, stepsOf(saved)); err != nil {
				return err
			}
		}
		from = saved
		switch d.action {
		case finish:
			return t.complete(result)
		case interrupt:
			return t.finish(finishRecord{State: StateInterrupted})
		case giveUp:
			return t.finish(finishRecord{State: StateFailed, Failure: d.failure})
		case goOn:
			tries = 0
		case tryAgain:
			tries++
			err = t.note(Note{Code: "retry", Step: stepsOf(from), Text: fmt.Sprintf("%s: started again from step %d (%d of %d)", d.why, stepsOf(from), tries, t.plan.Policy.MaxRetries)})
		case backOff:
			tries++
			err = t.ease(*d.change, stepsOf(from))
		}
		if err != nil {
			return err
		}
	}
}

// ease puts a back-off in force.
func (t *training) ease(b BackOff, step int) error {
	b.At, b.Segment = t.now(), t.next-1
	if err := t.record(didBackOff, b); err != nil {
		return err
	}
	t.config = b.Config
	text := fmt.Sprintf("%s: %s %s → %s, started again from step %d", b.Why, b.Knob, b.From, b.To, step)
	if b.Reorders {
		text += fmt.Sprintf("; accumulation is now %d and the training %d steps, and rows come in another order than planned", b.Config.Plan.Accumulation, b.Config.Schedule.Steps)
	}
	return t.note(Note{Code: "back-off." + b.Knob, Step: step, Text: text})
}

// complete publishes the adapter and ends the run.
func (t *training) complete(r trainer.Result) error {
	adapter := t.path(adapterName)
	if r.Done != nil && r.Done.Adapter != "" {
		adapter = r.Done.Adapter
	}
	if t.spec.Publish != "" {
		aside, err := publish(adapter, t.spec.Publish, t.now())
		switch {
		case err != nil: // the training is done and its adapter is safe
			err = t.note(Note{Code: "publish.failed", Step: r.LastStep, Text: fmt.Sprintf("%v; the adapter stays in %s: copy it from there", err, adapter)})
			if err != nil {
				return err
			}
		default:
			if aside != "" {
				if err := t.note(Note{Code: "publish.aside", Step: r.LastStep, Text: fmt.Sprintf("what was in %s is now in %s", t.spec.Publish, aside)}); err != nil {
					return err
				}
			}
			adapter = t.spec.Publish
		}
	}
	return t.finish(finishRecord{State: StateFinished, Adapter: adapter})
}

// newest returns the checkpoint to go on from, nil for none. Newer ones that
// are damaged are moved out of the way, so that their names are free.
func (t *training) newest() (*trainer.CheckpointRef, error) {
	ref, bad, err := checkpoint.Newest(t.path(checkpointsName))
	if err != nil {
		return nil, err
	}
	for _, d := range bad {
		to, err := checkpoint.SetAside(d.Dir)
		if err != nil {
			return nil, err
		}
		if err := t.note(Note{Code: "checkpoint.damaged", Step: stepsOf(ref), Text: fmt.Sprintf("%v; moved to %s, going on from step %d", d, to, stepsOf(ref))}); err != nil {
			return nil, err
		}
	}
	return ref, nil
}

func (t *training) path(name string) string { return filepath.Join(t.dir, name) }

func (t *training) record(kind string, v any) error {
	if err := t.journal.Append(kind, v); err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	return nil
}

func (t *training) finish(r finishRecord) error { return t.record(didFinish, r) }

// note tells the observer once it is on disk.
func (t *training) note(n Note) error {
	n.At = t.now()
	if err := t.record(didNote, n); err != nil {
		return err
	}
	t.obs.Note(n)
	return nil
}

// explain adds to an error that came of a full disk what is kept and what to do.
func explain(dir string, err error) error {
	for _, full := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG} {
		if !errors.Is(err, full) {
			continue
		}
		if _, none := os.Stat(filepath.Join(dir, specName)); none != nil {
			return fmt.Errorf("%w; nothing was begun: make room, then try again", err)
		}
		return fmt.Errorf("%w; the training is stopped and its newest checkpoint kept: make room, then %s", err, resumeCommand(dir))
	}
	return err
}

func stepsOf(ref *trainer.CheckpointRef) int {
	if ref == nil {
		return 0
	}
	return ref.Step
}
