package conformance

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/checkpoint"
)

// resume compares trainings that did not run through with one that did.
func (s suite) resume(t *testing.T) {
	t.Parallel()
	whole := s.job()
	whole.Config.Quality.LRSchedule, whole.Config.Quality.Warmup = trainer.CosineRate, 2 // 8 updates: every segment has another rate
	whole.Config.Schedule.SaveEvery = 3
	whole.Evaluate, whole.Dir = true, t.TempDir()
	_, want := s.finish(t, whole)
	if len(want.Evals) != 5 || len(want.Steps) != 16 {
		t.Fatalf("%d steps and %d evaluations", len(want.Steps), len(want.Evals))
	}
	t.Run("in parts", func(t *testing.T) { s.inParts(t, whole, want) })
	t.Run("killed at random", func(t *testing.T) { s.killed(t, whole, want) })
}

// parts is a training that is run segment by segment, each from the newest
// state that is on the disk.
type parts struct {
	suite
	job    trainer.Job
	events []trainer.Event
}

func (s suite) again(t *testing.T, whole trainer.Job) *parts {
	p := &parts{suite: s, job: whole}
	p.job.Dir, p.job.SaveOnStop = t.TempDir(), true
	return p
}

func (p *parts) segment(t *testing.T, ctx context.Context, until int, each func(trainer.Event)) trainer.Result {
	t.Helper()
	ref, bad, err := checkpoint.Newest(filepath.Join(p.job.Dir, "checkpoints"))
	if err != nil || len(bad) > 0 {
		t.Fatal(err, bad)
	}
	p.job.From, p.job.UntilStep = ref, until
	r, _ := p.run(t, ctx, p.job, func(e trainer.Event) {
		p.events = append(p.events, e)
		if each != nil {
			each(e)
		}
	})
	p.job.Segment++
	return r
}

// inParts ends a training and goes on, asks it to stop, and kills it.
func (s suite) inParts(t *testing.T, whole trainer.Job, want trainer.Summary) {
	p := s.again(t, whole)
	if r := p.segment(t, t.Context(), 4, nil); r.Outcome != trainer.Finished || r.Done.Adapter != "" || r.Checkpoint == nil || r.Checkpoint.Step != 4 {
		t.Fatalf("first segment: %+v", r)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r := p.segment(t, ctx, 16, func(e trainer.Event) {
		if e.Step == 7 { // an odd step: half of an update is done
			cancel()
		}
	})
	if r.Outcome != trainer.Stopped || r.Checkpoint == nil || r.Checkpoint.Step != r.LastStep || r.LastStep%2 != 0 {
		t.Fatalf("asked to stop: %+v", r)
	}
	pid := 0
	r = p.segment(t, t.Context(), 16, func(e trainer.Event) {
		if h, ok := e.Payload.(trainer.Hello); ok {
			pid = h.PID
		}
		if _, ok := e.Payload.(trainer.Step); ok && e.Step >= 11 {
			kill(pid)
		}
	})
	if r.Outcome != trainer.Killed && r.Outcome != trainer.Finished {
		t.Fatalf("killed: %+v", r)
	}
	if r := p.segment(t, t.Context(), 16, nil); r.Outcome != trainer.Finished {
		t.Fatalf("last segment: %+v", r)
	}
	same(t, whole, want, p)
	once := 0
	for _, e := range p.events {
		if _, ok := e.Payload.(trainer.Eval); ok && e.Step == 4 {
			once++
		}
	}
	if once != 1 {
		t.Errorf("what was evaluated when the first segment ended was evaluated %d times", once)
	}
}

// killed kills workers at random events, and up to some milliseconds after,
// until there have been enough deaths.
func (s suite) killed(t *testing.T, whole trainer.Job, want trainer.Summary) {
	random := rand.New(rand.NewPCG(uint64(s.Kills), 7))
	for deaths, training := 0, 0; deaths < s.Kills; training++ {
		p := s.again(t, whole)
		for {
			at, late := random.IntN(24), time.Duration(random.IntN(12))*time.Millisecond
			if deaths >= s.Kills {
				at = -1
			}
			pid, heard := 0, 0
			r := p.segment(t, t.Context(), 16, func(e trainer.Event) {
				if h, ok := e.Payload.(trainer.Hello); ok {
					pid = h.PID
				}
				if heard++; heard == at+1 {
					time.Sleep(late)
					kill(pid)
				}
			})
			if r.Outcome == trainer.Finished {
				break
			}
			if r.Outcome != trainer.Killed {
				t.Fatalf("training %d, death %d, told to die at event %d: %+v\n%s", training, deaths, at, r, r.LogTail)
			}
			deaths++
		}
		same(t, whole, want, p)
		if t.Failed() {
			t.Fatalf("after %d deaths, in training %d", deaths, training)
		}
	}
}

// kill kills a worker, which may be gone already.
func kill(pid int) {
	if pid <= 1 || pid == os.Getpid() {
		panic("no worker to kill")
	}
	syscall.Kill(pid, syscall.SIGKILL) //nolint:errcheck // see above
}

// same compares everything that a training leaves behind.
func same(t *testing.T, whole trainer.Job, want trainer.Summary, p *parts) {
	t.Helper()
	got := trainer.Summarize(p.events)
	if len(got.Warns) > 0 {
		t.Errorf("warnings: %v", got.Warns)
	}
	if d := cmp.Diff(losses(want), losses(got)); d != "" {
		t.Errorf("losses (-whole +in parts):\n%s", d)
	}
	if d := cmp.Diff(evals(t, want), evals(t, got)); d != "" {
		t.Errorf("evaluations (-whole +in parts):\n%s", d)
	}
	// state.json holds the state of random numbers and the place in the data.
	for _, file := range []string{"adapter/adapters.safetensors", "adapter/adapter_config.json",
		"checkpoints/0000016/adapters.safetensors", "checkpoints/0000016/optimizer.safetensors", "checkpoints/0000016/state.json"} {
		a, err1 := os.ReadFile(filepath.Join(whole.Dir, file))
		b, err2 := os.ReadFile(filepath.Join(p.job.Dir, file))
		if err1 != nil || err2 != nil || string(a) != string(b) {
			t.Errorf("%s differs: %v %v", file, err1, err2)
		}
	}
	last := filepath.Join(p.job.Dir, "checkpoints/0000016")
	if m, err := checkpoint.Verify(last); err != nil || m.ConfigKey != p.job.Config.Key() || m.Engine != p.engine.Name() {
		t.Errorf("manifest %+v: %v", m, err)
	}
}

// evals are the validation losses by step; those that were done again must be
// the same.
func evals(t *testing.T, s trainer.Summary) map[int]float64 {
	t.Helper()
	m := map[int]float64{}
	for _, e := range s.Evals {
		if old, ok := m[e.AfterStep]; ok && old != float64(e.Loss) {
			t.Errorf("two evaluations after step %d differ", e.AfterStep)
		}
		m[e.AfterStep] = float64(e.Loss)
	}
	return m
}

// otherBatches takes a checkpoint on with other batches, as after running out
// of memory.
func (s suite) otherBatches(t *testing.T) {
	t.Parallel()
	j := s.job()
	j.Dir, j.UntilStep = t.TempDir(), 2
	r, _ := s.finish(t, j)
	j.From, j.UntilStep, j.Segment, j.Dir = r.Checkpoint, 6, 1, ""
	j.Config.Plan.Batch, j.Config.Plan.Accumulation, j.Config.Plan.Checkpointing = 2, 4, true
	_, sum := s.finish(t, j)
	if len(sum.Steps) != 4 || sum.Steps[0].Number != 3 || sum.Steps[0].Shape.Batch != 2 {
		t.Errorf("steps: %+v", sum.Steps)
	}
	if len(sum.Warns) != 1 || sum.Warns[0].Code != "resume.data-order" {
		t.Errorf("warnings: %v", sum.Warns)
	}
}
