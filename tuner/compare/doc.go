// Package compare holds two configurations against each other: which is faster in
// useful tokens a second, by how much, how sure that is, and what each needs at its
// peak.
//
// Its opinion: the two take turns, forth and back (A B B A), so that a slow minute
// hits both: in one process where they share the weights as loaded, else in a
// process each. What is timed are shapes that stand for the epoch of each as it
// forms its batches, so that padding, packing and length caps count. The statistics
// are benchstat's (package benchmath): medians with intervals that assume no
// distribution, and the U test of Mann and Whitney; the interval of the ratio is the
// one that belongs to that test. It stops when that interval is narrow, whatever it
// says: stopping as soon as a difference shows finds differences that are not there.
package compare
