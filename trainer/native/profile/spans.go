package profile

import (
	"math"
	"slices"
	"strings"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// Spans are the leaves of all recorded steps. Their seconds add up to those of
// the steps and of waiting for data.
func (r *Recorder) Spans(rates Rates) []trainer.Span {
	var all []trainer.Span
	at := map[string]int{}
	add := func(s trainer.Span) {
		for len(s.Path) > 0 && s.Path[len(s.Path)-1] == "" {
			s.Path = s.Path[:len(s.Path)-1]
		}
		key := strings.Join(s.Path, "\x00")
		i, ok := at[key]
		if !ok {
			at[key] = len(all)
			all = append(all, s)
			return
		}
		sum := &all[i]
		sum.Seconds += s.Seconds
		sum.Calls += s.Calls
		sum.Modelled = sum.Modelled || s.Modelled
		if n, ok := s.GFLOP.Get(); ok {
			sum.GFLOP = trainer.Some(sum.GFLOP.Or(0) + n)
		}
		if n, ok := s.Bytes.Get(); ok {
			sum.Bytes = trainer.Some(sum.Bytes.Or(0) + n)
		}
	}
	for _, l := range r.laps {
		shares := l.ops.shares(rates)
		if shares == nil {
			add(trainer.Span{Path: slices.Clone(l.place), Seconds: l.seconds, Calls: 1})
			continue
		}
		block := ""
		if len(l.place) > 1 {
			block = l.place[1]
		}
		for i, o := range l.ops.All {
			s := trainer.Span{Path: []string{l.place[0], block, o.Layer, o.Op}, Seconds: l.seconds * shares[i], Calls: o.Calls,
				Bytes: trainer.Some(o.Written), Modelled: len(l.ops.All) > 1}
			if o.Product {
				s.GFLOP = trainer.Some(trainer.Float(o.FLOP / 1e9))
			}
			add(s)
		}
	}
	return all
}

// shares are those of a piece's time that its operations have; nil when nothing
// is known to share it by.
func (o *Operations) shares(rates Rates) []float64 {
	if o == nil {
		return nil
	}
	parts := func(cost func(Operation) float64) []float64 {
		var all []float64
		var sum float64
		for _, each := range o.All {
			all = append(all, cost(each))
			sum += cost(each)
		}
		if !(sum > 0) || math.IsInf(sum, 0) {
			return nil
		}
		for i := range all {
			all[i] /= sum
		}
		return all
	}
	if o.measured {
		if all := parts(func(o Operation) float64 { return o.seconds }); all != nil {
			return all
		}
	}
	return parts(func(o Operation) float64 { return max(o.FLOP/rates.FLOPS, float64(o.Moved)/rates.BytesASecond) })
}

// Held is what was held at the highest peak of all recorded steps; it adds up to
// that peak.
func (r *Recorder) Held() []trainer.Held { return r.held }

// Summary ends a profile of which that many spans and helds are said.
func (r *Recorder) Summary(rates Rates, spans []trainer.Span, helds int) trainer.Profiled {
	p := trainer.Profiled{Steps: r.total.steps, Tokens: r.total.tokens, Positions: r.total.positions, Supervised: r.total.supervised,
		PeakBytes: r.total.peak, Spans: len(spans), Helds: helds}
	for _, s := range spans {
		p.Seconds += s.Seconds
	}
	if rates.FLOPS > 0 {
		p.CeilingGFLOPS = trainer.Some(trainer.Float(rates.FLOPS / 1e9))
	}
	return p
}
