package data

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// Epochs put where others were go on exactly as those did, wherever they were
// themselves.
func TestEpochsGoTo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		batch := rapid.IntRange(1, 4).Draw(t, "batch")
		lengths := rapid.SliceOfN(rapid.Int32Range(0, 100), batch, 40).Draw(t, "lengths")
		grouped, seed := rapid.Bool().Draw(t, "grouped"), rapid.Uint32().Draw(t, "seed")
		epochs := func(seed uint32) *Epochs {
			e, err := NewEpochs(lengths, Batching{Batch: batch, MaxSeqLength: 64, Grouped: grouped}, NewGenerator(seed))
			if err != nil {
				t.Fatal(err)
			}
			return e
		}
		perEpoch := len(lengths) / batch
		first := epochs(seed)
		at := rapid.IntRange(0, 3*perEpoch).Draw(t, "at")
		for range at {
			first.Next()
		}
		text, err := json.Marshal(first.Position())
		if err != nil {
			t.Fatal(err)
		}
		var p Position
		if err := json.Unmarshal(text, &p); err != nil || p != first.Position() {
			t.Fatalf("not what was written (%v)", err)
		}
		if at > 0 && p.Used != (at-1)%perEpoch+1 {
			t.Fatalf("%d batches used after %d of %d", p.Used, at, perEpoch)
		}
		second := epochs(seed + 1)
		for range rapid.IntRange(0, 2*perEpoch).Draw(t, "elsewhere") {
			second.Next()
		}
		if err := second.GoTo(p); err != nil {
			t.Fatal(err)
		}
		for i := range 2*perEpoch + 1 {
			if first.Position() != second.Position() {
				t.Fatalf("%d batches later: %d and %d used, generators alike: %t", i, first.used, second.used, first.before == second.before)
			}
			if d := cmp.Diff(first.Next(), second.Next()); d != "" {
				t.Fatalf("%d batches later:\n%s", i, d)
			}
		}
	})
}

func TestEpochsUseEveryBatchOnce(t *testing.T) {
	lengths := []int32{40, 3, 33, 32, 200, 1, 31}
	e, err := NewEpochs(lengths, Batching{Batch: 2, MaxSeqLength: 100, Grouped: true}, NewGenerator(7))
	if err != nil {
		t.Fatal(err)
	}
	var orders [][]int
	for range 3 {
		var order, rows []int
		for range 3 {
			b := e.Next()
			order, rows = append(order, b.Rows[0]), append(rows, b.Rows...)
		}
		if slices.Sort(rows); !slices.Equal(rows, []int{0, 1, 2, 3, 5, 6}) {
			t.Errorf("rows of an epoch: %v", rows)
		}
		orders = append(orders, order)
	}
	if slices.Equal(orders[0], orders[1]) && slices.Equal(orders[1], orders[2]) {
		t.Errorf("three epochs in one order: %v", orders[0])
	}
}

func TestEpochsErrors(t *testing.T) {
	for name, batch := range map[string]int{"more than there are": 3, "none": 0} {
		if _, err := NewEpochs([]int32{1, 2}, Batching{Batch: batch, MaxSeqLength: 9, Grouped: true}, NewGenerator(0)); err == nil {
			t.Errorf("batch of %s: no error", name)
		}
	}
	e, err := NewEpochs([]int32{1, 2}, Batching{Batch: 1, MaxSeqLength: 9, Grouped: true}, NewGenerator(0))
	if err != nil {
		t.Fatal(err)
	}
	e.Next()
	before, s := e.Position(), NewGenerator(1).State()
	for name, p := range map[string]Position{"zero": {}, "before the first": {s, -1}, "after the last": {s, 3}} {
		if err := e.GoTo(p); err == nil || e.Position() != before {
			t.Errorf("%s: error %v; moved: %t", name, err, e.Position() != before)
		}
	}
}

func TestValidation(t *testing.T) {
	lengths := []int32{40, 3, 33, 32, 200, 1, 31}
	count := func(batch, batches int) int {
		return len(Validation(lengths, Batching{Batch: batch, MaxSeqLength: 100}, batches, 1))
	}
	if got := []int{count(2, -1), count(2, 2), count(2, 9), count(2, 0), len(Validation(nil, Batching{Batch: 2, MaxSeqLength: 100}, -1, 1))}; !slices.Equal(got, []int{3, 2, 3, 0, 0}) {
		t.Errorf("numbers of batches: %v", got)
	}
	got := Validation(lengths, Batching{Batch: 20, MaxSeqLength: 100}, 5, 1)
	if len(got) != 1 || !slices.Equal(got[0].Rows, []int{5, 1, 6, 3, 2, 0, 4}) {
		t.Errorf("of fewer rows than a batch: %+v", got)
	}
}
