// Package patient judges a training that is not ours by what could be seen of
// it: what it printed, and what its processes used.
//
// It is arithmetic over a Record, which others make from a log, a command or a
// running process. What a log says is never proof: numbers carry the unit they
// were printed in, both readings of a unit that has two, and how coarse they are.
// A growth is said only where every reading rises by much the same; anything
// else is inconclusive. The package reads nothing and starts nothing.
package patient

import (
	"time"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// Source is how a patient was looked at.
type Source string

const (
	Log     Source = "log"     // of a run that may be over
	Command Source = "command" // run by us
	Process Source = "process" // somebody else's, while we looked
)

// Record is all that was seen of a patient.
type Record struct {
	Source  Source
	Name    string // paths, a command line, or a process with its number
	Adapter Adapter

	Steps     trainer.Opt[int] // that it is to do
	Points    []Point          // by step, in order
	Every     int64            // points that one kept point stands for
	Restarts  int
	Notices   []Notice
	Settings  map[string]string
	Told      map[string]Amount // memory that belongs to no step, by kind
	Samples   []Sample
	Outcome   trainer.Outcome // of a command
	ExitCode  trainer.Opt[int]
	Signal    string
	Failure   *trainer.Failure
	Evidence  []trainer.Evidence
	EndedFor  string // why we ended it; empty when we did not
	Left      int    // processes that it left behind
	LastLines string
	Notes     []string // what befell the log or the command, in sentences

	// What the user knows beside: nil or empty when not given.
	Argv     []string          // its command line
	Proposed []string          // a command line that somebody proposes for it
	Help     *Help             // what its --help says
	Versions map[string]string // of its libraries, from its lock file
	Claims   []Claim           // what somebody says of its speed
}

// Adapter says who reads the patient's lines, and how sure that is.
type Adapter struct {
	Name    string   `json:"name,omitempty"`
	Sure    string   `json:"sure"` // chosen, certain, likely, guessed or none
	Why     string   `json:"why,omitempty"`
	Caveats []string `json:"caveats,omitempty"`
}

// Point is what is known of one step.
type Point struct {
	Step    int
	At      trainer.Opt[time.Duration] // since its start, by our clock
	Elapsed trainer.Opt[Clock]         // since its start, by its own

	Loss            trainer.Opt[trainer.Float]
	StepsPerSecond  trainer.Opt[float64]
	SpeedDigits     float64 // what a one in the last printed digit of StepsPerSecond is worth; 0 when unknown
	TokensPerSecond trainer.Opt[float64]
	TrainedTokens   trainer.Opt[int64]
	Positions       trainer.Opt[int64] // tokens that it computed, padding included: the size of its shape
	Memory          map[string]Amount  // by kind
}

// Clock is a time known to a multiple of Resolution.
type Clock struct{ Time, Resolution time.Duration }

// Kinds of memory.
const (
	Active    = "active"    // MLX's live arrays
	Peak      = "peak"      // the highest of them
	Cache     = "cache"     // MLX's buffers kept for reuse
	Resident  = "resident"  // blind to GPU memory on a Mac
	Available = "available" // of the machine, as the patient believes
	Limit     = "limit"     // that the patient set itself
	Some      = "memory"    // it does not say which
	Footprint = "footprint" // of all its processes, read by us
)

// Amount is memory as it was printed.
type Amount struct {
	Bytes      int64   // GB taken as 10⁹
	Binary     int64   // GB taken as 2³⁰; equal to Bytes where the unit has one meaning
	Resolution float64 // bytes of a one in the last printed digit
	Printed    string  // with its unit
}

// Notice is something that the patient said in words.
type Notice struct {
	Level  string            `json:"level"` // info, warning or error
	Code   string            `json:"code"`
	Text   string            `json:"text"`
	Step   int               `json:"step"` // known by then
	Times  int               `json:"times"`
	Memory map[string]Amount `json:"-"` // that it names, by kind
}

// Sample is what its processes and the machine used at one time.
type Sample struct {
	At        time.Duration
	Step      int
	Processes int
	Footprint trainer.Opt[int64]
	Resident  trainer.Opt[int64]
	Threads   trainer.Opt[int]
	CPU       trainer.Opt[time.Duration]
	GPUBusy   trainer.Opt[int]   // percent, of the machine's GPU
	SwapOut   trainer.Opt[int64] // of the machine, since boot
	Pressure  string             // of the machine; empty when unknown
}
