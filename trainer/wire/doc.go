// Package wire is the worker protocol: JSON lines that stand for
// trainer.Event in one direction and for commands in the other.
//
// A worker's events are lines of at most MaxLine bytes on its file descriptor 3:
//
//	{"kind":"step","segment":0,"seq":5,"elapsed":1.25,"step":3,"payload":{…}}
//
// and it is told what to do by lines on its standard input:
//
//	{"command":"job","job":{…,"budget_ms":0}}
//	{"command":"stop","checkpoint":true}
//
// A newer minor version may add fields, which are ignored, kinds of events,
// which arrive as trainer.Unknown, and commands, which a worker ignores. Another
// major version is refused by the first event, hello.
//
// The package reads what may come from a process that is broken in any way:
// nothing on a line can make it panic or hold more than MaxLine bytes of it.
// Which order of events makes sense is not its business.
package wire
