package data

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// openRows writes rows to a token file and opens it.
func openRows(t testing.TB, rows [][]int32, prompts []int32) *Rows {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.tokens")
	writeTokens(t, path, rows, prompts, tokensMeta{})
	r, err := OpenRows(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func TestRows(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.tokens")
	rapid.Check(t, func(t *rapid.T) {
		rows := rapid.SliceOfN(rapid.SliceOfN(rapid.Int32(), 0, 9), 0, 9).Draw(t, "rows")
		prompts := rapid.SliceOfN(rapid.Int32Range(0, 12), len(rows), len(rows)).Draw(t, "prompts")
		b := writeTokens(t, path, rows, prompts, tokensMeta{Key: "k"})
		r, err := OpenRows(path)
		if err != nil {
			t.Fatal(err)
		}
		if r.Len() != len(rows) || !slices.Equal(r.Prompts(), prompts) || r.Checksum() != uint32(b[12])|uint32(b[13])<<8|uint32(b[14])<<16|uint32(b[15])<<24 {
			t.Fatalf("%d rows, prompts %v, checksum %x", r.Len(), r.Prompts(), r.Checksum())
		}
		for i, row := range rows {
			if got := r.Tokens(i); !slices.Equal(got, row) || cap(got) != len(got) || r.Prompt(i) != prompts[i] || int(r.Lengths()[i]) != len(row) {
				t.Fatalf("row %d: %v, prompt %d, length %d", i, got, r.Prompt(i), r.Lengths()[i])
			}
		}
		for range 2 { // it does no harm twice
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
		}
		cut := rapid.IntRange(0, len(b)-1).Draw(t, "cut")
		if err := os.WriteFile(path, b[:cut], 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenRows(path); err == nil {
			t.Fatalf("cut to %d of %d bytes unnoticed", cut, len(b))
		}
	})
}

func TestOpenRowsErrors(t *testing.T) {
	dir := t.TempDir()
	whole := writeTokens(t, filepath.Join(dir, "whole"), [][]int32{{1, 2, 3}, {4}}, []int32{0, 0}, tokensMeta{})
	changed := slices.Clone(whole)
	changed[headerBytes]++
	newer := slices.Clone(whole)
	newer[8]++
	for name, tt := range map[string]struct {
		content []byte // nil is no file
		want    string
	}{
		"missing":   {nil, "no such file"},
		"empty":     {[]byte{}, "0 bytes are too few for its header"},
		"torn":      {whole[:headerBytes-1], "63 bytes are too few for its header"},
		"truncated": {whole[:len(whole)-1], "bytes instead of"},
		"foreign":   {[]byte(strings.Repeat("{}\n", 100)), "not a token file"},
		"newer":     {newer, "version 2 is not 1"},
		"changed":   {changed, "checksum is wrong"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x.tokens")
			if tt.content != nil {
				if err := os.WriteFile(path, tt.content, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := OpenRows(path); err == nil || !strings.Contains(err.Error(), tt.want) || strings.Count(err.Error(), path) != 1 {
				t.Errorf("got %v, want the path and %q", err, tt.want)
			}
		})
	}
}

func TestFill(t *testing.T) {
	r := openRows(t, [][]int32{{1, 2, 3}, {}, {4, 5, 6, 7, 8, 9}}, []int32{2, 0, 1})
	tokens, spans := r.Fill(Batch{Shape: trainer.Shape{Batch: 3, Width: 5}, Rows: []int{2, 1, 0}}, 5)
	if d := cmp.Diff([]int32{4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 1, 2, 3, 0, 0}, tokens) + cmp.Diff([]int32{1, 5, 0, 0, 2, 3}, spans); d != "" {
		t.Error(d)
	}
}

// TestFillPacked: rows end to end, whatever their lengths, and as many positions
// as the shape says: the last token of each row has none.
func TestFillPacked(t *testing.T) {
	all := [][]int32{{1, 2, 3}, {}, {4, 5, 6, 7, 8, 9}, {10}, {11, 12}}
	r := openRows(t, all, []int32{2, 0, 1, 0, 9})
	for name, tt := range map[string]struct {
		rows          []int
		shape         trainer.Shape
		tokens, spans []int32
	}{
		"one cut":          {[]int{2, 0}, trainer.Shape{Batch: 2, Width: 5, Packed: 4 + 2}, []int32{4, 5, 6, 7, 8, 1, 2, 3}, []int32{1, 5, 2, 3}},
		"single and empty": {[]int{3, 0, 1, 4}, trainer.Shape{Batch: 4, Width: 4, Packed: 2 + 1}, []int32{10, 1, 2, 3, 11, 12}, []int32{0, 1, 2, 3, 0, 0, 9, 2}},
		"nothing to learn": {[]int{1, 3}, trainer.Shape{Batch: 2, Width: 5}, []int32{0, 0, 0, 0, 0, 10, 0, 0, 0, 0}, []int32{0, 0, 0, 1}},
	} {
		b := Batching{Batch: len(tt.rows), MaxSeqLength: 5, Packed: true}.batch(r.Lengths(), tt.rows)
		tokens, spans := r.Fill(b, 5)
		if d := cmp.Diff(tt.shape, b.Shape) + cmp.Diff(tt.tokens, tokens) + cmp.Diff(tt.spans, spans); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

func TestExact(t *testing.T) {
	r := openRows(t, [][]int32{{1, 2, 3}, {}, {4, 5, 6, 7, 8, 9}}, []int32{2, 0, 1})
	small, large := trainer.Shape{Batch: 1, Width: 2}, trainer.Shape{Batch: 2, Width: 7}
	want := []ExactBatch{
		{large, true, []int32{1, 2, 3, 1, 2, 3, 1, 0, 0, 0, 0, 0, 0, 0}, []int32{0, 7, 0, 7}},
		{small, true, []int32{4, 5}, []int32{0, 2}},
		{small, false, []int32{1, 2}, []int32{0, 2}},
		{large, true, []int32{0, 0, 0, 0, 0, 0, 0, 4, 5, 6, 7, 8, 9, 4}, []int32{0, 7, 0, 7}},
	}
	batches := Exact(r, []trainer.Shape{large, {Batch: 1, Width: 2, Steps: 2}, large}, false)
	if d := cmp.Diff(want, slices.Collect(batches)); d != "" {
		t.Error(d)
	}
	for i := range want {
		want[i].Shape.Packed = want[i].Shape.Batch * (want[i].Shape.Width - 1)
	}
	packed := Exact(r, []trainer.Shape{large, {Batch: 1, Width: 2, Steps: 2}, large}, true)
	if d := cmp.Diff(want, slices.Collect(packed)); d != "" {
		t.Error(d)
	}
	for i := range want {
		want[i].Shape.Packed = 0
	}
	for b := range batches { // left early, and from the beginning again
		if d := cmp.Diff(want[0], b); d != "" {
			t.Error(d)
		}
		break
	}
}
