package trainer

import (
	"context"
	"slices"
)

// Engine is something that can train. It describes processes and starts none.
type Engine interface {
	Name() string
	Capabilities(context.Context) (Capabilities, error)
	Process(Job) (Process, error)
}

// Capabilities says what an engine honours.
type Capabilities struct {
	Knobs       []string // names from Knobs that it honours
	ExactResume bool     // a continued run repeats the uninterrupted one bit for bit
	Shapes      bool     // runs Job.Shapes
	Profile     bool     // knows Mode Profile
}

// Process is how to start a worker. Events come on file descriptor 3, the job
// and commands go to its standard input, everything it prints is log.
type Process struct {
	Argv []string
	Env  []string // complete environment
	Dir  string   // working directory; empty for the parent's

	// Decode turns one line of an engine that does not speak the protocol
	// into events; nil means the worker protocol of trainer/wire.
	Decode func(line []byte) ([]Event, error)
}

// Unsupported returns the names of the knobs that c turns away from their
// default although the engine does not honour them, in the order of Knobs.
func Unsupported(c Config, caps Capabilities) []string {
	var out []string
	defaults := DefaultConfig()
	for _, k := range Knobs {
		if !slices.Contains(caps.Knobs, k.Name) && k.Get(&c) != k.Get(&defaults) {
			out = append(out, k.Name)
		}
	}
	return out
}
