package run

import (
	"math"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// keeper sorts the events of a training into those that count and those that
// were lost: a segment that starts from step F voids what earlier segments did
// after F. It also gathers what each segment did by itself, lost or not.
type keeper struct {
	cut    []int // by segment: its steps up to here count
	events []trainer.Event
	lost   int
	own    map[int]*segmentSum

	profiler int // segment that recorded the profile; -1 for none
	profile  profileSum
}

type segmentSum struct {
	hello *trainer.Hello
	ready *trainer.Ready
	last  int // newest step
	steps []trainer.Event
}

func newKeeper(segments []Segment) *keeper {
	k := &keeper{cut: make([]int, len(segments)), own: map[int]*segmentSum{}, profiler: -1}
	limit := math.MaxInt
	for i := len(segments) - 1; i >= 0; i-- {
		k.cut[i] = limit
		limit = min(limit, segments[i].FromStep)
	}
	return k
}

func (k *keeper) add(e trainer.Event) {
	own := k.own[e.Segment]
	if own == nil {
		own = &segmentSum{}
		k.own[e.Segment] = own
	}
	profile := k.profile.add
	if e.Segment != k.profiler {
		profile = new(profileSum).add
	}
	if profile(e.Payload) { // of steps that were measured, whether or not they were lost
		return
	}
	counts := e.Segment >= 0 && e.Segment < len(k.cut) && e.Step <= k.cut[e.Segment]
	switch p := e.Payload.(type) {
	case trainer.Hello:
		own.hello = &p
		counts = true
	case trainer.Ready:
		own.ready = &p
		counts = true
	case trainer.Warning:
		counts = true
	case trainer.Step:
		own.last = max(own.last, e.Step)
		own.steps = append(own.steps, e)
		if !counts {
			k.lost++
		}
	}
	if counts {
		k.events = append(k.events, e)
	}
}

// result returns the events that count, and how many steps were lost.
func (k *keeper) result() ([]trainer.Event, int) { return k.events, k.lost }

// fill adds to a segment what its own events say.
func (k *keeper) fill(s *Segment) {
	own := k.own[s.Number]
	if own == nil {
		return
	}
	s.LastStep = max(s.LastStep, own.last)
	if own.hello != nil {
		s.Device, s.BLAS, s.Versions = &own.hello.Device, own.hello.BLAS, own.hello.Versions
	}
	if own.ready != nil {
		s.Load = trainer.Some(own.ready.LoadSeconds)
	}
	figures := trainer.Summarize(own.steps).Figures
	s.PeakBytes, s.Rate = figures.PeakBytes, figures.TokensPerSecond
}
