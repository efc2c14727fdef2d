package report

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/pprof/profile"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/run"
	"github.com/mlxdyno/mlxdyno/trainer/worker/fake"
)

func TestMain(m *testing.M) {
	fake.Main()
	os.Exit(m.Run())
}

// profiled is a finished training with a profile of its first steps.
func profiled() run.Report {
	r := trained()
	part := func(name string, s, guessed float64, gflop float64) run.Part {
		p := run.Part{Name: name, Seconds: s, Share: s / 40, ModelledSeconds: guessed, Calls: 8, Bytes: trainer.Some(int64(s * 1e9))}
		if gflop > 0 {
			p.GFLOP, p.CeilingShare = trainer.Some(gflop), trainer.Some(gflop/s/1000)
		}
		return p
	}
	p := &run.Profile{Steps: 8, FromStep: 0, Seconds: 40, ModelledSeconds: 22, Tokens: 9000, Positions: 10000, Supervised: 4000,
		UsefulShare: trainer.Some(0.9), SupervisedShare: trainer.Some(0.4), TFLOPAStep: trainer.Some(3.1), GFLOPS: trainer.Some(620.0),
		CeilingGFLOPS: trainer.Some(trainer.Float(1000)), CeilingShare: trainer.Some(0.62),
		Phases:    []run.Part{part("data", 0.4, 0, 0), part("forward", 13, 0, 8200), part("loss", 4, 0, 900), part("backward", 22, 22, 15400), part("optimizer", 0.6, 0.3, 0)},
		PeakBytes: 6_300_000_000, ModelledPeakBytes: 1_900_000_000,
		Held:   []run.HeldPart{{Name: "weights", Bytes: 2_500_000_000, Share: 0.4}, {Name: "activations", Bytes: 2_900_000_000, Share: 0.46, ModelledBytes: 900_000_000}, {Name: "temporary", Bytes: 1e9, Share: 0.14, ModelledBytes: 1e9}},
		Layers: []run.Part{part("mlp.down_proj", 9, 5, 7000), part("self_attn.q_proj", 6, 4, 4100)},
		Ops:    []run.Part{part("Matmul", 30, 18, 24000), part("Softmax", 2, 2, 0)}}
	p.Phases[3].ClockSeconds = trainer.Some(21.9)
	p.Blocks = append(p.Blocks, part("embedding", 0.5, 0, 0))
	for i, s := range []float64{2.1, 2.0, 2.2, 2.4, 2.0, 2.3} {
		p.Blocks = append(p.Blocks, part("block "+strconv.Itoa(i), s, s/2, 1500))
	}
	p.Blocks = append(p.Blocks, part("head", 4, 1, 2000))
	for i, path := range [][]string{{"forward", "block 0", "mlp.down_proj", "Matmul"}, {"backward", "block 0", "mlp.down_proj", "Matmul"}, {"loss", "", "", "LogSumExp"}} {
		p.Spans = append(p.Spans, trainer.Span{Path: path, Seconds: float64(10 + i), Calls: 8, GFLOP: trainer.Some(trainer.Float(1.5)), Bytes: trainer.Some(int64(7)), Modelled: i == 1})
	}
	p.Helds = []trainer.Held{{Path: []string{"weights"}, Bytes: 60}, {Path: []string{"activations", "block 0", "mlp.down_proj"}, Bytes: 40, Modelled: true}}
	r.Profile = p
	r.Segments[0].Profile = true
	r.Totals.StepSeconds, r.Totals.DataSeconds, r.Totals.DataShare = 1400, 28, trainer.Some(0.02)
	return r
}

func parsed(t *testing.T, write func(io.Writer, run.Report) error, r run.Report) *profile.Profile {
	t.Helper()
	var b bytes.Buffer
	if err := write(&b, r); err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(b.Bytes(), []byte{0x1f, 0x8b}) {
		t.Error("not compressed")
	}
	p, err := profile.Parse(&b)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.CheckValid(); err != nil {
		t.Error(err)
	}
	return p
}

// stacks are a profile's samples as text, root first.
func stacks(p *profile.Profile) []string {
	var out []string
	for _, s := range p.Sample {
		var names []string
		for _, l := range slices.Backward(s.Location) {
			names = append(names, l.Line[0].Function.Name)
		}
		var values []string
		for _, v := range s.Value {
			values = append(values, strconv.FormatInt(v, 10))
		}
		for key, how := range s.Label {
			values = append(values, key+":"+strings.Join(how, ","))
		}
		out = append(out, strings.Join(names, ";")+" "+strings.Join(values, " "))
	}
	return out
}

func TestPprof(t *testing.T) {
	p := parsed(t, Pprof, profiled())
	if d := cmp.Diff([]string{
		"step;forward;block 0;mlp.down_proj;Matmul 10000000000 1500 7 seconds:measured",
		"step;backward;block 0;mlp.down_proj;Matmul 11000000000 1500 7 seconds:modelled",
		"step;loss;LogSumExp 12000000000 1500 7 seconds:measured",
	}, stacks(p)); d != "" {
		t.Error(d)
	}
	var types []string
	for _, v := range p.SampleType {
		types = append(types, v.Type+"/"+v.Unit)
	}
	if d := cmp.Diff([]string{"time/nanoseconds", "work/megaflop", "written/bytes"}, types); d != "" || p.DefaultSampleType != "time" || p.DurationNanos != 40e9 {
		t.Errorf("%s; default %s, duration %d", d, p.DefaultSampleType, p.DurationNanos)
	}
	if d := cmp.Diff([]string{"run home/runs/20260302-093000-ab12", "model models/Llama-3.2-1B", "device metal Apple M1", "mlx 0.32.4", "mlx-lm 0.32.2",
		"ceiling 1,000 GFLOP/s, a float matrix product measured in the same process", "8 steps from step 0, 40.0 s, of which 22.0 s modelled",
		"peak 6.30 GB, of what is listed 1.90 GB modelled"}, p.Comments); d != "" {
		t.Error(d)
	}

	p = parsed(t, PprofInUse, profiled())
	if d := cmp.Diff([]string{"peak;weights 60 bytes:measured", "peak;activations;block 0;mlp.down_proj 40 bytes:modelled"}, stacks(p)); d != "" || p.SampleType[0].Type != "inuse_space" {
		t.Errorf("%s; %v", d, p.SampleType[0])
	}
	for _, write := range []func(io.Writer, run.Report) error{Pprof, PprofInUse} {
		if err := write(io.Discard, trained()); !errors.Is(err, ErrNoProfile) {
			t.Errorf("without a profile: %v", err)
		}
		if err := write(brokenPipe{}, profiled()); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("nowhere to write: %v", err)
		}
	}
}

// What no worker should say is no reason not to draw the rest.
func TestPprofOfAnything(t *testing.T) {
	r := profiled()
	r.Segments, r.Profile.Segment = nil, 9
	r.Profile.Seconds = math.Inf(1)
	for _, path := range [][]string{nil, {""}, {"step", "step"}, {"\x1b[31mred\n", "\xff"}, {"a", "b", "c", "d", "e", "f"}} {
		r.Profile.Spans = append(r.Profile.Spans, trainer.Span{Path: path, Seconds: math.NaN(), GFLOP: trainer.Some(trainer.Float(math.Inf(1))), Bytes: trainer.Some[int64](-1)})
		r.Profile.Helds = append(r.Profile.Helds, trainer.Held{Path: path, Bytes: math.MaxInt64})
	}
	for _, write := range []func(io.Writer, run.Report) error{Pprof, PprofInUse} {
		for _, l := range stacks(parsed(t, write, r)) {
			if strings.ContainsAny(l, "\x1b\n") {
				t.Errorf("%q", l)
			}
		}
	}
}

var (
	totalLine = regexp.MustCompile(`(?m)^Showing nodes accounting for ([0-9.]+)(\w+), 100% of ([0-9.]+)(\w+) total$`)
	topLine   = regexp.MustCompile(`(?m)^ *([0-9.]+)(\w+) .* ([^ ]+)$`)
	unitsOf   = map[string]float64{"s": 1, "ms": 1e-3, "us": 1e-6, "mins": 60, "B": 1, "kB": 1 << 10, "MB": 1 << 20, "megaflop": 1e-3}
)

// top runs go tool pprof over a profile and returns its total and what it says
// of every leaf, both in seconds, bytes or GFLOP.
func top(t *testing.T, path, sample, unit string) (total float64, leaves map[string]float64) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "tool", "pprof", "-top", "-nodecount=1000", "-nodefraction=0", "-edgefraction=0", "-sample_index="+sample, "-unit="+unit, path).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	m := totalLine.FindStringSubmatch(string(out))
	if m == nil {
		t.Fatalf("no total in\n%s", out)
	}
	value := func(number, unit string) float64 {
		v, err := strconv.ParseFloat(number, 64)
		factor, known := unitsOf[unit]
		if err != nil || !known {
			t.Fatalf("%s%s is no figure in\n%s", number, unit, out)
		}
		return v * factor
	}
	leaves = map[string]float64{}
	for _, l := range topLine.FindAllStringSubmatch(string(out), -1) {
		leaves[l[3]] = value(l[1], l[2])
	}
	return value(m[3], m[4]), leaves
}

func near(a, b float64) bool { return math.Abs(a-b) <= 0.02*math.Abs(b) }

// TestPprofAgreesWithTheRun profiles a training and asks go tool pprof what it
// sees: the same totals, the same operations, for time, work and memory.
func TestPprofAgreesWithTheRun(t *testing.T) {
	s := trainer.NewSettings()
	for _, kv := range [][2]string{{"model", "/models/tiny"}, {"data", "/d"}, {"iters", "12"}, {"steps-per-eval", "100"}} {
		if err := s.Set(kv[0], kv[1], trainer.FromFlag); err != nil {
			t.Fatal(err)
		}
	}
	engine := fake.Engine(fake.Script{Blocks: 12, Cost: fake.Cost{StepSeconds: 0.7, PositionSeconds: 0.001, Bytes: 5 << 20, PositionBytes: 1000}, Life: time.Minute})
	dir := t.TempDir()
	r, err := run.Train(context.Background(), run.Plan{Engine: engine, Config: s, Dir: filepath.Join(dir, "run"), ProfileSteps: 6}, deaf{})
	if err != nil || r.Profile == nil {
		t.Fatalf("%+v, %v", r.Profile, err)
	}
	if p := r.Profile; len(p.Spans) < 70 || p.Missing != 0 || !near(p.CeilingShare.Or(0)*100, p.GFLOPS.Or(0)) {
		t.Fatalf("%d spans, profile %+v", len(p.Spans), p)
	}
	for name, write := range map[string]func(io.Writer, run.Report) error{"time": Pprof, "inuse": PprofInUse} {
		var b bytes.Buffer
		if err := write(&b, r); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	ops := func(total float64, leaves map[string]float64, of func(run.Part) float64) {
		t.Helper()
		sum := 0.0
		for _, op := range r.Profile.Ops {
			if v := of(op); v > 0 && !near(leaves[op.Name], v) {
				t.Errorf("%s: pprof says %v, the run %v", op.Name, leaves[op.Name], v)
			}
			sum += of(op)
		}
		if !near(total, sum) {
			t.Errorf("pprof's total is %v, the run's %v", total, sum)
		}
	}
	total, leaves := top(t, filepath.Join(dir, "time"), "time", "s")
	ops(total, leaves, func(p run.Part) float64 { return p.Seconds })
	if !near(total, r.Profile.Seconds) {
		t.Errorf("%v s, the run has %v", total, r.Profile.Seconds)
	}
	total, leaves = top(t, filepath.Join(dir, "time"), "work", "megaflop")
	ops(total, leaves, func(p run.Part) float64 { return p.GFLOP.Or(0) })
	if !near(total, r.Profile.TFLOPAStep.Or(0)*1000*6) {
		t.Errorf("%v GFLOP, the run has %v TFLOP a step", total, r.Profile.TFLOPAStep)
	}
	if total, _ = top(t, filepath.Join(dir, "inuse"), "inuse_space", "B"); !near(total, float64(r.Profile.PeakBytes)) {
		t.Errorf("%v bytes, the run has %v", total, r.Profile.PeakBytes)
	}
	// The steps' own times are those that the profile adds up to.
	if own := 6 * (0.7 + 0.001*(32*4+64*4)/2); !near(r.Profile.Seconds, own) {
		t.Errorf("%v s of spans, the steps took %v", r.Profile.Seconds, own)
	}
}

// deaf is an observer that does not listen.
type deaf struct{}

func (deaf) Event(trainer.Event) {}
func (deaf) Note(run.Note)       {}
