// Package search enumerates every configuration above the floors, asks a
// fitted model what each takes, and orders them.
//
// Enumeration is exhaustive: an epoch's batches are the same for all candidates
// of one batch size and one length cap, and the model is linear in what they
// add up to, so a candidate costs a handful of multiplications. Nothing is
// sampled, and no seed is needed.
package search

import (
	"fmt"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/tuner/predict"
)

// Point is a place in the space: the knobs that the search turns.
type Point struct {
	Bits          int  `json:"bits"` // quantization at load; 0 is as stored
	Rank          int  `json:"rank"`
	Batch         int  `json:"batch"`
	Accumulation  int  `json:"accumulation"`
	Checkpointing bool `json:"checkpointing"`
	MaxSeqLength  int  `json:"max_seq_length"`
}

// Condition is the part of the point that a worker process is loaded with.
func (p Point) Condition() predict.Condition {
	return predict.Condition{Bits: p.Bits, Rank: p.Rank, Checkpointing: p.Checkpointing}
}

func (p Point) String() string {
	s := fmt.Sprintf("batch %d × %d, rank %d, length %d", p.Batch, p.Accumulation, p.Rank, p.MaxSeqLength)
	if p.Bits != 0 {
		s += fmt.Sprintf(", %d bits", p.Bits)
	}
	if p.Checkpointing {
		s += ", checkpointing"
	}
	return s
}

// Candidate is a point with what the fitted model says of it.
type Candidate struct {
	Point
	PeakBytes             int64   `json:"peak_bytes"`       // at the widest batch of the plan
	PeakErrorBytes        int64   `json:"peak_error_bytes"` // one standard error
	TokensPerSecond       float64 `json:"tokens_per_second"`
	EpochSeconds          float64 `json:"epoch_seconds"`
	SecondsPerUsefulToken float64 `json:"seconds_per_useful_token"` // over supervised tokens
	PaddingShare          float64 `json:"padding_share"`            // of computed positions
	Fits                  bool    `json:"fits"`                     // with 99 % confidence
	Extrapolated          bool    `json:"extrapolated"`             // outside what calibration measured
	Measured              bool    `json:"measured"`                 // figures are from a confirmation burst
	Chosen                bool    `json:"chosen"`
}

// Batching is a batch size with the accumulation that goes with it.
type Batching struct{ Batch, Accumulation int }

// Space lists the values that each knob may take, all above the floors.
type Space struct {
	Bits          []int
	Ranks         []int
	Batchings     []Batching
	Checkpointing []bool
	Caps          []int
}

// Plan is an epoch of the data at one batch size and one length cap.
type Plan struct {
	Work      []predict.Work // each of steps that are alike, or of all where none waits for its host
	Widest    trainer.Shape
	Batches   int
	Tokens    int64 // real ones
	Useful    int64 // supervised ones
	Positions int64 // computed ones
}

// Problem is all that enumeration needs.
type Problem struct {
	Space  Space
	Plan   func(batch, maxSeqLength int) Plan
	Model  *predict.Model
	Limit  int64                           // bytes that a step may take at its peak
	Beside func(p Point, peak int64) int64 // bytes that a point takes beside what the model knows; nil for none
	Reject func(Point) (why string)        // "" lets a point through; nil lets all
}

// Outcome is an enumerated space.
type Outcome struct {
	Feasible   []Candidate
	Doubtful   []Candidate    // that would fit if they took as little as half of what is predicted, or else the one that takes least; counted as infeasible
	Infeasible map[string]int // reason → how many
	Enumerated int
}

// Reasons for which candidates are left out.
const (
	WhyMemory    = "would exceed the memory limit"
	WhyNoBatch   = "fewer rows than one batch"
	WhyNoMeasure = "nothing of the kind was measured"
)

// Enumerate predicts every point of the space.
func Enumerate(p Problem) Outcome {
	out := Outcome{Infeasible: map[string]int{}}
	var least []Candidate // of those that are too large; one, or none
	for _, limit := range p.Space.Caps {
		for _, b := range p.Space.Batchings {
			plan := p.Plan(b.Batch, limit)
			for _, bits := range p.Space.Bits {
				for _, rank := range p.Space.Ranks {
					for _, checkpointing := range p.Space.Checkpointing {
						out.Enumerated++
						point := Point{bits, rank, b.Batch, b.Accumulation, checkpointing, limit}
						c, why := p.predict(point, plan)
						if why != "" {
							out.Infeasible[why]++
							if why != WhyMemory {
								continue
							}
							if len(least) == 0 || c.PeakBytes < least[0].PeakBytes {
								least = []Candidate{c}
							}
							if c.PeakBytes <= 2*p.Limit {
								out.Doubtful = append(out.Doubtful, c)
							}
							continue
						}
						out.Feasible = append(out.Feasible, c)
					}
				}
			}
		}
	}
	if len(out.Feasible)+len(out.Doubtful) == 0 {
		out.Doubtful = least // that nothing fits is not concluded from predictions alone
	}
	return out
}

// Predict returns the candidate at one point, also when it does not fit; false
// when nothing can be said about it.
func (p Problem) Predict(point Point) (Candidate, bool) {
	c, why := p.predict(point, p.Plan(point.Batch, point.MaxSeqLength))
	return c, why == "" || why == WhyMemory
}

func (p Problem) predict(point Point, plan Plan) (Candidate, string) {
	if plan.Batches == 0 || plan.Useful == 0 {
		return Candidate{}, WhyNoBatch
	}
	if p.Reject != nil {
		if why := p.Reject(point); why != "" {
			return Candidate{}, why
		}
	}
	condition := point.Condition()
	peak, ok := p.Model.Peak(condition, plan.Widest)
	seconds, known := p.Model.Seconds(condition, float64(plan.Widest.Positions()), plan.Work...)
	if !ok || !known || !(seconds.Value > 0) {
		return Candidate{}, WhyNoMeasure
	}
	var beside int64
	if p.Beside != nil {
		beside = p.Beside(point, int64(peak.Value))
	}
	c := Candidate{
		Point: point, PeakBytes: int64(peak.Value) + beside, PeakErrorBytes: int64(peak.Error),
		TokensPerSecond: float64(plan.Tokens) / seconds.Value, EpochSeconds: seconds.Value,
		SecondsPerUsefulToken: seconds.Value / float64(plan.Useful),
		PaddingShare:          1 - float64(plan.Tokens)/float64(plan.Positions),
		Fits:                  int64(peak.Upper)+beside <= p.Limit,
		Extrapolated:          peak.Extrapolated || seconds.Extrapolated,
	}
	if !c.Fits {
		return c, WhyMemory
	}
	return c, ""
}
