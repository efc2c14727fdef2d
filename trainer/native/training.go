package native

import (
	"fmt"
	"iter"
	"math"
	"path/filepath"
	"strings"
	"time"

	"github.com/mlxdyno/mlxdyno/mlxbind"
	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/data"
	"github.com/mlxdyno/mlxdyno/trainer/native/profile"
)

// training is one job's share of a training, from its first step to its end.
type training struct {
	*process
	s       *mlxbind.Scope
	learner *learner
	rows    *data.Rows
	valid   *data.Rows // nil when there are none

	config    trainer.Config
	directory string // where checkpoints go; empty for none
	epochs    *data.Epochs
	stream    *data.Stream // of epochs, which are its own from then on
	validated []batch      // built once
	next      func() (batch, bool)

	recorder *profile.Recorder // nil unless steps are profiled

	step, first, until int
	endless            bool
	saved              int  // step of the newest checkpoint; step 0 needs none
	evaluated          *int // step after which it was last done
	started            time.Time
}

func (t *training) close() {
	for _, r := range []*data.Rows{t.rows, t.valid} {
		if r != nil {
			r.Close()
		}
	}
}

// run trains until it is over, and returns why.
func (t *training) run() error {
	job := t.job
	t.config = job.Config
	if len(job.Shapes) == 0 {
		t.directory = job.Dir
	}
	if job.From != nil {
		t.step = job.From.Step
	}
	t.first, t.saved = t.step, t.step
	t.until = job.UntilStep
	if t.until == 0 {
		t.endless = len(job.Shapes) > 0 || job.Budget > 0 && t.directory == ""
		t.until = t.config.Schedule.Steps
	}
	if err := t.unfinishedUpdate(); err != nil {
		return err
	}
	stop, err := t.source()
	if err != nil {
		return err
	}
	defer stop()
	if job.Mode == trainer.Profile {
		if err := t.record(); err != nil {
			return err
		}
	}
	for {
		if err := t.betweenSteps(); err != nil {
			return err
		}
		if err := t.one(); err != nil {
			return err
		}
	}
}

// source opens what batches come from, and returns how to close it.
func (t *training) source() (stop func(), err error) {
	stop = func() {}
	if shapes := t.job.Shapes; len(shapes) > 0 {
		exact, done := iter.Pull(data.Exact(t.rows, shapes, t.batching().Packed))
		steps, warm := 0, time.Time{}
		t.next = func() (batch, bool) {
			b, ok := exact()
			if most := t.job.ShapeSeconds; most > 0 && steps >= trainer.LeastSteps && time.Since(warm).Seconds() >= most {
				for ok && !b.New {
					b, ok = exact()
				}
			}
			if b.New {
				t.s.ClearCache()
				steps = 0
			}
			if steps++; steps == 2 { // the first, which may have compiled, is over
				warm = time.Now()
			}
			return batch{b.Tokens, b.Spans, b.Shape}, ok
		}
		return done, nil
	}
	t.epochs, err = data.NewEpochs(t.rows.Lengths(), t.batching(), data.NewGenerator(uint32(t.config.Seed)))
	if err != nil {
		return stop, fail(trainer.FailData, "data.too-few-rows", "lower --batch-size, or add rows", "%v", err)
	}
	if t.job.From != nil {
		if err := t.restore(); err != nil {
			return stop, err
		}
	}
	t.stream = data.NewStream(t.rows, t.epochs, t.config.Data.MaxSeqLength)
	t.next = func() (batch, bool) {
		f, ok := t.stream.Next()
		return batch{f.Tokens, f.Spans, f.Batch.Shape}, ok
	}
	return t.stream.Close, nil
}

// batching is how rows become batches here.
func (t *training) batching() data.Batching {
	b := data.BatchingOf(t.config, t.said.Device.Kind)
	var valid []int32
	if t.valid != nil {
		valid = t.valid.Lengths()
	}
	return b.Bounded(t.rows.Lengths(), valid)
}

func (t *training) fill(rows *data.Rows, b data.Batch) batch {
	tokens, spans := rows.Fill(b, t.config.Data.MaxSeqLength)
	return batch{tokens, spans, b.Shape}
}

// unfinishedUpdate refuses a stretch that ends within an update, and warns of a
// training that does.
func (t *training) unfinishedUpdate() error {
	if t.directory == "" || t.atUpdate(t.until) {
		return nil
	}
	every := t.config.Plan.Accumulation
	if t.until < t.config.Schedule.Steps {
		return fail(trainer.FailConfig, "config.until-step", "choose a --reload-interval that is a multiple of --grad-accumulation-steps",
			"a stretch must end with a whole update, and from step %d to %d is no multiple of %d steps", t.first, t.until, every)
	}
	return t.events.warn("schedule.unfinished-update", "the last %d steps do not complete an update, so they change nothing", (t.until-t.first)%every)
}

// atUpdate reports whether no gradient waits for further steps.
func (t *training) atUpdate(step int) bool { return (step-t.first)%t.config.Plan.Accumulation == 0 }

// one takes the next batch and trains on it.
func (t *training) one() error {
	began := time.Now()
	b, ok := t.next()
	if !ok {
		return t.endAfterProfile(trainer.DoneSteps)
	}
	t.s.ResetPeak()
	fetching := time.Since(began)
	t.recorder.Begin(fetching)
	began = time.Now()
	r, err := t.learner.step(b, t.atUpdate(t.step+1))
	if err != nil {
		return fmt.Errorf("step %d: %w", t.step+1, err)
	}
	if t.afterStep != nil {
		t.afterStep(t.s, t.learner)
	}
	cached := t.s.Memory().Cache
	if t.clears() {
		t.s.ClearCache()
	}
	seconds := time.Since(began)
	t.step++
	t.events.step = t.step
	t.commands.took(seconds)
	if t.started.IsZero() {
		t.started = time.Now()
	}
	said := trainer.Step{
		Loss: trainer.Float(r.loss), LearningRate: trainer.Some(trainer.Float(t.learner.rate)), Shape: b.shape,
		Tokens: b.real(), Supervised: r.supervised, Seconds: seconds.Seconds(), DataSeconds: fetching.Seconds(),
		Memory: memory(t.s, cached), Live: trainer.Some(t.rt.Live()), EmitWait: trainer.Some(t.events.takeWait()),
	}
	if t.said.Compiled {
		said.Traces = trainer.Some(t.learner.traces())
	}
	t.recorder.End(&said)
	if err := t.events.emit(said); err != nil {
		return err
	}
	if t.recorder != nil {
		if err := t.events.emit(t.recorder.Phases()); err != nil {
			return err
		}
	}
	switch {
	case !math.IsNaN(r.loss) && !math.IsInf(r.loss, 0):
		return t.s.Err()
	case r.supervised == 0:
		return fail(trainer.FailNonFinite, "nonfinite.no-targets", "raise --max-seq-length, or drop --mask-prompt",
			"no token of the batch of step %d counts in the loss: its rows are cut before their completions begin", t.step)
	}
	return fail(trainer.FailNonFinite, "nonfinite.loss", "lower --learning-rate; weights stored in float16 overflow sooner than in bfloat16",
		"the loss of step %d is %v", t.step, r.loss)
}

// clears reports whether freed memory is given back after every step, as mlx-lm
// does.
func (t *training) clears() bool { return t.config.Parity && !t.config.Plan.CacheLimit.IsSet }

// real is the number of tokens that go through the model, padding not counted.
func (b batch) real() int64 {
	if b.shape.Packed > 0 {
		return int64(b.shape.Packed)
	}
	var n int64
	for i := 1; i < len(b.spans); i += 2 {
		n += int64(min(int(b.spans[i]), b.shape.Width-1))
	}
	return n
}

// betweenSteps does what is due and returns an error when it is time to leave.
func (t *training) betweenSteps() error {
	if !t.commands.leaving() {
		if err := t.attend(); err != nil {
			return err
		}
	}
	// It may have been told just now, in mid-evaluation.
	stop, save, gone := t.commands.state()
	switch {
	case gone:
		return end(trainer.DoneStop)
	case stop && (!save || t.directory == ""):
		return end(trainer.DoneStop)
	case stop && t.atUpdate(t.step):
		if err := t.save(); err != nil {
			return err
		}
		return end(trainer.DoneStop)
	case stop && !t.endless && t.step >= t.until:
		return end(trainer.DoneStop)
	}
	if b := t.job.Budget; b > 0 && !t.started.IsZero() && time.Since(t.started) >= b {
		return t.endAfterProfile(trainer.DoneBudget)
	}
	t.changeLimits()
	return nil
}

// changeLimits sets the limits of MLX that the job has from this step on.
func (t *training) changeLimits() {
	for _, l := range t.job.Limits {
		if l.After != t.step {
			continue
		}
		if n, ok := l.MemoryBytes.Get(); ok {
			t.s.SetMemoryLimit(n)
		}
		if n, ok := l.CacheBytes.Get(); ok {
			t.s.SetCacheLimit(n)
		}
	}
}

// attend does what is due after a step.
func (t *training) attend() error {
	over, complete := !t.endless && t.step >= t.until, t.step >= t.config.Schedule.Steps
	if over {
		if err := t.sayProfile(); err != nil {
			return err
		}
	}
	if t.evaluationIsDue(complete) {
		done, err := t.evaluate()
		if err != nil || !done {
			return err
		}
	}
	if t.directory != "" && t.atUpdate(t.step) && (over || t.saveIsDue()) {
		if err := t.save(); err != nil {
			return err
		}
	}
	switch {
	case over && complete && t.directory != "":
		adapter := filepath.Join(t.directory, "adapter")
		if err := t.saveAdapter(adapter); err != nil {
			return err
		}
		return &ended{trainer.Done{Reason: trainer.DoneSteps, Adapter: adapter}}
	case over:
		return end(trainer.DoneSteps)
	}
	return nil
}

func (t *training) evaluationIsDue(complete bool) bool {
	s := t.config.Schedule
	if len(t.job.Shapes) > 0 || !t.job.Evaluate || t.valid == nil || t.valid.Len() == 0 || s.ValBatches == 0 {
		return false
	}
	due := t.step == 0 || complete || t.step%s.EvalEvery == 0
	return due && (t.evaluated == nil || *t.evaluated != t.step)
}

// evaluate computes the validation loss, on the same batches every time. It is
// given up, which is no error, when the worker is told to leave.
func (t *training) evaluate() (done bool, err error) {
	began := time.Now()
	if t.validated == nil {
		c := t.config
		for _, b := range data.Validation(t.valid.Lengths(), t.batching(), c.Schedule.ValBatches, uint32(c.Seed)) {
			t.validated = append(t.validated, t.fill(t.valid, b))
		}
	}
	e, done, err := t.learner.evaluate(t.validated, func() bool { return !t.commands.leaving() })
	if err != nil || !done {
		return false, err
	}
	if t.clears() {
		t.s.ClearCache()
	}
	step := t.step
	t.evaluated = &step
	return true, t.events.emit(trainer.Eval{Loss: trainer.Float(e.loss), Batches: len(t.validated), Seconds: time.Since(began).Seconds(), Losses: e.losses, Tokens: e.tokens})
}

func (t *training) saveIsDue() bool {
	every := t.config.Schedule.SaveEvery
	return t.step/every > t.saved/every
}

// restore puts the training back to where its checkpoint was made.
func (t *training) restore() error {
	state, err := t.readCheckpoint(t.job.From.Dir)
	if err != nil {
		return err
	}
	t.evaluated = state.Evaluated
	if changed := t.said.differences(state.Surroundings); len(changed) > 0 {
		if err := t.events.warn("resume.not-exact", "not bit for bit what an uninterrupted training would do: %s changed", strings.Join(changed, ", ")); err != nil {
			return err
		}
	}
	if state.Order == t.order() {
		if err := t.epochs.GoTo(state.Position); err != nil {
			return damaged(t.job.From.Dir, err)
		}
		return nil
	}
	position := state.Position
	position.Used = 0
	if err := t.epochs.GoTo(position); err != nil {
		return damaged(t.job.From.Dir, err)
	}
	return t.events.warn("resume.data-order", "rows or batches are not those of the checkpoint: a new pass over the data begins")
}

// order decides which rows make which batch.
type order struct {
	Rows     int    `json:"rows"`
	Checksum uint32 `json:"checksum"`
	Batch    int    `json:"batch"`
	Grouped  bool   `json:"grouped"`
}

func (t *training) order() order {
	return order{t.rows.Len(), t.rows.Checksum(), t.config.Plan.Batch, t.config.Data.GroupByLength}
}
