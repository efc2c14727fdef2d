package patient

import (
	"slices"

	"github.com/mlxdyno/mlxdyno/probe/leak"
)

// kinds are the series that are judged, in the order in which they are told.
var kinds = []string{Active, Cache, Peak, Some, Footprint, Resident}

// growths judges every series that was seen.
func growths(r Record) []Growth {
	var out []Growth
	oneShape := len(shapes(r)) <= 1
	for _, kind := range kinds {
		rs := series(r, kind)
		bySteps := true
		if kind == Footprint || kind == Resident {
			// What a point has is the sample before it.
			if s, steps := sampled(r, kind); len(s) > fewestRises || len(s) > len(rs) {
				rs, bySteps = s, steps
			}
		}
		if len(rs) > 1 {
			out = append(out, grow(kind, rs, oneShape, bySteps))
		}
	}
	return out
}

// series are a kind's readings by step. After a restart only what came last is
// judged.
func series(r Record, kind string) []reading {
	var out []reading
	for _, p := range r.Points {
		a, ok := p.Memory[kind]
		if !ok {
			continue
		}
		x := float64(p.Step)
		if n := len(out); n > 0 && x <= out[n-1].x {
			out = out[:0]
		}
		out = append(out, reading{x: x, y: float64(a.Bytes), binary: float64(a.Binary), digit: a.Resolution})
	}
	return out
}

// startUp is the share of a command's samples in which it may still load.
const startUp = 0.1

// sampled are readings of its processes: by step when it has told two thirds of
// them apart, else by second.
func sampled(r Record, kind string) (out []reading, bySteps bool) {
	steps := map[int]bool{}
	var kept []Sample
	for _, s := range r.Samples {
		if r.Source == Command && len(r.Points) > 0 && s.Step == 0 {
			continue // it loads
		}
		kept = append(kept, s)
		steps[s.Step] = true
	}
	if r.Source == Command && len(r.Points) == 0 {
		kept = kept[int(startUp*float64(len(kept))):]
	}
	bySteps = len(kept) > 0 && 3*len(steps) >= 2*len(kept) && len(steps) > 1
	last := -1
	for _, s := range kept {
		v := s.Footprint
		if kind == Resident {
			v = s.Resident
		}
		b, ok := v.Get()
		if !ok || bySteps && s.Step <= last {
			continue
		}
		x := s.At.Seconds()
		if bySteps {
			x, last = float64(s.Step), s.Step
		}
		out = append(out, reading{x: x, y: float64(b), binary: float64(b), digit: 1})
	}
	return out, bySteps
}

// shapes are the distinct sizes of steps that were told, in order.
func shapes(r Record) []int64 {
	var out []int64
	for _, p := range r.Points {
		if n, ok := p.Positions.Get(); ok && !slices.Contains(out, n) {
			out = append(out, n)
			if len(out) > maxShapes {
				break
			}
		}
	}
	return out
}

const maxShapes = 10_000

// Of returns the verdict on a kind of memory; nil when it was not read.
func (r Report) Of(kind string) *Growth {
	for i := range r.Memory {
		if r.Memory[i].Kind == kind {
			return &r.Memory[i]
		}
	}
	return nil
}

// Grows returns the verdict on a kind of memory if that grows.
func (r Report) Grows(kind string) *Growth {
	if g := r.Of(kind); g != nil && g.State == leak.Leaking {
		return g
	}
	return nil
}
