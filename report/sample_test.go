package report

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/mlxdyno/mlxdyno/mlxbind/install"
	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/probe/budget"
	"github.com/mlxdyno/mlxdyno/probe/diagnose"
	"github.com/mlxdyno/mlxdyno/probe/leak"
	"github.com/mlxdyno/mlxdyno/probe/model"
	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/run"
	"github.com/mlxdyno/mlxdyno/tuner"
	"github.com/mlxdyno/mlxdyno/tuner/compare"
)

var sampleTime = time.Date(2026, 3, 2, 9, 30, 0, 0, time.UTC)

func snapshot(t *testing.T, name string) probe.Snapshot {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "probe", "testdata", "snapshots", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var s probe.Snapshot
	if err := json.Unmarshal(b, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func sampleConfig() trainer.Config {
	c := trainer.DefaultConfig()
	c.Model.Path, c.Data.Path = "models/Llama-3.2-1B", "my data"
	c.Plan.CacheLimit = trainer.LimitOf(2e9)
	return c
}

// sick is a diagnosis with every kind of finding.
func sick(t *testing.T) diagnose.Report {
	s := snapshot(t, "mac-m1-16gb-pressure")
	s.Model = &probe.ModelState{Path: "models/Llama-3.2-1B", Facts: &model.Facts{Arch: "llama", Layers: 16, Parameters: 1_235_814_400,
		WeightBytes: 2_471_645_608, DType: "BF16", Files: []model.File{{Name: "model.safetensors", Bytes: 2_471_645_608}}}}
	s.Data = &probe.DataState{Path: "my data", Format: "completions", Rows: map[string]int{"train": 6313, "valid": 350},
		Lengths: &probe.LengthStats{Rows: 6313, P50: 147, P99: 1353, Max: 2432, Cap: 2048}}
	return diagnose.Report{
		Schema: diagnose.Schema, At: sampleTime, Seconds: 21.4,
		Findings: []probe.Finding{
			{Code: "memory.limit-below-weights", Severity: probe.Fail, Confidence: probe.Proven,
				Title: "The memory limit is smaller than the weights",
				Why:   "MLX waits for memory at every operation once active memory is above its limit, so each step takes several times longer.",
				Proof: &probe.Proof{Verdict: probe.ProofHolds, Changed: "--memory-limit 2.00 GB → default", Symptom: "step", Unit: "s", Before: 3.1, After: 1.0, Bursts: 4, Seconds: 27.5, Text: "the symptom went with the cause"},
				Evidence: []probe.Evidence{
					{Name: "memory limit", Observed: "2.00 GB", Expected: "at least 2.97 GB", Source: "configuration"},
					{Name: "step", Observed: "3.1", Expected: "1.0", Unit: "s", Source: "A/B burst"}},
				Fix: []probe.Fix{{Text: "Leave the limit to MLX.", Command: "mlxdyno train --memory-limit default", Undo: "give --memory-limit 2GB again"}}},
			{Code: "burst.cache-growth", Severity: probe.Warn, Confidence: probe.Likely, Title: "3.10 GB of freed buffers are kept, without a limit",
				Why:   "neither MLX's peak nor its limit on active memory shows them",
				Proof: &probe.Proof{Verdict: probe.ProofRefuted, Changed: "--cache-limit default → 2.00 GB", Symptom: "freed buffers kept", Unit: "bytes", Before: 3.1e9, After: 3.05e9, Bursts: 1, Seconds: 9, Text: "the symptom stayed: the cause is another one, or not the only one"},
				Fix:   []probe.Fix{{Text: "Bound it", Command: "mlxdyno tune"}}},
			{Code: "compile.shapes", Severity: probe.Warn, Confidence: probe.Likely, Title: "An epoch has 60 distinct batch shapes", Why: "compiled steps are never dropped",
				Proof: &probe.Proof{Verdict: probe.ProofOpen, Changed: "--max-shapes 0 → 8", Symptom: "compiled steps", Bursts: 1, Seconds: 3, Text: "a burst without the cause shows no such figure; it ended as crashed"}},
			{Code: "memory.wired-limit", Severity: probe.Warn, Confidence: probe.Measured, Title: "macOS may page out the weights",
				Why: "The system's wired limit is below the working set.",
				Fix: []probe.Fix{{Text: "Raise it until the next restart.", Command: "sysctl iogpu.wired_limit_mb=13000", NeedsSudo: true,
					Undo: "sudo sysctl iogpu.wired_limit_mb=0", Risk: "too high a value can freeze the machine"}}},
			{Code: "gpu.utilization", Severity: probe.Unclear, Title: "How busy the GPU is could not be read", Why: "ioreg: no such key"},
			{Code: "data.padding", Severity: probe.Info, Confidence: probe.Measured, Title: "Grouping rows by length saves 46 % of the work"},
			{Code: "leak.active", Severity: probe.Skipped, Title: "Leak check", DependsOn: []string{"memory.limit-below-weights"}},
		},
		Passes: []probe.Finding{{Code: "install.ready", Severity: probe.Pass, Title: "MLX is installed and computes"},
			{Code: "disk.space", Severity: probe.Pass, Title: "Enough disk space"}},
		Passed: 2,
		Budget: &budget.Budget{Shape: trainer.Shape{Batch: 4, Width: 513},
			Lines: []budget.Line{
				{Name: budget.Weights, Estimated: trainer.Some[int64](2_471_645_608), Measured: trainer.Some[int64](2_471_645_608), Note: "files", Source: "ready"},
				{Name: budget.Adapters, Estimated: trainer.Some[int64](22_544_384), Note: "rank × (in + out) × 4 bytes"},
				{Name: budget.Activations, Estimated: trainer.Some[int64](1_900_000_000)},
				{Name: budget.Cache, Note: "cleared every step"}},
			Peak:  budget.Line{Name: budget.PeakName, Estimated: trainer.Some[int64](6_100_000_000), Measured: trainer.Some[int64](6_240_000_000), Source: "probe burst"},
			Limit: budget.Limit{Name: budget.LimitConfigured, Bytes: trainer.Some[int64](2e9), From: "--memory-limit", Note: "a guideline to MLX, not a cap"},
			Gap:   "measured is 2.3 % above the estimate"},
		Probe: &diagnose.Figures{Outcome: trainer.Finished, Shape: &trainer.Shape{Batch: 4, Width: 513}, ShapeWhy: "the 90th percentile of your rows",
			Steps: 24, Shapes: 1, TokensPerSecond: trainer.Some(412.4), StepSeconds: trainer.Some(3.1), StepSpread: trainer.Some(0.08),
			DataShare: trainer.Some(0.002), FirstLoss: trainer.Some(2.41), LastLoss: trainer.Some(2.22), PeakBytes: trainer.Some[int64](6_240_000_000)},
		Data:    &diagnose.Figures{Outcome: trainer.Stalled, Steps: 3},
		Leak:    &leak.Verdict{State: leak.Leaking, BytesAStep: 524_288, IsExact: true, From: 4, Steps: 20, Reason: "the last 20 readings grew by exactly 524288 bytes every 1"},
		Next:    "mlxdyno tune --model models/Llama-3.2-1B --data 'my data'",
		NextWhy: "Finds the fastest configuration that fits this machine.",
		Config:  sampleConfig(), Snapshot: s,
	}
}

// quick is a diagnosis of a healthy machine on which nothing was run.
func quick(t *testing.T) diagnose.Report {
	return diagnose.Report{Schema: diagnose.Schema, At: sampleTime, Healthy: true, Quick: true, Skipped: "--quick was given", Passed: 12,
		Config: trainer.DefaultConfig(), Snapshot: snapshot(t, "linux"), Next: "mlxdyno doctor --model M --data D", NextWhy: "Also measures."}
}

func tuned() tuner.Report {
	c := sampleConfig()
	point := tuner.Point{Rank: 16, Batch: 4, Accumulation: 2, MaxSeqLength: 2048}
	small := tuner.Point{Bits: 4, Rank: 16, Batch: 2, Accumulation: 4, Checkpointing: true, MaxSeqLength: 2048}
	return tuner.Report{Schema: tuner.Schema, Verdict: tuner.Confirmed, Config: c,
		Choices: []tuner.Choice{
			{Knob: "rank", Value: "16", Origin: trainer.FromFlag, Reason: "you asked for it"},
			{Knob: "batch-size", Value: "4", Unit: "rows", Origin: trainer.FromTuned, Reason: "the fastest that stays 12 % under the limit; 8 would need 11.2 GB"},
			{Knob: "cache-limit", Value: "2000000000", Unit: "bytes", Origin: trainer.FromTuned, Reason: "the smallest that costs no time"},
			{Knob: "reload-interval", Value: "0", Unit: "steps", Origin: trainer.FromTuned, Reason: "no leak seen; reload not needed"},
			{Knob: "seed", Value: "0", Origin: trainer.FromDefault, Reason: "default"}},
		Expected: trainer.Expected{Figures: trainer.Figures{PeakBytes: trainer.Some[int64](6_240_000_000), TokensPerSecond: trainer.Some(1270.0),
			StepSeconds: trainer.Some(0.98), TotalSeconds: trainer.Some(1460.0)}, PeakError: 0.03, TokensError: 0.15, Basis: "rehearsal of 64 steps on the data's own batches"},
		Start: &tuner.Comparison{Config: trainer.DefaultConfig(), PeakBytes: trainer.Some[int64](9_800_000_000), TokensPerSecond: trainer.Some(611.0),
			Measured: true, Fits: true, Speedup: trainer.Some(2.08), MemoryRatio: trainer.Some(0.64)},
		Baseline: func() *compare.Report {
			r := compared()
			r.A.Name, r.B.Name = "chosen", "my-lora.yaml"
			return &r
		}(),
		Gates: []tuner.Gate{{Name: "leak", Passed: true, Observed: trainer.Some(0.0), Required: 0, Unit: "bytes a step", Text: "active memory is equal to the byte over 40 steps"},
			{Name: "spread", Passed: true, Observed: trainer.Some(0.08), Required: 0.25}},
		Checks: []tuner.Check{
			{What: "calibration", Candidate: point, Shape: &trainer.Shape{Batch: 4, Width: 257}, PredictedPeakBytes: trainer.Some[int64](4_000_000_000), MeasuredPeakBytes: trainer.Some[int64](4_010_000_000),
				PeakError: trainer.Some(-0.0025), PredictedTokensPerSecond: trainer.Some(1350.0), MeasuredTokensPerSecond: trainer.Some(1290.0), TokensError: trainer.Some(0.0465)},
			{What: "rehearsal", Candidate: point, MeasuredTokensPerSecond: trainer.Some(1270.0), HeldOut: true}},
		Candidates: []tuner.Candidate{
			{Point: point, PeakBytes: 6_240_000_000, PeakErrorBytes: 90_000_000, TokensPerSecond: 1270, EpochSeconds: 1460, SecondsPerUsefulToken: 0.0013, PaddingShare: 0.085, Fits: true, Measured: true, Chosen: true},
			{Point: small, PeakBytes: 2_100_000_000, TokensPerSecond: 690, EpochSeconds: 2700, SecondsPerUsefulToken: 0.0024, PaddingShare: 0.04, Fits: true, Extrapolated: true}},
		Pareto: []tuner.Candidate{{Point: point, PeakBytes: 6_240_000_000, TokensPerSecond: 1270, Fits: true, Chosen: true}},
		Space: tuner.Space{Enumerated: 96, Feasible: 41, Infeasible: []tuner.Infeasible{{Why: "predicted peak above the limit", Count: 55}},
			Axes: []tuner.Axis{{Knob: "batch-size", Values: []string{"1", "2", "4", "8"}, Why: "powers of two up to the effective batch"}}},
		NotTried:  []tuner.NotTried{{What: "quantizing to 4 bits", Why: "the model fits without, and you set no floor"}},
		Constants: []tuner.Constant{{Name: "overhead", Value: 0.0121, Unit: "s a step", Doc: "time of a step without rows", Fitted: true}},
		Bursts:    []tuner.BurstRecord{{Purpose: "calibration", Key: "0123456789abcdef", Point: point, Steps: 18, Outcome: trainer.Finished, Seconds: 14.2}, {Purpose: "confirmation", Key: "fedcba", Point: small, Outcome: trainer.OOM, Problem: "allocation failed", Replayed: true}},
		Processes: 4, Seconds: 66.2,
		Limit:  tuner.Limit{Bytes: 11_000_000_000, Source: "recommended working set"},
		Data:   tuner.DataSummary{Rows: 6313, Tokens: 1_207_331, Supervised: 402_000, TokensCut: 4100, RowsCut: 9, P99: 1353, Max: 2432, Batches: 1578, Shapes: 49, PaddingShare: 0.085, Epochs: 0.63},
		Keys:   tuner.Keys{Machine: "m", Model: "k", Data: "d"},
		Wishes: tuner.Wishes{Ranks: []int{16}, Prefer: tuner.Speed}}
}

// compared holds two configurations against each other.
func compared() compare.Report {
	summary := func(values ...float64) compare.Summary {
		return compare.Summary{Values: values, Median: trainer.Some(values[1]), Low: trainer.Some(values[0]), High: trainer.Some(values[2])}
	}
	return compare.Report{Schema: compare.Schema, Verdict: compare.Faster,
		Says:      "A (tuned.yaml) is 1.32 × as fast as B (engine=mlx-lm) (95 %: 1.28 to 1.37; p = 0.002, 6 and 6 measurements); A's peak is 12 % lower (1.2 GB against 1.36 GB)",
		A:         compare.Result{Name: "tuned.yaml", Engine: "native", Knobs: map[string]string{"engine": "native", "batch-size": "8"}, TokensPerSecond: summary(1300, 1320, 1350), PeakBytes: summary(1.2e9, 1.2e9, 1.2e9)},
		B:         compare.Result{Name: "engine=mlx-lm", Engine: "mlx-lm", Knobs: map[string]string{"engine": "mlx-lm", "batch-size": "4"}, TokensPerSecond: summary(980, 1000, 1010), PeakBytes: summary(1.36e9, 1.36e9, 1.37e9)},
		Speed:     compare.Ratio{Value: trainer.Some(1.32), Low: trainer.Some(1.28), High: trainer.Some(1.37), P: trainer.Some(0.002)},
		Memory:    compare.Ratio{Value: trainer.Some(0.88), Low: trainer.Some(0.88), High: trainer.Some(0.88), P: trainer.Some(0.002)},
		Processes: 12, Seconds: 61.3, BudgetNS: 75e9}
}

// doubted is a study whose winner did not pass every gate.
func doubted() tuner.Report {
	r := tuned()
	r.Verdict, r.Problem, r.Hint = tuner.Unconfirmed, "step times spread by 31 %", "close other programs and run mlxdyno tune again"
	r.Gates[1] = tuner.Gate{Name: "spread", Observed: trainer.Some(0.31), Required: 0.25, Text: "step times spread by 31 %, at most 25 % is steady"}
	r.Start, r.Checks, r.Candidates = nil, nil, nil
	return r
}

func trained() run.Report {
	c := sampleConfig()
	eval := func(step int, loss float64) *trainer.EvalRecord {
		return &trainer.EvalRecord{AfterStep: step, Eval: trainer.Eval{Loss: trainer.Float(loss), Batches: 8, Seconds: 2.2}}
	}
	return run.Report{Schema: run.Schema, State: run.StateFinished, Dir: "home/runs/20260302-093000-ab12", Created: sampleTime, Config: c, ConfigKey: c.Key(),
		Identity:  run.Identity{Model: "m", Data: "d", Versions: map[string]string{"mlx": "0.32.4", "mlx-lm": "0.32.2"}, Device: trainer.Device{Kind: "metal", Name: "Apple M1"}},
		StepsDone: 1000, Steps: 1000, Reloads: 1,
		Segments: []run.Segment{
			{Number: 0, FromStep: 0, UntilStep: 500, LastStep: 500, Outcome: trainer.Finished, Seconds: trainer.Some(720.0), Load: trainer.Some(3.1), Rate: trainer.Some(1281.0), PeakBytes: trainer.Some[int64](6_250_000_000)},
			{Number: 1, FromStep: 500, UntilStep: 1000, LastStep: 741, Outcome: trainer.Killed, Signal: "killed", SuspectOOM: true, Seconds: trainer.Some(341.0)},
			{Number: 2, FromStep: 700, UntilStep: 1000, LastStep: 1000, Outcome: trainer.Finished, Seconds: trainer.Some(455.0), Rate: trainer.Some(1190.0)}},
		BackOffs:  []run.BackOff{{At: sampleTime, Segment: 1, Knob: "batch-size", From: "4", To: "2", Why: "the process was killed, memory suspected", Reorders: true, Config: c}},
		Losses:    []run.LossPoint{{Step: 100, Steps: 100, Loss: 2.8}, {Step: 1000, Steps: 100, Loss: 2.1}},
		FirstEval: eval(0, 3.012), LastEval: eval(1000, 2.204), BestEval: eval(800, 2.198),
		Figures:  trainer.Figures{PeakBytes: trainer.Some[int64](6_250_000_000), TokensPerSecond: trainer.Some(1240.0)},
		Expected: &trainer.Expected{Figures: trainer.Figures{PeakBytes: trainer.Some[int64](6_240_000_000), TokensPerSecond: trainer.Some(1270.0)}, PeakError: 0.03, TokensError: 0.15, Basis: "rehearsal of 64 steps"},
		Compared: []run.Comparison{
			{Name: "peak_bytes", Unit: "bytes", Expected: 6_240_000_000, Actual: 6_250_000_000, RelativeError: 0.0016, Promise: trainer.Some(0.03), Within: trainer.Some(true)},
			{Name: "tokens_per_second", Unit: "tokens/s", Expected: 1270, Actual: 1000, RelativeError: -0.2126, Promise: trainer.Some(0.15), Within: trainer.Some(false)},
			{Name: "total_seconds", Unit: "s", Expected: 1460, Actual: 1516, RelativeError: 0.038}},
		Totals:      run.Totals{Seconds: trainer.Some(1516.0), Tokens: 1_890_210, ReplayedSteps: 41},
		Checkpoints: []run.CheckpointRecord{{CheckpointRef: trainer.CheckpointRef{Step: 1000, Dir: "checkpoints/0001000"}, Bytes: 45_000_000}},
		AdapterPath: "my adapters/final",
		Notes:       []run.Note{{At: sampleTime, Code: "drift.speed", Step: 640, Text: "steps became 9 % slower than in the first hundred"}},
		Warnings:    []run.Warning{{Warning: trainer.Warning{Code: "data.cut", Text: "9 rows are longer than max-seq-length and were cut"}, Count: 3}}}
}

func interrupted() run.Report {
	c := sampleConfig()
	return run.Report{Schema: run.Schema, State: run.StateInterrupted, Dir: "home/runs/1", Created: sampleTime, Config: c, ConfigKey: c.Key(), StepsDone: 40, Steps: 1000,
		Checkpoints:   []run.CheckpointRecord{{CheckpointRef: trainer.CheckpointRef{Step: 40, Dir: "checkpoints/0000040"}, Bytes: 45_000_000}},
		Segments:      []run.Segment{{LastStep: 40, Outcome: trainer.Stopped, Reason: "interrupt"}},
		Figures:       trainer.Figures{TokensPerSecond: trainer.Some(512.0)},
		ResumeCommand: "mlxdyno train --resume home/runs/1"}
}

func failed() run.Report {
	r := interrupted()
	r.State = run.StateFailed
	r.Segments[0].Outcome = trainer.OOM
	r.Failure = &run.Failure{Outcome: trainer.OOM, Code: "oom.metal", Text: "the worker ran out of memory", Fix: []string{"give --batch-size 2", "give --grad-checkpoint"},
		Evidence: []trainer.Evidence{{Name: "oom_kill", Observed: "1 more than before", Source: "memory.events"}},
		LogTail:  "libc++abi: terminating\n\x1b[31m[METAL] Command buffer execution failed: Insufficient Memory\x1b[0m\n"}
	return r
}

func installed() (*install.Env, install.Report) {
	env := &install.Env{Home: "home", Python: "home/env/bin/python", Backend: "cpu", PythonVersion: "3.12.4", BLAS: "OpenBLAS 0.3.30", Device: "Device(cpu, 0)",
		Versions: map[string]string{"mlx": "0.32.4", "mlx-lm": "0.32.2"}, Managed: true, MLX: "home/env/mlx"}
	return env, install.Report{State: install.Ready, Before: "there is none in home", Seconds: 48.2,
		Stages:   []install.Stage{{Name: install.StagePackages, Seconds: 31, Detail: "31 packages"}, {Name: install.StageSelfTest, Seconds: 3.2}},
		SelfTest: &install.SelfTest{Checks: []install.Check{{Name: "matmul", OK: true}, {Name: "gradient", OK: true}}, GFLOPS: 61.2, Finished: true},
		Notes:    []string{"a second Python was found and not used"}}
}

func listed() []run.Info {
	return []run.Info{{Dir: "home/runs/2", Created: sampleTime, State: run.StateFinished, Model: "Llama-3.2-1B", Done: 1000, Steps: 1000, Bytes: 91_000_000},
		{Dir: "home/runs/1", Bytes: 12, Problem: "read run.json: unexpected end"}}
}
