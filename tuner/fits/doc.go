// Package fits answers before anything is trained what a machine has room for:
// the longest rows for a batch and the largest batch for a length, at each
// quantization, rank and with checkpointing or without, with the peak and the time
// that go with it.
//
// Two things can stand behind an answer. Where a search measured this model on this
// machine, its points are fitted again (package predict) and the bound is the fit's
// own. Else the peak is arithmetic over the model's files (package budget), with a
// bound as wide as that arithmetic was seen to miss, and time is known only for
// machines of which a rate has been published. Each document says which it was.
//
// A peak only grows with rows, length and rank, and with the bits from 4 to 8: that
// is enforced where two measured conditions disagree by their noise. The border of
// what fits is therefore found by halving, and no grid is walked.
//
// Note: it starts no worker, and does not search: which of what fits is best is the
// study's question (package tuner).
package fits
