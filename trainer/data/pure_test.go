package data_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/data"
)

func TestInspectJudgesEveryLine(t *testing.T) {
	const chat = `{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}]}`
	for _, tt := range []struct {
		name, first, line, want string // of the second line; empty if nothing is wrong with it
		malformed               bool
	}{
		{"text", `{"text":"a"}`, `{"text":"b","id":3}`, "", false},
		{"spaces around", `{"text":"a"}`, " {\"text\":\"b\"}\t\r", "", false},
		{"empty", `{"text":"a"}`, ``, "is empty and was skipped", false},
		{"torn", `{"text":"a"}`, `{"text":"b`, "is not JSON: unexpected end of JSON input at byte 10", true},
		{"two objects", `{"text":"a"}`, `{"text":"b"} {}`, "is not JSON: invalid character '{' after top-level value at byte 14", true},
		{"list", `{"text":"a"}`, `["b"]`, "is JSON, but not an object", true},
		{"null", `{"text":"a"}`, `null`, "is JSON, but not an object", true},
		{"NUL", `{"text":"a"}`, "{\"text\":\"\x00\"}", "contains a NUL byte: the file is binary, or was torn while it was written", true},
		{"Latin-1", `{"text":"a"}`, "{\"text\":\"gr\xfcn\"}", "is not valid UTF-8 at byte 12", true},
		{"no key", `{"text":"a"}`, `{"Text":"b"}`, `has no "text", unlike the first row`, true},
		{"text is a list", `{"text":"a"}`, `{"text":["b"]}`, `"text" is not a text`, true},
		{"completions", `{"prompt":"a","completion":"b"}`, `{"completion":"b","prompt":"a","tools":[]}`, "", false},
		{"no completion", `{"prompt":"a","completion":"b"}`, `{"prompt":"a"}`, `has no "completion", unlike the first row`, true},
		{"prompt is null", `{"prompt":"a","completion":"b"}`, `{"prompt":null,"completion":"b"}`, `"prompt" is not a text`, true},
		{"tools", `{"prompt":"a","completion":"b"}`, `{"prompt":"a","completion":"b","tools":{}}`, `"tools" is not a list`, true},
		{"chat", chat, chat, "", false},
		{"tool call", chat, `{"messages":[{"role":"assistant","content":null,"tool_calls":[]}]}`, "", false},
		{"no messages", chat, `{"messages":[]}`, `"messages" is empty`, true},
		{"messages is a text", chat, `{"messages":"q"}`, `"messages" is not a list`, true},
		{"message is a text", chat, `{"messages":["q"]}`, "message 1 is not an object", true},
		{"no role", chat, `{"messages":[{"role":"user","content":"q"},{"content":"a"}]}`, `message 2 has no "role" that is a text`, true},
		{"no content", chat, `{"messages":[{"role":"user"}]}`, `message 1 has no "content" that is a text`, true},
		{"two formats", chat, strings.Replace(chat, "{", `{"prompt":"p","completion":"c",`, 1), "fits both chat and completions; it is read as chat, like the first row", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := write(t, t.TempDir(), "rows.jsonl", tt.first+"\n"+tt.line+"\n"+strings.Repeat(tt.first+"\n", 150))
			s, err := data.Inspect(path)
			if err != nil {
				t.Fatal(err)
			}
			var want []data.Problem
			if tt.want != "" {
				want = []data.Problem{{File: path, Line: 2, Text: tt.want, Malformed: tt.malformed}}
			}
			if d := cmp.Diff(want, s.Problems); d != "" {
				t.Error(d)
			}
			rows := 152
			if tt.malformed || tt.line == "" {
				rows--
			}
			if s.Rows[data.Train] != rows || s.Malformed != 152-rows-btoi(tt.line == "") {
				t.Errorf("%d rows, %d malformed", s.Rows[data.Train], s.Malformed)
			}
		})
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func TestInspectSplits(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "train.jsonl", "\uFEFF"+`{"prompt":"a","completion":"b"}`+"\n"+`{"prompt":"a","completion":"b"}`) // no newline at the end
	write(t, dir, "valid.jsonl", "")
	write(t, dir, "test.jsonl", `{"text":"a"}`+"\n")
	s, err := data.Inspect(dir)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[string]int{data.Train: 2, data.Test: 1}, s.Rows); d != "" || !s.HeldOut || s.Format != data.FormatCompletions || len(s.Problems) > 0 {
		t.Errorf("%+v\n%s", s, d)
	}
}

// Lines are judged in blocks, side by side: numbers must not depend on that.
func TestInspectManyBlocks(t *testing.T) {
	var b strings.Builder
	const rows, every = 60000, 997
	var want []int
	for i := 1; i <= rows; i++ {
		if i%every == 0 {
			b.WriteString("{\n")
			want = append(want, i)
			continue
		}
		fmt.Fprintf(&b, "{\"text\":\"%s\"}\n", strings.Repeat("x", i%200))
	}
	s, err := data.Inspect(write(t, t.TempDir(), "rows.jsonl", b.String()))
	if err != nil {
		t.Fatal(err)
	}
	var got []int
	for _, p := range s.Problems {
		got = append(got, p.Line)
	}
	if d := cmp.Diff(want[:20], got); d != "" || s.Malformed != len(want) || s.Rows[data.Train] != rows-len(want) {
		t.Errorf("%d malformed, %d rows:\n%s", s.Malformed, s.Rows[data.Train], d)
	}
}

func TestInspectErrors(t *testing.T) {
	dir := t.TempDir()
	for name, tt := range map[string]struct {
		path, want string
		line       int
	}{
		"none":           {"", "--data", 0},
		"missing":        {filepath.Join(dir, "nothing"), "no such file", 0},
		"no train.jsonl": {t.TempDir(), "no train.jsonl", 0},
		"empty":          {write(t, dir, "empty.jsonl", "\n\n"), "no rows", 0},
		"no format":      {write(t, dir, "other.jsonl", `{"instruction":"a"}`), "1 of 1 lines cannot be used", 1},
		"too many bad":   {write(t, dir, "bad.jsonl", strings.Repeat(`{"text":"a"}`+"\n", 99)+"\n{\n{\n"), "2 of 101 lines", 101},
		"binary":         {write(t, dir, "gzip.jsonl", "\x1f\x8b\x08\x00\n\xff\n"), "NUL", 1},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := data.Inspect(tt.path)
			var e *data.Error
			if !errors.As(err, &e) || !strings.Contains(err.Error(), tt.want) || e.Line != tt.line || e.Fix == "" {
				t.Errorf("got %v; want %q at line %d and a fix", err, tt.want, tt.line)
			}
		})
	}
}

func FuzzInspect(f *testing.F) {
	for _, seed := range []string{"", "{}", `{"text":"a"}`, `{"messages":[{"role":"user","content":[]}]}`, "\uFEFF\n{\"prompt\":1}", "\x00", `{"messages":[null]}`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := data.Inspect(write(t, t.TempDir(), "f.jsonl", text))
		var e *data.Error
		if err != nil && !errors.As(err, &e) {
			t.Fatalf("not a *data.Error: %v", err)
		}
		if lines := strings.Count(text, "\n") + 1; err == nil && (s.Rows[data.Train] < 1 || s.Rows[data.Train]+s.Malformed > lines) {
			t.Fatalf("%d rows and %d malformed in %d lines", s.Rows[data.Train], s.Malformed, lines)
		}
	})
}

func TestPlanBatches(t *testing.T) {
	lengths := []int32{40, 3, 33, 32, 200, 1, 31}
	for name, tt := range map[string]struct {
		grouped bool
		want    []data.Batch
	}{
		"grouped": {true, []data.Batch{
			{Shape: trainer.Shape{Batch: 2, Width: 33}, Tokens: 4, Rows: []int{5, 1}},
			{Shape: trainer.Shape{Batch: 2, Width: 33}, Tokens: 63, Rows: []int{6, 3}},
			{Shape: trainer.Shape{Batch: 2, Width: 65}, Tokens: 73, Rows: []int{2, 0}},
		}},
		"file order": {false, []data.Batch{
			{Shape: trainer.Shape{Batch: 2, Width: 65}, Tokens: 43, Rows: []int{0, 1}},
			{Shape: trainer.Shape{Batch: 2, Width: 65}, Tokens: 65, Rows: []int{2, 3}},
			{Shape: trainer.Shape{Batch: 2, Width: 100}, Tokens: 100, Rows: []int{4, 5}},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			if d := cmp.Diff(tt.want, data.PlanBatches(lengths, data.Batching{Batch: 2, MaxSeqLength: 100, Grouped: tt.grouped})); d != "" {
				t.Error(d)
			}
		})
	}
	if got := data.PlanBatches(lengths, data.Batching{Batch: 8, MaxSeqLength: 100, Grouped: true}); got != nil {
		t.Errorf("a batch larger than the split: %v", got)
	}
}

func TestPlanBatchesProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lengths := rapid.SliceOfN(rapid.Int32Range(0, 300), 0, 60).Draw(t, "lengths")
		batch, limit := rapid.IntRange(1, 7).Draw(t, "batch"), rapid.IntRange(2, 200).Draw(t, "cap")
		plan := data.PlanBatches(lengths, data.Batching{Batch: batch, MaxSeqLength: limit, Grouped: rapid.Bool().Draw(t, "grouped")})
		if len(plan) != len(lengths)/batch {
			t.Fatalf("%d batches of %d rows", len(plan), len(lengths))
		}
		used := map[int]bool{}
		for _, b := range plan {
			if b.Shape.Batch != batch || len(b.Rows) != batch || b.Shape.Width > limit || b.Tokens > b.Shape.Positions() {
				t.Fatalf("batch %+v", b)
			}
			for _, r := range b.Rows {
				if used[r] {
					t.Fatalf("row %d is used twice", r)
				}
				used[r] = true
				if int(lengths[r]) > b.Shape.Width && b.Shape.Width < limit {
					t.Fatalf("row of %d tokens is cut at %d", lengths[r], b.Shape.Width)
				}
			}
		}
	})
}

func TestStats(t *testing.T) {
	s := data.Split{Lengths: []int32{10, 64, 20, 100}, Prompts: []int32{0, 60, 5, 90}}
	shipped := data.Form{PaddingShare: 1 - float64(73+83)/float64(4*63), Shapes: 1}
	grouped := data.Form{PaddingShare: 1 - float64(30+126)/float64(2*32+2*63), Shapes: 2}
	for name, tt := range map[string]struct {
		b                data.Batching
		planned, bounded data.Form
	}{
		"as shipped": {data.Batching{}, shipped, grouped},
		"grouped":    {data.Batching{Grouped: true}, grouped, grouped},
		"bounded":    {data.Batching{Grouped: true, MaxShapes: 1}, shipped, shipped},
		"packed":     {data.Batching{Grouped: true, MaxShapes: 1, Packed: true}, data.Form{Shapes: 2}, shipped},
	} {
		tt.b.Batch, tt.b.MaxSeqLength = 2, 64
		want := data.Stats{
			Rows: 4, Tokens: 194,
			Supervised: 10 + 4 + 16 + 0, // to the first pad; 60 to 63 of a full row; none of a prompt that is cut
			P50:        20, P90: 100, P99: 100, Max: 100,
			Cap: 64, RowsCut: 1, TokensCut: 36,
			Planned: tt.planned, Shipped: shipped, Grouped: grouped, Bounded: tt.bounded, Packed: data.Form{Shapes: 2},
		}
		if d := cmp.Diff(want, s.Stats(tt.b)); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
	if empty := (&data.Split{}).Stats(data.Batching{Batch: 2, MaxSeqLength: 64}); empty != (data.Stats{Cap: 64}) {
		t.Errorf("of nothing: %+v", empty)
	}
}
