package replay

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/journal"
)

// accumulation is of processes that accumulate: a first step, two between and a last.
const accumulation = 4

// Bursts runs a job in a process of its own.
type Bursts interface {
	Burst(context.Context, trainer.Job) (trainer.Burst, error)
}

// Recorder adds to a table what it still lacks.
type Recorder struct {
	Bursts   Bursts
	Path     string             // of the table; made when it is not there
	Head     Head               // of a table that is made
	Ready    func(*trainer.Job) // says where the model and the text are
	Deadline time.Time          // after which no process is started; zero for never
	Progress func(done, of int, p Process)
}

// Record runs what the table at Path lacks, each process once, and reports
// whether nothing is missing any more.
func (r Recorder) Record(ctx context.Context) (complete bool, err error) {
	j, err := journal.Open(r.Path)
	if err != nil {
		return false, err
	}
	defer func() {
		if closeErr := j.Close(); err == nil {
			err = closeErr
		}
	}()
	t, err := Read(r.Path)
	headed := err == nil
	if !headed {
		t = &Table{Head: r.Head}
		if err := t.validate(); err != nil {
			return false, err
		}
	}
	all := t.Head.Processes()
	done := map[Process]bool{}
	for _, run := range t.Runs {
		done[run.Process] = true
	}
	for _, p := range all {
		if done[p] {
			continue
		}
		if !r.Deadline.IsZero() && time.Now().After(r.Deadline) {
			return false, nil
		}
		if r.Progress != nil {
			r.Progress(len(done), len(all), p)
		}
		run, on, err := r.one(ctx, t.Head, p)
		if err != nil {
			return false, err
		}
		if !headed { // the first process says what it ran on
			if on.Kind != "cpu" {
				t.Head.Machine += ", " + on.Name
			}
			if err := j.Append(headKind, t.Head); err != nil {
				return false, err
			}
			headed = true
		}
		if err := j.Append(runKind, run); err != nil {
			return false, err
		}
		done[p] = true
	}
	return true, nil
}

func (r Recorder) one(ctx context.Context, h Head, p Process) (Run, trainer.Device, error) {
	var on trainer.Device
	job, err := h.Job(p)
	if err != nil {
		return Run{}, on, err
	}
	r.Ready(&job)
	for range maxTries {
		b, err := r.Bursts.Burst(ctx, job)
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return Run{}, on, err
		}
		run, ok := measured(p, job.Shapes, b)
		if !ok {
			return Run{}, on, fmt.Errorf("record %+v: its process %s after %d steps; see its log: %s", p, b.Result.Outcome, len(b.Summary.Steps), b.Result.LogTail)
		}
		if b.Result.Hello != nil {
			on = b.Result.Hello.Device
		}
		if run.steady() {
			return run, on, nil
		}
	}
	return Run{}, on, fmt.Errorf("record %+v: steps of one shape took more than %g times as long as others, in %d processes: the machine is busy; leave it alone and run the same again", p, maxUnrest, maxTries)
}

// A process whose steps vary more than this was disturbed: it says more of
// what else the machine did than of the configuration, and is run again.
const (
	maxUnrest = 1.5
	maxTries  = 3
)

// steady reports whether the timed steps of most shapes took about the same.
func (r Run) steady() bool {
	restless := 0
	for _, s := range r.Shapes {
		timed := s.Microseconds[1:]
		if float64(slices.Max(timed)) > maxUnrest*float64(slices.Min(timed)) {
			restless++
		}
	}
	return 2*restless <= len(r.Shapes)
}

// Processes lists every process of a complete table: in each round all
// conditions, in an order of the round's own, so that what the machine does
// meanwhile falls on all of them.
func (h Head) Processes() []Process {
	var out []Process
	for round := range h.Rounds {
		var all []Process
		for _, bits := range h.Bits {
			for _, rank := range h.Ranks {
				for _, gc := range []bool{false, true} {
					for _, acc := range []bool{false, true} {
						all = append(all, Process{bits, rank, gc, acc, round})
					}
				}
			}
		}
		rng := rand.New(rand.NewPCG(uint64(round), 1)) //nolint:gosec // not for secrets
		rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		out = append(out, all...)
	}
	return out
}

// timed are the steps of a shape and a process that are timed: all but the first,
// which pays for first allocations.
func (h Head) timed() int { return max(2, h.Timed) }

// Job is what a process runs: every shape of the epochs of all batch sizes that
// it is asked for, smallest first. Batches of all rows of an update never
// accumulate; of the others calibration runs the smallest and the middle one
// without accumulating.
func (h Head) Job(p Process) (trainer.Job, error) {
	base, err := h.Base()
	if err != nil {
		return trainer.Job{}, err
	}
	c := base.Config.WithRank(p.Rank)
	c.Model.Quantize, c.Plan.Checkpointing, c.Plan.Accumulation = p.Bits, p.Checkpointing, 1
	steps, batches := 1+h.timed(), h.Batches()
	n := len(batches)
	if p.Accumulating {
		steps, c.Plan.Accumulation = 1+max(h.timed(), accumulation), accumulation
		batches = batches[:n-1]
	} else if n > 3 {
		batches = []int{batches[0], batches[n/2], batches[n-1]}
	}
	job := trainer.Job{Config: c, Mode: trainer.Normal}
	for _, b := range batches {
		for _, s := range h.epoch(b) {
			job.Shapes = append(job.Shapes, trainer.Shape{Batch: b, Width: s.Width, Steps: steps})
		}
	}
	slices.SortFunc(job.Shapes, func(a, b trainer.Shape) int {
		if d := a.Positions() - b.Positions(); d != 0 {
			return int(d)
		}
		return a.Width - b.Width
	})
	return job, nil
}

// measured takes a run from a burst; false when the burst did not do all of it.
func measured(p Process, shapes []trainer.Shape, b trainer.Burst) (Run, bool) {
	steps := b.Summary.Steps
	if !b.Result.Outcome.Good() || len(steps) == 0 {
		return Run{}, false
	}
	first, last := steps[0], steps[len(steps)-1]
	run := Run{Process: p, LoadSeconds: first.Elapsed.Seconds() - first.Seconds - first.DataSeconds,
		EndSeconds: (b.Result.Elapsed - last.Elapsed).Seconds(), ActiveBytes: last.Memory.Active.Or(0)}
	for _, s := range shapes {
		if len(steps) < s.Steps {
			return Run{}, false
		}
		m := Measured{Batch: s.Batch, Width: s.Width}
		for _, step := range steps[:s.Steps] {
			peak, ok := step.Memory.Peak.Get()
			if !ok || step.Shape.Batch != s.Batch || step.Shape.Width != s.Width {
				return Run{}, false
			}
			m.Microseconds = append(m.Microseconds, int64(1e6*step.Seconds))
			m.PeakBytes = append(m.PeakBytes, peak)
		}
		run.Shapes = append(run.Shapes, m)
		steps = steps[s.Steps:]
	}
	return run, true
}
