package patient

import (
	"slices"
	"time"

	"github.com/mlxdyno/mlxdyno/probe/pace"
	"github.com/mlxdyno/mlxdyno/trainer"
)

// Report is what a Record comes to, without the causes: those are findings.
type Report struct {
	Source  Source  `json:"source"`
	Name    string  `json:"name"`
	Adapter Adapter `json:"adapter"`

	Reports   int              `json:"reports"` // steps that it reported
	FirstStep trainer.Opt[int] `json:"first_step,omitzero"`
	LastStep  trainer.Opt[int] `json:"last_step,omitzero"`
	Planned   trainer.Opt[int] `json:"planned_steps,omitzero"`
	Restarts  int              `json:"restarts"`
	Shapes    int              `json:"shapes"` // distinct ones that it told; 0 when it tells none

	Speed   Speed    `json:"speed"`
	Memory  []Growth `json:"memory"`
	Usage   *Usage   `json:"usage,omitempty"` // nil when no process was looked at
	Notices []Notice `json:"notices"`
	Notes   []string `json:"notes,omitempty"`

	Outcome   trainer.Outcome  `json:"outcome,omitempty"` // of a command
	ExitCode  trainer.Opt[int] `json:"exit_code,omitzero"`
	Signal    string           `json:"signal,omitempty"`
	EndedFor  string           `json:"ended_for,omitempty"`
	Left      int              `json:"left_behind"`
	LastLines string           `json:"last_lines,omitempty"`
}

// Case is a patient with what it comes to.
type Case struct {
	Record Record
	Report Report
	Again  *Again // nil when it was run once
}

// Codes of findings that a second burst can put to the proof.
const (
	CacheGrowth = "patient.cache-growth"
	ShapeGrowth = "patient.shape-growth"
)

// Again is a second burst of a command, with a suspected cause switched off.
type Again struct {
	Of     string // code of the finding that it puts to the proof
	Change string // what was switched off, in words
	Report Report
}

// Speed is how fast it goes, and how that is known.
type Speed struct {
	StepSeconds     trainer.Opt[float64] `json:"step_seconds,omitzero"`
	StepError       float64              `json:"step_error"` // relative, from how coarse its clock is
	StepsPerSecond  trainer.Opt[float64] `json:"steps_per_second,omitzero"`
	TokensPerSecond trainer.Opt[float64] `json:"tokens_per_second,omitzero"` // over time, as it counts them; what it prints where it does not count
	TokensAStep     trainer.Opt[float64] `json:"tokens_a_step,omitzero"`
	Basis           string               `json:"basis"`
	Printed         trainer.Opt[float64] `json:"printed_steps_per_second,omitzero"`  // median of what it prints
	PrintedDigit    float64              `json:"printed_digit"`                      // of the last one printed; 0 when unknown
	PrintedTokens   trainer.Opt[float64] `json:"printed_tokens_per_second,omitzero"` // median of what it prints
	Pace            *pace.Report         `json:"pace,omitempty"`                     // nil when steps have no times
}

// Usage sums up the samples of its processes.
type Usage struct {
	Samples   int                  `json:"samples"`
	Seconds   float64              `json:"seconds"`
	Processes int                  `json:"processes"` // the most at one time
	Highest   trainer.Opt[int64]   `json:"highest_footprint_bytes,omitzero"`
	Last      trainer.Opt[int64]   `json:"last_footprint_bytes,omitzero"`
	Threads   trainer.Opt[int]     `json:"threads,omitzero"`          // the most
	CPUs      trainer.Opt[float64] `json:"cpu_cores,omitzero"`        // busy on average
	GPUBusy   trainer.Opt[float64] `json:"gpu_busy_percent,omitzero"` // on average while it took steps, by all programs
	GPUMost   int                  `json:"gpu_busy_most_percent"`
	GPUReads  int                  `json:"gpu_readings"`
	SwapOut   trainer.Opt[int64]   `json:"swap_out_bytes,omitzero"`
	Pressure  string               `json:"pressure,omitempty"` // the worst
}

// Judge sums a record up.
func Judge(r Record) Report {
	out := Report{
		Source: r.Source, Name: r.Name, Adapter: r.Adapter, Reports: len(r.Points), Planned: r.Steps, Restarts: r.Restarts,
		Shapes: len(shapes(r)), Speed: speed(r), Memory: growths(r), Usage: usage(r.Samples), Notices: r.Notices, Notes: r.Notes,
		Outcome: r.Outcome, ExitCode: r.ExitCode, Signal: r.Signal, EndedFor: r.EndedFor, Left: r.Left,
	}
	if n := len(r.Points); n > 0 {
		out.FirstStep, out.LastStep = trainer.Some(r.Points[0].Step), trainer.Some(r.Points[n-1].Step)
	}
	if !r.Outcome.Good() {
		out.LastLines = r.LastLines
	}
	if out.Memory == nil {
		out.Memory = []Growth{}
	}
	if out.Notices == nil {
		out.Notices = []Notice{}
	}
	return out
}

// levels of pressure, the worst last; Linux's stalls are told in these words too.
var levels = []string{"", "normal", "warn", "critical"}

func usage(samples []Sample) *Usage {
	if len(samples) == 0 {
		return nil
	}
	first, last := samples[0], samples[len(samples)-1]
	u := &Usage{Samples: len(samples), Seconds: (last.At - first.At).Seconds(), Last: last.Footprint}
	var busy float64
	for _, s := range samples {
		u.Processes = max(u.Processes, s.Processes)
		if percent, ok := s.GPUBusy.Get(); ok && (s.Step > 0 || last.Step == 0) {
			u.GPUReads++
			u.GPUMost = max(u.GPUMost, percent)
			busy += float64(percent)
		}
		if b, ok := s.Footprint.Get(); ok && b >= u.Highest.Or(0) {
			u.Highest = s.Footprint
		}
		if n, ok := s.Threads.Get(); ok && n >= u.Threads.Or(0) {
			u.Threads = s.Threads
		}
		if slices.Index(levels, s.Pressure) > slices.Index(levels, u.Pressure) {
			u.Pressure = s.Pressure
		}
	}
	if u.GPUReads > 0 {
		u.GPUBusy = trainer.Some(busy / float64(u.GPUReads))
	}
	if busy, ok := cpu(samples).Get(); ok && u.Seconds > 0 {
		u.CPUs = trainer.Some(busy.Seconds() / u.Seconds)
	}
	a, ok1 := first.SwapOut.Get()
	b, ok2 := last.SwapOut.Get()
	if ok1 && ok2 && b >= a {
		u.SwapOut = trainer.Some(b - a)
	}
	return u
}

// cpu adds up what was used between samples. It falls when a process ends, whose
// time is no longer counted.
func cpu(samples []Sample) trainer.Opt[time.Duration] {
	var sum time.Duration
	known := false
	for i := 1; i < len(samples); i++ {
		a, ok1 := samples[i-1].CPU.Get()
		b, ok2 := samples[i].CPU.Get()
		if ok1 && ok2 {
			known = true
			sum += max(b-a, 0)
		}
	}
	if !known {
		return trainer.Opt[time.Duration]{}
	}
	return trainer.Some(sum)
}
