// Package budget says where the memory of a LoRA step goes: what each part
// should take by formula, what it took when measured, and the limit it must
// stay under.
//
// Estimates come from the model's files and the configuration alone, for the
// step as mlx-lm computes it; every line says its formula. They choose a first
// shape to measure and explain a measurement. They are no promise: what fits
// is decided by a measured peak.
package budget

import (
	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/trainer"
)

// Budget is the memory of one step at one shape, in bytes.
type Budget struct {
	Shape trainer.Shape `json:"shape"`
	Lines []Line        `json:"lines"` // in the order of the names below

	// Peak is the highest sum of MLX's live buffers within a step. It is less
	// than the sum of the lines, since not all of them live at once.
	Peak Line `json:"peak"`

	Limit  Limit   `json:"limit"`            // the tightest of Limits
	Limits []Limit `json:"limits,omitempty"` // all that apply
	Gap    string  `json:"gap,omitempty"`    // estimate against measurement, in a sentence
}

// Names of lines, in order.
const (
	Weights     = "weights"
	Adapters    = "adapters"
	Gradients   = "gradients"
	Optimizer   = "optimizer"
	Activations = "activations"
	Logits      = "logits"
	Cache       = "cache"
	Others      = "others" // the process outside MLX: interpreter, libraries, data
	PeakName    = "peak"
)

// Line is one part.
type Line struct {
	Name      string             `json:"name"`
	Estimated trainer.Opt[int64] `json:"estimated_bytes,omitzero"`
	Measured  trainer.Opt[int64] `json:"measured_bytes,omitzero"`
	Note      string             `json:"note,omitempty"`   // formula, or why a figure is unknown
	Source    string             `json:"source,omitempty"` // of Measured
}

// Best returns what was measured, else what was estimated.
func (l Line) Best() trainer.Opt[int64] {
	if l.Measured.Known() {
		return l.Measured
	}
	return l.Estimated
}

// Limit is what memory must stay under, and who says so.
type Limit struct {
	Name  string             `json:"name"` // LimitConfigured, …
	Bytes trainer.Opt[int64] `json:"bytes,omitzero"`
	Note  string             `json:"note,omitempty"`
	From  string             `json:"from"` // flag, file, sysctl, …
}

// Names of limits.
const (
	LimitConfigured = "memory-limit"
	LimitCgroup     = "cgroup"
	LimitWorkingSet = "working set"
	LimitGPU        = "gpu memory"
	LimitRAM        = "ram"
)

// Line returns the line of that name.
func (b Budget) Line(name string) Line {
	for _, l := range b.Lines {
		if l.Name == name {
			return l
		}
	}
	return Line{Name: name}
}

// WithLimits returns b with the limits of a machine and a configuration.
func (b Budget) WithLimits(s probe.Snapshot, c trainer.Config) Budget {
	b.Limits = limits(s, c)
	b.Limit = Limit{Note: "no limit is known"}
	for _, l := range b.Limits {
		n, ok := l.Bytes.Get()
		if best, known := b.Limit.Bytes.Get(); ok && (!known || n < best) {
			b.Limit = l
		}
	}
	return b
}

func limits(s probe.Snapshot, c trainer.Config) []Limit {
	var out []Limit
	if c.Plan.MemoryLimit.IsSet {
		out = append(out, Limit{Name: LimitConfigured, Bytes: trainer.Some(c.Plan.MemoryLimit.Bytes),
			From: "--memory-limit", Note: "a guideline to MLX, not a cap"})
	}
	add := func(name, note string, v probe.Value[int64]) {
		if n, ok := v.Get(); ok && n > 0 {
			out = append(out, Limit{Name: name, Bytes: trainer.Some(n), From: v.Source(), Note: note})
		}
	}
	if s.Cgroup != nil {
		add(LimitCgroup, "above it the kernel kills", s.Cgroup.LimitBytes)
	}
	switch s.GPU.Kind {
	case "metal":
		add(LimitWorkingSet, "what Metal recommends to keep resident", s.GPU.WorkingSetBytes)
	case "cuda":
		add(LimitGPU, "allocations above it fail", s.GPU.MemoryBytes)
	}
	if s.GPU.Kind != "cuda" {
		add(LimitRAM, "above it the system swaps", s.Memory.TotalBytes)
	}
	return out
}
