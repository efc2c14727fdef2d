// Package run carries a training from its first step to its adapter over as
// many worker processes as it takes.
//
// A training lives in a directory. run.json says what it is, journal.jsonl
// what was decided (every line fsynced), events.jsonl what the workers said,
// checkpoints/ where it can go on from, worker.log what the workers printed,
// and lock who is at work. The parent writes everything but the checkpoints.
//
// Its opinion: the directory is the only truth. Train builds the Report it
// returns by reading the directory back, exactly as Load does for a training
// of last week, so that there is one account of a training and not two. A
// worker may die at any instant; what it loses is the steps since the last
// checkpoint, and they are trained again. A checkpoint outranks the events: the
// steps behind it are kept even when the parent died before it could write down
// what they measured. What befalls a training is data in
// its Report; an error of Train means that this program could not do its part.
//
// Changes that a failure asks for (a smaller cache, recomputed activations, a
// smaller batch) are made only when memory ran out, one at a time, and each is
// journaled and reported. Nothing that changes what is learned is touched.
package run
