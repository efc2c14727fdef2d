// Package fake is a worker without MLX, for the tests of whatever supervises
// workers. It trains nothing and speaks the real protocol: its losses fall, its
// steps take the time and the memory that a Script says, its checkpoints are
// real files, and a continued training repeats the uninterrupted one exactly.
// It can also misbehave in every way that a supervisor must survive.
//
// A test binary runs itself as the worker:
//
//	func TestMain(m *testing.M) {
//		fake.Main()
//		os.Exit(m.Run())
//	}
//
//	engine := fake.Engine(fake.Script{Behaviour: fake.Crash, At: 5})
package fake

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// Behaviour is how a worker behaves once At steps of the training are done.
type Behaviour string

const (
	Normal Behaviour = "" // does its job

	// Ends.
	Crash   Behaviour = "crash"   // prints a trace and exits with status 3
	Signal  Behaviour = "signal"  // dies by Script.Signal
	Killed  Behaviour = "killed"  // sends itself SIGKILL, as the kernel does when memory runs out
	Silent  Behaviour = "silent"  // exits with status 0 and no word
	Fail    Behaviour = "fail"    // says Script.Failure and exits with status 1
	NaN     Behaviour = "nan"     // a step's loss is NaN; fails as nonfinite
	Torn    Behaviour = "torn"    // dies in the middle of an event's line
	Linger  Behaviour = "linger"  // does its job, says done, and stays
	DieDone Behaviour = "diedone" // does its job, says done, and dies by Script.Signal

	// Neither work nor end.
	Hang     Behaviour = "hang"     // says nothing more and heeds no stop
	Stubborn Behaviour = "stubborn" // works on; ignores stop, the end of its input, and SIGINT
	Flood    Behaviour = "flood"    // says as much as the pipe takes, until told to stop
	Mute     Behaviour = "mute"     // closes its events and works on

	// Breaches of the protocol; the last two show before the worker knows its
	// segment, whatever At and Segments say.
	Garbage   Behaviour = "garbage"   // a line that is no event
	Oversized Behaviour = "oversized" // a line beyond all limits
	Gap       Behaviour = "gap"       // leaves a number out
	Twice     Behaviour = "twice"     // ends, and ends again
	Late      Behaviour = "late"      // goes on after its last event
	Foreign   Behaviour = "foreign"   // speaks another major version
	Nameless  Behaviour = "nameless"  // says no hello
)

// Loading as Script.At means before the worker is ready.
const Loading = -1

// Script says what a worker does. The zero value does every job in no time.
type Script struct {
	Behaviour Behaviour        `json:"behaviour,omitempty"`
	At        int              `json:"at,omitempty"`       // steps of the training done when it misbehaves, or Loading
	Segments  []int            `json:"segments,omitempty"` // in which it misbehaves; none means all
	Signal    int              `json:"signal,omitempty"`
	Failure   *trainer.Failure `json:"failure,omitempty"`

	// Really spent, and part of what it reports.
	LoadTime time.Duration `json:"load_time,omitempty"`
	StepTime time.Duration `json:"step_time,omitempty"`
	EvalTime time.Duration `json:"eval_time,omitempty"`

	// Really spent by each step, and no part of what it reports.
	Pause time.Duration `json:"pause,omitempty"`

	Cost      Cost  `json:"cost,omitzero"`
	LeakBytes int64 `json:"leak_bytes,omitempty"` // more of active memory after each step of a process
	Widths    []int `json:"widths,omitempty"`     // of the data's own batches, in turn; default 33 and 65
	Rows      int   `json:"rows,omitempty"`       // of the training split; default 1000
	Blocks    int   `json:"blocks,omitempty"`     // of the model, as profiles show it; default 2

	Child   bool          `json:"child,omitempty"`   // starts a process that outlives it
	Promise time.Duration `json:"promise,omitempty"` // within which it is gone after the end of its input, or 3 × its slowest step; default 10 s
	Life    time.Duration `json:"life,omitempty"`    // after which it kills itself whatever happens; default 2 min
}

// Cost is what steps pretend to take. What is zero costs nothing.
type Cost struct {
	StepSeconds        float64 `json:"step_seconds,omitempty"`        // a step
	PositionSeconds    float64 `json:"position_seconds,omitempty"`    // and each position of its shape
	Bytes              int64   `json:"bytes,omitempty"`               // model and optimizer
	PositionBytes      int64   `json:"position_bytes,omitempty"`      // peak over that, each position
	CheckpointingTime  float64 `json:"checkpointing_time,omitempty"`  // factor on StepSeconds and PositionSeconds
	CheckpointingBytes float64 `json:"checkpointing_bytes,omitempty"` // factor on PositionBytes
	CapacityBytes      int64   `json:"capacity_bytes,omitempty"`      // a higher peak ends in an error of kind oom
	ReportedSpread     float64 `json:"reported_spread,omitempty"`     // relative, deterministic wobble of reported step times
}

func (c Cost) seconds(shape trainer.Shape, config trainer.Config) float64 {
	s := c.StepSeconds + c.PositionSeconds*float64(shape.Positions())
	if config.Plan.Checkpointing && c.CheckpointingTime > 0 {
		s *= c.CheckpointingTime
	}
	return s
}

func (c Cost) peak(shape trainer.Shape, config trainer.Config) int64 {
	b := float64(c.PositionBytes * shape.Positions())
	if config.Plan.Checkpointing && c.CheckpointingBytes > 0 {
		b *= c.CheckpointingBytes
	}
	return c.Bytes + int64(b)
}

// misbehavesIn reports whether the behaviour shows in a segment.
func (s Script) misbehavesIn(segment int) bool {
	return s.Behaviour != Normal && (len(s.Segments) == 0 || slices.Contains(s.Segments, segment))
}

// scriptEnv carries the script to the process that plays it.
const scriptEnv = "MLXDYNO_FAKE_WORKER"

// Main plays the script and exits when this process was started as a fake
// worker; otherwise it does nothing. Call it first in TestMain.
func Main() {
	text, ok := os.LookupEnv(scriptEnv)
	if !ok {
		return
	}
	var s Script
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		fmt.Fprintln(os.Stderr, "fake worker: read script:", err)
		os.Exit(2)
	}
	play(s)
}

// Engine returns an engine whose workers play s.
func Engine(s Script) trainer.Engine { return engine{s} }

type engine struct{ script Script }

func (engine) Name() string { return "fake" }

func (engine) Capabilities(context.Context) (trainer.Capabilities, error) {
	c := trainer.Capabilities{ExactResume: true, Shapes: true, Profile: true}
	for _, k := range trainer.Knobs {
		c.Knobs = append(c.Knobs, k.Name)
	}
	return c, nil
}

func (e engine) Process(trainer.Job) (trainer.Process, error) {
	exe, err := os.Executable()
	if err != nil {
		return trainer.Process{}, fmt.Errorf("find fake worker: %w", err)
	}
	script, err := json.Marshal(e.script)
	if err != nil {
		return trainer.Process{}, fmt.Errorf("encode script: %w", err)
	}
	// Without the latter a test binary built with -race takes a second to exit.
	env := append(os.Environ(), scriptEnv+"="+string(script), "GORACE=atexit_sleep_ms=0")
	return trainer.Process{Argv: []string{exe}, Env: env}, nil
}
