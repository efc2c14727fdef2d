package mlxlm_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/mlxlm"
)

func TestNoMLX(t *testing.T) {
	t.Parallel()
	o := environment(t)
	out := runPython(t, nil, "-c", "import sys, json; print(json.dumps(sys._base_executable))")
	if err := json.Unmarshal(out, &o.Python); err != nil {
		t.Fatal(err)
	}
	j := job(t)
	p, err := mlxlm.New(o).Process(j)
	if err != nil {
		t.Fatal(err)
	}
	r, _ := runProcess(t, t.Context(), p, j, nil)
	expectFailure(t, r, trainer.FailInternal, "install.mlx", "No module named 'mlx'")
}

func expectFailure(t *testing.T, r trainer.Result, kind trainer.FailKind, code, says string) {
	t.Helper()
	f := r.Failure
	if f == nil {
		t.Fatalf("%s without a word: %+v\n%s", r.Outcome, r, r.LogTail)
	}
	if f.FailKind != kind || f.Code != code || !strings.Contains(f.Text, says) || f.Hint == "" || strings.Contains(f.Text, "Traceback") || f.Detail == "" {
		t.Errorf("got %+v\nwant %s %s with %q and a hint", f, kind, code, says)
	}
}

func TestCodes(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	// variant is the model with one file changed; nil content removes it.
	variant := func(file string, change func([]byte) []byte) string {
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(w.model)); err != nil {
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
	swap := func(old, with string) func([]byte) []byte {
		return func(b []byte) []byte { return []byte(strings.Replace(string(b), old, with, 1)) }
	}
	type request struct {
		Path   string         `json:"path,omitempty"`
		Bits   int            `json:"bits,omitempty"`
		Said   string         `json:"said,omitempty"`
		Config trainer.Config `json:"config"`
	}
	cases := []struct {
		request
		code string
		kind trainer.FailKind
	}{
		{request{Path: w.model}, "", ""},
		{request{Path: filepath.Join(w.model, "nothing")}, "model.missing", trainer.FailConfig},
		{request{Path: variant("config.json", swap("{", ""))}, "model.config", trainer.FailConfig},
		{request{Path: variant("config.json", swap(`"llama"`, `"no-such-type"`))}, "model.unknown-architecture", trainer.FailConfig},
		{request{Path: variant("config.json", swap(`"hidden_size": 64`, `"hidden_size": 32`))}, "model.weights-mismatch", trainer.FailConfig},
		{request{Path: variant("config.json", swap(`"hidden_size": 64,`, ``))}, "model.load", trainer.FailConfig},
		{request{Path: variant("config.json", swap(`{`, `{"model_file": "x.py",`))}, "model.custom-code", trainer.FailConfig},
		{request{Path: variant("config.json", swap(`{`, `{"quantization": {"bits": 4, "group_size": 64},`)), Bits: 4}, "config.already-quantized", trainer.FailConfig},
		{request{Path: variant("model.safetensors", func(b []byte) []byte { return b[:len(b)-1] })}, "model.truncated", trainer.FailConfig},
		{request{Path: variant("model.safetensors", func(b []byte) []byte { return b[:100] })}, "model.truncated", trainer.FailConfig},
		{request{Path: variant("model.safetensors", func(b []byte) []byte { return append(make([]byte, 8), b...) })}, "model.weights", trainer.FailConfig},
		{request{Path: variant("model.safetensors", func([]byte) []byte { return nil })}, "model.weights", trainer.FailConfig},
		{request{Said: "[METAL] Command buffer execution failed: Insufficient Memory (00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)"}, "oom", trainer.FailOOM},
		{request{Said: "cudaMallocAsync(&data, size, stream) failed: out of memory"}, "oom", trainer.FailOOM},
		{request{Said: "[malloc] Unable to allocate 17 bytes."}, "oom", trainer.FailOOM},
		{request{Said: "[metal::malloc] Resource limit (499000) exceeded."}, "oom.resource-limit", trainer.FailOOM},
		{request{Said: "[metal::malloc] Attempting to allocate 9 bytes which is greater than the maximum allowed buffer size of 8 bytes."}, "oom.buffer-size", trainer.FailOOM},
		{request{Said: "something else"}, "internal", trainer.FailInternal},
	}
	var ask []request
	for _, c := range cases {
		ask = append(ask, c.request)
	}
	var got []trainer.Failure
	if err := json.Unmarshal(runPython(t, ask, "testdata/codes.py"), &got); err != nil {
		t.Fatal(err)
	}
	for i, c := range cases {
		if got[i].Code != c.code || got[i].FailKind != c.kind || strings.Contains(got[i].Text, "\n") || (c.code != "" && got[i].Hint == "") {
			t.Errorf("%+v: got %+v, want %s %s", c.request, got[i], c.kind, c.code)
		}
	}
}

// Under dropout MLX's checkpointing computes wrong gradients: nobody is sent there.
func TestMemoryAdvice(t *testing.T) {
	t.Parallel()
	type request struct {
		Said   string         `json:"said"`
		Config trainer.Config `json:"config"`
	}
	var ask []request
	for _, said := range []string{"out of memory", "a greater than the maximum allowed buffer size"} {
		for _, change := range []func(*trainer.Config){
			func(*trainer.Config) {},
			func(c *trainer.Config) { c.Quality.Dropout = 0.1 },
			func(c *trainer.Config) { c.Plan.Checkpointing = true },
		} {
			c := trainer.DefaultConfig()
			change(&c)
			ask = append(ask, request{said, c})
		}
	}
	var got []trainer.Failure
	if err := json.Unmarshal(runPython(t, ask, "testdata/codes.py"), &got); err != nil {
		t.Fatal(err)
	}
	for i, f := range got {
		advised, wise := strings.Contains(f.Hint, "--grad-checkpoint"), ask[i].Config.Quality.Dropout == 0 && !ask[i].Config.Plan.Checkpointing
		if advised != wise || !strings.Contains(f.Hint, "--batch-size") {
			t.Errorf("dropout %g, checkpointing %v: %s", ask[i].Config.Quality.Dropout, ask[i].Config.Plan.Checkpointing, f.Hint)
		}
	}
}

func TestProcess(t *testing.T) {
	e := mlxlm.New(mlxlm.Options{})
	if _, err := e.Process(trainer.Job{}); err == nil || !strings.Contains(err.Error(), "mlxdyno setup") {
		t.Errorf("without Python: %v", err)
	}
	e = mlxlm.New(mlxlm.Options{Python: "python", Environ: []string{"A=b"}})
	if _, err := e.Process(trainer.Job{Mode: trainer.Profile}); err == nil {
		t.Error("promises profile mode")
	}
	p, err := e.Process(trainer.Job{Config: trainer.DefaultConfig()})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range p.Env {
		if len(v) > 100<<10 { // Linux takes at most 128 KiB in one string
			t.Errorf("%.20s… has %d bytes", v, len(v))
		}
	}
	c, err := e.Capabilities(t.Context())
	if err != nil || !c.ExactResume || !c.Shapes || c.Profile {
		t.Errorf("capabilities %+v: %v", c, err)
	}
	lacking := map[string]string{"grad-clip": "1", "matmul": "dequantized", "low-rank": "activation", "loss-positions": "supervised", "packing": "on", "max-shapes": "4",
		"step-by": "blocks", "keep": "results", "grad-checkpoint-nth": "2", "loss-rows": "64"}
	if len(c.Knobs) != len(trainer.Knobs)-len(lacking) {
		t.Errorf("honours %q", c.Knobs)
	}
	for knob, value := range lacking {
		s := trainer.NewSettings()
		if err := s.Set(knob, value, trainer.FromFlag); err != nil {
			t.Fatal(err)
		}
		if _, err := e.Process(trainer.Job{Config: s.Config}); err == nil || !strings.Contains(err.Error(), "mlx-lm has no "+knob) {
			t.Errorf("%s: %v", knob, err)
		}
	}
}
