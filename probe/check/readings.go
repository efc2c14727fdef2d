package check

import (
	"github.com/mlxdyno/mlxdyno/probe/leak"
	"github.com/mlxdyno/mlxdyno/trainer"
)

// judgement returns what a burst's series say of one cause of growth, when they
// say anything.
func (in Input) judgement(b *trainer.Burst, cause leak.Cause) (leak.Judgement, bool) {
	if b == nil {
		return leak.Judgement{}, false
	}
	steps := b.Summary.Steps
	r := leak.Readings{Period: in.config().Plan.Accumulation, Apart: in.backend() == "cuda"}
	if l := in.lengths(); l != nil {
		r.ShapesPlanned = l.Shapes
	}
	for _, s := range steps {
		r.Tokens = append(r.Tokens, float64(s.Tokens))
		r.Shapes = append(r.Shapes, float64(s.Shape.Positions()))
		r.Active = some(r.Active, s.Memory.Active)
		r.Cache = some(r.Cache, s.Memory.Cache)
		r.Footprint = some(r.Footprint, s.Memory.Footprint)
		if n, ok := s.Traces.Get(); ok {
			r.Traces = append(r.Traces, int64(n))
		}
	}
	for _, j := range leak.Causes(r) {
		if j.Cause == cause {
			return j, true
		}
	}
	return leak.Judgement{}, false
}

// some appends a known reading; a series with gaps is then too short to judge.
func some(to []int64, v trainer.Opt[int64]) []int64 {
	if n, ok := v.Get(); ok {
		return append(to, n)
	}
	return to
}
