package data

import (
	"maps"
	"slices"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// Batching says how rows become batches. What mlx-lm does is Batch, MaxSeqLength
// and Grouped alone.
type Batching struct {
	Batch        int  // rows
	MaxSeqLength int  // tokens of a row; longer ones are cut
	Grouped      bool // rows of like length share a batch, as mlx-lm means to do; else file order, as it does
	MaxShapes    int  // of grouped batches, training and validation together; 0 for any number
	Packed       bool // rows end to end, without padding; then shapes are not bounded

	widths []int // that batches take, narrowest first; nil before Bounded chose them
}

// BatchingOf returns the batching of a configuration on a kind of device: cpu,
// metal or cuda, or empty when it is not known yet. Mlx-lm and parity with it have
// mlx-lm's own shapes. Rows are packed where that costs no traces: lengths add up
// to another sum in every batch, and a compiled step is traced for each.
func BatchingOf(c trainer.Config, device string) Batching {
	b := Batching{Batch: c.Plan.Batch, MaxSeqLength: c.Data.MaxSeqLength, Grouped: c.Data.GroupByLength}
	if c.Engine != trainer.EngineNative || c.Parity {
		return b
	}
	b.MaxShapes = int(c.Plan.MaxShapes)
	if c.Plan.StepBy == trainer.StepByWhole {
		return b // it knows no rows end to end
	}
	switch c.Plan.Packing {
	case trainer.PackingOn:
		b.Packed = true
	case trainer.PackingOff:
	default:
		b.Packed = !c.Compiles(device)
	}
	return b
}

// Bounded returns b with its widths chosen for these splits, so that training
// and validation on them make at most MaxShapes shapes and as little padding as
// that allows. Every batch of a pass over both splits counts once. Valid may be
// nil. When there is nothing to choose, or the choice is made, it returns b.
//
// Note: how often a configuration validates, and on how much, takes no part in
// the choice. Short bursts and a training that is continued by another schedule
// then have the very shapes of the training itself; a pass over the validation
// split for each over the training split is close to the default schedule.
//
// Note: validation rows that are too few for a batch make one of their own, which
// needs a shape of its own: with MaxShapes 1 there are two.
func (b Batching) Bounded(train, valid []int32) Batching {
	if b.MaxShapes < 1 || !b.Grouped || b.Packed || b.widths != nil {
		return b
	}
	most, counts := b.MaxShapes, map[int]int64{}
	b.count(counts, train)
	if n := len(valid); n > 0 && n < b.Batch {
		most = max(most-1, 1)
	}
	b.count(counts, valid)
	b.widths = fewest(counts, most)
	return b
}

// Widths are the widths that batches of rows of these lengths take, narrowest
// first. It is nil unless they are bounded.
func Widths(lengths []int32, b Batching) []int { return slices.Clone(b.Bounded(lengths, nil).widths) }

// count adds the batches of rows of these lengths by the width that each needs.
func (b Batching) count(counts map[int]int64, lengths []int32) {
	if b.Batch < 1 || len(lengths) < b.Batch {
		return
	}
	sorted := slices.Sorted(slices.Values(lengths))
	for last := b.Batch - 1; last < len(sorted); last += b.Batch {
		counts[b.natural(int(sorted[last]))]++
	}
}

// natural is the width that mlx-lm gives a batch whose longest row is that long:
// 1 + a multiple of 32, at most MaxSeqLength.
func (b Batching) natural(longest int) int {
	return min(1+padTo*((longest+padTo-1)/padTo), b.MaxSeqLength)
}

// width is that of the batch whose longest row is that long: the narrowest that
// was chosen and holds it.
func (b Batching) width(longest int) int {
	need := b.natural(longest)
	if i, _ := slices.BinarySearch(b.widths, need); i < len(b.widths) {
		return b.widths[i]
	}
	return need
}

// fewest chooses at most so many widths, at least one, such that batches of the
// counted widths, each widened to the next one chosen, have the fewest positions
// in all. Only widths that are needed come into question: any other can shrink to
// the next one below. So with the u widths that are needed, narrowest first,
//
//	best(k, j) = min over i ≤ j of best(k-1, i-1) + cost(i, j)
//
// is the least padding of batches up to the j-th in k widths, the j-th among
// them, where cost(i, j) widens the i-th to the j-th. That is exact in u²·most steps.
func fewest(counts map[int]int64, most int) []int {
	widths := slices.Sorted(maps.Keys(counts))
	u := len(widths)
	if u <= most {
		return widths
	}
	batches, positions := make([]int64, u+1), make([]int64, u+1) // of all narrower ones
	for i, w := range widths {
		batches[i+1] = batches[i] + counts[w]
		positions[i+1] = positions[i] + counts[w]*int64(w)
	}
	cost := func(i, j int) int64 {
		return int64(widths[j])*(batches[j+1]-batches[i]) - (positions[j+1] - positions[i])
	}
	best := make([]int64, u)
	from := make([][]int, most) // the narrowest batch in the width of the j-th
	for k := range most {
		from[k] = make([]int, u)
		next := make([]int64, u)
		for j := range u {
			next[j] = cost(0, j)
			for i := 1; k > 0 && i <= j; i++ {
				if c := best[i-1] + cost(i, j); c < next[j] {
					next[j], from[k][j] = c, i
				}
			}
		}
		best = next
	}
	var out []int
	for k, j := most-1, u-1; j >= 0; k-- {
		out = append(out, widths[j])
		j = from[k][j] - 1
	}
	slices.Reverse(out)
	return out
}
