package demo

import (
	"bufio"
	"bytes"
	"encoding/json"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mlxdyno/mlxdyno/mlxbind/install"
)

// environment is the Python that makes demos; without one a test fails.
func environment(t *testing.T, dir string) Options {
	t.Helper()
	home, err := install.Home()
	if err != nil {
		t.Fatal(err)
	}
	env, err := install.Find(home)
	if err != nil {
		t.Fatalf("%v (make setup)", err)
	}
	return Options{Python: env.Python, Dir: dir, Size: Small, Environ: append(env.Environ(), "OMP_NUM_THREADS=1")}
}

// looks is what mlx-lm says of a model that it loaded.
type looks struct {
	Type      string
	DTypes    []string
	Matrices  int
	Quantized int
	Head      bool
	Finite    bool
	Logits    int
	Chat      string
	EOS       string
	RoundTrip string `json:"round_trip"`
}

func look(t *testing.T, o Options, dirs ...string) []looks {
	t.Helper()
	cmd := o.command(t.Context(), append([]string{"testdata/check.py"}, dirs...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("load with mlx-lm: %v\n%s", err, stderr.Bytes())
	}
	var l []looks
	if err := json.Unmarshal(out, &l); err != nil {
		t.Fatal(err)
	}
	for i, l := range l {
		chat := "<|begin|><|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"
		if l.Chat != chat || l.EOS != "<|im_end|>" || l.RoundTrip != "def f(x):\n\treturn x  # é 漢 🙂" || !l.Finite {
			t.Errorf("%s: %+v", dirs[i], l)
		}
	}
	return l
}

func TestSmall(t *testing.T) {
	o := environment(t, t.TempDir())
	p, err := Make(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	for format, keys := range map[string][]string{
		p.Completions: {"prompt", "completion"}, p.Chat: {"messages"}, p.ChatSystem: {"messages"}, p.Text: {"text"},
	} {
		got := map[string]int{}
		for _, split := range []string{"train", "valid", "test"} {
			got[split] = rows(t, filepath.Join(format, split+".jsonl"), keys)
		}
		if d := cmp.Diff(map[string]int{"train": 336, "valid": 32, "test": 32}, got); d != "" {
			t.Errorf("%s: %s", format, d)
		}
	}
	if p.Base.Loss >= math.Log(float64(p.Base.Vocab))-0.3 {
		t.Errorf("loss %.2f after training: nothing was learned of a vocabulary of %d", p.Base.Loss, p.Base.Vocab)
	}
	if !strings.Contains(p.Question, "\n\n") {
		t.Errorf("question is not a prompt: %q", p.Question)
	}
	again := environment(t, t.TempDir())
	twin, err := Make(t.Context(), again)
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "diff", "-r", "--exclude", stampName, p.Dir, twin.Dir).CombinedOutput()
	if err != nil {
		t.Errorf("the same demo made twice differs: %v\n%s", err, out)
	}
	l := look(t, o, p.Model, p.Model4bit)
	if l[0].Type != "llama" || l[0].Quantized != 0 || l[0].Logits != p.Base.Vocab {
		t.Errorf("base: %+v", l[0])
	}
	if l[1].Quantized != l[1].Matrices || l[1].Matrices != l[0].Matrices {
		t.Errorf("4-bit copy: %d of %d matrices are quantized", l[1].Quantized, l[1].Matrices)
	}
}

// rows counts the lines of a file, each an object with exactly those keys.
func rows(t *testing.T, path string, keys []string) int {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n := 0
	for in := bufio.NewScanner(f); in.Scan(); n++ {
		var row map[string]any
		if err := json.Unmarshal(in.Bytes(), &row); err != nil {
			t.Fatalf("%s:%d: %v", path, n+1, err)
		}
		for _, k := range keys {
			if row[k] == nil || len(row) != len(keys) {
				t.Fatalf("%s:%d: %v, want %v", path, n+1, row, keys)
			}
		}
	}
	return n
}

func TestMakeModel(t *testing.T) {
	o := environment(t, t.TempDir())
	cases := []struct {
		shape Shape
		want  looks
	}{
		{Shape{Arch: "llama", Hidden: 128, Bits: 4, Tied: true}, looks{Type: "llama", DTypes: []string{"float32", "uint32"}, Matrices: 15, Quantized: 15, Logits: 512}},
		{Shape{Arch: "mistral", Hidden: 72, Intermediate: 200, Heads: 6, KVHeads: 2, HeadDim: 12, DType: "bfloat16", Vocab: 700}, looks{Type: "mistral", DTypes: []string{"bfloat16"}, Matrices: 16, Head: true, Logits: 700}},
		{Shape{Arch: "qwen3", Hidden: 96, Intermediate: 160, Heads: 4, KVHeads: 2, HeadDim: 32, Bits: 8, DType: "bfloat16"}, looks{Type: "qwen3", DTypes: []string{"bfloat16", "uint32"}, Matrices: 16, Quantized: 2, Head: true, Logits: 512}},
		{Shape{Arch: "gemma3_text", Layers: 3, HeadDim: 16, Vocab: 330}, looks{Type: "gemma3_text", DTypes: []string{"float32"}, Matrices: 22, Logits: 330}},
		{Shape{Arch: "phi3", Hidden: 64, Heads: 4, DType: "float16"}, looks{Type: "phi3", DTypes: []string{"float16"}, Matrices: 10, Head: true, Logits: 512}},
	}
	var dirs []string
	for _, c := range cases {
		dir, err := MakeModel(t.Context(), o, c.shape)
		if err != nil {
			t.Fatal(err)
		}
		dirs = append(dirs, dir)
	}
	for i, got := range look(t, o, dirs...) {
		got.Chat, got.EOS, got.RoundTrip, got.Finite = "", "", "", false
		if d := cmp.Diff(cases[i].want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", filepath.Base(dirs[i]), d)
		}
	}
}
