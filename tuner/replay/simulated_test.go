package replay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mlxdyno/mlxdyno/probe/model"
	"github.com/mlxdyno/mlxdyno/trainer"
)

// simulated is an engine of known constants, to record tables from.
type simulated struct {
	calls int
	until int // calls after which it fails; 0 for never
}

var errStopped = errors.New("stopped")

func (s *simulated) Burst(_ context.Context, job trainer.Job) (trainer.Burst, error) {
	if s.calls++; s.until > 0 && s.calls > s.until {
		return trainer.Burst{}, errStopped
	}
	clock := 0.5
	var events []trainer.Event
	number := 0
	for _, shape := range job.Shapes {
		for i := range shape.Steps {
			seconds, peak := constants(job.Config, shape)
			if i == 0 {
				seconds *= 3
			}
			if number++; number%job.Config.Plan.Accumulation == 0 {
				seconds += 0.001
			}
			clock += seconds
			events = append(events, trainer.Event{Step: number, Elapsed: time.Duration(clock * 1e9), Payload: trainer.Step{Shape: shape, Seconds: seconds,
				Memory: trainer.Memory{Peak: trainer.Some(peak), Active: trainer.Some[int64](1 << 20)}}})
		}
	}
	return trainer.Burst{Job: job, Summary: trainer.Summarize(events), Result: trainer.Result{Outcome: trainer.Finished, Elapsed: time.Duration((clock + 0.1) * 1e9)}}, nil
}

// constants are the seconds, but for the update, and the peak of a step.
func constants(c trainer.Config, s trainer.Shape) (float64, int64) {
	positions := float64(s.Positions())
	seconds, peak := 0.004+positions*1e-4*(1+float64(c.Quality.Rank)/400), 4e6+positions*60e3
	if c.Model.Quantize != 0 {
		seconds, peak = seconds*1.3, peak-4e6+float64(c.Model.Quantize)*1e5
	}
	if c.Plan.Checkpointing {
		seconds, peak = seconds*1.4, peak-positions*30e3
	}
	return seconds, int64(peak) + int64(c.Quality.Rank)*20e3
}

func smallHead() Head {
	h := Head{Machine: "simulated", Device: "cpu", Facts: model.Facts{Arch: "llama", Layers: 2, Hidden: 64, Vocab: 512, Parameters: 1e6, WeightBytes: 4e6, DType: "F32", Key: "model"},
		Set: map[string]string{"packing": "off", "max-seq-length": "97", "iters": "10"}, Bits: []int{0, 4}, Ranks: []int{8, 16}, Effective: 8, Rounds: 2}
	for i := range 90 {
		h.Lengths, h.Prompts = append(h.Lengths, int32(6+i)), append(h.Prompts, 0)
	}
	return h
}

func recorded(t *testing.T, h Head) *Table {
	t.Helper()
	path := filepath.Join(t.TempDir(), "table.jsonl")
	r := Recorder{Bursts: &simulated{}, Path: path, Head: h, Ready: func(*trainer.Job) {}}
	if complete, err := r.Record(context.Background()); err != nil || !complete {
		t.Fatal(complete, err)
	}
	table, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// A recording that is stopped after every process repeats none of them.
func TestRecordingGoesOn(t *testing.T) {
	h := smallHead()
	path := filepath.Join(t.TempDir(), "table.jsonl")
	all, ran := len(h.Processes()), 0
	for range all + 1 {
		engine := &simulated{until: 1}
		complete, err := Recorder{Bursts: engine, Path: path, Head: h, Ready: func(*trainer.Job) {}}.Record(context.Background())
		ran += min(engine.calls, engine.until)
		if complete {
			break
		}
		if !errors.Is(err, errStopped) {
			t.Fatal(err)
		}
	}
	table, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	if ran != all || len(table.Runs) != all {
		t.Errorf("%d processes ran and %d are kept of %d", ran, len(table.Runs), all)
	}
	seen := map[Process]bool{}
	for _, r := range table.Runs {
		if seen[r.Process] {
			t.Errorf("%+v ran twice", r.Process)
		}
		seen[r.Process] = true
	}
}

// Every point of the space has a truth, and it is what the engine's constants
// say.
func TestTruth(t *testing.T) {
	table := recorded(t, smallHead())
	m := table.NewMachine(1<<40, 1)
	for _, p := range table.Head.Points() {
		got, err := m.Truth(p)
		if err != nil {
			t.Fatal(err)
		}
		var want float64
		var peak int64
		for _, s := range table.Head.epoch(p.Batch) {
			seconds, b := constants(table.Head.config(p), s)
			want += (seconds + 0.001/float64(p.Accumulation)) * float64(s.Steps)
			peak = max(peak, b)
		}
		want /= float64(table.Head.useful(p.Batch))
		if d := got.SecondsPerUsefulToken/want - 1; d > 1e-3 || d < -1e-3 || got.PeakBytes != peak {
			t.Errorf("%s: %+v, want %g s and %d bytes", p, got, want, peak)
		}
	}
}

func TestMachine(t *testing.T) {
	table := recorded(t, smallHead())
	job := trainer.Job{Config: table.Head.config(table.Head.Points()[0]), Shapes: []trainer.Shape{{Batch: 1, Width: 33, Steps: 3}, {Batch: 1, Width: 97, Steps: 2}}}
	job.Config.Plan.Accumulation = 1
	_, small := constants(job.Config, job.Shapes[0])
	_, large := constants(job.Config, job.Shapes[1])
	tests := []struct {
		name    string
		memory  int64
		change  func(*trainer.Job)
		outcome trainer.Outcome
		steps   int
		guessed int
	}{
		{"enough memory", large, func(*trainer.Job) {}, trainer.Finished, 5, 0},
		{"too little for the larger shape", large - 1, func(*trainer.Job) {}, trainer.OOM, 3, 0},
		{"too little for any", small - 1, func(*trainer.Job) {}, trainer.OOM, 0, 0},
		{"a budget that ends it", large, func(j *trainer.Job) { j.Budget = time.Millisecond }, trainer.Finished, 2, 0},
		{"a shape that was not recorded", large, func(j *trainer.Job) { j.Shapes[0].Width = 49 }, trainer.Finished, 5, 3},
		{"the data's own batches", large, func(j *trainer.Job) { j.Shapes, j.UntilStep = nil, 7 }, trainer.Finished, 7, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			j := job
			j.Shapes = append([]trainer.Shape(nil), job.Shapes...)
			tt.change(&j)
			if j.UntilStep > 0 {
				j.Config.Plan.Batch = 1
			}
			m := table.NewMachine(tt.memory, 3)
			b, err := m.Burst(context.Background(), j)
			if err != nil {
				t.Fatal(err)
			}
			if b.Result.Outcome != tt.outcome || len(b.Summary.Steps) != tt.steps || m.Interpolated != tt.guessed {
				t.Errorf("%s after %d steps, %d of them interpolated; want %s, %d, %d", b.Result.Outcome, len(b.Summary.Steps), m.Interpolated, tt.outcome, tt.steps, tt.guessed)
			}
			again, err := table.NewMachine(tt.memory, 3).Burst(context.Background(), j)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(b, again, cmp.AllowUnexported(trainer.Opt[int64]{}, trainer.Opt[float64]{}, trainer.Opt[int]{}, trainer.Opt[trainer.Float]{})); d != "" {
				t.Error("the same seed gives another burst: " + d)
			}
		})
	}
}

func TestIsotonic(t *testing.T) {
	tests := []struct{ in, want []float64 }{
		{[]float64{1, 2, 3}, []float64{1, 2, 3}},
		{[]float64{3, 2, 1}, []float64{2, 2, 2}},
		{[]float64{1, 4, 2, 3, 9}, []float64{1, 3, 3, 3, 9}},
	}
	for _, tt := range tests {
		if got := isotonic(tt.in); !slices.Equal(got, tt.want) {
			t.Errorf("%v: %v, want %v", tt.in, got, tt.want)
		}
	}
}

// Whatever a table's file says, reading it is an error or gives one that can be
// asked.
func FuzzRead(f *testing.F) {
	head, err := json.Marshal(smallHead())
	if err != nil {
		f.Fatal(err)
	}
	at := `"at":"2026-01-02T15:04:05Z"`
	f.Add([]byte(fmt.Sprintf("{\"kind\":\"table\",%s,\"data\":%s}\n", at, head)))
	f.Add([]byte(fmt.Sprintf("{\"kind\":\"table\",%s,\"data\":%s}\n{\"kind\":\"run\",%s,\"data\":{\"bits\":4,\"rank\":8,\"acc\":true,\"shapes\":[{\"b\":1,\"w\":33,\"us\":[9,5,6],\"peak\":[7,7,7]}]}}\n", at, head, at)))
	f.Fuzz(func(t *testing.T, text []byte) {
		path := filepath.Join(t.TempDir(), "table.jsonl")
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		table, err := Read(path)
		if err != nil || len(table.Head.Lengths) > 1000 || table.Head.Effective > 64 || len(table.Head.Ranks)*len(table.Head.Bits) > 50 {
			return
		}
		m := table.NewMachine(1<<40, 1)
		for _, p := range table.Head.Points() {
			_, _ = m.Truth(p) // of what was not recorded there is none
		}
	})
}
