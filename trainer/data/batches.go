package data

import (
	"cmp"
	"slices"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// padTo is the multiple to which mlx-lm pads, plus one for the shift between
// inputs and targets.
const padTo = 32

// Batch is some rows that go through the model together.
type Batch struct {
	Shape  trainer.Shape
	Tokens int64 // real tokens that go through the model; the rest of the positions is padding
	Rows   []int // indices into the split
}

// PlanBatches returns the batches of one epoch, before mlx-lm permutes them:
// rows sorted by length when grouped and in file order otherwise, the last
// partial batch dropped. Every batch is as wide as its longest row padded to
// 1 + a multiple of 32, at most MaxSeqLength, or where shapes are bounded as the
// next width that was chosen, by these rows alone if it was not by Bounded. It
// returns nil when there are fewer rows than a batch holds.
//
// Note: as shipped, mlx-lm means to sort by length and sorts by the number of
// keys of each row instead. File order is its order when all rows have the same
// keys.
func PlanBatches(lengths []int32, b Batching) []Batch {
	if b.Batch < 1 || len(lengths) < b.Batch {
		return nil
	}
	b = b.Bounded(lengths, nil)
	order := make([]int, len(lengths))
	for i := range order {
		order[i] = i
	}
	if b.Grouped {
		slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(lengths[a], lengths[b]) })
	}
	out := make([]Batch, 0, len(order)/b.Batch)
	for i := 0; i+b.Batch <= len(order); i += b.Batch {
		out = append(out, b.batch(lengths, order[i:i+b.Batch:i+b.Batch]))
	}
	return out
}

// batch makes one of these rows.
func (b Batching) batch(lengths []int32, rows []int) Batch {
	longest, packed := 0, 0
	for _, r := range rows {
		n := min(int(lengths[r]), b.MaxSeqLength)
		longest, packed = max(longest, int(lengths[r])), packed+max(n-1, 0)
	}
	out := Batch{Shape: trainer.Shape{Batch: len(rows)}, Rows: rows}
	if b.Packed && packed > 0 { // rows that predict nothing still are a batch: a padded one
		out.Shape.Width, out.Shape.Packed = min(1+longest, b.MaxSeqLength), packed
		out.Tokens = int64(packed)
		return out
	}
	out.Shape.Width = b.width(longest)
	for _, r := range rows {
		out.Tokens += int64(min(int(lengths[r]), out.Shape.Width-1))
	}
	return out
}

// Supervised is the number of targets of one row that count in mlx-lm's loss.
// Its mask keeps target positions s with prompt ≤ s ≤ length, counted from 1.
// The token at s = length is the row's first pad: mlx-lm supervises it too,
// except in a row cut at maxSeqLength, which has none.
func Supervised(length, prompt int32, maxSeqLength int) int64 {
	last := min(int(length), maxSeqLength-1)
	return int64(max(0, last-max(int(prompt), 1)+1))
}
