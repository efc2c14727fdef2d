package native

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mlxdyno/mlxdyno/mlxbind"
	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/checkpoint"
)

// altered is a model with one file changed; nil content removes it.
func altered(t *testing.T, model, file string, change func([]byte) []byte) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(model)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, file)
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if b := change(old); b == nil {
		err = os.Remove(path)
	} else {
		err = os.WriteFile(path, b, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// with sets keys of a config.json.
func with(set map[string]any) func([]byte) []byte {
	return func(b []byte) []byte {
		var config map[string]any
		if err := json.Unmarshal(b, &config); err != nil {
			panic(err)
		}
		for key, value := range set {
			config[key] = value
		}
		b, err := json.Marshal(config)
		if err != nil {
			panic(err)
		}
		return b
	}
}

func TestModelsThatCannotBeTrained(t *testing.T) {
	j := job(t, plain, 2)
	for name, tt := range map[string]struct {
		file   string
		change func([]byte) []byte
		code   string
		says   string
		hint   string
	}{
		"torn config":          {"config.json", func(b []byte) []byte { return b[1:] }, "model.config-broken", "config.json", ""},
		"no config":            {"config.json", func([]byte) []byte { return nil }, "model.config-missing", "config.json", ""},
		"torn weights":         {"model.safetensors", func(b []byte) []byte { return b[:len(b)-1] }, "model.truncated", "model.safetensors", "hf download"},
		"torn header":          {"model.safetensors", func(b []byte) []byte { return b[:100] }, "model.truncated", "model.safetensors", "hf download"},
		"no header":            {"model.safetensors", func(b []byte) []byte { return append(make([]byte, 8), b...) }, "model.header", "model.safetensors", ""},
		"no weights":           {"model.safetensors", func([]byte) []byte { return nil }, "model.shard-missing", "model.safetensors", ""},
		"other widths":         {"config.json", with(map[string]any{"hidden_size": 32}), "model.weights-mismatch", "", "hf download"},
		"a block more":         {"config.json", with(map[string]any{"num_hidden_layers": 4}), "model.weights-mismatch", "", "hf download"},
		"another architecture": {"config.json", with(map[string]any{"model_type": "mamba"}), "model.unsupported", "mamba", "--engine mlx-lm"},
		"an odd rotation":      {"config.json", with(map[string]any{"rope_scaling": map[string]any{"type": "odd", "factor": 2.0}}), "model.unsupported", "odd", "--engine mlx-lm"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := j
			j.Config.Model.Path = altered(t, j.Config.Model.Path, tt.file, tt.change)
			r, _ := runJob(t, t.Context(), ours(t), j, nil)
			f := r.Failure
			if f == nil || f.FailKind != trainer.FailConfig || f.Code != tt.code || !strings.Contains(f.Text, tt.says) ||
				f.Hint == "" || !strings.Contains(f.Hint, tt.hint) || strings.Contains(f.Text, "\n") {
				t.Errorf("%s, %+v", r.Outcome, f)
			}
		})
	}
}

func TestJobsThatCannotBeDone(t *testing.T) {
	j := job(t, plain, 2)
	packed := plain
	packed.Bits, packed.GroupSize = 4, 32
	quantized := modelOf(t, packed)
	j.Dir = t.TempDir()
	r, _ := finish(t, ours(t), j)
	j.Dir = ""
	foreign := filepath.Join(t.TempDir(), checkpoint.Name(2))
	if err := os.CopyFS(foreign, os.DirFS(r.Checkpoint.Dir)); err != nil {
		t.Fatal(err)
	}
	manifest := filepath.Join(foreign, checkpoint.ManifestName)
	b, err := os.ReadFile(manifest)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(manifest, []byte(strings.Replace(string(b), `"native"`, `"mlx-lm"`, 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	flipped := altered(t, filepath.Dir(j.Tokens.Train), filepath.Base(j.Tokens.Train), func(b []byte) []byte {
		b[70]++ // a token
		return b
	})
	for name, tt := range map[string]struct {
		change func(*trainer.Job)
		kind   trainer.FailKind
		code   string
		says   string
		hint   string
	}{
		"quantize twice": {func(j *trainer.Job) { j.Config.Model.Path, j.Config.Model.Quantize = quantized, 4 },
			trainer.FailConfig, "config.already-quantized", "quantized already", "drop --quantize"},
		"optimizer": {func(j *trainer.Job) { j.Config.Quality.Optimizer = "muon" },
			trainer.FailConfig, "config.unsupported", "muon", "--engine mlx-lm"},
		"another engine's checkpoint": {func(j *trainer.Job) { j.From = &trainer.CheckpointRef{Step: 2, Dir: foreign} },
			trainer.FailConfig, "checkpoint.mismatch", "the engine mlx-lm made it", "start a new training"},
		"another optimizer's checkpoint": {func(j *trainer.Job) { j.From, j.Config.Quality.Optimizer = r.Checkpoint, "sgd" },
			trainer.FailConfig, "checkpoint.mismatch", "optimizer", "start a new training"},
		"a flipped token": {func(j *trainer.Job) { j.Tokens.Train = filepath.Join(flipped, filepath.Base(j.Tokens.Train)) },
			trainer.FailData, "data.tokens", "token file", "start again"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := j
			j.UntilStep, j.Config.Schedule.Steps = 4, 4
			tt.change(&j)
			r, all := runJob(t, t.Context(), ours(t), j, nil)
			f := r.Failure
			if f == nil || f.FailKind != tt.kind || f.Code != tt.code || !strings.Contains(f.Text, tt.says) || !strings.Contains(f.Hint, tt.hint) {
				t.Errorf("%s, %+v", r.Outcome, f)
			}
			if n := len(trainer.Summarize(all).Steps); n > 0 {
				t.Errorf("%d steps were trained", n)
			}
		})
	}
}

// What MLX says when memory runs out becomes words that help.
func TestMemoryWords(t *testing.T) {
	for said, code := range map[string]string{
		"[METAL] Command buffer execution failed: Insufficient Memory (00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)": "oom",
		"cudaMallocAsync(&data, size, stream) failed: out of memory":                                                          "oom",
		"[malloc] Unable to allocate 17 bytes.":                                                                               "oom",
		"[metal::malloc] Resource limit (499000) exceeded.":                                                                   "oom.resource-limit",
		"[metal::malloc] Attempting to allocate 9 bytes which is greater than the maximum allowed buffer size of 8 bytes.":    "oom.buffer-size",
		"something else": "internal",
	} {
		for _, checkpointing := range []bool{false, true} {
			c := trainer.DefaultConfig()
			c.Plan.Checkpointing = checkpointing
			f := describe(&mlxbind.Error{Op: "eval", Text: said}, c)
			if f.Code != code || (f.FailKind == trainer.FailOOM) != (code != "internal") || f.Hint == "" || f.Detail == "" {
				t.Errorf("%s: %+v", said, f)
			}
			if code == "oom" && strings.Contains(f.Hint, "--grad-checkpoint") == checkpointing {
				t.Errorf("checkpointing %v: %s", checkpointing, f.Hint)
			}
		}
	}
}

func TestProcess(t *testing.T) {
	if _, err := New(Options{}).Process(trainer.Job{}); err == nil || !strings.Contains(err.Error(), "mlxdyno setup") {
		t.Errorf("without a shim: %v", err)
	}
	for says, change := range map[string]func(*trainer.Config){
		"":                 func(*trainer.Config) {},
		"leave --parity":   func(c *trainer.Config) { c.Parity = true },
		"--step-by blocks": func(c *trainer.Config) { c.Plan.StepBy = trainer.StepByWhole },
	} {
		j := trainer.Job{Config: trainer.DefaultConfig(), Mode: trainer.Profile}
		change(&j.Config)
		_, err := New(Options{Shim: "shim"}).Process(j)
		if (err != nil) != (says != "") || err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v", says, err)
		}
	}
	c, err := New(Options{}).Capabilities(t.Context())
	if err != nil || !c.ExactResume || !c.Shapes || !c.Profile || len(c.Knobs) != len(trainer.Knobs) {
		t.Errorf("capabilities %+v: %v", c, err)
	}
}

func TestNoMLX(t *testing.T) {
	j := job(t, plain, 2)
	e := installed(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r, _ := runJob(t, t.Context(), New(Options{Argv: []string{exe}, Environ: append(environ(e), workerVariable+"=1"), Shim: e.Shim + "x"}), j, nil)
	if f := r.Failure; f == nil || f.FailKind != trainer.FailInternal || f.Code != "install.mlx" || !strings.Contains(f.Hint, "mlxdyno setup") {
		t.Errorf("%s, %+v", r.Outcome, f)
	}
}
