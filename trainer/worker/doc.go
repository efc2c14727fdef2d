// Package worker runs one worker process from its start to its classified end.
//
// Run starts a trainer.Process in a process group of its own, hands it a job,
// delivers its events in order, and comes back when nothing of it is left: no
// process, no zombie, no goroutine, no file but its log. What became of the
// worker is a trainer.Result; an error means that we failed: it could not be
// started, or the caller's Sink could not take an event.
//
// What a worker can rely on:
//
//	descriptor 0   the job line, then commands; its end means that the parent
//	               is gone: leave at the step boundary without saving, and in
//	               any case within max(10 s, 3 × the slowest step)
//	1 and 2        the log
//	3              events go here, one JSON line each; close-on-exec is up to
//	               the worker
//	4              the run's lock file, when there is one: held while it is open
//
// Its first event is hello, or error when it cannot even say hello; its last is
// done or error, and nothing comes after. Events are numbered without gaps; the
// segment is ours to know and is filled in here. A worker that breaks these
// rules is ended, and Broken. An engine with a Decode of its own writes lines of
// any kind on descriptor 3 instead, and its exit status is its last word.
//
// A worker that should leave early is asked by a stop command, then by the end
// of its input, then by SIGINT to its group, then it is killed (Ladder). One
// that is silent for too long is ended in the same way (Stall). A slow Sink
// slows the worker down, through the pipe; nothing is queued in memory.
//
// "Out of memory" is said on evidence only: the worker's own word, or a SIGKILL
// together with a kernel counter that rose. Deaths that merely fit are Crashed
// or Killed with SuspectedOOM.
package worker
