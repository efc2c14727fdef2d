package search

import (
	"cmp"
	"slices"
)

// Preference orders what fits.
type Preference string

const (
	Speed   Preference = "speed"   // least time for a useful token
	Memory  Preference = "memory"  // least peak
	Quality Preference = "quality" // most bits, then the longest rows, then the highest rank, then speed
)

// Tie is the relative difference in time below which two candidates count as
// equally fast: it is less than a burst can tell apart. Ties go to less memory.
const Tie = 0.05

// Order sorts candidates, best first. It is total: equal figures are ordered by
// the knobs themselves, so the same candidates always come out the same way.
func Order(cs []Candidate, prefer Preference) {
	switch prefer {
	case Memory:
		slices.SortFunc(cs, func(a, b Candidate) int {
			return cmp.Or(cmp.Compare(a.PeakBytes, b.PeakBytes), bySpeed(a, b))
		})
	case Quality:
		slices.SortFunc(cs, func(a, b Candidate) int { return cmp.Or(byQuality(a, b), bySpeed(a, b)) })
		for start := 0; start < len(cs); {
			end := start + 1
			for end < len(cs) && byQuality(cs[start], cs[end]) == 0 {
				end++
			}
			breakTies(cs[start:end])
			start = end
		}
	default:
		slices.SortFunc(cs, bySpeed)
		breakTies(cs)
	}
}

func byQuality(a, b Candidate) int {
	return cmp.Or(cmp.Compare(bits(b), bits(a)), cmp.Compare(b.MaxSeqLength, a.MaxSeqLength), cmp.Compare(b.Rank, a.Rank))
}

func bits(c Candidate) int {
	if c.Bits == 0 {
		return 16
	}
	return c.Bits
}

func bySpeed(a, b Candidate) int {
	return cmp.Or(
		cmp.Compare(a.SecondsPerUsefulToken, b.SecondsPerUsefulToken),
		cmp.Compare(a.PeakBytes, b.PeakBytes),
		cmp.Compare(bits(b), bits(a)),
		cmp.Compare(b.Rank, a.Rank),
		cmp.Compare(a.Batch, b.Batch),
		cmp.Compare(a.Accumulation, b.Accumulation),
		cmp.Compare(a.MaxSeqLength, b.MaxSeqLength),
		compareBool(a.Checkpointing, b.Checkpointing))
}

// breakTies sorts runs of candidates that are within Tie of the fastest of the
// run by memory. cs is sorted by speed.
func breakTies(cs []Candidate) {
	for start := 0; start < len(cs); {
		end := start + 1
		for end < len(cs) && cs[end].SecondsPerUsefulToken <= cs[start].SecondsPerUsefulToken*(1+Tie) {
			end++
		}
		slices.SortStableFunc(cs[start:end], func(a, b Candidate) int { return cmp.Compare(a.PeakBytes, b.PeakBytes) })
		start = end
	}
}

// Pareto returns the candidates that no other beats in time and memory both,
// fastest first.
func Pareto(cs []Candidate) []Candidate {
	sorted := slices.Clone(cs)
	slices.SortFunc(sorted, bySpeed)
	var front []Candidate
	for _, c := range sorted {
		if len(front) == 0 || c.PeakBytes < front[len(front)-1].PeakBytes {
			front = append(front, c)
		}
	}
	return front
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}
