package trainer

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v4"
	"pgregory.net/rapid"
)

// anyConfig draws a valid configuration with every knob off its default.
func anyConfig(t *rapid.T) Config {
	limit := rapid.Custom(func(t *rapid.T) Limit {
		if rapid.Bool().Draw(t, "set") {
			return LimitOf(rapid.Int64Range(0, 1<<53).Draw(t, "bytes"))
		}
		return Limit{}
	})
	positive := rapid.IntRange(1, 1<<20)
	text := rapid.StringN(1, 30, -1)
	c := DefaultConfig()
	c.Model = Model{Path: text.Draw(t, "model"), Quantize: rapid.SampledFrom([]int{0, 2, 3, 4, 5, 6, 8}).Draw(t, "bits"), GroupSize: rapid.SampledFrom([]int{32, 64, 128}).Draw(t, "group")}
	c.Data = Data{Path: text.Draw(t, "data"), MaskPrompt: rapid.Bool().Draw(t, "mask"), MaxSeqLength: rapid.IntRange(2, 1<<20).Draw(t, "cap"), GroupByLength: rapid.Bool().Draw(t, "group by length")}
	names := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"mlp.up_proj", "self_attn.q_proj", "q: [", "off", "1"}), 0, 3, rapid.ID[string]).Draw(t, "modules")
	slices.Sort(names)
	c.Quality = Quality{Rank: positive.Draw(t, "rank"), Scale: rapid.Float64Range(1e-9, 1e12).Draw(t, "scale"), Dropout: rapid.Float64Range(0, 0.99).Draw(t, "dropout"),
		Layers: rapid.SampledFrom([]int{-1, 1, 7}).Draw(t, "layers"), LearningRate: rapid.Float64Range(1e-12, 10).Draw(t, "lr"), Optimizer: rapid.SampledFrom([]string{"adam", "adamw", "sgd"}).Draw(t, "optimizer"),
		LRSchedule: rapid.SampledFrom([]LRSchedule{ConstantRate, CosineRate, LinearRate}).Draw(t, "schedule"), Warmup: rapid.IntRange(0, 9).Draw(t, "warmup"),
		GradClip: rapid.Float64Range(0, 9).Draw(t, "clip"), WeightDecay: Decay(rapid.SampledFrom([]float64{0, 0.01, 0.1}).Draw(t, "decay")), Modules: strings.Join(names, ",")}
	if c.Quality.LRSchedule.Decays() {
		c.Quality.LREnd = rapid.SampledFrom([]float64{0, 1e-6, c.Quality.LearningRate}).Draw(t, "lr end")
	}
	c.Parity = rapid.Bool().Draw(t, "parity")
	c.Engine = rapid.SampledFrom([]string{EngineNative, EngineMLXLM}).Draw(t, "engine")
	c.Plan = Plan{Batch: positive.Draw(t, "batch"), Accumulation: positive.Draw(t, "accumulation"), Checkpointing: rapid.Bool().Draw(t, "checkpointing"), Compile: rapid.SampledFrom([]string{"auto", "on", "off"}).Draw(t, "compile"),
		MemoryLimit: limit.Draw(t, "memory"), CacheLimit: limit.Draw(t, "cache"), WiredLimit: limit.Draw(t, "wired")}
	c.Schedule = Schedule{Steps: positive.Draw(t, "steps"), EvalEvery: positive.Draw(t, "eval"), ValBatches: rapid.IntRange(-1, 99).Draw(t, "val"), SaveEvery: positive.Draw(t, "save"), ReloadInterval: rapid.IntRange(0, 99).Draw(t, "reload")}
	c.Seed = uint64(rapid.Uint32().Draw(t, "seed"))
	c.Output.AdapterPath = text.Draw(t, "adapter")
	return c
}

func TestFileSurvivesWritingAndReading(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := File{Settings: Settings{Config: anyConfig(t), Origins: map[string]Origin{}}}
		for _, k := range Knobs {
			if o := rapid.SampledFrom([]Origin{FromDefault, FromTuned, FromFile}).Draw(t, k.Name); o != FromDefault {
				f.Settings.Origins[k.Name] = o
			}
		}
		if rapid.Bool().Draw(t, "promises") {
			f.Expected = &Expected{PeakError: 0.03, TokensError: 0.15, Basis: rapid.String().Draw(t, "basis")}
			f.Expected.PeakBytes = Some(rapid.Int64Min(0).Draw(t, "peak"))
			f.Expected.TokensPerSecond = Some(rapid.Float64Range(0, 1e9).Draw(t, "tok/s"))
		}
		reasons := map[string]string{"rank": rapid.String().Draw(t, "reason")}
		b, err := f.encode(reasons)
		if err != nil {
			t.Fatal(err)
		}
		back, err := parseFile(b)
		if err != nil {
			t.Fatalf("%v in\n%s", err, b)
		}
		if d := cmp.Diff(f, back, cmp.AllowUnexported(Opt[int64]{}, Opt[float64]{})); d != "" {
			t.Fatal(d)
		}
	})
}

func TestReadFileIsStrict(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"unknown key", "model: m\nbatchsize: 4\n", "line 2: unknown key batchsize"},
		{"flag's spelling", "batch-size: 4\n", "did you mean batch_size?"},
		{"our knob at the top", "quantize: 4\n", "did you mean mlxdyno.quantize?"},
		{"mlx-lm's knob below", "mlxdyno:\n  rank: 8\n", "did you mean lora_parameters.rank?"},
		{"twice", "iters: 4\niters: 5\n", "iters"},
		{"full fine-tuning", "fine_tune_type: full\n", "fine_tune_type is not honoured"},
		{"fraction for a count", "iters: 10.5\n", `iters: "10.5" is not a whole number`},
		{"text for a number", "learning_rate: fast\n", "is not a number"},
		{"infinite rate", "learning_rate: .inf\n", "not a finite number"},
		{"text for a switch", "grad_checkpoint: maybe\n", "is not true or false"},
		{"number for a path", "model: 12\n", "put it in quotes"},
		{"value out of its choices", "mlxdyno: {quantize: 7}\n", "not one of"},
		{"list for a value", "batch_size: [4]\n", "want a single value"},
		{"list for a file", "- 1\n", "want a mapping"},
		{"alias", "seed: &s 1\niters: *s\n", "line 2: iters: aliases"},
		{"newer", "mlxdyno: {version: 2}\n", "version 2"},
		{"promise without its owner", "mlxdyno: {expected: {peak_bytes: 5}}\n", "not the key"},
		{"unknown promise", "mlxdyno: {key: a, expected: {peak: 5}}\n", "unknown field"},
		{"record without its owner", "mlxdyno: {written: {rank: '8'}}\n", "not the key"},
		{"record of an unknown knob", "mlxdyno: {key: a, written: {rnk: '8'}}\n", "line 1: mlxdyno.written: no knob"},
		{"unknown origin", "mlxdyno: {key: a, origins: {rank: heaven}}\n", "not one of tuned"},
		{"torn", "model: \"m\n", "L1.C8"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := parseFile([]byte(tt.text)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestReadFileTakesMlxLmsOwn(t *testing.T) {
	f, err := parseFile([]byte(`
model: "base"
train: true
fine_tune_type: lora
optimizer: adamw
optimizer_config: {adam: {}, adamw: {}}
data: text
learning_rate: 1e-5
steps_per_report: 10
resume_adapter_file: null
max_seq_length: null
test: false
test_batches: 100
grad_checkpoint: yes
lora_parameters: {keys: null, rank: 16, scale: 20, dropout: 0}
mlxdyno: {cache_limit: 2GB, memory_limit: 5000}
`))
	if err != nil {
		t.Fatal(err)
	}
	want := DefaultConfig()
	want.Model.Path, want.Data.Path = "base", "text"
	want.Quality.Optimizer, want.Quality.Rank = "adamw", 16
	want.Plan.Checkpointing = true
	want.Plan.CacheLimit, want.Plan.MemoryLimit = LimitOf(2e9), LimitOf(5000)
	if d := cmp.Diff(want, f.Settings.Config); d != "" {
		t.Fatal(d)
	}
	if got := f.Settings.Origin("rank"); got != FromFile {
		t.Fatalf("origin of rank is %s", got)
	}
	if got := f.Settings.Origin("max-seq-length"); got != FromDefault {
		t.Fatalf("origin of a null is %s", got)
	}
}

func TestEditVoidsPromises(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mlxdyno.yaml")
	s := NewSettings()
	s.Config.Model.Path, s.Config.Data.Path = "base", "text"
	s.Config.Model.Quantize = 4
	s.Origins["batch-size"] = FromTuned
	if err := WriteFile(path, File{Settings: s, Expected: &Expected{PeakError: 0.05}}, map[string]string{"batch-size": "fastest of 12"}); err != nil {
		t.Fatal(err)
	}
	if f, err := ReadFile(path); err != nil || f.Edited || f.Expected == nil || f.Settings.Origin("batch-size") != FromTuned {
		t.Fatalf("read back %+v, %v", f, err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"# fastest of 12\nbatch_size: 4\n", "mlx_lm.convert -q --q-bits 4"} {
		if !strings.Contains(string(b), want) {
			t.Errorf("no %q in\n%s", want, b)
		}
	}
	f, err := parseFile([]byte(strings.Replace(string(b), "batch_size: 4", "batch_size: 8", 1)))
	if err != nil {
		t.Fatal(err)
	}
	if !f.Edited || f.Expected != nil || f.Settings.Origin("batch-size") != FromFile {
		t.Fatalf("an edited file kept its promises: %+v", f)
	}
}

func TestAnEditedAdapterPathIsAWish(t *testing.T) {
	s := NewSettings()
	s.Origins["batch-size"] = FromTuned
	b, err := File{Settings: s, Expected: &Expected{PeakError: 0.05}}.encode(nil)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, to string
		want     Origin
	}{
		{"as written", "adapters", FromDefault},
		{"edited", "mine", FromFile},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, err := parseFile([]byte(strings.Replace(string(b), `adapter_path: "adapters"`, `adapter_path: "`+tt.to+`"`, 1)))
			if err != nil {
				t.Fatal(err)
			}
			if f.Settings.Config.Output.AdapterPath != tt.to || f.Settings.Origin("adapter-path") != tt.want {
				t.Errorf("%q from %s", f.Settings.Config.Output.AdapterPath, f.Settings.Origin("adapter-path"))
			}
			// Where results go does not touch what was promised.
			if f.Edited || f.Expected == nil || f.Settings.Origin("batch-size") != FromTuned {
				t.Errorf("edited: %v, promises %v, batch size from %s", f.Edited, f.Expected, f.Settings.Origin("batch-size"))
			}
		})
	}
}

// TestAnEditIsAWishForItsKnobAlone: a later search still has the others to turn.
func TestAnEditIsAWishForItsKnobAlone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := File{Settings: Settings{Config: anyConfig(t), Origins: map[string]Origin{}}, Expected: &Expected{PeakError: 0.03}}
		other := anyConfig(t)
		for _, k := range Knobs {
			if o := rapid.SampledFrom([]Origin{FromDefault, FromTuned, FromFile}).Draw(t, k.Name); o != FromDefault {
				f.Settings.Origins[k.Name] = o
			}
		}
		b, err := f.encode(nil)
		if err != nil {
			t.Fatal(err)
		}
		var doc yaml.Node
		if err := yaml.Load(b, &doc); err != nil {
			t.Fatal(err)
		}
		want := Settings{Config: f.Settings.Config, Origins: maps.Clone(f.Settings.Origins)}
		defaults := DefaultConfig()
		for _, k := range Knobs {
			if scheduled(k) {
				continue // one key for three knobs: below
			}
			edit := rapid.SampledFrom([]string{"keep", "edit", "remove"}).Draw(t, "edit "+k.Name)
			if k.Name == "learning-rate" && edit == "remove" { // a schedule names it too
				continue
			}
			if edit == "edit" && leftOut(k, &other) {
				edit = "remove"
			}
			switch was := k.Get(&f.Settings.Config); {
			case edit == "edit" && k.Get(&other) != was:
				if err := want.Set(k.Name, k.Get(&other), FromFile); err != nil {
					t.Fatal(err)
				}
				edited, err := value(k.YAMLValue(&other))
				if err != nil {
					t.Fatal(err)
				}
				editKey(doc.Content[0], k.Key(), edited)
			case edit == "remove" && !leftOut(k, &f.Settings.Config):
				if err := k.Set(&want.Config, k.Get(&defaults)); err != nil {
					t.Fatal(err)
				}
				delete(want.Origins, k.Name)
				editKey(doc.Content[0], k.Key(), nil)
			}
		}
		if rapid.Bool().Draw(t, "edit the schedule") {
			to, from := &want.Config.Quality, other.Quality
			to.LRSchedule, to.Warmup, to.LREnd = from.LRSchedule, from.Warmup, from.LREnd
			named := map[string]bool{"lr-schedule": to.LRSchedule.Decays() || to.Warmup > 0, "warmup": to.Warmup > 0, "lr-end": to.LRSchedule.Decays()}
			for _, k := range Knobs {
				switch {
				case !scheduled(k) || k.Get(&want.Config) == k.Get(&f.Settings.Config):
				case named[k.Name]:
					want.Origins[k.Name] = FromFile
				default:
					delete(want.Origins, k.Name)
				}
			}
		}
		editKey(doc.Content[0], "lr_schedule", scheduleNode(want.Config)) // its arguments follow from other knobs
		if b, err = yaml.Dump(&doc); err != nil {
			t.Fatal(err)
		}
		got, err := parseFile(b)
		if err != nil {
			t.Fatalf("%v in\n%s", err, b)
		}
		if d := cmp.Diff(want, got.Settings); d != "" {
			t.Fatal(d)
		}
		if edited := want.Config.Key() != f.Settings.Config.Key(); got.Edited != edited || (got.Expected == nil) != edited {
			t.Fatalf("edited: %v, want %v; promises %v", got.Edited, edited, got.Expected)
		}
	})
}

// editKey replaces or adds the value at a dotted key, or removes the key for nil.
func editKey(n *yaml.Node, key string, value *yaml.Node) {
	first, rest, nested := strings.Cut(key, ".")
	i := 0
	for i < len(n.Content) && n.Content[i].Value != first {
		i += 2
	}
	missing := i == len(n.Content)
	switch {
	case missing && value == nil:
	case value == nil && !nested:
		n.Content = slices.Delete(n.Content, i, i+2)
	default:
		if missing {
			put(n, first, mapping(), "")
		}
		if nested {
			editKey(n.Content[i+1], rest, value)
		} else {
			n.Content[i+1] = value
		}
	}
}

func FuzzReadFile(f *testing.F) {
	f.Add([]byte("model: m\ndata: d\nlearning_rate: 1e-5\nlora_parameters: {rank: 8}\nmlxdyno: {version: 1, quantize: 4}\n"))
	f.Add([]byte("mlxdyno: {key: a, expected: {peak_bytes: 5}, origins: {rank: tuned}}"))
	f.Add([]byte("a: &a [*a]"))
	f.Add([]byte("iters: 9\nlr_schedule: {name: cosine_decay, arguments: [2e-5, 7, 1e-7], warmup: 2}\noptimizer_config: {adamw: {weight_decay: 0.1}}\nlora_parameters: {keys: [a, b]}\n"))
	f.Add([]byte("lr_schedule: {name: linear_schedule, arguments: [1, 0, 1000]}\n"))
	f.Add([]byte("lr_schedule: {name: exponential_decay, arguments: [1, 1], warmup: 9223372036854775807}\niters: -9223372036854775808\n"))
	f.Add([]byte("? [1]\n: 2"))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := parseFile(b)
		if err != nil {
			return
		}
		text, err := got.encode(nil)
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		back, err := parseFile(text)
		if err != nil {
			t.Fatalf("what was written cannot be read: %v\n%s", err, text)
		}
		if d := cmp.Diff(got.Settings.Config, back.Settings.Config); d != "" {
			t.Fatal(d)
		}
	})
}

// YAML breaks lines at more characters than JSON does.
func TestPromisesKeepOddCharacters(t *testing.T) {
	for _, basis := range []string{"\u0085", "a\u2028b", "\ufeff", "\u009f", "\n\t\"\\", "😀"} {
		f := File{Settings: NewSettings(), Expected: &Expected{PeakError: 0.1, Basis: basis}}
		b, err := f.encode(nil)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := parseFile(b); err != nil || back.Expected == nil || back.Expected.Basis != basis {
			t.Errorf("%q becomes %+v, %v", basis, back.Expected, err)
		}
	}
}
