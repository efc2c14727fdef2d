package install

import "fmt"

// Code says what kept a set-up from succeeding.
type Code string

const (
	NoPython           Code = "no-python"             // none found, or none of a version that will do
	NoVenv             Code = "no-venv"               // this Python cannot make virtual environments
	NoCompiler         Code = "no-compiler"           // none found, or none that works
	CompilerTooOld     Code = "compiler-too-old"      // it does not take C++20 as MLX's headers have it
	CompileFailed      Code = "compile-failed"        // a good one failed
	BrokenMLX          Code = "broken-mlx"            // MLX's headers or library are missing, or do not belong together
	RegistryOutOfReach Code = "registry-out-of-reach" // the package registry did not answer
	PackageNotFound    Code = "package-not-found"     // it answered, and has no such wheel for this platform
	PipFailed          Code = "pip-failed"            // any other failure of pip
	DiskFull           Code = "disk-full"             // too little space, or a quota or size limit
	Busy               Code = "busy"                  // another set-up is running
	Unsupported        Code = "unsupported"           // a version or a platform that will not do
	Unwritable         Code = "home-not-writable"     // Home cannot be written
	Quarantined        Code = "quarantined"           // macOS refuses to load the library
	SelfTestFailed     Code = "self-test-failed"      // installed, but does not compute
	Interrupted        Code = "interrupted"           // the context ended
)

// Error is why Ensure failed, for a person: what failed and why (Text), and
// what to do about it (Fix).
type Error struct {
	Code Code   `json:"code"`
	Text string `json:"text"`
	Fix  string `json:"fix"`
	Err  error  `json:"-"` // the cause, if it is more than Text
}

func (e *Error) Error() string {
	if e.Err == nil {
		return e.Text
	}
	return e.Text + ": " + e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }

// State of an environment.
type State string

const (
	Ready   State = "ready"
	Missing State = "missing" // never set up
	Stale   State = "stale"   // set up by, or for, another version
	Broken  State = "broken"  // set up, but no longer whole
)

// NotReadyError is why Find has no environment to return. Its fields answer
// the three questions of whoever reads it.
type NotReadyError struct {
	State  State  `json:"state"`
	Reason string `json:"reason"`
	Fix    string `json:"fix"`
}

func (e *NotReadyError) Error() string {
	return fmt.Sprintf("the MLX environment is %s: %s", e.State, e.Reason)
}
