package data

import (
	"slices"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// TestStreamIsTheEpochs: from any position a stream gives what epochs and rows
// give without it, says the same positions, and those lead back to the same
// batches.
func TestStreamIsTheEpochs(t *testing.T) {
	var all [][]int32
	var prompts []int32
	for i := range 23 {
		row := make([]int32, i*i%37)
		for j := range row {
			row[j] = int32(100*i + j)
		}
		all, prompts = append(all, row), append(prompts, int32(i%5))
	}
	rows := openRows(t, all, prompts)
	rapid.Check(t, func(t *rapid.T) {
		b := Batching{Batch: rapid.IntRange(1, 4).Draw(t, "batch"), MaxSeqLength: rapid.IntRange(2, 40).Draw(t, "cap"),
			Grouped: rapid.Bool().Draw(t, "grouped"), MaxShapes: rapid.IntRange(0, 3).Draw(t, "shapes"), Packed: rapid.Bool().Draw(t, "packed")}
		epochs := func() *Epochs {
			e, err := NewEpochs(rows.Lengths(), b, NewGenerator(5))
			if err != nil {
				t.Fatal(err)
			}
			return e
		}
		plain, ahead := epochs(), epochs()
		for range rapid.IntRange(0, 50).Draw(t, "at") {
			plain.Next()
		}
		if err := ahead.GoTo(plain.Position()); err != nil {
			t.Fatal(err)
		}
		s := NewStream(rows, ahead, b.MaxSeqLength)
		for i := range rapid.IntRange(0, 30).Draw(t, "batches") {
			if s.Position() != plain.Position() {
				t.Fatalf("before batch %d at %d of the epoch instead of %d", i, s.Position().Used, plain.Position().Used)
			}
			want := Filled{Batch: plain.Next()}
			want.Tokens, want.Spans = rows.Fill(want.Batch, b.MaxSeqLength)
			got, ok := s.Next()
			if d := cmp.Diff(want, got); d != "" || !ok {
				t.Fatalf("batch %d (%t): %s", i, ok, d)
			}
		}
		s.Close()
		s.Close()
		if _, ok := s.Next(); ok || s.Position() != plain.Position() {
			t.Fatalf("closed: a batch more: %t; at %d instead of %d", ok, s.Position().Used, plain.Position().Used)
		}
		again := epochs()
		if err := again.GoTo(s.Position()); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(plain.Next(), again.Next()); d != "" {
			t.Fatal(d)
		}
	})
}

// In a bubble of synctest a goroutine that is left behind fails the test.
func TestAheadIsOneAhead(t *testing.T) {
	for _, take := range []int{0, 1, 5} {
		synctest.Test(t, func(t *testing.T) {
			made := 0
			next, stop := Ahead(func() int { made++; return made })
			var got, want []int
			for i := range take {
				v, ok := next()
				synctest.Wait()
				if !ok || made != i+2 {
					t.Errorf("%d made after %d were taken (%t)", made, i+1, ok)
				}
				got, want = append(got, v), append(want, i+1)
			}
			if !slices.Equal(got, want) {
				t.Errorf("%v", got)
			}
			stop()
			stop()
			if v, ok := next(); ok || made != take+1 {
				t.Errorf("after the end: %d, %t; %d made", v, ok, made)
			}
		})
	}
}
