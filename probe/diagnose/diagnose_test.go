package diagnose

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/probe/leak"
	"github.com/mlxdyno/mlxdyno/probe/model"
	"github.com/mlxdyno/mlxdyno/trainer"
)

func known[T any](v T) probe.Value[T] { return probe.Known(v, "test") }

// script plays one answer a burst, and keeps the jobs.
type script struct {
	jobs    []trainer.Job
	answers []func(trainer.Job) (trainer.Burst, error)
}

func (s *script) Burst(_ context.Context, j trainer.Job) (trainer.Burst, error) {
	s.jobs = append(s.jobs, j)
	if len(s.jobs) > len(s.answers) {
		return trainer.Burst{}, errors.New("one burst too many")
	}
	return s.answers[len(s.jobs)-1](j)
}

// steps answers with n good steps, of which each leaks some bytes.
func steps(n int, leaked int64) func(trainer.Job) (trainer.Burst, error) {
	return func(j trainer.Job) (trainer.Burst, error) {
		shape := trainer.Shape{Batch: j.Config.Plan.Batch, Width: 65}
		if len(j.Shapes) > 0 {
			shape = trainer.Shape{Batch: j.Shapes[0].Batch, Width: j.Shapes[0].Width}
		}
		events := []trainer.Event{
			{Payload: trainer.Hello{Engine: "mlx-lm", Device: trainer.Device{WorkingSetBytes: trainer.Some[int64](20e9)}}},
			{Payload: trainer.Ready{LoadSeconds: 1.5, Trainable: 1, WeightBytes: 16e6, TrainableBytes: 4}},
		}
		for i := range n {
			active := 20e6 + leaked*int64(i)
			events = append(events, trainer.Event{Step: i + 1, Payload: trainer.Step{Loss: trainer.Float(3 - 0.01*float64(i)), Shape: shape, Tokens: 100, Supervised: 90,
				Seconds: 0.4, DataSeconds: 0.1, Memory: trainer.Memory{Active: trainer.Some(active), Peak: trainer.Some[int64](50e6),
					Cache: trainer.Some[int64](0), Footprint: trainer.Some[int64](300e6)}}})
		}
		return trainer.Burst{Job: j, Result: trainer.Result{Outcome: trainer.Finished}, Summary: trainer.Summarize(events)}, nil
	}
}

func died(o trainer.Outcome) func(trainer.Job) (trainer.Burst, error) {
	return func(j trainer.Job) (trainer.Burst, error) {
		return trainer.Burst{Job: j, Result: trainer.Result{Outcome: o, LogTail: "the last words"}}, nil
	}
}

func request() Request {
	r := Request{Settings: trainer.NewSettings(), Tokens: trainer.TokenFiles{Train: "train.tokens"}, BurstBudget: 10 * time.Second}
	for _, kv := range [][2]string{{"model", "models/small"}, {"data", "data/notes"}} {
		if err := r.Settings.Set(kv[0], kv[1], trainer.FromFlag); err != nil {
			panic(err)
		}
	}
	r.Snapshot = probe.Snapshot{
		At:       time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		Host:     probe.Host{OS: "linux", Arch: "amd64"},
		Memory:   probe.Memory{TotalBytes: known[int64](32e9), AvailableBytes: known[int64](24e9)},
		Swap:     probe.Swap{UsedBytes: known[int64](0)},
		Pressure: probe.Pressure{SomeAvg10: known(0.0)},
		Disk:     probe.Disk{FreeBytes: known[int64](50e9)},
		GPU:      probe.GPU{Kind: "none"},
		Install:  probe.Install{State: "ready", Backend: "cpu", BLAS: "openblas", Versions: map[string]string{"mlx": "0.32.4"}},
		Model: &probe.ModelState{Path: "models/small", Facts: &model.Facts{Arch: "llama", Layers: 2, Hidden: 256, Intermediate: 512, Heads: 4, KVHeads: 4,
			HeadDim: 64, Vocab: 4096, DType: "F32", WeightBytes: 16e6, HasTokenizer: true}},
		Data: &probe.DataState{Path: "data/notes", Rows: map[string]int{"train": 500}},
	}
	for i := range 100 { // widths 33, 65, …; 90 of 100 are at most 289
		r.Batches = append(r.Batches, trainer.Shape{Batch: 4, Width: 33 + 32*(i/11)})
	}
	return r
}

func find(t *testing.T, r Report, code string) probe.Finding {
	t.Helper()
	all := slices.Concat(r.Findings, r.Passes)
	i := slices.IndexFunc(all, func(f probe.Finding) bool { return f.Code == code })
	if i < 0 {
		t.Fatalf("no finding %s", code)
	}
	return all[i]
}

func TestWholeDiagnosis(t *testing.T) {
	r := request()
	s := &script{answers: []func(trainer.Job) (trainer.Burst, error){steps(20, 0), steps(8, 0)}}
	r.Bursts = s
	var said []string
	r.Progress = func(text string) { said = append(said, text) }
	got, err := Run(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.jobs) != 2 || len(s.jobs[0].Shapes) != 1 || len(s.jobs[1].Shapes) != 0 {
		t.Fatalf("jobs %+v, want a shape and then the data's own batches", s.jobs)
	}
	first := s.jobs[0]
	if first.Shapes[0].Width != 289 || first.Shapes[0].Batch != 4 || first.Shapes[0].Steps < 1000 || first.Dir != "" ||
		first.Budget+s.jobs[1].Budget != r.BurstBudget || first.Tokens != r.Tokens {
		t.Errorf("first job %+v", first)
	}
	if !got.Healthy || got.Quick || got.Schema != Schema || got.Passed != len(got.Passes) || got.Leak.State != leak.None || len(said) == 0 {
		t.Errorf("healthy %v quick %v passed %d of %d leak %+v", got.Healthy, got.Quick, got.Passed, len(got.Passes), got.Leak)
	}
	p := got.Probe
	if p.Shape.Width != 289 || p.Shape.Steps != 0 || p.Steps != 20 || p.TokensPerSecond.Or(0) < 199.9 || p.TokensPerSecond.Or(0) > 200.1 ||
		p.StepSeconds.Or(0) != 0.5 || p.PeakBytes.Or(0) != 50e6 || p.FootprintBytes.Or(0) != 300e6 || p.FirstLoss.Or(0) != 3 {
		t.Errorf("probe %+v", p)
	}
	if got.Data.Steps != 8 || got.Data.Shape != nil || got.Data.DataShare.Or(0) < 0.19 {
		t.Errorf("data %+v", got.Data)
	}
	if got.Budget.Peak.Measured.Or(0) != 50e6 || got.Budget.Limit.Bytes.Or(0) != 32e9 {
		t.Errorf("budget %+v", got.Budget)
	}
	if got.Next != "mlxdyno train --auto --model models/small --data data/notes" || got.NextWhy == "" {
		t.Errorf("next %q", got.Next)
	}
	if got.Snapshot.GPU.WorkingSetBytes.Or(0) != 20e9 {
		t.Error("the worker's working set was not taken over")
	}
}

// What happened to the machine while steps ran is a finding.
func TestSwappingMeanwhileIsFound(t *testing.T) {
	for name, tc := range map[string]struct {
		readings []int64
		want     probe.Severity
	}{"swaps": {[]int64{1e9, 3e9}, probe.Warn}, "does not": {[]int64{1e9, 1e9}, probe.Pass}} {
		r := request()
		r.Bursts = &script{answers: []func(trainer.Job) (trainer.Burst, error){steps(20, 0), steps(8, 0)}}
		n := 0
		r.Vitals = func(context.Context) probe.Vitals {
			n++
			return probe.Vitals{Swap: probe.Swap{OutBytes: known(tc.readings[n-1])}, Pressure: r.Snapshot.Pressure}
		}
		got, err := Run(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		if f := find(t, got, "burst.swapping"); f.Severity != tc.want || n != 2 {
			t.Errorf("%s: %+v after %d readings", name, f, n)
		}
	}
}

func TestReportSurvivesJSON(t *testing.T) {
	r := request()
	r.Bursts = &script{answers: []func(trainer.Job) (trainer.Burst, error){steps(20, 512), steps(8, 0)}}
	got, err := Run(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(back)
	if err != nil {
		t.Fatal(err)
	}
	if string(b) != string(again) || back.Leak.BytesAStep != 512 {
		t.Errorf("the document changed:\n%s\n%s", b, again)
	}
}

func TestLeakIsFound(t *testing.T) {
	r := request()
	r.Bursts = &script{answers: []func(trainer.Job) (trainer.Burst, error){steps(20, 4096), steps(8, 0)}}
	got, err := Run(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if f := find(t, got, "burst.leak"); f.Severity != probe.Warn || !strings.Contains(f.Title, "4.10 kB") || !got.Healthy {
		t.Errorf("%+v, healthy %v", f, got.Healthy)
	}
}

// On a GPU buffers may be freed asynchronously, so that readings vary.
func TestVaryingMemoryIsNoLeak(t *testing.T) {
	readings := []int64{2586, 2541, 3239, 3220, 3258, 3656, 3210, 3210, 3267, 3210, 2952, 3627, 3281, 3177, 3182, 3182, 3201, 3281, 3267, 3404, 3940}
	r := request()
	r.Snapshot.Install.Backend = "cuda"
	r.Bursts = &script{answers: []func(trainer.Job) (trainer.Burst, error){func(j trainer.Job) (trainer.Burst, error) {
		b, err := steps(len(readings), 0)(j)
		for i, mb := range readings {
			b.Summary.Steps[i].Memory.Active = trainer.Some(mb * 1e6)
		}
		return b, err
	}, steps(8, 0)}}
	got, err := Run(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if f := find(t, got, "burst.leak"); f.Severity != probe.Pass && f.Severity != probe.Unclear {
		t.Errorf("%+v", f)
	}
}

func TestCompilingIsAnnounced(t *testing.T) {
	for backend, want := range map[string]bool{"cpu": false, "metal": true, "cuda": true} {
		r := request()
		r.Snapshot.Install.Backend = backend
		r.Bursts = &script{answers: []func(trainer.Job) (trainer.Burst, error){steps(20, 0), steps(8, 0)}}
		var said []string
		r.Progress = func(text string) { said = append(said, text) }
		if _, err := Run(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(said[0], "compile kernels, which may take minutes"); got != want {
			t.Errorf("%s: %q", backend, said)
		}
	}
}

func TestSlowStepsGetASmallerProbe(t *testing.T) {
	r := request()
	s := &script{answers: []func(trainer.Job) (trainer.Burst, error){steps(3, 4096), steps(20, 4096), steps(8, 0)}}
	r.Bursts = s
	got, err := Run(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	small := s.jobs[1].Shapes[0]
	if small.Batch != 1 || small.Width >= 289/2 || (small.Width-1)%32 != 0 || small.Steps != probeSteps || s.jobs[1].Budget <= s.jobs[0].Budget {
		t.Errorf("second probe %+v", s.jobs[1])
	}
	if got.Leak.State != leak.Leaking || !strings.Contains(got.Leak.Reason, "tokens") || got.Probe.Steps != 3 {
		t.Errorf("leak %+v, probe %+v", got.Leak, got.Probe)
	}
}

func TestDeathsAreFindings(t *testing.T) {
	cases := []struct {
		name    string
		answers []func(trainer.Job) (trainer.Burst, error)
		bursts  int
	}{
		{"in the probe", []func(trainer.Job) (trainer.Burst, error){died(trainer.Crashed)}, 1},
		{"out of memory", []func(trainer.Job) (trainer.Burst, error){died(trainer.OOM)}, 1},
		{"over the data", []func(trainer.Job) (trainer.Burst, error){steps(20, 0), died(trainer.Stalled)}, 2},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := request()
			s := &script{answers: c.answers}
			r.Bursts, r.Prove = s, ProveNone
			got, err := Run(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			f := find(t, got, "burst.outcome")
			if got.Healthy || f.Severity != probe.Fail || got.Findings[0].Code != "burst.outcome" || len(s.jobs) != c.bursts || got.Next == "" {
				t.Errorf("healthy %v, first %s, %d bursts, next %q", got.Healthy, got.Findings[0].Code, len(s.jobs), got.Next)
			}
			if b, _ := json.Marshal(f); !strings.Contains(string(b), "the last words") {
				t.Errorf("no log in %s", b)
			}
		})
	}
}

func TestNothingIsRunInVain(t *testing.T) {
	cases := []struct {
		name   string
		change func(*Request)
		says   string
		next   string
	}{
		{"quick", func(r *Request) { r.Bursts = nil }, "asked for", "mlxdyno train --auto"},
		{"no model", func(r *Request) { r.Snapshot.Model = nil }, "no model", "--model DIR"},
		{"no data", func(r *Request) { r.Snapshot.Data = nil }, "no data", "--data DIR"},
		{"not tokenized", func(r *Request) { r.Tokens = trainer.TokenFiles{} }, "tokenized", "train"},
		{"no environment", func(r *Request) { r.Snapshot.Install = probe.Install{State: "missing", Fix: "mlxdyno setup"} }, "mlx.install", "mlxdyno setup"},
		{"too large", func(r *Request) { r.Snapshot.Model.Facts.WeightBytes = 64e9 }, "64.0 GB", "mlxdyno tune"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := request()
			r.Bursts = &script{} // any burst is an error
			c.change(&r)
			got, err := Run(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			if !got.Quick || !strings.Contains(got.Skipped, c.says) || !strings.Contains(got.Next, c.next) || got.Probe != nil {
				t.Errorf("skipped %q, next %q", got.Skipped, got.Next)
			}
		})
	}
}

func TestProbeFitsTheMachine(t *testing.T) {
	r := request()
	r.Snapshot.Memory.AvailableBytes = known[int64](90e6)
	s := &script{answers: []func(trainer.Job) (trainer.Burst, error){steps(20, 0), steps(8, 0)}}
	r.Bursts = s
	got, err := Run(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if w := s.jobs[0].Shapes[0].Width; w >= 289 || w < narrowest || !strings.Contains(got.Probe.ShapeWhy, "fit") {
		t.Errorf("probe is %d wide: %s", w, got.Probe.ShapeWhy)
	}
	if f := find(t, got, "memory.fits"); !strings.Contains(fmt.Sprint(f.Evidence), "widest batch") {
		t.Errorf("the widest batch was not judged: %+v", f)
	}
}

func TestOurOwnFailuresAreErrors(t *testing.T) {
	broken := errors.New("cannot start a process")
	r := request()
	r.Bursts = &script{answers: []func(trainer.Job) (trainer.Burst, error){func(trainer.Job) (trainer.Burst, error) { return trainer.Burst{}, broken }}}
	if _, err := Run(t.Context(), r); !errors.Is(err, broken) {
		t.Errorf("error %v, want %v", err, broken)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r = request()
	r.Bursts = &script{answers: []func(trainer.Job) (trainer.Burst, error){func(trainer.Job) (trainer.Burst, error) {
		cancel()
		return died(trainer.Stopped)(trainer.Job{})
	}, steps(8, 0)}}
	if _, err := Run(ctx, r); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want cancelled", err)
	}
}

// Where MLX's cache makes readings waver, a leak is looked for again without it.
func TestWaveringMemoryIsReadWithoutCache(t *testing.T) {
	wavering := func(j trainer.Job) (trainer.Burst, error) {
		b, err := steps(30, 4096)(j)
		for i := range b.Summary.Steps {
			m := &b.Summary.Steps[i].Memory
			m.Active = trainer.Some(m.Active.Or(0) + int64(i*i*7919%17)*512)
		}
		return b, err
	}
	r := request()
	s := &script{answers: []func(trainer.Job) (trainer.Burst, error){wavering, steps(12, 4096), steps(8, 0)}}
	r.Bursts = s
	got, err := Run(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if got.Leak.State != leak.Leaking || !got.Leak.IsExact || got.Leak.BytesAStep != 4096 {
		t.Errorf("verdict %+v", got.Leak)
	}
	first, second := s.jobs[0], s.jobs[1]
	if first.Config.Plan.CacheLimit.IsSet || second.Config.Plan.CacheLimit != trainer.LimitOf(0) || second.Shapes[0].Width != first.Shapes[0].Width {
		t.Errorf("jobs %+v and %+v", first, second)
	}
	// What the second look cannot tell does not undo the first.
	s = &script{answers: []func(trainer.Job) (trainer.Burst, error){wavering, died(trainer.OOM), steps(8, 0)}}
	r.Bursts = s
	if got, err = Run(t.Context(), r); err != nil || got.Leak.IsExact || got.Leak.State == leak.None {
		t.Errorf("verdict %+v, %v", got.Leak, err)
	}
}
