package data_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mlxdyno/mlxdyno/trainer/data"
)

func write(t testing.TB, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func options(t testing.TB) data.Options {
	path, environ := python(t)
	return data.Options{Python: path, Environ: environ, CacheDir: t.TempDir()}
}

// readRows reads the tokens of a token file by its documented layout.
func readRows(t *testing.T, s *data.Split) [][]int32 {
	t.Helper()
	b, err := os.ReadFile(s.Path)
	if err != nil {
		t.Fatal(err)
	}
	rows, at := [][]int32{}, 64
	for _, n := range s.Lengths {
		row := make([]int32, n)
		if _, err := binary.Decode(b[at:], binary.LittleEndian, row); err != nil {
			t.Fatal(err)
		}
		rows = append(rows, row)
		at += 4 * int(n)
	}
	return rows
}

func TestTokensAreThoseOfMLXLM(t *testing.T) {
	t.Parallel()
	tools := `"tools":[{"type":"function","function":{"name":"f","parameters":{}}}]`
	tests := []struct {
		name, rows string
		mask       bool
	}{
		{"text", `{"text":"Grüße 👋"}` + "\n" + `{"text":"two\nlines"}`, false},
		{"completions", `{"prompt":"a","completion":"bcd"}` + "\n" + `{"prompt":"long question","completion":"x"}`, false},
		{"completions masked", `{"prompt":"a","completion":"bcd"}` + "\n" + `{"prompt":"q","completion":"x",` + tools + `}`, true},
		{"chat", `{"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"yes"}]}`, false},
		{"chat masked", `{"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"yes"}],` + tools + `}` + "\n" +
			`{"messages":[{"role":"system","content":"s"},{"role":"user","content":"last word"}]}`, true},
	}
	type request struct {
		Model string `json:"model"`
		Data  string `json:"data"`
		Mask  bool   `json:"mask"`
	}
	var asked []request
	for _, tt := range tests {
		dir := t.TempDir()
		write(t, dir, "train.jsonl", tt.rows+"\n")
		write(t, dir, "valid.jsonl", tt.rows+"\n")
		asked = append(asked, request{modelDir(t), dir, tt.mask})
	}
	var answers [][][2]json.RawMessage
	reference(t, &answers, "tokens", asked)
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			set, err := data.Prepare(t.Context(), options(t), data.Spec{Path: asked[i].Data, Model: modelDir(t), MaskPrompt: tt.mask})
			if err != nil {
				t.Fatal(err)
			}
			want, got := answers[i], readRows(t, set.Train)
			if len(got) != len(want) {
				t.Fatalf("%d rows, want %d", len(got), len(want))
			}
			for r := range want {
				var tokens []int32
				var offset int32
				if err := errors.Join(json.Unmarshal(want[r][0], &tokens), json.Unmarshal(want[r][1], &offset)); err != nil {
					t.Fatal(err)
				}
				if d := cmp.Diff(tokens, got[r]); d != "" {
					t.Errorf("row %d (-mlx-lm +ours):\n%s", r, d)
				}
				if set.Train.Prompts[r] != offset {
					t.Errorf("row %d: prompt of %d tokens, mlx-lm has %d", r, set.Train.Prompts[r], offset)
				}
				if tt.mask != (offset > 0) {
					t.Errorf("row %d: masked %t, prompt of %d tokens", r, tt.mask, offset)
				}
			}
		})
	}
}

func TestBatchesAreThoseOfMLXLM(t *testing.T) {
	t.Parallel()
	type request struct {
		Lengths []int32 `json:"lengths"`
		Batch   int     `json:"batch"`
		Cap     int     `json:"cap"`
		Grouped bool    `json:"grouped"`
	}
	rng := rand.New(rand.NewPCG(1, 2))
	var cases []request
	for range 60 {
		c := request{Batch: 1 + rng.IntN(5), Cap: 2 + rng.IntN(150), Grouped: rng.IntN(2) == 0}
		for range c.Batch + rng.IntN(40) {
			c.Lengths = append(c.Lengths, int32(1+rng.IntN(200)))
		}
		cases = append(cases, c)
	}
	var answers [][][3]json.RawMessage
	reference(t, &answers, "batches", cases)
	for i, c := range cases {
		var got [][3]json.RawMessage
		for _, b := range data.PlanBatches(c.Lengths, data.Batching{Batch: c.Batch, MaxSeqLength: c.Cap, Grouped: c.Grouped}) {
			var row [3]json.RawMessage
			for j, v := range []any{[]int{b.Shape.Batch, b.Shape.Width}, b.Rows, b.Tokens} {
				row[j], _ = json.Marshal(v)
			}
			got = append(got, row)
		}
		format := func(batches [][3]json.RawMessage) (lines []string) {
			for _, b := range batches {
				lines = append(lines, strings.ReplaceAll(fmt.Sprintf("%s", b), " ", ""))
			}
			return lines
		}
		if d := cmp.Diff(format(answers[i]), format(got)); d != "" {
			t.Fatalf("case %+v (-mlx-lm +ours):\n%s", c, d)
		}
	}
}

func completions(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "{\"prompt\":\"question %d\",\"completion\":\"%s\"}\n", i, strings.Repeat("y", 1+i%50))
	}
	return b.String()
}

func TestCache(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := write(t, dir, "rows.jsonl", completions(1000)) // several blocks
	o := options(t)
	var last [2]int
	o.Progress = func(split string, done, total int) {
		if split == data.Train {
			last = [2]int{done, total}
		}
	}
	spec := data.Spec{Path: path, Model: modelDir(t)}
	first, err := data.Prepare(t.Context(), o, spec)
	if err != nil {
		t.Fatal(err)
	}
	if !first.HeldOut || len(first.Valid.Lengths) != 50 || len(first.Train.Lengths) != 950 {
		t.Errorf("held out %t: %d of %d rows", first.HeldOut, len(first.Valid.Lengths), len(first.Train.Lengths))
	}
	if last != [2]int{950, 950} {
		t.Errorf("last progress %v", last)
	}
	content, err := os.ReadFile(first.Train.Path)
	if err != nil {
		t.Fatal(err)
	}

	without := o
	without.Python = filepath.Join(dir, "no-python")
	if again, err := data.Prepare(t.Context(), without, spec); err != nil {
		t.Errorf("a cached set needs Python: %v", err)
	} else if d := cmp.Diff(first, again); d != "" {
		t.Errorf("cached set differs:\n%s", d)
	}
	masked := spec
	masked.MaskPrompt = true
	if _, err := data.Prepare(t.Context(), without, masked); err == nil {
		t.Error("another mask flag got the same tokens")
	}
	other := without
	other.Versions = map[string]string{"mlx-lm": "9"}
	if _, err := data.Prepare(t.Context(), other, spec); err == nil {
		t.Error("another mlx-lm got the same tokens")
	}

	if err := os.WriteFile(first.Train.Path, content[:len(content)-5], 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := data.Prepare(t.Context(), o, spec); err != nil {
		t.Fatal(err)
	}
	if rebuilt, err := os.ReadFile(first.Train.Path); err != nil || !bytes.Equal(rebuilt, content) {
		t.Errorf("a damaged file is not rebuilt as it was (%v)", err)
	}
}

func TestPrepareTogether(t *testing.T) {
	t.Parallel()
	path := write(t, t.TempDir(), "rows.jsonl", completions(40))
	o := options(t)
	spec := data.Spec{Path: path, Model: modelDir(t)}
	sets := make([]*data.Set, 3)
	var wg sync.WaitGroup
	for i := range sets {
		wg.Go(func() {
			var err error
			if sets[i], err = data.Prepare(t.Context(), o, spec); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, s := range sets[1:] {
		if d := cmp.Diff(sets[0], s); d != "" {
			t.Error(d)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(o.CacheDir, "*.making")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestPrepareCancelled(t *testing.T) {
	t.Parallel()
	path := write(t, t.TempDir(), "rows.jsonl", completions(20000))
	ctx, cancel := context.WithCancel(t.Context())
	o := options(t)
	o.Progress = func(string, int, int) { cancel() }
	if _, err := data.Prepare(ctx, o, data.Spec{Path: path, Model: modelDir(t)}); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	entries, err := os.ReadDir(o.CacheDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() {
			t.Errorf("left %s behind", e.Name())
		}
	}
}

func TestTextChangesMeanwhile(t *testing.T) {
	t.Parallel()
	path := write(t, t.TempDir(), "rows.jsonl", completions(5000))
	o := options(t)
	var once sync.Once
	o.Progress = func(string, int, int) {
		once.Do(func() {
			f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				t.Error(err)
				return
			}
			defer f.Close()
			if _, err := f.WriteString(completions(10)); err != nil {
				t.Error(err)
			}
		})
	}
	_, err := data.Prepare(t.Context(), o, data.Spec{Path: path, Model: modelDir(t)})
	var e *data.Error
	if !errors.As(err, &e) || !strings.Contains(err.Error(), "changed while it was read") {
		t.Errorf("got %v", err)
	}
}

func TestPythonDies(t *testing.T) {
	t.Parallel()
	o := options(t)
	o.Python = write(t, t.TempDir(), "python", "#!/bin/sh\nfor i in $(seq 100); do read row || break; done\necho Boom >&2\nexit 3\n")
	if err := os.Chmod(o.Python, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, rows := range []int{10, 20000} {
		path := write(t, t.TempDir(), "rows.jsonl", completions(rows))
		_, err := data.Prepare(t.Context(), o, data.Spec{Path: path, Model: modelDir(t)})
		if err == nil || !strings.Contains(err.Error(), "Python ended early: exit status 3: Boom") {
			t.Errorf("%d rows: got %v", rows, err)
		}
	}
}

func TestRowsThatTheTokenizerRefuses(t *testing.T) {
	t.Parallel()
	good := `{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}]}` + "\n"
	bad := `{"messages":[{"role":"oracle","content":"42"}]}` + "\n"
	dir := t.TempDir()
	path := write(t, dir, "few.jsonl", strings.Repeat(good, 3)+bad+strings.Repeat(good, 200))
	set, err := data.Prepare(t.Context(), options(t), data.Spec{Path: path, Model: modelDir(t)})
	if err != nil {
		t.Fatal(err)
	}
	want := []data.Problem{{File: path, Line: 4, Text: "cannot be tokenized: no oracle may speak", Malformed: true}}
	if d := cmp.Diff(want, set.Problems); d != "" || set.Malformed != 1 {
		t.Errorf("malformed %d:\n%s", set.Malformed, d)
	}
	if n := len(set.Train.Lengths); n != 203 || set.Valid != nil {
		t.Errorf("%d training rows, validation %v: equal rows cannot be held out", n, set.Valid)
	}

	path = write(t, dir, "many.jsonl", good+bad+good)
	_, err = data.Prepare(t.Context(), options(t), data.Spec{Path: path, Model: modelDir(t)})
	var e *data.Error
	if !errors.As(err, &e) || e.Path != path || e.Line != 2 || e.Fix == "" {
		t.Errorf("got %v", err)
	}
}

func TestPrepareErrors(t *testing.T) {
	t.Parallel()
	rows := write(t, t.TempDir(), "rows.jsonl", completions(10))
	texts := write(t, t.TempDir(), "rows.jsonl", `{"text":"a"}`)
	bare := t.TempDir()
	write(t, bare, "config.json", "{}")
	broken := t.TempDir()
	write(t, broken, "config.json", `{"model_type":"llama"}`)
	write(t, broken, "tokenizer.json", "{")
	for name, tt := range map[string]struct {
		spec data.Spec
		want string
	}{
		"no model":         {data.Spec{Path: rows, Model: filepath.Join(bare, "nothing")}, "hf download"},
		"no tokenizer":     {data.Spec{Path: rows, Model: bare}, "no tokenizer"},
		"broken tokenizer": {data.Spec{Path: rows, Model: broken}, "cannot be loaded: Failed to parse tokenizer.json"},
		"mask on text":     {data.Spec{Path: texts, Model: modelDir(t), MaskPrompt: true}, "drop --mask-prompt"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := data.Prepare(t.Context(), options(t), tt.spec)
			var e *data.Error
			if !errors.As(err, &e) || !strings.Contains(err.Error(), tt.want) || e.Fix == "" {
				t.Errorf("got %v, want a *data.Error with %q and a fix", err, tt.want)
			}
		})
	}
	o := options(t)
	o.Python = filepath.Join(bare, "python")
	if _, err := data.Prepare(t.Context(), o, data.Spec{Path: rows, Model: modelDir(t)}); err == nil || !strings.Contains(err.Error(), "mlxdyno setup") {
		t.Errorf("without Python: %v", err)
	}
}
