package data

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func writeTokens(t interface{ Fatal(...any) }, path string, rows [][]int32, prompts []int32, meta tokensMeta) []byte {
	w, err := createTokens(path)
	if err != nil {
		t.Fatal(err)
	}
	for i, row := range rows {
		b, err := binary.Append(nil, binary.LittleEndian, row)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.row(prompts[i], b); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.finish(meta); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestTokenFile(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		rows := rapid.SliceOfN(rapid.SliceOfN(rapid.Int32Range(0, 1<<20), 0, 9), 0, 9).Draw(t, "rows")
		want := &Split{Path: filepath.Join(dir, "x.tokens"), Lengths: []int32{}, Prompts: []int32{}}
		for _, row := range rows {
			want.Lengths = append(want.Lengths, int32(len(row)))
			want.Prompts = append(want.Prompts, rapid.Int32Range(0, 12).Draw(t, "prompt"))
		}
		meta := tokensMeta{Key: "k", Split: Train, Format: FormatText, Malformed: 1, Problems: []Problem{{File: "f", Line: 2, Text: "x"}}}
		b := writeTokens(t, want.Path, rows, want.Prompts, meta)
		got, gotMeta, err := openTokens(want.Path)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got) + cmp.Diff(meta, gotMeta); d != "" {
			t.Fatal(d)
		}
		// Not one byte can change without being noticed.
		at := rapid.IntRange(0, len(b)-1).Draw(t, "at")
		b[at] ^= byte(rapid.IntRange(1, 255).Draw(t, "flip"))
		if _, _, err := readTokens(bytes.NewReader(b), int64(len(b))); err == nil {
			t.Fatalf("byte %d changed unnoticed", at)
		}
		b[at] = 0
		cut := rapid.IntRange(0, len(b)-1).Draw(t, "cut")
		if _, _, err := readTokens(bytes.NewReader(b[:cut]), int64(cut)); err == nil {
			t.Fatalf("cut to %d of %d bytes unnoticed", cut, len(b))
		}
	})
}

func FuzzReadTokens(f *testing.F) {
	dir := f.TempDir()
	f.Add(writeTokens(f, filepath.Join(dir, "a"), [][]int32{{1, 2, 3}, {4}}, []int32{1, 0}, tokensMeta{}))
	f.Add(writeTokens(f, filepath.Join(dir, "b"), nil, nil, tokensMeta{}))
	f.Add([]byte(tokensMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, _, err := readTokens(bytes.NewReader(b), int64(len(b)))
		if err == nil && 4*len(s.Lengths) > len(b) {
			t.Fatalf("%d rows in %d bytes", len(s.Lengths), len(b))
		}
	})
}
