// Package profile records where the time and the memory of steps go.
//
// A step is a row of pieces, each computed and waited for: the embedding, the
// blocks forward, the loss, the blocks backward, the update. A Recorder's clock
// runs through all of them, so that they add up to the step. What an operation
// within a piece took is its share of the piece: on a CPU by what each took when
// they were computed one by one on the same arrays, elsewhere, where kernels are
// fused and waiting for each costs more than most take, by a model of cost.
//
// It knows graphs and names, not models: which layer an operation belongs to is
// told by the parameters that it reads.
package profile
