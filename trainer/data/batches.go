package data

import (
	"cmp"
	"slices"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// padTo is the multiple to which mlx-lm pads, plus one for the shift between
// inputs and targets.
const padTo = 32

// Batch is one batch as mlx-lm forms it.
type Batch struct {
	Shape  trainer.Shape
	Tokens int64 // real tokens that go through the model; the rest of the positions is padding
	Rows   []int // indices into the split
}

// PlanBatches returns the batches of one epoch, before mlx-lm permutes them:
// rows sorted by length when grouped and in file order otherwise, the last
// partial batch dropped, every batch as wide as its longest row padded to
// 1 + a multiple of 32, at most maxSeqLength. It returns nil when there are
// fewer rows than a batch holds.
//
// Note: as shipped, mlx-lm means to sort by length and sorts by the number of
// keys of each row instead. File order is its order when all rows have the same
// keys.
func PlanBatches(lengths []int32, batch, maxSeqLength int, grouped bool) []Batch {
	if batch < 1 || len(lengths) < batch {
		return nil
	}
	order := make([]int, len(lengths))
	for i := range order {
		order[i] = i
	}
	if grouped {
		slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(lengths[a], lengths[b]) })
	}
	out := make([]Batch, 0, len(order)/batch)
	for i := 0; i+batch <= len(order); i += batch {
		rows := order[i : i+batch : i+batch]
		width := batchWidth(lengths, rows, maxSeqLength)
		b := Batch{Shape: trainer.Shape{Batch: batch, Width: width}, Rows: rows}
		for _, r := range rows {
			b.Tokens += int64(min(int(lengths[r]), width-1))
		}
		out = append(out, b)
	}
	return out
}

func batchWidth(lengths []int32, rows []int, maxSeqLength int) int {
	longest := 0
	for _, r := range rows {
		longest = max(longest, int(lengths[r]))
	}
	return min(1+padTo*((longest+padTo-1)/padTo), maxSeqLength)
}

// Supervised is the number of targets of one row that count in mlx-lm's loss.
// Its mask keeps target positions s with prompt ≤ s ≤ length, counted from 1.
// The token at s = length is the row's first pad: mlx-lm supervises it too,
// except in a row cut at maxSeqLength, which has none.
func Supervised(length, prompt int32, maxSeqLength int) int64 {
	last := min(int(length), maxSeqLength-1)
	return int64(max(0, last-max(int(prompt), 1)+1))
}

// Stats describes the rows of a split and their batches, exactly.
type Stats struct {
	Rows                  int
	Tokens                int64 // of all rows, uncut
	Supervised            int64 // targets that count in the loss in one pass over all rows, as mlx-lm's mask counts them
	P50, P90, P99, Max    int   // tokens of a row, uncut; nearest rank
	Cap                   int   // maxSeqLength
	RowsCut               int   // rows longer than Cap
	TokensCut             int64 // tokens beyond Cap
	PaddingShare          float64
	PaddingShareUngrouped float64
	Shapes                int // distinct batch shapes
}

// Stats returns figures of the split in batches as PlanBatches forms them.
// Padding shares are of all computed positions, batch × (width - 1).
func (s *Split) Stats(batch, maxSeqLength int, grouped bool) Stats {
	st := Stats{Rows: len(s.Lengths), Cap: maxSeqLength}
	for i, n := range s.Lengths {
		st.Tokens += int64(n)
		st.Supervised += Supervised(n, s.Prompts[i], maxSeqLength)
		if over := int(n) - maxSeqLength; over > 0 {
			st.RowsCut++
			st.TokensCut += int64(over)
		}
	}
	if sorted := slices.Sorted(slices.Values(s.Lengths)); len(sorted) > 0 {
		rank := func(percent int) int { return int(sorted[(len(sorted)*percent+99)/100-1]) }
		st.P50, st.P90, st.P99, st.Max = rank(50), rank(90), rank(99), rank(100)
	}
	plan := PlanBatches(s.Lengths, batch, maxSeqLength, grouped)
	shapes := map[trainer.Shape]bool{}
	for _, b := range plan {
		shapes[b.Shape] = true
	}
	st.Shapes = len(shapes)
	st.PaddingShare = paddingShare(plan)
	st.PaddingShareUngrouped = st.PaddingShare
	if grouped {
		st.PaddingShareUngrouped = paddingShare(PlanBatches(s.Lengths, batch, maxSeqLength, false))
	}
	return st
}

func paddingShare(plan []Batch) float64 {
	var tokens, positions int64
	for _, b := range plan {
		tokens += b.Tokens
		positions += b.Shape.Positions()
	}
	if positions == 0 {
		return 0
	}
	return 1 - float64(tokens)/float64(positions)
}
