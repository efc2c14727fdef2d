package native

import (
	"io"
	"math"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/mlxdyno/mlxdyno/mlxbind"
	"github.com/mlxdyno/mlxdyno/probe/model"
	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/data"
	"github.com/mlxdyno/mlxdyno/trainer/demo"
	"github.com/mlxdyno/mlxdyno/trainer/native/decoder"
)

// BenchmarkInstrumentation is what it costs to say every step: the event on its
// pipe, MLX's counters, the footprint, and looking for commands. A step that
// says all and one that says nothing take turns (A B B A) on one batch; the
// figure is the median of their ratios with its 95 % interval, which a neighbour's
// bursts do not move, and what is said measured alone.
func BenchmarkInstrumentation(b *testing.B) {
	j := job(b, demo.Shape{Hidden: 256, Intermediate: 704, Layers: 4, Heads: 8, KVHeads: 4, Tied: true}, 1)
	rt, err := theRuntime()
	if err != nil {
		b.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	go io.Copy(io.Discard, r)  //nolint:errcheck // it ends with the pipe
	in, stay, err := os.Pipe() // nothing is ever said on it
	if err != nil {
		b.Fatal(err)
	}
	defer in.Close()
	defer stay.Close()
	err = rt.Do(b.Context(), func(s *mlxbind.Scope) error {
		t, err := instrumented(s, rt, j, w, in)
		if err != nil {
			return err
		}
		said := func() error {
			if err := t.one(); err != nil {
				return err
			}
			return t.betweenSteps()
		}
		silent := func() error {
			batch, _ := t.next()
			_, err := t.learner.step(batch, true)
			return err
		}
		timed := func(f func() error) (seconds float64) {
			began := time.Now()
			if err := f(); err != nil {
				b.Fatal(err)
			}
			return time.Since(began).Seconds()
		}
		for range 5 {
			timed(said)
			timed(silent)
		}
		var ratios, bare []float64
		for b.Loop() {
			first, second := timed(said), timed(silent)
			third, fourth := timed(silent), timed(said)
			ratios = append(ratios, math.Sqrt(first*fourth/second/third))
			bare = append(bare, second, third)
		}
		low, middle, high := median(ratios)
		_, step, _ := median(bare)
		b.ReportMetric(1e3*step, "ms/step")
		b.ReportMetric(100*(low-1), "%-least")
		b.ReportMetric(100*(middle-1), "%-median")
		b.ReportMetric(100*(high-1), "%-most")
		const times = 2000
		alone := timed(func() error {
			for range times {
				t.s.ResetPeak()
				cached := t.s.Memory().Cache
				e := trainer.Step{Loss: 1.2345678, LearningRate: trainer.Some(trainer.Float(1e-5)), Seconds: 0.1, DataSeconds: 0.1,
					Shape: trainer.Shape{Batch: 4, Width: 128}, Tokens: 508, Supervised: 400,
					Memory: memory(t.s, cached), Live: trainer.Some(t.rt.Live()), EmitWait: trainer.Some(t.events.takeWait())}
				if err := t.events.emit(e); err != nil {
					return err
				}
				t.commands.state()
			}
			return nil
		})
		b.ReportMetric(1e6*alone/times, "µs-alone/step")
		return s.Err()
	})
	if err != nil {
		b.Fatal(err)
	}
}

// median is that of all, between the order statistics that enclose it 95 times
// of 100 (the sign test's).
func median(all []float64) (low, middle, high float64) {
	all = slices.Sorted(slices.Values(all))
	n := float64(len(all))
	away := 0.98 * math.Sqrt(n)
	at := func(i float64) float64 { return all[max(0, min(len(all)-1, int(i)))] }
	return at(math.Floor(n/2 - away)), at((n - 1) / 2), at(math.Ceil(n/2 + away))
}

// instrumented is a training on one batch of 4 rows of 128 tokens, in this
// process.
func instrumented(s *mlxbind.Scope, rt *mlxbind.Runtime, j trainer.Job, out io.Writer, in io.Reader) (*training, error) {
	facts, err := model.Read(j.Config.Model.Path)
	if err != nil {
		return nil, err
	}
	spec, err := decoder.ReadSpec(facts)
	if err != nil {
		return nil, err
	}
	m, err := decoder.Load(s, facts, spec, decoder.Quantize{})
	if err != nil {
		return nil, err
	}
	m.Forms = forms(j.Config.Plan, "cpu", false)
	o := learnerOptions{accumulation: 1, supervised: true}
	o.scheme(j.Config, "cpu", false)
	l, err := newLearner(s, m, j.Config, o)
	if err != nil {
		return nil, err
	}
	p := &process{rt: rt, events: newEvents(out), commands: newCommands(in), job: j}
	p.said.Device.Kind = "cpu"
	t := &training{process: p, s: s, learner: l, config: j.Config, endless: true}
	if t.rows, err = data.OpenRows(j.Tokens.Train); err != nil {
		return nil, err
	}
	same := rowsOf(128, 1, 128, 128, 128, 128)
	t.next = func() (batch, bool) { return same, true }
	return t, nil
}
