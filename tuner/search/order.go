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

// Tie is the relative difference below which two candidates count as equally fast, or
// as equally small: it is less than a burst can tell apart. Ties in time go to less
// memory; ties in memory to more quality, then to speed.
const Tie = 0.05

// Order sorts candidates, best first. It is total: equal figures are ordered by
// the knobs themselves, so the same candidates always come out the same way.
func Order(cs []Candidate, prefer Preference) {
	switch prefer {
	case Memory:
		slices.SortFunc(cs, func(a, b Candidate) int {
			return cmp.Or(cmp.Compare(a.PeakBytes, b.PeakBytes), bySpeed(a, b))
		})
		breakTies(cs, func(c Candidate) float64 { return float64(c.PeakBytes) }, func(a, b Candidate) int { return cmp.Or(byQuality(a, b), bySpeed(a, b)) })
	case Quality:
		slices.SortFunc(cs, func(a, b Candidate) int { return cmp.Or(byQuality(a, b), bySpeed(a, b)) })
		for start := 0; start < len(cs); {
			end := start + 1
			for end < len(cs) && byQuality(cs[start], cs[end]) == 0 {
				end++
			}
			tiesToMemory(cs[start:end])
			start = end
		}
	default:
		slices.SortFunc(cs, bySpeed)
		tiesToMemory(cs)
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

// breakTies sorts runs of candidates that are within Tie of the first of the run by
// what decides between them. cs is sorted by value.
func breakTies(cs []Candidate, value func(Candidate) float64, decides func(a, b Candidate) int) {
	for start := 0; start < len(cs); {
		end := start + 1
		for end < len(cs) && value(cs[end]) <= value(cs[start])*(1+Tie) {
			end++
		}
		slices.SortStableFunc(cs[start:end], decides)
		start = end
	}
}

// tiesToMemory is for candidates that are sorted by speed.
func tiesToMemory(cs []Candidate) {
	breakTies(cs, func(c Candidate) float64 { return c.SecondsPerUsefulToken }, func(a, b Candidate) int { return cmp.Compare(a.PeakBytes, b.PeakBytes) })
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
