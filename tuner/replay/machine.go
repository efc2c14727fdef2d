package replay

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/data"
	"github.com/mlxdyno/mlxdyno/tuner/search"
)

// Machine runs bursts by a table: it has the recorded one's speed and noise, and
// as much memory as the replay gives it.
//
// A burst takes its loading from one recorded process and each of its shapes
// from one recorded process, whichever the machine's random numbers choose; a
// step takes as long as one of that process's timed steps, the first step as long
// as its first.
type Machine struct {
	MemoryBytes int64 // a step whose peak is above dies

	// Interpolated counts the steps of shapes that the table does not hold, and
	// Steps all steps.
	Interpolated, Steps int

	table *Table
	rng   *rand.Rand
	loads map[loaded][]Run
	steps map[stepped][]phases
}

// loaded is what a recorded process was loaded with.
type loaded struct {
	bits, rank  int
	gc, accumul bool
}

type stepped struct {
	loaded
	batch, width int
}

// phases are the steps of one shape in one recorded process, by their place in
// an update: the first, those between and the last; a step that is an update by
// itself is a last one.
type phases struct {
	warm     step    // the process's first of this shape
	timed    [3]mean // of each place
	peak     [3]int64
	recorded [3][]float64
}

type step struct {
	seconds float64
	peak    int64
}

type mean struct {
	sum float64
	n   int
}

func (m *mean) add(v float64) { m.sum += v; m.n++ }

const (
	firstStep = iota
	middleStep
	lastStep
)

// place is where a step comes in updates of so many.
func place(number, accumulation int) int {
	switch number % accumulation {
	case accumulation - 1:
		return lastStep
	case 0:
		return firstStep
	}
	return middleStep
}

// NewMachine returns a machine with so much memory, whose noise is drawn from a
// seed.
func (t *Table) NewMachine(memoryBytes int64, seed uint64) *Machine {
	m := &Machine{MemoryBytes: memoryBytes, table: t, loads: map[loaded][]Run{}, steps: map[stepped][]phases{},
		rng: rand.New(rand.NewPCG(seed, 0x7265706c6179))} //nolint:gosec // not for secrets
	for _, r := range t.Runs {
		l := loaded{r.Bits, r.Rank, r.Checkpointing, r.Accumulating}
		m.loads[l] = append(m.loads[l], r)
		every, number := 1, 0
		if r.Accumulating {
			every = accumulation
		}
		for _, s := range r.Shapes {
			var p phases
			for i, us := range s.Microseconds {
				at := place(number, every)
				number++
				p.peak[at] = max(p.peak[at], s.PeakBytes[i])
				if i == 0 {
					p.warm = step{float64(us) / 1e6, s.PeakBytes[i]}
					continue
				}
				p.timed[at].add(float64(us) / 1e6)
				p.recorded[at] = append(p.recorded[at], float64(us)/1e6)
			}
			k := stepped{l, s.Batch, s.Width}
			m.steps[k] = append(m.steps[k], p)
		}
	}
	return m
}

// again returns the machine with other noise, sharing what was indexed.
func (m *Machine) again(memoryBytes int64, seed uint64) *Machine {
	n := *m
	n.MemoryBytes, n.Interpolated, n.Steps = memoryBytes, 0, 0
	n.rng = rand.New(rand.NewPCG(seed, 0x7265706c6179)) //nolint:gosec // not for secrets
	return &n
}

// Truth is what a configuration really takes.
type Truth struct {
	SecondsPerUsefulToken float64 // mean over the recorded processes but the fastest and the slowest
	PeakBytes             int64   // highest that was recorded
}

// Truth adds up a configuration's epoch from the means of what was recorded.
func (m *Machine) Truth(p search.Point) (Truth, error) {
	h := m.table.Head
	var t Truth
	var seconds float64
	for _, s := range h.epoch(p.Batch) {
		recorded := m.steps[keyOf(p.Bits, p.Rank, p.Checkpointing, p.Accumulation, s.Batch, s.Width)]
		if len(recorded) == 0 {
			return t, fmt.Errorf("table: nothing was recorded of %s at %d × %d", p, s.Batch, s.Width)
		}
		var update [3][]float64 // of each place, a process's mean
		for _, r := range recorded {
			t.PeakBytes = max(t.PeakBytes, slices.Max(r.peak[:]), r.warm.peak)
			for at, m := range r.timed {
				if m.n > 0 {
					update[at] = append(update[at], m.sum/float64(m.n))
				}
			}
		}
		var step float64
		for k := range p.Accumulation {
			u := update[place(k, p.Accumulation)]
			if len(u) == 0 {
				return t, fmt.Errorf("table: no step %d of an update was timed of %s at %d × %d", k+1, p, s.Batch, s.Width)
			}
			step += trimmed(u) / float64(p.Accumulation)
		}
		seconds += step * float64(s.Steps)
	}
	useful := h.useful(p.Batch)
	if useful == 0 {
		return t, fmt.Errorf("table: no token of an epoch of batches of %d counts", p.Batch)
	}
	t.SecondsPerUsefulToken = seconds / float64(useful)
	return t, nil
}

// trimmed is the mean without the least and the most, which one disturbed process
// in a round decides.
func trimmed(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	if len(v) > 2 {
		v = v[1 : len(v)-1]
	}
	sum := 0.0
	for _, x := range v {
		sum += x
	}
	return sum / float64(len(v))
}

func keyOf(bits, rank int, gc bool, accumulation, batch, width int) stepped {
	return stepped{loaded{bits, rank, gc, accumulation > 1}, batch, width}
}

// useful counts the supervised tokens of an epoch.
func (h Head) useful(batch int) (sum int64) {
	base, err := h.Base()
	if err != nil {
		return 0
	}
	base.Config.Plan.Batch = batch
	for _, b := range h.plan(base.Config) {
		for _, row := range b.Rows {
			sum += data.Supervised(h.Lengths[row], h.Prompts[row], base.Config.Data.MaxSeqLength)
		}
	}
	return sum
}

// Burst runs a job by the table.
func (m *Machine) Burst(ctx context.Context, job trainer.Job) (trainer.Burst, error) {
	if err := ctx.Err(); err != nil {
		return trainer.Burst{}, err
	}
	c := job.Config
	of := keyOf(c.Model.Quantize, c.Quality.Rank, c.Plan.Checkpointing, c.Plan.Accumulation, 0, 0).loaded
	runs := m.loads[of]
	if len(runs) == 0 {
		return trainer.Burst{}, fmt.Errorf("table: nothing was recorded of %+v", of)
	}
	process := runs[m.rng.IntN(len(runs))]
	hello := trainer.Hello{Engine: c.Engine, Device: trainer.Device{Kind: m.table.Head.Device}, Mode: job.Mode}
	events := []trainer.Event{{Payload: hello}}
	result := trainer.Result{Outcome: trainer.Finished, Hello: &hello}
	shapes, err := m.shapes(job)
	if err != nil {
		return trainer.Burst{}, err
	}
	clock, firstEnded := process.LoadSeconds, 0.0
	chosen := map[stepped]int{}
	var entry, number int // of the job's shapes, and of its steps
	var settling float64  // of its steps but the first
	i := -1               // of the steps that were done
	for _, s := range shapes {
		if s.entry != entry {
			entry, number, settling = s.entry, 0, 0
		} else if number >= trainer.LeastSteps && job.ShapeSeconds > 0 && settling >= job.ShapeSeconds {
			continue
		}
		i++
		if i > 0 && job.Budget > 0 && clock-firstEnded > job.Budget.Seconds() {
			break
		}
		k := stepped{of, s.Batch, s.Width}
		did, err := m.step(k, chosen, place(i, c.Plan.Accumulation))
		if err != nil {
			return trainer.Burst{}, err
		}
		clock += did.seconds
		if number++; number > 1 {
			settling += did.seconds
		}
		watched := job.MaxPeakBytes > 0 && did.peak > job.MaxPeakBytes // a step is done when its peak is looked at
		if did.peak > m.MemoryBytes && !watched {
			result.Outcome = trainer.OOM
			result.Failure = &trainer.Failure{FailKind: trainer.FailOOM, Code: "memory.exhausted", Text: "the step's peak is above the memory that the replay gives"}
			break
		}
		if i == 0 {
			firstEnded = clock
		}
		events = append(events, trainer.Event{Step: i + 1, Elapsed: seconds(clock), Payload: trainer.Step{
			Loss: 2, Shape: trainer.Shape{Batch: s.Batch, Width: s.Width}, Tokens: s.Tokens, Supervised: s.Tokens, Seconds: did.seconds,
			Memory: trainer.Memory{Active: trainer.Some(process.ActiveBytes), Peak: trainer.Some(did.peak)}}})
		result.LastStep = i + 1
		if watched {
			result.Outcome = trainer.OOM
			break
		}
	}
	result.Elapsed = seconds(clock + process.EndSeconds)
	return trainer.Burst{Job: job, Result: result, Summary: trainer.Summarize(events)}, nil
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// filled is a batch that a step takes.
type filled struct {
	trainer.Shape
	Tokens int64
	entry  int // of the job's shapes
}

// shapes lists the batches of a job, one a step.
func (m *Machine) shapes(job trainer.Job) ([]filled, error) {
	var out []filled
	for entry, s := range job.Shapes {
		for range s.Steps {
			out = append(out, filled{trainer.Shape{Batch: s.Batch, Width: s.Width}, s.Positions(), entry})
		}
	}
	if len(job.Shapes) > 0 {
		return out, nil
	}
	h := m.table.Head
	epochs, err := data.NewEpochs(h.Lengths, h.batching(job.Config), data.NewGenerator(uint32(job.Config.Seed)))
	if err != nil {
		return nil, err
	}
	if job.UntilStep < 1 {
		return nil, errors.New("table: a job without shapes needs an end")
	}
	for range job.UntilStep {
		b := epochs.Next()
		out = append(out, filled{b.Shape, b.Tokens, 0})
	}
	return out, nil
}

// step draws what one step takes. chosen holds which process each shape of the
// burst is taken from.
func (m *Machine) step(k stepped, chosen map[stepped]int, at int) (step, error) {
	m.Steps++
	recorded := m.steps[k]
	if len(recorded) == 0 {
		m.Interpolated++
		return m.between(k, chosen, at)
	}
	i, seen := chosen[k]
	if !seen {
		i = m.rng.IntN(len(recorded))
		chosen[k] = i
		return recorded[i].warm, nil
	}
	r := recorded[i]
	if len(r.recorded[at]) == 0 { // this process's only one was its first: take another's
		for _, other := range recorded {
			if len(other.recorded[at]) > 0 {
				r.recorded[at] = append(r.recorded[at], other.recorded[at]...)
			}
		}
	}
	if len(r.recorded[at]) == 0 {
		return step{}, fmt.Errorf("table: no such step of an update was timed of %+v", k)
	}
	return step{r.recorded[at][m.rng.IntN(len(r.recorded[at]))], r.peak[at]}, nil
}

// between interpolates, by the positions of a step, between the nearest recorded
// shapes below and above of the same rows, else of any.
func (m *Machine) between(k stepped, chosen map[stepped]int, at int) (step, error) {
	want := positions(k)
	nearest := func(sameRows bool) (low, high stepped) {
		for other := range m.steps {
			if other.loaded != k.loaded || sameRows && other.batch != k.batch {
				continue
			}
			if n := positions(other); n <= want && (low.batch == 0 || nearer(other, low, want)) {
				low = other
			} else if n > want && (high.batch == 0 || nearer(other, high, want)) {
				high = other
			}
		}
		return low, high
	}
	low, high := nearest(true)
	if low.batch == 0 || high.batch == 0 {
		low, high = nearest(false)
	}
	if low.batch == 0 {
		low = high
	}
	if high.batch == 0 {
		high = low
	}
	if low.batch == 0 {
		return step{}, fmt.Errorf("table: nothing was recorded of %+v", k.loaded)
	}
	m.Steps -= 2 // of the two below, which are one step
	a, errA := m.step(low, chosen, at)
	b, errB := m.step(high, chosen, at)
	if err := errors.Join(errA, errB); err != nil {
		return step{}, err
	}
	f := 0.0
	if d := positions(high) - positions(low); d > 0 {
		f = (want - positions(low)) / d
	} else if n := positions(low); n > 0 {
		return step{a.seconds * want / n, int64(float64(a.peak) * math.Max(1, want/n))}, nil
	}
	return step{a.seconds + f*(b.seconds-a.seconds), a.peak + int64(f*float64(b.peak-a.peak))}, nil
}

func positions(k stepped) float64 { return float64(k.batch * (k.width - 1)) }

// nearer reports whether a is nearer to so many positions than b; it orders all
// shapes, so that the order of a map decides nothing.
func nearer(a, b stepped, want float64) bool {
	da, db := math.Abs(positions(a)-want), math.Abs(positions(b)-want)
	if da != db {
		return da < db
	}
	return a.batch < b.batch
}
