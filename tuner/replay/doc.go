// Package replay measures the search itself: how many processes and seconds it
// takes to a configuration that is nearly the best, and whether it ever
// recommends one that does not fit.
//
// That cannot be told from searches on a machine: nobody knows there what the
// best would have been. So every configuration of a space is run once and for
// all, in several rounds that take turns, and kept in a Table; searches then
// run on the table, hundreds of them, with steps drawn anew from what was
// recorded. What a process may take is set by the replay: a step whose recorded
// peak is above it dies there, as out of memory.
//
// Its opinion: all searchers see the same processes at the same prices, loading
// included, and one that has no stopping rule of its own is stopped for free,
// as soon as it holds what it was to find.
//
// Recording needs an engine, which the caller hands in; the package knows none.
package replay
