package check

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/probe/budget"
	"github.com/mlxdyno/mlxdyno/probe/leak"
	"github.com/mlxdyno/mlxdyno/probe/model"
	"github.com/mlxdyno/mlxdyno/trainer"
)

var update = flag.Bool("update", false, "rewrite golden files")

const gb = 1_000_000_000

func known[T any](v T) probe.Value[T] { return probe.Known(v, "test") }

// facts are those of a small llama whose files are in float32.
func facts() *model.Facts {
	f := &model.Facts{Arch: "llama", Layers: 2, Hidden: 256, Intermediate: 512, Heads: 4, KVHeads: 4, HeadDim: 64, Vocab: 4096,
		DType: "F32", Parameters: 4_000_000, WeightBytes: 16_000_000, HasTokenizer: true}
	for i := range f.Layers {
		for _, name := range []string{"q_proj", "k_proj", "v_proj", "o_proj"} {
			f.Tensors = append(f.Tensors, model.Tensor{Name: fmt.Sprintf("model.layers.%d.self_attn.%s.weight", i, name), DType: "F32", Shape: []int{256, 256}, Bytes: 256 * 256 * 4})
		}
	}
	rest := f.WeightBytes - int64(len(f.Tensors))*256*256*4
	f.Tensors = append(f.Tensors, model.Tensor{Name: "model.norm.weight", DType: "F32", Shape: []int{int(rest / 4)}, Bytes: rest})
	return f
}

const adapters = 2 * 4 * 8 * (256 + 256) // of facts at rank 8

// burst is a trial of n equal steps.
func burst(n int) *trainer.Burst {
	s := trainer.Summary{
		Hello: &trainer.Hello{Engine: "mlx-lm"},
		Ready: &trainer.Ready{Trainable: adapters, WeightBytes: 16_000_000, TrainableBytes: 4 * adapters, AdaptedModules: 8},
	}
	for i := range n {
		s.Steps = append(s.Steps, trainer.StepRecord{Number: i + 1, Step: trainer.Step{Loss: 2.5, Shape: trainer.Shape{Batch: 4, Width: 129},
			Tokens: 512, Seconds: 0.5, DataSeconds: 0.01, Memory: trainer.Memory{
				Active: trainer.Some[int64](20_000_000), Cache: trainer.Some[int64](0), Peak: trainer.Some[int64](60_000_000), Footprint: trainer.Some[int64](300_000_000)}}})
	}
	s.Figures = trainer.Figures{PeakBytes: trainer.Some[int64](60_000_000), FootprintBytes: trainer.Some[int64](300_000_000)}
	return &trainer.Burst{Result: trainer.Result{Outcome: trainer.Finished}, Summary: s}
}

func estimated(in *Input) {
	b := budget.Estimate(*in.Snapshot.Model.Facts, in.Settings.Config, trainer.Shape{Batch: 4, Width: 129}).WithLimits(in.Snapshot, in.Settings.Config)
	if in.Burst != nil {
		b = b.WithMeasured(in.Burst.Summary)
	}
	in.Budget = &b
}

func base(os string) Input {
	in := Input{Settings: trainer.NewSettings()}
	for _, kv := range [][2]string{{"model", "models/small"}, {"data", "data/notes"}} {
		if err := in.Settings.Set(kv[0], kv[1], trainer.FromFlag); err != nil {
			panic(err)
		}
	}
	in.Snapshot = probe.Snapshot{
		Host:   probe.Host{OS: os, Arch: "amd64", PowerMode: known(probe.PowerNormal)},
		Memory: probe.Memory{TotalBytes: known[int64](32 * gb), AvailableBytes: known[int64](24 * gb), PageBytes: known[int64](4096)},
		Swap:   probe.Swap{UsedBytes: known[int64](0)}, Pressure: probe.Pressure{SomeAvg10: known(0.0), Level: known(probe.PressureNormal)},
		Disk:      probe.Disk{Path: "/home/someone", FreeBytes: known[int64](100 * gb)},
		Install:   probe.Install{State: "ready", Backend: "cpu", BLAS: "openblas", Versions: map[string]string{"mlx": "0.32.4", "mlx-lm": "0.32.2"}},
		Processes: []probe.Process{{PID: 7, Name: "editor", ResidentBytes: known[int64](gb)}},
		GPU:       probe.GPU{Kind: "none"},
		Model:     &probe.ModelState{Path: "models/small", Facts: facts()},
		Data: &probe.DataState{Path: "data/notes", Format: "completions", Rows: map[string]int{"train": 1000},
			Lengths: &probe.LengthStats{Rows: 1000, Tokens: 200_000, P99: 900, Max: 1500, Cap: 2048, PaddingShare: 0.05, PaddingShareUngrouped: 0.5, Shapes: 20}},
	}
	in.Burst, in.Data = burst(20), burst(20)
	in.Leak = &leak.Verdict{State: leak.None, Steps: 17, Reason: "flat"}
	return in
}

// healthy is an input to which every check that applies says pass: on Linux
// with a control group, and on a Mac.
func healthyLinux() Input {
	in := base("linux")
	in.Snapshot.Cgroup = &probe.Cgroup{Version: 2, LimitBytes: probe.Unknown[int64]("no limit", "memory.max")}
	estimated(&in)
	return in
}

func healthyMac() Input {
	in := base("darwin")
	in.Snapshot.Host.Arch = "arm64"
	in.Snapshot.Memory.PageBytes = known[int64](16384)
	in.Snapshot.Install.Backend, in.Snapshot.Install.BLAS = "metal", ""
	in.Snapshot.GPU = probe.GPU{Kind: "metal", WiredLimitBytes: known[int64](0), WorkingSetBytes: known[int64](24 * gb)}
	in.Burst.Summary.Hello.Compiled = true
	estimated(&in)
	return in
}

func TestHealthyMachinesPass(t *testing.T) {
	for name, in := range map[string]Input{"linux": healthyLinux(), "mac": healthyMac()} {
		for _, f := range Run(in) {
			if f.Severity != probe.Pass {
				t.Errorf("%s: %s is %s: %s (%s)", name, f.Code, f.Severity, f.Title, f.Why)
			}
		}
	}
}

func settle(in *Input, knob, value string) {
	if err := in.Settings.Set(knob, value, trainer.FromFlag); err != nil {
		panic(err)
	}
}

// testCase is an input with one thing changed.
type testCase struct {
	name   string
	code   string
	from   func() Input
	change func(*Input)
	want   probe.Severity
	fix    string // that some fix's command holds
	says   string // that title, why or evidence hold
}

func TestChecks(t *testing.T) {
	mac, linux := healthyMac, healthyLinux
	cases := []testCase{
		{"never set up", "mlx.install", linux, func(in *Input) {
			in.Snapshot.Install = probe.Install{State: "missing", Problem: "no environment", Fix: "mlxdyno setup"}
		}, probe.Fail, "mlxdyno setup", "no environment"},
		{"not looked for", "mlx.install", linux, func(in *Input) { in.Snapshot.Install = probe.Install{} }, probe.Unclear, "", ""},
		{"zeros on metal", "mlx.version-minimum", mac, func(in *Input) { in.Snapshot.Install.Versions["mlx"] = "0.32.0" }, probe.Fail, "mlxdyno setup", "0.32.1"},
		{"oldest good on metal", "mlx.version-minimum", mac, func(in *Input) { in.Snapshot.Install.Versions["mlx"] = "0.32.1" }, probe.Pass, "", ""},
		{"lost errors on cpu", "mlx.version-minimum", linux, func(in *Input) { in.Snapshot.Install.Versions["mlx"] = "0.32.1" }, probe.Warn, "mlxdyno setup", "0.32.2"},
		{"version not said", "mlx.version-minimum", linux, func(in *Input) { in.Snapshot.Install.Versions = nil }, probe.Unclear, "", ""},
		{"reference blas", "mlx.blas", linux, func(in *Input) { in.Snapshot.Install.BLAS = "reference (bundled)" }, probe.Warn, "mlxdyno setup", "ten times"},
		{"blas not said", "mlx.blas", linux, func(in *Input) { in.Snapshot.Install.BLAS = "" }, probe.Unclear, "", ""},
		{"no blas on metal", "mlx.blas", mac, func(*Input) {}, "", "", ""},
		{"broken model", "model.readable", linux, func(in *Input) {
			in.Snapshot.Model = &probe.ModelState{Path: "x", Problem: "model.safetensors is cut short"}
		}, probe.Fail, "", "cut short"},
		{"no model named", "model.readable", linux, func(in *Input) { in.Snapshot.Model, in.Budget = nil, nil }, "", "", ""},
		{"no tokenizer", "model.tokenizer", linux, func(in *Input) { in.Snapshot.Model.Facts.HasTokenizer = false }, probe.Fail, "", "tokenizer"},
		{"named 4bit, stored full", "model.not-quantized-as-named", linux, func(in *Input) { in.Snapshot.Model.Path = "m/Llama-3-8B-4bit" }, probe.Warn, "--quantize 4", "f32"},
		{"named 4bit, stored so", "model.not-quantized-as-named", linux, func(in *Input) {
			in.Snapshot.Model.Path = "m/Llama-3-8B-4bit"
			in.Snapshot.Model.Facts.Quant = &model.Quant{Bits: 4, GroupSize: 64}
		}, probe.Pass, "", ""},
		{"named q8, stored 4", "model.not-quantized-as-named", linux, func(in *Input) {
			in.Snapshot.Model.Path = "m/llama-q8"
			in.Snapshot.Model.Facts.Quant = &model.Quant{Bits: 4, GroupSize: 64}
		}, probe.Warn, "", "8-bit"},
		{"size is not bits", "model.not-quantized-as-named", linux, func(in *Input) { in.Snapshot.Model.Path = "m/Qwen3-8B-Instruct" }, "", "", ""},
		{"unreadable data", "data.readable", linux, func(in *Input) { in.Snapshot.Data = &probe.DataState{Path: "d", Problem: "no train.jsonl"} }, probe.Fail, "", "no train.jsonl"},
		{"empty data", "data.readable", linux, func(in *Input) { in.Snapshot.Data.Rows["train"] = 0 }, probe.Fail, "", "no rows"},
		{"data not read", "data.readable", linux, func(in *Input) { in.Snapshot.Data.Rows = nil }, probe.Unclear, "", "not read"},
		{"data no tokenizer could read", "data.readable", linux, func(in *Input) {
			in.Snapshot.Model.Facts.HasTokenizer = false
			in.Snapshot.Data.Problem = "cannot tokenize"
		}, probe.Skipped, "", "model.tokenizer"},
		{"malformed rows", "data.malformed", linux, func(in *Input) { in.Snapshot.Data.Malformed = 3 }, probe.Warn, "", "3"},
		{"rows cut", "data.truncation", linux, func(in *Input) {
			l := in.Snapshot.Data.Lengths
			l.RowsCut, l.P99, l.Max = 50, 2500, 4000
		}, probe.Warn, "--max-seq-length 2529", "5.0"},
		{"few rows cut", "data.truncation", linux, func(in *Input) { in.Snapshot.Data.Lengths.RowsCut = 10 }, probe.Pass, "", ""},
		{"padding in file order", "data.padding", linux, func(in *Input) {
			settle(in, "group-by-length", "false")
			in.Snapshot.Data.Lengths.PaddingShare = 0.55
			in.PaddingGrouped = trainer.Some(0.085)
		}, probe.Warn, "--group-by-length=true", "8.5"},
		{"padding though grouped", "data.padding", linux, func(in *Input) { in.Snapshot.Data.Lengths.PaddingShare = 0.4 }, probe.Warn, "--batch-size 1 --grad-accumulation-steps 4", "40"},
		{"pages of another machine", "memory.page-size", mac, func(in *Input) { in.Snapshot.Memory.PageBytes = known[int64](4096) }, probe.Warn, "doctor", "96.0 GB"},
		{"page size unknown", "memory.page-size", mac, func(in *Input) { in.Snapshot.Memory.PageBytes = probe.Value[int64]{} }, probe.Unclear, "", ""},
		{"container", "memory.cgroup", linux, func(in *Input) { in.Snapshot.Cgroup.LimitBytes = known[int64](8 * gb) }, probe.Warn, "--memory-limit 6800MB", "25.6"},
		{"container with a limit", "memory.cgroup", linux, func(in *Input) {
			in.Snapshot.Cgroup.LimitBytes = known[int64](8 * gb)
			settle(in, "memory-limit", "6GB")
		}, probe.Pass, "", ""},
		{"container, limit too high", "memory.cgroup", linux, func(in *Input) {
			in.Snapshot.Cgroup.LimitBytes = known[int64](8 * gb)
			settle(in, "memory-limit", "16GB")
		}, probe.Warn, "--memory-limit 6800MB", "above"},
		{"roomy container", "memory.cgroup", linux, func(in *Input) { in.Snapshot.Cgroup.LimitBytes = known[int64](30 * gb) }, probe.Pass, "", ""},
		{"group limit unreadable", "memory.cgroup", linux, func(in *Input) { in.Snapshot.Cgroup.LimitBytes = probe.Unknown[int64]("denied", "x") }, probe.Unclear, "", "denied"},
		{"limit beyond ram", "memory.limit-above-ram", linux, func(in *Input) { settle(in, "memory-limit", "70GB") }, probe.Warn, "--memory-limit default", "32.0 GB"},
		{"limit within ram", "memory.limit-above-ram", linux, func(in *Input) { settle(in, "memory-limit", "20GB") }, probe.Pass, "", ""},
		{"limit under weights", "memory.limit-below-weights", linux, func(in *Input) { settle(in, "memory-limit", "7MB"); estimated(in) }, probe.Warn, "--memory-limit 66MB", "16.0"},
		{"limit over weights", "memory.limit-below-weights", linux, func(in *Input) { settle(in, "memory-limit", "1GB"); estimated(in) }, probe.Pass, "", ""},
		{"peak above the limit", "memory.fits", linux, func(in *Input) { settle(in, "memory-limit", "50MB"); estimated(in) }, probe.Warn, "--grad-checkpoint=true", "50.0 MB"},
		{"peak above the limit, with dropout", "memory.fits", linux, func(in *Input) {
			settle(in, "memory-limit", "50MB")
			settle(in, "dropout", "0.1")
			estimated(in)
		}, probe.Warn, "--batch-size 1", "50.0 MB"},
		{"not enough free", "memory.fits", linux, func(in *Input) { in.Snapshot.Memory.AvailableBytes = known[int64](50_000_000) }, probe.Warn, "", "are free now"},
		{"hardly any room", "memory.fits", linux, func(in *Input) { in.Snapshot.Memory.TotalBytes = known[int64](360_000_000); estimated(in) }, probe.Info, "", "of the limit"},
		{"widest batch does not fit", "memory.fits", linux, func(in *Input) {
			in.Widest = trainer.Shape{Batch: 4, Width: 2049}
			settle(in, "memory-limit", "400MB")
			estimated(in)
		}, probe.Warn, "--grad-checkpoint=true", "2048 tokens"},
		{"no limit known", "memory.fits", linux, func(in *Input) { in.Budget.Limit = budget.Limit{} }, probe.Unclear, "", ""},
		{"swapping", "memory.swap", linux, func(in *Input) { in.Snapshot.Swap.UsedBytes = known[int64](4 * gb) }, probe.Warn, "", "4.00 GB"},
		{"swap unknown", "memory.swap", linux, func(in *Input) { in.Snapshot.Swap.UsedBytes = probe.Unknown[int64]("denied", "x") }, probe.Unclear, "", "denied"},
		{"pressure on a mac", "memory.pressure", mac, func(in *Input) { in.Snapshot.Pressure.Level = known(probe.PressureCritical) }, probe.Warn, "doctor", "critical"},
		{"stalls on linux", "memory.pressure", linux, func(in *Input) { in.Snapshot.Pressure.SomeAvg10 = known(12.5) }, probe.Warn, "doctor", "12.5"},
		{"pressure unknown", "memory.pressure", linux, func(in *Input) { in.Snapshot.Pressure.SomeAvg10 = probe.Unknown[float64]("no such file", "x") }, probe.Unclear, "", ""},
		{"a large neighbour", "memory.others", mac, func(in *Input) {
			in.Snapshot.Processes = append(in.Snapshot.Processes, probe.Process{PID: 9, Name: "Browser", ResidentBytes: known[int64](gb), FootprintBytes: known[int64](9 * gb)})
		}, probe.Info, "", "Browser (process 9)"},
		{"a neighbour in the way", "memory.others", mac, func(in *Input) {
			in.Snapshot.Processes[0].FootprintBytes = known[int64](9 * gb)
			in.Snapshot.Memory.AvailableBytes = known[int64](50_000_000)
		}, probe.Warn, "", "editor"},
		{"wired limit raised far", "memory.wired-limit", mac, func(in *Input) { in.Snapshot.GPU.WiredLimitBytes = known[int64](30 << 30) }, probe.Warn, "sudo sysctl iogpu.wired_limit_mb=0", "panic"},
		{"wired limit raised", "memory.wired-limit", mac, func(in *Input) { in.Snapshot.GPU.WiredLimitBytes = known[int64](20 * gb) }, probe.Info, "sudo sysctl", ""},
		{"wired limit unknown", "memory.wired-limit", mac, func(in *Input) { in.Snapshot.GPU.WiredLimitBytes = probe.Value[int64]{} }, probe.Unclear, "", "not read"},
		{"low power", "power.mode", mac, func(in *Input) { in.Snapshot.Host.PowerMode = known(probe.PowerLow) }, probe.Warn, "lowpowermode 0", "low"},
		{"power unknown", "power.mode", mac, func(in *Input) { in.Snapshot.Host.PowerMode = probe.Value[probe.PowerMode]{} }, probe.Unclear, "", ""},
		{"full disk", "disk.space", linux, func(in *Input) { in.Snapshot.Disk.FreeBytes = known[int64](gb) }, probe.Warn, "", "1.00 GB"},
		{"disk too small for four checkpoints", "disk.space", linux, func(in *Input) {
			in.Snapshot.Disk.FreeBytes = known(diskReserve + 4*checkpointBytes(*in) - 1)
		}, probe.Warn, "", "one of 4 checkpoints"},
		{"many saves, four checkpoints", "disk.space", linux, func(in *Input) {
			settle(in, "iters", "1000000")
			in.Snapshot.Disk.FreeBytes = known(diskReserve + 4*checkpointBytes(*in))
		}, probe.Pass, "", "one of 4 checkpoints"},
		{"one save at the end", "disk.space", linux, func(in *Input) { settle(in, "save-every", "5000") }, probe.Pass, "", "one of 1 checkpoints"},
		{"disk unknown", "disk.space", linux, func(in *Input) { in.Snapshot.Disk.FreeBytes = probe.Value[int64]{} }, probe.Unclear, "", ""},
		{"out of memory", "burst.outcome", linux, func(in *Input) {
			in.Burst.Result = trainer.Result{Outcome: trainer.OOM, Signal: "killed", LogTail: "one\ntwo\n", Evidence: []trainer.Evidence{{Name: "oom_kill", Observed: "3 → 4", Source: "memory.events"}}}
		}, probe.Fail, "--grad-checkpoint=true", "3 → 4"},
		{"suspected out of memory", "burst.outcome", linux, func(in *Input) {
			in.Burst.Result = trainer.Result{Outcome: trainer.Crashed, SuspectedOOM: true, ExitCode: trainer.Some(139)}
		}, probe.Fail, "", "probably out of memory"},
		{"crash", "burst.outcome", linux, func(in *Input) {
			in.Burst.Result = trainer.Result{Outcome: trainer.Crashed, ExitCode: trainer.Some(2), LogTail: "Fatal: abort"}
		}, probe.Fail, "mlxdyno setup", "Fatal: abort"},
		{"stall in the data's batches", "burst.outcome", linux, func(in *Input) { in.Data.Result.Outcome = trainer.Stalled }, probe.Fail, "doctor", "stalled"},
		{"not a number", "burst.outcome", linux, func(in *Input) {
			in.Burst.Result = trainer.Result{Outcome: trainer.Failed, Failure: &trainer.Failure{FailKind: trainer.FailNonFinite, Code: "loss.nonfinite", Text: "the loss is nan at step 3"}}
		}, probe.Fail, "--learning-rate 1e-06", "step 3"},
		{"said what is wrong", "burst.outcome", linux, func(in *Input) {
			in.Burst.Result = trainer.Result{Outcome: trainer.Failed, Failure: &trainer.Failure{FailKind: trainer.FailConfig, Text: "no such layer", Hint: "use --num-layers 2"}}
		}, probe.Fail, "", "no such layer"},
		{"recomputed with dropout", "config.checkpoint-dropout", linux, func(in *Input) {
			settle(in, "grad-checkpoint", "true")
			settle(in, "dropout", "0.05")
		}, probe.Warn, "--dropout 0 --grad-checkpoint=true\nmlxdyno doctor --model models/small --data data/notes --dropout 0.05 --grad-checkpoint=false", `"measured"`},
		{"recomputed with dropout, another mlx", "config.checkpoint-dropout", mac, func(in *Input) {
			settle(in, "grad-checkpoint", "true")
			settle(in, "dropout", "0.05")
			in.Snapshot.Install.Versions["mlx"] = "0.33.0"
		}, probe.Warn, "--dropout 0 ", `"likely"`},
		{"recomputed without dropout", "config.checkpoint-dropout", linux, func(in *Input) { settle(in, "grad-checkpoint", "true") }, "", "", ""},
		{"dropout, nothing recomputed", "config.checkpoint-dropout", linux, func(in *Input) { settle(in, "dropout", "0.05") }, "", "", ""},
		{"nothing trained", "config.lora-wiring", linux, func(in *Input) { in.Burst.Summary.Ready.Trainable = 0 }, probe.Warn, "", "Nothing is trained"},
		{"wrong adapters", "config.lora-wiring", linux, func(in *Input) { in.Burst.Summary.Ready.Trainable = 4_000_000 }, probe.Warn, "", fmt.Sprint(adapters)},
		{"random weights", "config.weights-loaded", linux, func(in *Input) { in.Burst.Summary.Steps[0].Loss = 8.36 }, probe.Warn, "", "8.32"},
		{"a leak of all gradients", "burst.leak", linux, func(in *Input) {
			settle(in, "memory-limit", "70MB")
			estimated(in)
			in.Leak = &leak.Verdict{State: leak.Leaking, BytesAStep: 4 * adapters, IsExact: true, Steps: 17, Reason: "grew"}
		}, probe.Warn, "--reload-interval 60", "all adapter gradients"},
		{"leak not judged", "burst.leak", linux, func(in *Input) { in.Leak = &leak.Verdict{State: leak.Inconclusive, Reason: "too few steps"} }, probe.Unclear, "", "too few"},
		{"process grows", "burst.footprint-growth", linux, func(in *Input) {
			in.Burst = burst(300)
			for i := range in.Burst.Summary.Steps {
				in.Burst.Summary.Steps[i].Memory.Footprint = trainer.Some(int64(300_000_000 + 2_000_000*i + 10_000*(i%7)))
			}
		}, probe.Warn, "mlxdyno tune", "2.00 MB"},
		{"process flat", "burst.footprint-growth", linux, func(in *Input) { in.Burst = burst(300) }, probe.Pass, "", ""},
		{"memory outside mlx", "burst.footprint-gap", linux, func(in *Input) {
			in.Burst.Summary.Figures.FootprintBytes = trainer.Some[int64](9 * gb)
			in.Burst.Summary.Steps[5].Memory.Footprint = trainer.Some[int64](9 * gb)
			estimated(in)
		}, probe.Warn, "", "8.98"},
		{"slower and slower", "burst.drift", linux, func(in *Input) {
			for i := range in.Burst.Summary.Steps {
				in.Burst.Summary.Steps[i].Seconds = 0.5 + 0.05*float64(i)
			}
		}, probe.Warn, "doctor", "slower"},
		{"noisy, not slower", "burst.drift", linux, func(in *Input) {
			for i := range in.Burst.Summary.Steps {
				in.Burst.Summary.Steps[i].Seconds = 0.5 + 0.3*float64(i%3)
			}
		}, probe.Pass, "", ""},
		{"waits for data", "burst.data-wait", linux, func(in *Input) {
			for i := range in.Data.Summary.Steps {
				in.Data.Summary.Steps[i].DataSeconds = 0.5
			}
		}, probe.Warn, "", "50"},
		{"many shapes", "compile.shapes", mac, func(in *Input) { in.Snapshot.Data.Lengths.Shapes = 60 }, probe.Warn, "--reload-interval", "60"},
		{"many shapes, not compiled", "compile.shapes", linux, func(in *Input) { in.Snapshot.Data.Lengths.Shapes = 60 }, "", "", ""},
	}
	triggered, spared, experiments := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, c := range slices.Concat(cases, growthCases, causeCases, crashCases) {
		t.Run(c.code+"/"+c.name, func(t *testing.T) {
			in := c.from()
			c.change(&in)
			findings := Run(in)
			i := slices.IndexFunc(findings, func(f probe.Finding) bool { return f.Code == c.code })
			if i < 0 {
				if c.want != "" {
					t.Fatalf("no finding, want %s", c.want)
				}
				return
			}
			f := findings[i]
			text, err := json.Marshal(f)
			if err != nil {
				t.Fatal(err)
			}
			if f.Severity != c.want {
				t.Fatalf("%s, want %s: %s", f.Severity, c.want, text)
			}
			fixes := ""
			for _, fix := range f.Fix {
				fixes += fix.Command + "\n"
			}
			if strings.Contains(fixes, "--grad-checkpoint=true") && !strings.Contains(fixes, "--dropout 0 ") && in.config().Quality.Dropout > 0 {
				t.Errorf("a fix makes gradients wrong: %s", fixes)
			}
			if e, ok := ExperimentFor(f, in); ok {
				experiments[c.code] = true
				if with, err := e.Apply(in.config()); err != nil || e.Symptom == "" || e.Measure == nil || e.Changed(in.config()) == "" ||
					e.After == nil && e.Steps[0] == 0 && with.Key() == in.config().Key() {
					t.Errorf("an experiment that changes nothing or measures nothing (%v): %+v", err, e)
				}
			}
			if !strings.Contains(fixes, c.fix) || !strings.Contains(string(text), c.says) {
				t.Errorf("want a fix with %q and the words %q: %s", c.fix, c.says, text)
			}
		})
		if c.want == probe.Warn || c.want == probe.Fail {
			triggered[c.code] = true
		} else {
			spared[c.code] = true
		}
	}
	for _, in := range []Input{healthyLinux(), healthyMac()} {
		for _, f := range Run(in) {
			spared[f.Code] = spared[f.Code] || f.Severity == probe.Pass
		}
	}
	for _, s := range Stories() {
		if s.Provable != experiments[s.Code] {
			t.Errorf("%s can be proven: %v; a case has an experiment: %v", s.Code, s.Provable, experiments[s.Code])
		}
	}
	for _, code := range Codes() {
		if strings.HasPrefix(code, "patient.") {
			continue // those have a table of their own
		}
		if !triggered[code] || !spared[code] {
			t.Errorf("%s: a case triggers it: %v; a case spares it: %v", code, triggered[code], spared[code])
		}
	}
}

func checkpointBytes(in Input) int64 {
	return in.Budget.Line(budget.Adapters).Best().Or(0) + in.Budget.Line(budget.Optimizer).Best().Or(0)
}

func TestCommandIsForAShell(t *testing.T) {
	for value, want := range map[string]string{
		"models/a-b_c.d:e=f,g@h%i+j": "models/a-b_c.d:e=f,g@h%i+j",
		"~/models/x":                 "'~/models/x'",
		"it's here":                  `'it'\''s here'`,
		"$HOME/*":                    "'$HOME/*'",
		"模型":                         "'模型'",
		"a\nb":                       "'a\nb'",
	} {
		in := base("linux")
		if got := Command("doctor", in.Settings, Change{"model", value}); got != "mlxdyno doctor --model "+want+" --data data/notes" {
			t.Errorf("%q: %s", value, got)
		}
	}
}

// One missing tokenizer is one failure, whatever it kept from being done.
func TestMissingTokenizerFailsOnce(t *testing.T) {
	in := healthyLinux()
	in.Snapshot.Model.Facts.HasTokenizer = false
	in.Snapshot.Data.Problem = "cannot tokenize"
	for _, f := range Run(in) {
		if (f.Severity == probe.Fail) != (f.Code == "model.tokenizer") {
			t.Errorf("%s is %s", f.Code, f.Severity)
		}
	}
}

// Whatever the input, findings keep the promises that renderers rely on.
func TestFindingsKeepTheirForm(t *testing.T) {
	bare := Input{Settings: trainer.NewSettings()}
	broken := healthyLinux()
	broken.Snapshot.Install.State = "broken"
	dead := healthyMac()
	dead.Burst.Result = trainer.Result{Outcome: trainer.Killed, Signal: "killed"}
	dead.Burst.Summary = trainer.Summary{}
	for name, in := range map[string]Input{"bare": bare, "healthy": healthyLinux(), "mac": healthyMac(), "broken": broken, "dead": dead} {
		for _, f := range Run(in) {
			c := registry[slices.IndexFunc(registry, func(c Check) bool { return c.Code == f.Code })]
			switch {
			case f.Title == "":
				t.Errorf("%s: %s has no title", name, f.Code)
			case f.Severity == probe.Fail && !c.Required:
				t.Errorf("%s: %s fails but is not required", name, f.Code)
			case (f.Severity == probe.Fail || f.Severity == probe.Warn) && (f.Why == "" || f.Confidence == "" || len(f.Evidence) == 0):
				t.Errorf("%s: %s lacks why, evidence or confidence", name, f.Code)
			case f.Severity == probe.Unclear && f.Why == "":
				t.Errorf("%s: %s is unknown without a reason", name, f.Code)
			}
		}
	}
}

func TestCausesSilenceConsequences(t *testing.T) {
	in := healthyLinux()
	in.Snapshot.Install.State = "missing"
	for _, f := range Run(in) {
		dependent := slices.Contains(f.DependsOn, "mlx.install") || slices.Contains(f.DependsOn, "burst.outcome")
		if dependent != (f.Severity == probe.Skipped) {
			t.Errorf("%s depends on %v and is %s", f.Code, f.DependsOn, f.Severity)
		}
	}
}

func TestRegistry(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range registry {
		if seen[c.Code] {
			t.Errorf("%s is registered twice", c.Code)
		}
		seen[c.Code] = true
		for _, d := range c.DependsOn {
			if !seen[d] {
				t.Errorf("%s depends on %s, which does not come before it", c.Code, d)
			}
		}
		e, ok := Explain(c.Code)
		if !ok || e.Title == "" || e.Means == "" || e.How == "" || e.Do == "" {
			t.Errorf("%s: incomplete story %+v", c.Code, e)
		}
	}
	if _, ok := Explain("no.such"); ok {
		t.Error("an unknown code has a story")
	}
}

func TestRecordedMachines(t *testing.T) {
	paths, err := filepath.Glob("../testdata/snapshots/*.json")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no snapshots: %v", err)
	}
	for _, path := range paths {
		name := filepath.Base(path)
		t.Run(name, func(t *testing.T) {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			in := Input{Settings: trainer.NewSettings()}
			if err := json.Unmarshal(b, &in.Snapshot); err != nil {
				t.Fatal(err)
			}
			if m := in.Snapshot.Model; m != nil && m.Facts != nil {
				e := budget.Estimate(*m.Facts, in.Settings.Config, trainer.Shape{Batch: 4, Width: 513}).WithLimits(in.Snapshot, in.Settings.Config)
				in.Budget = &e
			}
			findings := Run(in)
			Sort(findings)
			got, err := json.MarshalIndent(findings, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, '\n')
			golden := filepath.Join("testdata", "findings", name)
			if *update {
				if err := os.MkdirAll(filepath.Dir(golden), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCommand(t *testing.T) {
	s := trainer.NewSettings()
	for _, kv := range [][2]string{{"model", "my models/it's"}, {"group-by-length", "false"}, {"rank", "64"}} {
		if err := s.Set(kv[0], kv[1], trainer.FromFlag); err != nil {
			t.Fatal(err)
		}
	}
	got := Command("doctor", s, Change{"rank", "32"}, Change{"memory-limit", "48GB"})
	want := `mlxdyno doctor --model 'my models/it'\''s' --group-by-length=false --rank 32 --memory-limit 48GB`
	if got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}
