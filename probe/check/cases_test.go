package check

import (
	"time"

	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/probe/leak"
	"github.com/mlxdyno/mlxdyno/trainer"
)

// growthCases are of what grows, of what steps cost, and of versions.
var growthCases = []testCase{
	{"parts of two versions", "mlx.parts", healthyLinux, func(in *Input) { in.Snapshot.Install.Versions["mlx-cpu"] = "0.32.1" }, probe.Fail, "mlxdyno setup", "do not go together"},
	{"parts of one version", "mlx.parts", healthyLinux, func(in *Input) { in.Snapshot.Install.Versions["mlx-cuda-12"] = "0.32.4+cu12" }, probe.Pass, "", ""},
	{"an old mlx-lm drives", "mlx.parts", healthyLinux, func(in *Input) {
		settle(in, "engine", "mlx-lm")
		in.Snapshot.Install.Versions["mlx-lm"] = "0.29.1"
	}, probe.Warn, "mlxdyno setup", "0.29.1"},
	{"an old mlx-lm lies about", "mlx.parts", healthyLinux, func(in *Input) { in.Snapshot.Install.Versions["mlx-lm"] = "0.29.1" }, probe.Pass, "", ""},
	{"leaks on a cpu", "mlx.known-leaks", healthyLinux, func(in *Input) {
		in.Snapshot.Install.Backend = "cuda"
		in.Snapshot.Install.Versions["mlx"] = "0.31.1"
	}, probe.Warn, "mlxdyno setup", "#2841"},
	{"leaks of long ago", "mlx.known-leaks", healthyLinux, func(in *Input) {
		in.Snapshot.Install.Backend = "cuda"
		in.Snapshot.Install.Versions["mlx"] = "0.20.0"
	}, probe.Warn, "mlxdyno setup", "#1590, #3159"},
	{"oldest without known leaks", "mlx.known-leaks", healthyLinux, func(in *Input) {
		in.Snapshot.Install.Backend = "cuda"
		in.Snapshot.Install.Versions["mlx"] = "0.31.2"
	}, probe.Pass, "", ""},
	{"leaks, too old anyway", "mlx.known-leaks", healthyMac, func(in *Input) { in.Snapshot.Install.Versions["mlx"] = "0.31.1" }, probe.Skipped, "", "mlx.version-minimum"},

	{"a number without unit", "memory.limit-unit", healthyLinux, func(in *Input) { settle(in, "memory-limit", "70"); estimated(in) }, probe.Warn, "--memory-limit 70GB", "70 bytes"},
	{"thousands without unit", "memory.limit-unit", healthyLinux, func(in *Input) { settle(in, "memory-limit", "70000"); estimated(in) }, probe.Warn, "--memory-limit 70000MB", "70000 bytes"},
	{"a number without unit is one finding", "memory.limit-below-weights", healthyLinux, func(in *Input) { settle(in, "memory-limit", "70"); estimated(in) }, probe.Skipped, "", "memory.limit-unit"},
	{"a limit with unit", "memory.limit-unit", healthyLinux, func(in *Input) { settle(in, "memory-limit", "20GB") }, probe.Pass, "", ""},
	{"no limit", "memory.limit-unit", healthyLinux, func(*Input) {}, "", "", ""},

	{"logits in the way", "memory.logits", healthyLinux, func(in *Input) {
		settle(in, "engine", "mlx-lm")
		in.Snapshot.Model.Facts.Vocab = 128256
		settle(in, "memory-limit", "1500MB")
		estimated(in)
	}, probe.Warn, "--engine native", "1.05"},
	{"logits large, memory too", "memory.logits", healthyLinux, func(in *Input) {
		settle(in, "engine", "mlx-lm")
		in.Snapshot.Model.Facts.Vocab = 128256
		estimated(in)
	}, probe.Info, "--batch-size 1 --grad-accumulation-steps 4", ""},
	{"logits small", "memory.logits", healthyLinux, func(in *Input) { settle(in, "engine", "mlx-lm") }, probe.Pass, "", ""},
	{"logits in pieces", "memory.logits", healthyLinux, func(in *Input) { in.Snapshot.Model.Facts.Vocab = 128256; estimated(in) }, "", "", ""},

	{"wiring most of memory", "memory.wired-knob", healthyMac, func(in *Input) { settle(in, "wired-limit", "23GB") }, probe.Warn, "--wired-limit 20800MB", "32.0"},
	{"wiring above the working set", "memory.wired-knob", healthyMac, func(in *Input) {
		in.Snapshot.GPU.WorkingSetBytes = known[int64](10 * gb)
		settle(in, "wired-limit", "12GB")
	}, probe.Warn, "--wired-limit 10000MB", "refuses"},
	{"wiring little", "memory.wired-knob", healthyMac, func(in *Input) { settle(in, "wired-limit", "12GB") }, probe.Pass, "", ""},
	{"wiring on a cpu", "memory.wired-knob", healthyLinux, func(in *Input) { settle(in, "wired-limit", "30GB") }, "", "", ""},

	{"many buffers", "gpu.resources", healthyMac, func(in *Input) {
		in.Snapshot.GPU.ResourcesInUse, in.Snapshot.GPU.ResourceLimit = known[int64](401_233), known[int64](499_000)
	}, probe.Warn, "", "401233"},
	{"few buffers", "gpu.resources", healthyMac, func(in *Input) {
		in.Snapshot.GPU.ResourcesInUse, in.Snapshot.GPU.ResourceLimit = known[int64](4_000), known[int64](499_000)
	}, probe.Pass, "", ""},

	{"hot", "power.thermal", healthyMac, func(in *Input) { in.Snapshot.Host.Thermal = known(probe.ThermalHeavy) }, probe.Warn, "doctor", "heavy"},
	{"a hot gpu", "power.thermal", healthyLinux, func(in *Input) {
		in.Snapshot.GPU.Kind, in.Snapshot.Host.Thermal = "cuda", known(probe.ThermalHeavy)
	}, probe.Warn, "doctor", "heavy"},
	{"warm", "power.thermal", healthyMac, func(in *Input) { in.Snapshot.Host.Thermal = known(probe.ThermalModerate) }, probe.Info, "doctor", "moderate"},
	{"cool", "power.thermal", healthyMac, func(in *Input) { in.Snapshot.Host.Thermal = known(probe.ThermalNominal) }, probe.Pass, "", ""},
	{"heat explains drift", "burst.drift", healthyMac, func(in *Input) {
		in.Snapshot.Host.Thermal = known(probe.ThermalHeavy)
		for i := range in.Burst.Summary.Steps {
			in.Burst.Summary.Steps[i].Seconds = 0.5 + 0.05*float64(i)
		}
	}, probe.Skipped, "", "power.thermal"},

	{"terabytes of checkpoints", "disk.write-volume", healthyLinux, func(in *Input) {
		settle(in, "rank", "4096")
		settle(in, "iters", "100000")
		settle(in, "save-every", "10")
		estimated(in)
		in.Budget.Lines[1].Measured = trainer.Some[int64](200_000_000)
	}, probe.Warn, "--save-every", "TB"},
	{"restarts write too", "disk.write-volume", healthyLinux, func(in *Input) {
		settle(in, "iters", "5000")
		settle(in, "reload-interval", "8")
		estimated(in)
		in.Budget.Lines[1].Measured = trainer.Some[int64](6_300_000_000)
	}, probe.Warn, "--reload-interval", "4.26"},
	{"few checkpoints", "disk.write-volume", healthyLinux, func(*Input) {}, probe.Pass, "", ""},

	{"loaded in float32", "model.upcast", healthyLinux, func(in *Input) {
		in.Snapshot.Model.Facts.DType, in.Snapshot.Model.Facts.Parameters = "BF16", 1*gb
		in.Budget.Lines[0].Estimated = trainer.Some[int64](2 * gb)
		in.Burst.Summary.Ready.WeightBytes = 4 * gb
	}, probe.Warn, "--quantize 8", "float32"},
	{"loaded as stored, held as float32", "model.upcast", healthyLinux, func(in *Input) {
		in.Snapshot.Model.Facts.DType, in.Snapshot.Model.Facts.Parameters = "BF16", 1*gb
		in.Budget.Lines[0].Estimated = trainer.Some[int64](2 * gb)
		in.Burst.Summary.Ready.WeightBytes = 2 * gb
		in.Burst.Summary.Ready.Memory.Active = trainer.Some[int64](4*gb + 10_000_000)
	}, probe.Warn, "", "MLX's active memory"},
	{"adapters beside a small model", "model.upcast", healthyLinux, func(in *Input) {
		in.Burst.Summary.Ready.Memory.Active = trainer.Some[int64](30_000_000)
	}, probe.Pass, "", ""},
	{"not quantized as asked", "model.upcast", healthyLinux, func(in *Input) {
		in.Budget.Lines[0].Estimated = trainer.Some[int64](300_000_000)
		in.Burst.Summary.Ready.WeightBytes = 800_000_000
		settle(in, "quantize", "4")
	}, probe.Warn, "", "wider"},
	{"loaded as stored", "model.upcast", healthyLinux, func(*Input) {}, probe.Pass, "", ""},

	{"faster than the chip", "burst.above-ceiling", healthyMac, func(in *Input) {
		in.Snapshot.GPU.Name = known("Apple M1")
		in.Burst.Summary.Figures.TokensPerSecond = trainer.Some(4e6)
	}, probe.Warn, "", "5.3"},
	{"as fast as the chip may be", "burst.above-ceiling", healthyMac, func(in *Input) {
		in.Snapshot.GPU.Name = known("Apple M3 Ultra")
		in.Burst.Summary.Figures.TokensPerSecond = trainer.Some(4e6)
	}, probe.Pass, "", "Apple M3 Ultra"},
	{"an unknown chip", "burst.above-ceiling", healthyMac, func(in *Input) {
		in.Snapshot.GPU.Name = known("Apple M9")
		in.Burst.Summary.Figures.TokensPerSecond = trainer.Some(4e6)
	}, "", "", ""},
	{"faster than the cores", "burst.above-ceiling", healthyLinux, func(in *Input) {
		in.Snapshot.Host.Cores = known(2)
		in.Burst.Summary.Figures.TokensPerSecond = trainer.Some(1e6)
	}, probe.Warn, "", "2 cores"},

	{"swapping out", "burst.swapping", healthyLinux, func(in *Input) { in.Strain = strain(3*gb, 5*gb, 0) }, probe.Warn, "--grad-checkpoint=true", "2.00"},
	{"swapping a little", "burst.swapping", healthyLinux, func(in *Input) { in.Strain = strain(3*gb, 3*gb+1_000_000, 0) }, probe.Pass, "", ""},
	{"stalling", "burst.swapping", healthyLinux, func(in *Input) { in.Strain = strain(0, 0, 40) }, probe.Warn, "", "waited for memory"},
	{"pressed on a mac", "burst.swapping", healthyMac, func(in *Input) {
		in.Strain = strain(0, 0, 0)
		in.Strain.After.Pressure = probe.Pressure{Level: known(probe.PressureWarn)}
	}, probe.Warn, "", "pressure was warn"},
	{"pressed before", "burst.swapping", healthyLinux, func(in *Input) {
		in.Snapshot.Pressure.SomeAvg10 = known(30.0)
		in.Strain = strain(0, 0, 40)
	}, probe.Skipped, "", "memory.pressure"},
	{"swap counters unknown", "burst.swapping", healthyLinux, func(in *Input) { in.Strain = &Strain{} }, probe.Unclear, "", "not read"},

	{"compiled again and again", "burst.traces", healthyMac, func(in *Input) { traces(in.Burst, func(i int) int { return i + 1 }) }, probe.Warn, "--compile off", "same all the time"},
	{"compiled once", "burst.traces", healthyMac, func(in *Input) { traces(in.Burst, func(int) int { return 1 }) }, probe.Pass, "", ""},
	{"compiled again over the data", "burst.traces", healthyMac, func(in *Input) {
		traces(in.Burst, func(int) int { return 1 })
		in.Data = burst(90)
		traces(in.Data, func(i int) int { return 1 + i })
	}, probe.Warn, "--reload-interval", "had been compiled before"},
	{"compiled once a shape", "burst.traces", healthyMac, func(in *Input) {
		traces(in.Burst, func(int) int { return 1 })
		in.Data = burst(90)
		for i := range in.Data.Summary.Steps {
			in.Data.Summary.Steps[i].Shape.Width = 33 + 32*(i%8)
		}
		traces(in.Data, func(i int) int { return min(i+1, 8) })
	}, probe.Pass, "", ""},
	{"traces, not compiled", "burst.traces", healthyLinux, func(in *Input) { traces(in.Burst, func(i int) int { return i }) }, "", "", ""},

	{"arrays kept", "burst.handles", healthyMac, func(in *Input) {
		in.Snapshot.GPU.ResourceLimit = known[int64](499_000)
		live(in.Burst, func(i int) int { return 5000 + 1200*i })
	}, probe.Warn, "--reload-interval 313", "1.2e+03"},
	{"arrays as many as before", "burst.handles", healthyMac, func(in *Input) { live(in.Burst, func(int) int { return 5000 }) }, probe.Pass, "", ""},
	{"arrays that come and go", "burst.handles", healthyMac, func(in *Input) { live(in.Burst, func(i int) int { return 5000 + i%3 }) }, probe.Pass, "", ""},

	{"a large cache", "burst.cache-growth", healthyMac, func(in *Input) { cache(in.Data, func(int) int64 { return 3 * gb }) }, probe.Warn, "tune", "3.00 GB"},
	{"a large cache, bounded", "burst.cache-growth", healthyMac, func(in *Input) {
		cache(in.Data, func(int) int64 { return 3 * gb })
		settle(in, "cache-limit", "4GB")
	}, "", "", ""},
	{"a cache that grows", "burst.cache-growth", healthyMac, func(in *Input) {
		in.Data = burst(300)
		cache(in.Data, func(i int) int64 { return 1_000_000*int64(i) + 10_000*int64(i%7) })
	}, probe.Warn, "--cache-limit", "1.00 MB a step"},
	{"a cache that stays", "burst.cache-growth", healthyMac, func(in *Input) {
		in.Data = burst(300)
		cache(in.Data, func(i int) int64 { return 20_000_000 + 10_000*int64(i%7) })
	}, probe.Pass, "", ""},
	{"a growing cache explains the process", "burst.footprint-growth", healthyMac, func(in *Input) {
		in.Burst = burst(300)
		for i := range in.Burst.Summary.Steps {
			in.Burst.Summary.Steps[i].Memory.Footprint = trainer.Some(int64(300_000_000 + 2_000_000*i + 10_000*(i%7)))
		}
		cache(in.Data, func(int) int64 { return 3 * gb })
	}, probe.Skipped, "", "burst.cache-growth"},

	{"waiting for the host", "burst.fixed-cost", healthyLinux, func(in *Input) {
		settle(in, "grad-accumulation-steps", "8")
		timed(in.Data, func(positions float64) float64 { return 0.9 + positions*1e-4 })
	}, probe.Warn, "--batch-size 32 --grad-accumulation-steps 1", "does not depend"},
	{"waiting for the interpreter", "burst.fixed-cost", healthyLinux, func(in *Input) {
		settle(in, "engine", "mlx-lm")
		timed(in.Data, func(positions float64) float64 { return 0.9 + positions*1e-4 })
	}, probe.Warn, "--engine native", ""},
	{"busy", "burst.fixed-cost", healthyLinux, func(in *Input) { timed(in.Data, func(positions float64) float64 { return 0.02 + positions*1e-3 }) }, probe.Pass, "", ""},
	{"steps of one size", "burst.fixed-cost", healthyLinux, func(*Input) {}, "", "", ""},

	{"restarts for nothing", "config.reload-interval", healthyLinux, func(in *Input) {
		settle(in, "reload-interval", "8")
		in.Burst.Summary.Ready.LoadSeconds = 3
		in.Burst.Summary.Figures.StepSeconds = trainer.Some(0.5)
	}, probe.Warn, "--reload-interval 0", "no leak was seen"},
	{"restarts too often", "config.reload-interval", healthyLinux, func(in *Input) {
		settle(in, "reload-interval", "8")
		in.Burst.Summary.Ready.LoadSeconds = 3
		in.Burst.Summary.Figures.StepSeconds = trainer.Some(0.5)
		in.Leak = &leak.Verdict{State: leak.Leaking, BytesAStep: 4096, IsExact: true, Steps: 17, Reason: "grew"}
	}, probe.Warn, "--reload-interval 594", "burst.leak"},
	{"restarts now and then", "config.reload-interval", healthyLinux, func(in *Input) {
		settle(in, "reload-interval", "500")
		in.Burst.Summary.Ready.LoadSeconds = 3
		in.Burst.Summary.Figures.StepSeconds = trainer.Some(0.5)
	}, probe.Pass, "", ""},

	{"many shapes, unbounded", "compile.shapes", healthyMac, func(in *Input) {
		settle(in, "group-by-length", "false")
		in.Snapshot.Data.Lengths.Shapes = 60
	}, probe.Warn, "--group-by-length=true --max-shapes 8", "60"},
	{"buffers used up", "burst.outcome", healthyMac, func(in *Input) {
		in.Burst.Result = trainer.Result{Outcome: trainer.Crashed, ExitCode: trainer.Some(2), LogTail: "[metal::malloc] Resource limit (499000) exceeded."}
	}, probe.Fail, "--max-shapes 8", "#4464"},
	{"the display's watchdog", "burst.outcome", healthyMac, func(in *Input) {
		in.Burst.Result = trainer.Result{Outcome: trainer.Failed, Failure: &trainer.Failure{FailKind: trainer.FailInternal,
			Text: "[METAL] Command buffer execution failed: Impacting Interactivity (0000000e:kIOGPUCommandBufferCallbackErrorImpactingInteractivity)"}}
	}, probe.Fail, "pmset displaysleepnow", "#3267"},
	{"one array too large", "burst.outcome", healthyMac, func(in *Input) {
		in.Burst.Result = trainer.Result{Outcome: trainer.Crashed, LogTail: "[metal::malloc] Attempting to allocate 90000000000 bytes which is greater than the maximum allowed buffer size of 77309411328 bytes."}
	}, probe.Fail, "--batch-size 1", "buffer"},
	{"many threads", "burst.outcome", healthyLinux, func(in *Input) {
		in.Burst.Result = trainer.Result{Outcome: trainer.Crashed, LogTail: "RuntimeError: There is no Stream(gpu, 1) in current thread."}
	}, probe.Fail, "", "several threads"},
}

func strain(before, after int64, stalled float64) *Strain {
	at := func(out int64, some float64) probe.Vitals {
		return probe.Vitals{Swap: probe.Swap{OutBytes: known(out)}, Pressure: probe.Pressure{SomeAvg10: known(some)}}
	}
	return &Strain{Before: at(before, 0), After: at(after, stalled)}
}

func traces(b *trainer.Burst, at func(i int) int) {
	for i := range b.Summary.Steps {
		b.Summary.Steps[i].Traces = trainer.Some(at(i))
	}
}

func live(b *trainer.Burst, at func(i int) int) {
	for i := range b.Summary.Steps {
		b.Summary.Steps[i].Live = trainer.Some(at(i))
	}
}

func cache(b *trainer.Burst, at func(i int) int64) {
	for i := range b.Summary.Steps {
		b.Summary.Steps[i].Memory.Cache = trainer.Some(at(i))
	}
}

// timed gives a burst steps of several widths, each of which takes what seconds
// says.
func timed(b *trainer.Burst, seconds func(positions float64) float64) {
	for i := range b.Summary.Steps {
		s := &b.Summary.Steps[i]
		s.Shape.Width = 33 + 64*(i%4)
		s.Seconds = seconds(float64(s.Shape.Positions())) * (1 + 0.01*float64(i%3))
	}
}

// causeCases are of causes that a burst can take away.
var causeCases = []testCase{
	{"recomputed for nothing", "config.checkpoint-needless", healthyLinux, func(in *Input) { settle(in, "grad-checkpoint", "true"); estimated(in) }, probe.Warn, "--grad-checkpoint=false", "could be kept"},
	{"a cache for no step", "memory.cache-too-small", healthyMac, func(in *Input) { settle(in, "cache-limit", "1MB") }, probe.Warn, "--cache-limit 100MB", "anew"},
	{"no cache", "memory.cache-too-small", healthyMac, func(in *Input) { settle(in, "cache-limit", "0") }, probe.Warn, "tune", "0 B"},
	{"a cache for a step", "memory.cache-too-small", healthyMac, func(in *Input) { settle(in, "cache-limit", "30MB") }, probe.Pass, "", ""},
	{"no cache on a cpu", "memory.cache-too-small", healthyLinux, func(in *Input) { settle(in, "cache-limit", "0") }, "", "", ""},
	{"automatic, with a high mode", "power.mode", healthyMac, func(in *Input) {
		in.Snapshot.Host.PowerMode = probe.Known(probe.PowerNormal, "pmset -g powermode")
	}, probe.Info, "sudo pmset -a powermode 2", "automatic"},
	{"automatic, without a high mode", "power.mode", healthyMac, func(in *Input) {
		in.Snapshot.Host.PowerMode = probe.Known(probe.PowerNormal, "pmset -g lowpowermode")
	}, probe.Pass, "", ""},
	{"high", "power.mode", healthyMac, func(in *Input) {
		in.Snapshot.Host.PowerMode = probe.Known(probe.PowerHigh, "pmset -g powermode")
	}, probe.Pass, "", ""},
	{"recomputed for want of memory", "config.checkpoint-needless", healthyLinux, func(in *Input) {
		settle(in, "grad-checkpoint", "true")
		in.Widest = trainer.Shape{Batch: 4, Width: 2049}
		settle(in, "memory-limit", "200MB")
		estimated(in)
	}, probe.Pass, "", ""},
	{"not recomputed", "config.checkpoint-needless", healthyLinux, func(*Input) {}, "", "", ""},
	{"recomputed, little is free", "config.checkpoint-needless", healthyLinux, func(in *Input) {
		settle(in, "grad-checkpoint", "true")
		in.Snapshot.Memory.AvailableBytes = known[int64](50_000_000)
		estimated(in)
	}, probe.Pass, "", ""},
	{"packed weights on a cpu", "config.matmul", healthyLinux, func(in *Input) {
		settle(in, "quantize", "4")
		settle(in, "matmul", "quantized")
	}, probe.Warn, "--matmul auto", "packed"},
	{"packed weights on metal", "config.matmul", healthyMac, func(in *Input) {
		settle(in, "quantize", "4")
		settle(in, "matmul", "quantized")
	}, "", "", ""},
	{"dense weights", "config.matmul", healthyLinux, func(in *Input) { settle(in, "matmul", "quantized") }, "", "", ""},
	{"the engine's choice", "config.matmul", healthyLinux, func(in *Input) { settle(in, "quantize", "4") }, "", "", ""},
}

// crashCases are of what the system or our own journal noted.
var crashCases = []testCase{
	{"a panic of the gpu's driver", "crash.kernel-panic", healthyMac, func(in *Input) {
		in.Snapshot.GPU.WiredLimitBytes = known[int64](12 << 30)
		crash(in, probe.Crash{Kind: probe.CrashPanic, Component: "IOGPUMemory.cpp", Text: "prepare count underflow", Process: "python3.12", PID: 9})
	}, probe.Warn, "sudo sysctl iogpu.wired_limit_mb=0", "IOGPUMemory.cpp"},
	{"another panic", "crash.kernel-panic", healthyMac, func(in *Input) {
		crash(in, probe.Crash{Kind: probe.CrashPanic, Component: "wd.c", Text: "watchdog timeout"})
	}, probe.Info, "", "watchdog timeout"},
	{"a panic of long ago", "crash.kernel-panic", healthyMac, func(in *Input) {
		crash(in, probe.Crash{Kind: probe.CrashPanic, Component: "IOGPUMemory.cpp"})
		in.Snapshot.Crashes[0].At = in.Snapshot.At.Add(-15 * 24 * time.Hour)
	}, probe.Pass, "", ""},
	{"reports that may not be read", "crash.kernel-panic", healthyMac, func(in *Input) {
		in.Snapshot.CrashesFound = probe.Unknown[int]("permission denied", "DiagnosticReports")
	}, probe.Unclear, "", "permission denied"},
	{"a training killed by macos", "crash.jetsam", healthyMac, func(in *Input) {
		crash(in, probe.Crash{Kind: probe.CrashJetsam, Text: "killed for vm-pageshortage", Process: "python3.12", PID: 9, Bytes: known[int64](9 * gb)})
	}, probe.Warn, "tune", "9.00"},
	{"others killed for a training", "crash.jetsam", healthyMac, func(in *Input) {
		crash(in, probe.Crash{Kind: probe.CrashJetsam, Text: "killed for highwater", Process: "photoanalysisd", Largest: "mlxdyno"})
	}, probe.Warn, "tune", "mlxdyno held most"},
	{"others killed", "crash.jetsam", healthyMac, func(in *Input) {
		crash(in, probe.Crash{Kind: probe.CrashJetsam, Text: "killed for highwater", Process: "photoanalysisd", Largest: "Browser"})
	}, probe.Info, "", "photoanalysisd"},
	{"nothing killed", "crash.jetsam", healthyMac, func(in *Input) { in.Snapshot.CrashesFound = known(0) }, probe.Pass, "", ""},
	{"a training killed by linux", "crash.oom-kill", healthyLinux, func(in *Input) {
		crash(in, probe.Crash{Kind: probe.CrashOOM, Text: "Out of memory: Killed process 9 (python3)", Process: "python3", PID: 9})
	}, probe.Warn, "tune", "python3 (9)"},
	{"kills in the group", "crash.oom-kill", healthyLinux, func(in *Input) { in.Snapshot.Cgroup.OOMKills = known[uint64](2) }, probe.Info, "tune", "2 processes of this control group"},
	{"kills somewhere", "crash.oom-kill", healthyLinux, func(in *Input) {
		crash(in, probe.Crash{Kind: probe.CrashOOM, Process: "chrome"})
		in.Snapshot.Pressure.OOMKills = known[uint64](3)
	}, probe.Info, "", "since the machine started"},
	{"no kills", "crash.oom-kill", healthyLinux, func(in *Input) { in.Snapshot.Pressure.OOMKills = known[uint64](0) }, probe.Pass, "", ""},
	{"an error of the gpu", "crash.gpu", healthyLinux, func(in *Input) {
		crash(in, probe.Crash{Kind: probe.CrashGPU, Text: "NVRM: Xid (PCI:0000:19:00): 79, pid=7001, name=python3, GPU has fallen off the bus."})
	}, probe.Warn, "", "fallen off the bus"},
	{"no errors of the gpu", "crash.gpu", healthyLinux, func(in *Input) { in.Snapshot.GPU.Kind, in.Snapshot.CrashesFound = "cuda", known(0) }, probe.Pass, "", ""},
	{"cut off by a panic", "crash.last-run", healthyMac, func(in *Input) {
		in.Snapshot.LastRun = lastRun(in, "died")
		crash(in, probe.Crash{Kind: probe.CrashPanic, Component: "IOGPUMemory.cpp"})
	}, probe.Warn, "mlxdyno train --smaller", "kernel panic right then"},
	{"cut off, and a panic much later", "crash.last-run", healthyMac, func(in *Input) {
		in.Snapshot.LastRun = lastRun(in, "died")
		in.Snapshot.LastRun.At = in.Snapshot.At.Add(-9 * time.Hour)
		crash(in, probe.Crash{Kind: probe.CrashPanic, Component: "IOGPUMemory.cpp"})
	}, probe.Warn, "mlxdyno train --resume", "nothing says why"},
	{"killed by linux", "crash.last-run", healthyLinux, func(in *Input) {
		in.Snapshot.LastRun = lastRun(in, "died")
		crash(in, probe.Crash{Kind: probe.CrashOOM, Process: "mlxdyno"})
	}, probe.Warn, "mlxdyno train --smaller", "killed mlxdyno"},
	{"failed by itself", "crash.last-run", healthyLinux, func(in *Input) {
		in.Snapshot.LastRun = lastRun(in, "failed")
		in.Snapshot.LastRun.Why = "the loss of step 42 is NaN"
	}, probe.Warn, "mlxdyno train --resume", "NaN"},
	{"ended well", "crash.last-run", healthyLinux, func(*Input) {}, "", "", ""},
}

func crash(in *Input, c probe.Crash) {
	if in.Snapshot.At.IsZero() {
		in.Snapshot.At = time.Date(2026, 1, 15, 9, 30, 0, 0, time.UTC)
	}
	c.At, c.Source = in.Snapshot.At.Add(-time.Hour), "report"
	in.Snapshot.Crashes = append(in.Snapshot.Crashes, c)
	in.Snapshot.CrashesFound = known(len(in.Snapshot.Crashes))
}

func lastRun(in *Input, state string) *probe.LastRun {
	in.Snapshot.At = time.Date(2026, 1, 15, 9, 30, 0, 0, time.UTC)
	return &probe.LastRun{Dir: "home/runs/1", State: state, At: in.Snapshot.At.Add(-time.Hour - time.Minute), Step: 41, Steps: 1000, Doing: "ran step 42",
		Peak: known[int64](8 * gb), Resume: "mlxdyno train --resume home/runs/1", Smaller: "mlxdyno train --smaller"}
}
