package replay

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/mlxdyno/mlxdyno/probe/model"
	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/data"
	"github.com/mlxdyno/mlxdyno/trainer/journal"
	"github.com/mlxdyno/mlxdyno/tuner/search"
)

// Table is a space of configurations, every one of which was run.
type Table struct {
	Head Head
	Runs []Run
}

// Head says what was run, and on what.
type Head struct {
	Machine  string            `json:"machine"`
	Versions map[string]string `json:"versions"`
	Device   string            `json:"device"` // kind: cpu, metal or cuda

	Facts   model.Facts `json:"facts"`   // of the model, without where it lies
	Lengths []int32     `json:"lengths"` // tokens of each training row
	Prompts []int32     `json:"prompts"` // of them, not supervised

	Set       map[string]string `json:"set"` // knobs off their defaults, by name
	Bits      []int             `json:"bits"`
	Ranks     []int             `json:"ranks"`
	Effective int               `json:"effective"` // rows to one update, as batch × accumulation in every way
	Rounds    int               `json:"rounds"`
	Timed     int               `json:"timed,omitempty"` // steps of a shape and process, beside its first; 2 at least, and a whole update
}

// Run is one process that was recorded.
type Run struct {
	Process
	LoadSeconds float64    `json:"load_s"` // from its start to its first step
	EndSeconds  float64    `json:"end_s"`  // from its last step to its end
	ActiveBytes int64      `json:"active"` // after the last step
	Shapes      []Measured `json:"shapes"`
}

// Process is what a process is loaded with, and its turn.
type Process struct {
	Bits          int  `json:"bits"`
	Rank          int  `json:"rank"`
	Checkpointing bool `json:"gc"`
	Accumulating  bool `json:"acc"` // in updates of accumulating steps, else every step updates
	Round         int  `json:"round"`
}

// Measured is a shape of a process, step by step.
type Measured struct {
	Batch        int     `json:"b"`
	Width        int     `json:"w"`
	Microseconds []int64 `json:"us"`
	PeakBytes    []int64 `json:"peak"`
}

// Kinds of records of a table's journal.
const (
	headKind = "table"
	runKind  = "run"
)

// Read reads a table, complete or not.
func Read(path string) (*Table, error) {
	var t Table
	headed := false
	err := journal.Read(path, func(r journal.Record) error {
		switch r.Kind {
		case headKind:
			headed = true
			return json.Unmarshal(r.Data, &t.Head)
		case runKind:
			var run Run
			if err := json.Unmarshal(r.Data, &run); err != nil {
				return err
			}
			t.Runs = append(t.Runs, run)
		}
		return nil
	})
	if err == nil && !headed {
		err = errors.New("it has no head; record it anew")
	}
	if err == nil {
		err = t.validate()
	}
	if err != nil {
		return nil, fmt.Errorf("read table %s: %w", path, err)
	}
	return &t, nil
}

func (t *Table) validate() error {
	h := t.Head
	if len(h.Lengths) == 0 || len(h.Lengths) != len(h.Prompts) {
		return fmt.Errorf("%d lengths of rows and %d of prompts", len(h.Lengths), len(h.Prompts))
	}
	for i, n := range h.Lengths {
		if n < 1 || h.Prompts[i] < 0 {
			return fmt.Errorf("row %d of %d tokens, %d of them a prompt's", i, n, h.Prompts[i])
		}
	}
	if _, err := h.Base(); err != nil {
		return err
	}
	if h.Effective < 1 || h.Effective > len(h.Lengths) || len(h.Bits) == 0 || len(h.Ranks) == 0 || h.Rounds < 1 {
		return errors.New("its space is empty")
	}
	for _, r := range t.Runs {
		for _, s := range r.Shapes {
			if s.Batch < 1 || s.Width < 2 || len(s.Microseconds) < 2 || len(s.Microseconds) != len(s.PeakBytes) {
				return fmt.Errorf("%+v: shape %d × %d has %d times and %d peaks", r.Process, s.Batch, s.Width, len(s.Microseconds), len(s.PeakBytes))
			}
		}
	}
	return nil
}

// Base is the configuration that the table's searches begin with: as shipped,
// but for what the head sets.
func (h Head) Base() (trainer.Settings, error) {
	s := trainer.NewSettings()
	s.Config.Model.Path, s.Config.Data.Path, s.Config.Engine = "model", "data", trainer.EngineNative
	for name, value := range h.Set {
		if err := s.Set(name, value, trainer.FromFlag); err != nil {
			return s, fmt.Errorf("knob %s: %w", name, err)
		}
	}
	return s, nil
}

// Batches are the rows that a step may have, fewest first.
func (h Head) Batches() []int {
	var out []int
	for b := 1; b <= h.Effective; b++ {
		if h.Effective%b == 0 {
			out = append(out, b)
		}
	}
	return out
}

// batching is how a configuration's rows become batches.
func (h Head) batching(c trainer.Config) data.Batching {
	return data.BatchingOf(c, h.Device).Bounded(h.Lengths, nil)
}

func (h Head) plan(c trainer.Config) []data.Batch { return data.PlanBatches(h.Lengths, h.batching(c)) }

// epoch is one pass over the data at a batch size, narrowest batches first: how
// many there are of each width.
func (h Head) epoch(batch int) []trainer.Shape {
	base, err := h.Base()
	if err != nil {
		return nil // validate has said so
	}
	base.Config.Plan.Batch = batch
	counts := map[int]int{}
	for _, b := range h.plan(base.Config) {
		counts[b.Shape.Width]++
	}
	var out []trainer.Shape
	for _, width := range slices.Sorted(maps.Keys(counts)) {
		out = append(out, trainer.Shape{Batch: batch, Width: width, Steps: counts[width]})
	}
	return out
}

// Points are all configurations of the space.
func (h Head) Points() []search.Point {
	base, err := h.Base()
	if err != nil {
		return nil // validate has said so
	}
	var out []search.Point
	for _, bits := range h.Bits {
		for _, rank := range h.Ranks {
			for _, gc := range []bool{false, true} {
				for _, b := range h.Batches() {
					out = append(out, search.Point{Bits: bits, Rank: rank, Batch: b, Accumulation: h.Effective / b, Checkpointing: gc, MaxSeqLength: base.Config.Data.MaxSeqLength})
				}
			}
		}
	}
	return out
}

// config is the configuration at a point.
func (h Head) config(p search.Point) trainer.Config {
	base, err := h.Base()
	if err != nil {
		panic(err) // validate has said so
	}
	c := base.Config.WithRank(p.Rank)
	c.Model.Quantize, c.Plan.Batch, c.Plan.Accumulation, c.Plan.Checkpointing = p.Bits, p.Batch, p.Accumulation, p.Checkpointing
	return c
}

// bitsAsked are the bits of quantized bases in the space.
func (h Head) bitsAsked() []int {
	return slices.DeleteFunc(slices.Clone(h.Bits), func(b int) bool { return b == 0 })
}
