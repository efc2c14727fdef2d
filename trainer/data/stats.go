package data

import (
	"slices"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// Stats describes the rows of a split and their batches, exactly.
type Stats struct {
	Rows               int
	Tokens             int64 // of all rows, uncut
	Supervised         int64 // targets that count in the loss in one pass over all rows, as mlx-lm's mask counts them
	P50, P90, P99, Max int   // tokens of a row, uncut; nearest rank
	Cap                int   // maxSeqLength
	RowsCut            int   // rows longer than Cap
	TokensCut          int64 // tokens beyond Cap
	Planned            Form  // the batches as asked for
	Shipped            Form  // in file order, as mlx-lm ships
	Grouped            Form  // rows of like length share a batch, each as wide as it needs
	Bounded            Form  // grouped, in at most MaxShapes shapes, or trainer.DefaultMaxShapes where any number is asked for
	Packed             Form  // rows end to end
}

// Form is what one way of making batches costs.
type Form struct {
	PaddingShare float64 // of all computed positions
	Shapes       int     // distinct ones
}

// Stats returns figures of the split in batches as PlanBatches forms them, and
// in those of the other ways.
func (s *Split) Stats(b Batching) Stats {
	st := Stats{Rows: len(s.Lengths), Cap: b.MaxSeqLength}
	for i, n := range s.Lengths {
		st.Tokens += int64(n)
		st.Supervised += Supervised(n, s.Prompts[i], b.MaxSeqLength)
		if over := int(n) - b.MaxSeqLength; over > 0 {
			st.RowsCut++
			st.TokensCut += int64(over)
		}
	}
	if sorted := slices.Sorted(slices.Values(s.Lengths)); len(sorted) > 0 {
		rank := func(percent int) int { return int(sorted[(len(sorted)*percent+99)/100-1]) }
		st.P50, st.P90, st.P99, st.Max = rank(50), rank(90), rank(99), rank(100)
	}
	own := Batching{Batch: b.Batch, MaxSeqLength: b.MaxSeqLength}
	st.Planned, st.Shipped = s.form(b), s.form(own)
	own.Grouped = true
	st.Grouped = s.form(own)
	bounded, packed := own, own
	if bounded.MaxShapes = b.MaxShapes; b.MaxShapes < 1 {
		bounded.MaxShapes = int(trainer.DefaultMaxShapes)
	}
	packed.Packed = true
	st.Bounded, st.Packed = s.form(bounded), s.form(packed)
	return st
}

func (s *Split) form(b Batching) Form {
	var tokens, positions int64
	shapes := map[trainer.Shape]bool{}
	for _, b := range PlanBatches(s.Lengths, b) {
		tokens += b.Tokens
		positions += b.Shape.Positions()
		shapes[b.Shape] = true
	}
	f := Form{Shapes: len(shapes)}
	if positions > 0 {
		f.PaddingShare = 1 - float64(tokens)/float64(positions)
	}
	return f
}
