// Package probe reads what a machine, an MLX installation and a model are:
// a Snapshot of values that were read, never guessed. What could not be read
// is a value too, and says why.
//
// It also defines Finding, the form in which everything that diagnoses speaks.
// It draws no conclusions itself (package check does) and never loads MLX.
package probe
