package check

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/probe/model"
	"github.com/mlxdyno/mlxdyno/probe/patient"
	"github.com/mlxdyno/mlxdyno/trainer"
)

const gib = 1 << 30

// llama8B are the facts of Llama 3 8B.
func llama8B() *model.Facts {
	f := &model.Facts{Arch: "llama", Layers: 32, Hidden: 4096, Intermediate: 14336, Heads: 32, KVHeads: 8, HeadDim: 128, Vocab: 128256,
		DType: "BF16", Parameters: 8_030_261_248, WeightBytes: 16_060_522_496, HasTokenizer: true}
	add := func(name string, shape ...int) {
		n := int64(2)
		for _, d := range shape {
			n *= int64(d)
		}
		f.Tensors = append(f.Tensors, model.Tensor{Name: name, DType: "BF16", Shape: shape, Bytes: n})
	}
	add("lm_head.weight", 128256, 4096)
	add("model.embed_tokens.weight", 128256, 4096)
	for i := range f.Layers {
		for _, m := range []struct {
			name    string
			out, in int
		}{{"self_attn.q_proj", 4096, 4096}, {"self_attn.k_proj", 1024, 4096}, {"self_attn.v_proj", 1024, 4096}, {"self_attn.o_proj", 4096, 4096},
			{"mlp.gate_proj", 14336, 4096}, {"mlp.up_proj", 14336, 4096}, {"mlp.down_proj", 4096, 14336}} {
			add(fmt.Sprintf("model.layers.%d.%s.weight", i, m.name), m.out, m.in)
		}
	}
	return f
}

// printedGB is an amount as a trainer prints it with two decimals.
func printedGB(v float64) patient.Amount {
	return patient.Amount{Bytes: int64(v * 1e9), Binary: int64(v * gib), Resolution: 1e7, Printed: fmt.Sprintf("%.2f GB", v)}
}

func wholeBytes(n int64) patient.Amount {
	return patient.Amount{Bytes: n, Binary: n, Resolution: 1, Printed: fmt.Sprint(n)}
}

// watched is a healthy training on a 96 GB M3 Ultra, of 40 steps of 2.5 s.
func watched() Input {
	in := healthyMac()
	in.Burst, in.Data, in.Budget = nil, nil, nil
	in.Snapshot.Host.Chip = known("Apple M3 Ultra")
	in.Snapshot.Memory.TotalBytes, in.Snapshot.Memory.AvailableBytes = known[int64](96*gib), known[int64](50*gib)
	in.Snapshot.GPU.WorkingSetBytes = probe.Unknown[int64]("only MLX reports it", "")
	in.Snapshot.Model = &probe.ModelState{Path: "models/8b", Facts: llama8B()}
	r := patient.Record{Source: patient.Log, Name: "train.log", Adapter: patient.Adapter{Name: "your_ai", Sure: "certain"}, Steps: trainer.Some(5000)}
	for i := range 40 {
		r.Points = append(r.Points, patient.Point{Step: i, Loss: trainer.Some(trainer.Float(2.1)), StepsPerSecond: trainer.Some(0.4), SpeedDigits: 0.1,
			Elapsed: trainer.Some(patient.Clock{Time: time.Duration(i) * 2500 * time.Millisecond, Resolution: time.Millisecond}),
			Memory:  map[string]patient.Amount{patient.Active: printedGB(18.42), patient.Cache: printedGB(1.2)}})
	}
	in.Patient = &patient.Case{Record: r}
	return in
}

// sampledAs gives a training samples of its processes.
func sampledAs(in *Input, footprint func(i int) int64) {
	in.Patient.Record.Source = patient.Command
	in.Patient.Record.Outcome = trainer.Finished
	for i := range 240 {
		in.Patient.Record.Samples = append(in.Patient.Record.Samples, patient.Sample{At: time.Duration(i) * time.Second, Step: 1 + i, Processes: 1,
			Footprint: trainer.Some(footprint(i)), SwapOut: trainer.Some[int64](5e9), Pressure: "normal"})
	}
}

// leaking grows active memory by about bytes a step.
func leaking(in *Input, kind string, gb float64) {
	for i := range in.Patient.Record.Points {
		m := in.Patient.Record.Points[i].Memory
		m[kind] = printedGB(36.7 + gb*float64(i))
	}
}

const headGB = 2004.0 / 1024 // of lm_head's gradient

func TestPatientChecks(t *testing.T) {
	help := patient.ParseHelp("Usage: your_ai train [OPTIONS]\n  --model <NAME>  Base model\n  --max-memory <GB>  Limit\n  --lora-rank <N>\n")
	rng := rand.New(rand.NewPCG(1, 2))
	cases := []struct {
		name, code string
		change     func(*Input, *patient.Record)
		want       probe.Severity
		fix, says  string
	}{
		{"died", "patient.outcome", func(in *Input, r *patient.Record) {
			r.Source, r.Outcome, r.Signal = patient.Command, trainer.OOM, "SIGKILL"
			r.Evidence = []trainer.Evidence{{Name: "exit", Observed: "ended by SIGKILL", Source: "process"}}
		}, probe.Fail, "", "ran out of memory after step 39"},
		{"a log with an error", "patient.outcome", func(_ *Input, r *patient.Record) {
			r.Notices = []patient.Notice{{Level: "error", Text: "ValueError: no"}}
		}, probe.Warn, "", "ValueError"},
		{"a log without one", "patient.outcome", func(*Input, *patient.Record) {}, "", "", ""},
		{"ended by us", "patient.outcome", func(in *Input, r *patient.Record) { r.Source, r.Outcome = patient.Command, trainer.Finished }, probe.Pass, "", ""},
		{"no line is understood", "patient.understood", func(_ *Input, r *patient.Record) { r.Points, r.Adapter = nil, patient.Adapter{Sure: "none"} }, probe.Warn, "", "--adapter"},
		{"not there yet", "patient.understood", func(_ *Input, r *patient.Record) { r.Points = nil }, probe.Unclear, "", "no step"},
		{"died before it said anything", "patient.understood", func(_ *Input, r *patient.Record) {
			r.Points, r.Source, r.Outcome = nil, patient.Command, trainer.Crashed
			r.Evidence = []trainer.Evidence{{Name: "exit", Observed: "exit status 3", Source: "process"}}
		}, probe.Skipped, "", "patient.outcome"},
		{"understood", "patient.understood", func(*Input, *patient.Record) {}, probe.Pass, "", "your_ai"},

		{"a quarter of what is available", "patient.page-size", func(_ *Input, r *patient.Record) {
			r.Told = map[string]patient.Amount{patient.Available: printedGB(12.0), patient.Limit: wholeBytes(7730941132)}
		}, probe.Warn, "", "7.73 GB comes from that"},
		{"what is available", "patient.page-size", func(_ *Input, r *patient.Record) {
			r.Told = map[string]patient.Amount{patient.Available: printedGB(49.0)}
		}, probe.Pass, "", ""},
		{"a tenth of what is available", "patient.page-size", func(_ *Input, r *patient.Record) {
			r.Told = map[string]patient.Amount{patient.Available: printedGB(5.0)}
		}, probe.Unclear, "", "not that of page sizes"},
		{"a quarter, on another system", "patient.page-size", func(in *Input, r *patient.Record) {
			in.Snapshot.Host.OS = "linux"
			r.Told = map[string]patient.Amount{patient.Available: printedGB(12.0)}
		}, "", "", ""},
		{"below the weights", "patient.limit-below-weights", func(_ *Input, r *patient.Record) {
			r.Told, r.Help = map[string]patient.Amount{patient.Limit: wholeBytes(7730941132)}, &help
		}, probe.Warn, "give it --max-memory 86.4", "16.1 GB"},
		{"below, and no help known", "patient.limit-below-weights", func(_ *Input, r *patient.Record) {
			r.Told = map[string]patient.Amount{patient.Limit: wholeBytes(7730941132)}
		}, probe.Warn, "by hand, above what it holds", "16.1 GB"},
		{"above the weights", "patient.limit-below-weights", func(_ *Input, r *patient.Record) {
			r.Told = map[string]patient.Amount{patient.Limit: printedGB(70)}
		}, probe.Pass, "", ""},

		{"an old binding that grows", "patient.binding-leak", func(in *Input, r *patient.Record) {
			leaking(in, patient.Active, headGB)
			r.Versions = map[string]string{"mlx-rs": "0.25.1"}
		}, probe.Fail, "cargo update -p mlx-rs --precise 0.25.3", "at the latest every 30 steps"},
		{"an old binding that does not grow", "patient.binding-leak", func(_ *Input, r *patient.Record) { r.Versions = map[string]string{"mlx-rs": "0.25.1"} }, probe.Warn, "cargo update", "no growth was seen"},
		{"a new binding", "patient.binding-leak", func(in *Input, r *patient.Record) {
			leaking(in, patient.Active, headGB)
			r.Versions = map[string]string{"mlx-rs": "0.25.3"}
		}, probe.Pass, "", ""},
		{"leaks", "patient.leak", func(in *Input, r *patient.Record) { leaking(in, patient.Active, headGB) }, probe.Fail, "--lockfile", "size of: float32 gradient of lm_head alone"},
		{"leaks all gradients", "patient.leak", func(in *Input, r *patient.Record) { leaking(in, patient.Active, 8.030261248*4/1.073741824) }, probe.Fail, "", "size of: float32 gradients of all parameters"},
		{"leaks something else", "patient.leak", func(in *Input, r *patient.Record) { leaking(in, patient.Active, 0.05) }, probe.Fail, "", "size of nothing that is known"},
		{"leaks to the byte", "patient.leak", func(in *Input, r *patient.Record) {
			r.Source = patient.Command
			r.Outcome = trainer.Finished
			for i := range r.Points {
				r.Points[i].Memory[patient.Active] = wholeBytes(18e9 + int64(i)*4*128256*4096)
			}
		}, probe.Fail, "", "equal to the byte"},
		{"a jump in the first step", "patient.leak", func(_ *Input, r *patient.Record) { r.Points[0].Memory[patient.Active] = printedGB(16) }, probe.Pass, "", ""},
		{"a peak that rises", "patient.leak", func(in *Input, r *patient.Record) {
			for i := range r.Points {
				delete(r.Points[i].Memory, patient.Active)
			}
			leaking(in, patient.Peak, 0.3)
		}, probe.Fail, "", "Its memory grows"},
		{"explained by the binding", "patient.leak", func(in *Input, r *patient.Record) {
			leaking(in, patient.Active, headGB)
			r.Versions = map[string]string{"mlx-rs": "0.25.1"}
		}, probe.Skipped, "", ""},
		{"the cache grows", "patient.cache-growth", func(in *Input, r *patient.Record) { leaking(in, patient.Cache, 0.1) }, probe.Fail, "mx.set_cache_limit", "cache grows"},
		{"the cache is level", "patient.cache-growth", func(*Input, *patient.Record) {}, probe.Pass, "", ""},
		{"always another shape", "patient.shape-growth", func(_ *Input, r *patient.Record) {
			for i := range r.Points {
				r.Points[i].Positions = trainer.Some(int64(100 + i))
			}
		}, probe.Warn, "Pad batches", "40 of 40"},
		{"few shapes", "patient.shape-growth", func(_ *Input, r *patient.Record) {
			for i := range r.Points {
				r.Points[i].Positions = trainer.Some(int64(64 * (i % 4)))
			}
		}, probe.Pass, "", ""},
		{"a GPU that waits", "patient.host-bound", func(in *Input, _ *patient.Record) { gpuBusy(in, 1, 20) }, probe.Warn, "Evaluate once a step", "a core works all the time"},
		{"a GPU that is fed", "patient.host-bound", func(in *Input, _ *patient.Record) { gpuBusy(in, 1, 97) }, probe.Pass, "", "97 %"},
		{"processes grow", "patient.footprint-growth", func(in *Input, _ *patient.Record) {
			sampledAs(in, func(i int) int64 { return 20e9 + int64(i)*5e7 + int64(i%7)*1e5 })
		}, probe.Warn, "start it again", "50.0 MB a step"},
		{"processes are level", "patient.footprint-growth", func(in *Input, _ *patient.Record) {
			sampledAs(in, func(i int) int64 { return 20e9 + int64(i*7919%13)*1e6 })
		}, probe.Pass, "", ""},
		{"swaps", "patient.swaps", func(in *Input, r *patient.Record) {
			sampledAs(in, func(int) int64 { return 20e9 })
			in.Patient.Record.Samples[239].SwapOut = trainer.Some[int64](9e9)
		}, probe.Warn, "", "4.00"},
		{"does not swap", "patient.swaps", func(in *Input, _ *patient.Record) { sampledAs(in, func(int) int64 { return 20e9 }) }, probe.Pass, "", ""},

		{"an inverted claim", "patient.speed-unit", func(_ *Input, r *patient.Record) {
			r.Claims = []patient.Claim{{Text: "2.5 steps/s", Low: 2.5, High: 2.5, Unit: "steps/s"}}
		}, probe.Warn, "", "seconds a step, read as steps a second"},
		{"printed inverted", "patient.speed-unit", func(_ *Input, r *patient.Record) {
			for i := range r.Points {
				r.Points[i].StepsPerSecond = trainer.Some(2.5)
			}
		}, probe.Warn, "", "the printed 2.5 steps/s is seconds a step"},
		{"printed wrong", "patient.speed-unit", func(_ *Input, r *patient.Record) {
			for i := range r.Points {
				r.Points[i].StepsPerSecond = trainer.Some(1.2)
			}
		}, probe.Warn, "", "3 times"},
		{"printed right, coarsely", "patient.speed-unit", func(*Input, *patient.Record) {}, probe.Pass, "", ""},
		{"above the roofline", "patient.impossible-speed", func(_ *Input, r *patient.Record) {
			r.Claims = []patient.Claim{{Text: "40-60 steps/s", Low: 40, High: 60, Unit: "steps/s"}}
		}, probe.Warn, "", "Impossible on this machine"},
		{"tokens above the roofline", "patient.impossible-speed", func(_ *Input, r *patient.Record) {
			r.Claims = []patient.Claim{{Text: "5000 tok/s", Low: 5000, High: 5000, Unit: "tokens/s"}}
		}, probe.Warn, "", "5000 tok/s"},
		{"below the roofline", "patient.impossible-speed", func(*Input, *patient.Record) {}, probe.Pass, "", ""},
		{"leaves time out", "patient.hidden-time", func(_ *Input, r *patient.Record) {
			for i := range r.Points {
				r.Points[i].TrainedTokens, r.Points[i].TokensPerSecond = trainer.Some(int64(500*i)), trainer.Some(1000.0)
			}
		}, probe.Warn, "Tokenize", "80 % of the time"},
		{"leaves no time out", "patient.hidden-time", func(_ *Input, r *patient.Record) {
			for i := range r.Points {
				r.Points[i].TrainedTokens, r.Points[i].TokensPerSecond = trainer.Some(int64(500*i)), trainer.Some(205.0)
			}
		}, probe.Pass, "", ""},
		{"slows down", "patient.slows-down", func(_ *Input, r *patient.Record) {
			var at time.Duration
			for i := range 200 {
				p := patient.Point{Step: i, Elapsed: trainer.Some(patient.Clock{Time: at, Resolution: time.Millisecond})}
				at += time.Duration(2500 * (1 + 0.4*float64(i)/200) * (1 + 0.05*rng.NormFloat64()) * 1e6)
				r.Points = append(r.Points[:i], p)
			}
		}, probe.Warn, "", "longer at the end"},
		{"does not slow down", "patient.slows-down", func(_ *Input, r *patient.Record) {
			var at time.Duration
			for i := range 200 {
				p := patient.Point{Step: i, Elapsed: trainer.Some(patient.Clock{Time: at, Resolution: time.Millisecond})}
				at += time.Duration(2500 * (1 + 0.02*rng.NormFloat64()) * 1e6)
				r.Points = append(r.Points[:i], p)
			}
		}, probe.Pass, "", ""},

		{"no such flag", "patient.unknown-flag", func(_ *Input, r *patient.Record) {
			r.Help, r.Argv = &help, []string{"your_ai", "train", "--model", "x", "--quantize", "4"}
		}, probe.Warn, "Leave out --quantize", "its --help does not name it"},
		{"known flags", "patient.unknown-flag", func(_ *Input, r *patient.Record) {
			r.Help, r.Argv = &help, []string{"your_ai", "train", "--model=x", "--lora-rank", "4"}
		}, probe.Pass, "", ""},
		{"other parameters than LoRA's", "patient.lora-not-wired", func(_ *Input, r *patient.Record) {
			r.Argv, r.Settings = []string{"--lora-rank", "64"}, map[string]string{"trainable_parameters": "525336576"}
		}, probe.Warn, "", "54525952"},
		{"the gradients of another tensor", "patient.lora-not-wired", func(in *Input, r *patient.Record) {
			leaking(in, patient.Active, headGB)
			r.Argv = []string{"your_ai", "train", "--lora-rank=64"}
		}, probe.Warn, "", "lm_head"},
		{"LoRA's parameters", "patient.lora-not-wired", func(_ *Input, r *patient.Record) {
			r.Argv, r.Settings = []string{"--lora-rank", "64"}, map[string]string{"trainable_millions": "54.526"}
		}, probe.Pass, "", ""},
		{"LoRA's gradients", "patient.lora-not-wired", func(in *Input, r *patient.Record) {
			leaking(in, patient.Active, 208.0/1024)
			r.Argv = []string{"your_ai", "train", "--lora-rank=64"}
		}, "", "", ""},
		{"guesses", "patient.weights-not-loaded", func(_ *Input, r *patient.Record) { r.Points[0].Loss = trainer.Some(trainer.Float(12.1)) }, probe.Warn, "", "ln(128256)"},
		{"skips tensors", "patient.weights-not-loaded", func(_ *Input, r *patient.Record) {
			r.Notices = []patient.Notice{{Level: "warning", Code: "your_ai.skipped-tensor", Text: "Skipping tensor x", Times: 225}}
		}, probe.Warn, "", "225 × "},
		{"knows", "patient.weights-not-loaded", func(*Input, *patient.Record) {}, probe.Pass, "", ""},
		{"four bytes a parameter", "patient.float32-weights", func(in *Input, r *patient.Record) {
			for i := range r.Points {
				r.Points[i].Memory[patient.Active] = printedGB(36.7)
			}
		}, probe.Warn, "", "four bytes"},
		{"two bytes a parameter", "patient.float32-weights", func(*Input, *patient.Record) {}, "", "", ""},
		{"reloads too often", "patient.reload-cost", func(_ *Input, r *patient.Record) {
			r.Notices = []patient.Notice{{Level: "info", Code: "your_ai.reload", Times: 4}}
			late := time.Duration(0)
			for i := range r.Points {
				if i%10 == 8 {
					late += 20 * time.Second
				}
				r.Points[i].Elapsed = trainer.Some(patient.Clock{Time: time.Duration(i)*2500*time.Millisecond + late, Resolution: time.Millisecond})
			}
		}, probe.Warn, "", "45 %"},
		{"reloads cheaply", "patient.reload-cost", func(_ *Input, r *patient.Record) {
			r.Notices = []patient.Notice{{Level: "info", Code: "your_ai.reload", Times: 1}}
		}, probe.Pass, "", ""},
		{"a resident set that misses MLX", "patient.rss-blind", func(in *Input, r *patient.Record) {
			for i := range r.Points {
				r.Points[i].Memory[patient.Resident] = printedGB(4)
			}
		}, probe.Info, "", "18.4 GB"},
		{"a resident set that shows it", "patient.rss-blind", func(in *Input, r *patient.Record) {
			for i := range r.Points {
				r.Points[i].Memory[patient.Resident] = printedGB(19)
			}
		}, probe.Pass, "", ""},
	}
	triggered, refrained := map[string]bool{}, map[string]bool{}
	for _, c := range cases {
		t.Run(c.code+"/"+c.name, func(t *testing.T) {
			in := watched()
			c.change(&in, &in.Patient.Record)
			in.Patient.Report = patient.Judge(in.Patient.Record)
			findings := Run(in)
			for _, f := range findings {
				if f.Severity == probe.Fail && !registry[slices.IndexFunc(registry, func(r Check) bool { return r.Code == f.Code })].Required {
					t.Errorf("%s fails but is not required", f.Code)
				}
			}
			i := slices.IndexFunc(findings, func(f probe.Finding) bool { return f.Code == c.code })
			if i < 0 {
				if c.want != "" {
					t.Fatalf("no finding, want %s", c.want)
				}
				return
			}
			text, err := json.Marshal(findings[i])
			if err != nil {
				t.Fatal(err)
			}
			f := findings[i]
			if f.Severity != c.want || !strings.Contains(string(text), c.says) {
				t.Fatalf("%s, want %s and %q: %s", f.Severity, c.want, c.says, text)
			}
			fixes, err := json.Marshal(f.Fix)
			if err != nil || !strings.Contains(string(fixes), c.fix) {
				t.Errorf("want a fix with %q: %s", c.fix, fixes)
			}
			if strings.Contains(string(fixes), "--quantize") && c.code != "patient.unknown-flag" {
				t.Errorf("a flag is recommended that the trainer lacks: %s", fixes)
			}
			if in.Patient.Record.Source == patient.Log && (f.Severity == probe.Warn || f.Severity == probe.Fail) && f.Confidence != probe.Likely && f.Code != "patient.understood" && f.Code != "patient.unknown-flag" {
				t.Errorf("%s, from a log alone: want likely", f.Confidence)
			}
			if (f.Severity == probe.Warn || f.Severity == probe.Fail) && (f.Why == "" || len(f.Evidence) == 0) {
				t.Errorf("no why or no evidence: %s", text)
			}
		})
		switch c.want {
		case probe.Warn, probe.Fail, probe.Info:
			triggered[c.code] = true
		default:
			refrained[c.code] = true
		}
	}
	for _, code := range Codes() {
		if strings.HasPrefix(code, "patient.") && (!triggered[code] || !refrained[code]) {
			t.Errorf("%s: a case that triggers it: %v, one that must not: %v", code, triggered[code], refrained[code])
		}
	}
}

// TestCacheGrowthIsProven by a second burst, and only if it does not grow there.
func TestCacheGrowthIsProven(t *testing.T) {
	for name, c := range map[string]struct {
		again func(in *Input)
		want  probe.Confidence
	}{
		"level":   {func(*Input) {}, probe.Proven},
		"grows":   {func(in *Input) { leaking(in, patient.Cache, 0.1) }, probe.Likely},
		"no word": {func(in *Input) { in.Patient.Record.Points = nil }, probe.Likely},
	} {
		in, second := watched(), watched()
		leaking(&in, patient.Cache, 0.1)
		c.again(&second)
		in.Patient.Report = patient.Judge(in.Patient.Record)
		in.Patient.Again = &patient.Again{Of: "patient.cache-growth", Change: "with a cache limit of 1 GB", Report: patient.Judge(second.Patient.Record)}
		findings := Run(in)
		i := slices.IndexFunc(findings, func(f probe.Finding) bool { return f.Code == "patient.cache-growth" })
		if i < 0 || findings[i].Confidence != c.want {
			t.Errorf("%s: want %s of %+v", name, c.want, findings)
		}
	}
}

// TestProofUncompiled holds the growth of a patient with ever new shapes
// against a burst of it without MLX's compilation.
func TestProofUncompiled(t *testing.T) {
	for name, c := range map[string]struct {
		of   string
		rise func(i int) int64
		want probe.Confidence
	}{
		"level":        {"patient.shape-growth", func(i int) int64 { return 20e9 + int64(i%3)*1e6 }, probe.Proven},
		"grows":        {"patient.shape-growth", func(i int) int64 { return 20e9 + int64(i)*2e7 }, probe.Measured},
		"another case": {"patient.cache-growth", func(int) int64 { return 20e9 }, probe.Measured},
	} {
		in, second := watched(), watched()
		sampledAs(&in, func(i int) int64 { return 20e9 + int64(i)*5e7 + int64(i%7)*1e5 })
		sampledAs(&second, c.rise)
		for i := range in.Patient.Record.Points {
			in.Patient.Record.Points[i].Positions = trainer.Some(int64(100 + i))
		}
		in.Patient.Report = patient.Judge(in.Patient.Record)
		in.Patient.Again = &patient.Again{Of: c.of, Change: "with MLX's compilation off", Report: patient.Judge(second.Patient.Record)}
		findings := Run(in)
		i := slices.IndexFunc(findings, func(f probe.Finding) bool { return f.Code == "patient.shape-growth" })
		if i < 0 || findings[i].Confidence != c.want {
			t.Errorf("%s: want %s of %+v", name, c.want, findings)
		}
	}
}

// gpuBusy gives a training samples of cores at work, and readings of its GPU.
func gpuBusy(in *Input, cores float64, percent ...int) {
	sampledAs(in, func(int) int64 { return 20e9 })
	samples := in.Patient.Record.Samples
	for i := range samples {
		samples[i].CPU = trainer.Some(time.Duration(cores * float64(samples[i].At)))
		if len(percent) == 1 {
			samples[i].GPUBusy = trainer.Some(percent[0])
		} else if i < len(percent) {
			samples[i].GPUBusy = trainer.Some(percent[i])
		}
	}
}

// TestHostBound tells a GPU that is fed too slowly from one that waits for what
// is no work, and says nothing where too little was read.
func TestHostBound(t *testing.T) {
	for name, c := range map[string]struct {
		cores   float64
		percent []int
		want    probe.Severity
		says    string
	}{
		"waits for a disk": {0.1, []int{30}, probe.Warn, "hardly work"},
		"on average":       {1, []int{100, 0, 0, 100, 20}, probe.Warn, "idle for 56 %"},
		"few readings":     {1, []int{10, 10, 10, 10}, "", ""},
		"no GPU":           {1, nil, "", ""},
		"on the CPU":       {8, []int{0, 2, 0, 1, 0, 3}, "", ""},
	} {
		in := watched()
		gpuBusy(&in, c.cores, c.percent...)
		in.Patient.Report = patient.Judge(in.Patient.Record)
		findings := Run(in)
		i := slices.IndexFunc(findings, func(f probe.Finding) bool { return f.Code == "patient.host-bound" })
		switch {
		case i < 0 && c.want != "":
			t.Errorf("%s: nothing is said, want %s", name, c.want)
		case i >= 0 && (findings[i].Severity != c.want || !strings.Contains(fmt.Sprint(findings[i]), c.says)):
			t.Errorf("%s: %+v, want %s and %q", name, findings[i], c.want, c.says)
		}
	}
}

// TestHealthyPatientPasses holds for everything that is checked.
func TestHealthyPatientPasses(t *testing.T) {
	in := watched()
	in.Patient.Report = patient.Judge(in.Patient.Record)
	for _, f := range Run(in) {
		if f.Severity != probe.Pass {
			t.Errorf("%s is %s: %s (%s)", f.Code, f.Severity, f.Title, f.Why)
		}
	}
	if len(Run(in)) < 8 {
		t.Errorf("%d findings", len(Run(in)))
	}
}
