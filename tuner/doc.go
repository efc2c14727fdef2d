// Package tuner finds the best stable configuration for one model, one text
// and one machine with a handful of short measured runs, called bursts.
//
// Its opinion: quality is settled first (bits, rank, length, effective batch)
// and never traded for speed unless asked; what is left is enumerated whole
// with a model of time and memory fitted to a calibration burst or two (package
// predict), the best few are confirmed by running them, and the winner is run
// longer for leaks, drift and spread. Every burst is its own process, and one
// that did what it was asked to is kept in a journal: a killed study repeats
// none of them.
//
// It knows the trainer's contract and no engine, and renders nothing: a Report
// is plain data.
package tuner
