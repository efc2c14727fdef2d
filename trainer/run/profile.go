package run

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// Profile is where the time and the memory of some steps went, added up. What
// it is over is a stretch of one worker process, which was slower than a
// training is and may have needed more memory.
type Profile struct {
	Segment  int `json:"segment"`
	FromStep int `json:"from_step"` // steps of the training before it
	Steps    int `json:"steps"`

	Seconds         float64 `json:"seconds"`          // of all its steps
	ModelledSeconds float64 `json:"modelled_seconds"` // of them, shared out within what was measured
	Tokens          int64   `json:"tokens"`           // real ones
	Positions       int64   `json:"positions"`        // padding included
	Supervised      int64   `json:"supervised"`

	UsefulShare     trainer.Opt[float64]       `json:"useful_share,omitzero"`     // tokens of positions
	SupervisedShare trainer.Opt[float64]       `json:"supervised_share,omitzero"` // supervised of positions
	TFLOPAStep      trainer.Opt[float64]       `json:"tflop_a_step,omitzero"`     // counted from shapes
	GFLOPS          trainer.Opt[float64]       `json:"gflops,omitzero"`           // counted over measured seconds
	CeilingGFLOPS   trainer.Opt[trainer.Float] `json:"ceiling_gflops,omitzero"`   // measured in the same process
	CeilingShare    trainer.Opt[float64]       `json:"ceiling_share,omitzero"`    // GFLOPS of CeilingGFLOPS

	Phases []Part `json:"phases,omitempty"` // in the order of a step
	Blocks []Part `json:"blocks,omitempty"` // in the order of the model: embedding, block 0, …, head
	Layers []Part `json:"layers,omitempty"` // the ten that took longest, over all blocks and phases
	Ops    []Part `json:"ops,omitempty"`    // the ten that took longest, over all layers and phases

	PeakBytes         int64      `json:"peak_bytes"`
	ModelledPeakBytes int64      `json:"modelled_peak_bytes"` // of what Held adds up to
	Held              []HeldPart `json:"held,omitempty"`      // at the peak, by kind, most first

	Missing int `json:"missing,omitempty"` // spans and helds that were said and cannot be read any more

	// The leaves themselves, for those who draw them.
	Spans []trainer.Span `json:"-"`
	Helds []trainer.Held `json:"-"`
}

// Part is what the spans of one name add up to.
type Part struct {
	Name            string               `json:"name"`
	Seconds         float64              `json:"seconds"`
	Share           float64              `json:"share"` // of all seconds
	ModelledSeconds float64              `json:"modelled_seconds"`
	ClockSeconds    trainer.Opt[float64] `json:"clock_seconds,omitzero"` // a phase as a clock around it saw it
	Calls           int64                `json:"calls"`
	GFLOP           trainer.Opt[float64] `json:"gflop,omitzero"`
	CeilingShare    trainer.Opt[float64] `json:"ceiling_share,omitzero"`
	Bytes           trainer.Opt[int64]   `json:"bytes,omitzero"` // written
}

// HeldPart is memory of one kind at the peak.
type HeldPart struct {
	Name          string  `json:"name"`
	Bytes         int64   `json:"bytes"`
	Share         float64 `json:"share"` // of all that is listed
	ModelledBytes int64   `json:"modelled_bytes"`
}

// Elements of a span's path.
const (
	atPhase = iota
	atBlock
	atLayer
	atOp
)

// most is how many layers and operations a profile names.
const most = 10

// phaseOrder is that of a step.
var phaseOrder = []string{"data", "forward", "loss", "backward", "optimizer"}

// newProfile adds up what a worker said. What cannot be true (a negative time,
// an endless one) is left out, as what cannot be read is.
func newProfile(said *profileSum, s Segment) *Profile {
	end := said.end
	p := &Profile{Segment: s.Number, FromStep: s.FromStep, Steps: end.Steps, Tokens: end.Tokens, Positions: end.Positions, Supervised: end.Supervised,
		CeilingGFLOPS: end.CeilingGFLOPS, PeakBytes: end.PeakBytes}
	for _, span := range said.spans {
		if sane(span) {
			p.Spans = append(p.Spans, span)
			p.Seconds += span.Seconds
			p.ModelledSeconds += modelled(span)
		}
	}
	for _, held := range said.helds {
		if held.Bytes >= 0 {
			p.Helds = append(p.Helds, held)
		}
	}
	p.Missing = max(0, end.Spans-len(p.Spans)) + max(0, end.Helds-len(p.Helds))
	p.UsefulShare, p.SupervisedShare = share(p.Tokens, p.Positions), share(p.Supervised, p.Positions)

	all := p.parts(func([]string) string { return "" })
	if len(all) == 1 {
		if n, ok := all[0].GFLOP.Get(); ok {
			p.TFLOPAStep = quotient(n/1000, float64(p.Steps))
			p.GFLOPS = quotient(n, p.Seconds)
			p.CeilingShare = all[0].CeilingShare
		}
	}
	p.Phases = p.parts(func(path []string) string { return cmp.Or(element(path, atPhase), "unnamed") })
	slices.SortStableFunc(p.Phases, func(a, b Part) int { return cmp.Compare(phaseRank(a.Name), phaseRank(b.Name)) })
	for i := range p.Phases {
		if s, ok := said.clock[p.Phases[i].Name]; ok {
			p.Phases[i].ClockSeconds = trainer.Some(s)
		}
	}
	p.Blocks = slices.DeleteFunc(p.parts(func(path []string) string { return element(path, atBlock) }), func(b Part) bool { return b.Name == "" })
	slices.SortStableFunc(p.Blocks, func(a, b Part) int { return compareBlocks(a.Name, b.Name) })
	p.Layers = longest(p.parts(layerName))
	p.Ops = longest(p.parts(func(path []string) string { return cmp.Or(element(path, atOp), layerName(path)) }))
	p.Held, p.ModelledPeakBytes = heldParts(p.Helds)
	return p
}

// parts adds spans up by a name of their path, in the order in which names
// come first.
func (p *Profile) parts(name func(path []string) string) []Part {
	var out []Part
	at := map[string]int{}
	for _, span := range p.Spans {
		key := name(span.Path)
		i, ok := at[key]
		if !ok {
			i, at[key] = len(out), len(out)
			out = append(out, Part{Name: key})
		}
		part := &out[i]
		part.Seconds += span.Seconds
		part.ModelledSeconds += modelled(span)
		part.Calls = plus(part.Calls, max(0, span.Calls))
		if n, ok := span.GFLOP.Get(); ok && n.Finite() && n >= 0 {
			part.GFLOP = trainer.Some(part.GFLOP.Or(0) + float64(n))
		}
		if n, ok := span.Bytes.Get(); ok && n >= 0 {
			part.Bytes = trainer.Some(plus(part.Bytes.Or(0), n))
		}
	}
	for i := range out {
		part := &out[i]
		part.Share = quotient(part.Seconds, p.Seconds).Or(0)
		n, counted := part.GFLOP.Get()
		if counted && math.IsInf(n, 0) {
			part.GFLOP, counted = trainer.Opt[float64]{}, false
		}
		if ceiling, ok := p.CeilingGFLOPS.Get(); counted && ok {
			part.CeilingShare = quotient(n, part.Seconds*float64(ceiling))
		}
	}
	return out
}

func modelled(s trainer.Span) float64 {
	if s.Modelled {
		return s.Seconds
	}
	return 0
}

// sane reports whether a span can be true. No step takes thirty years.
func sane(s trainer.Span) bool { return s.Seconds >= 0 && s.Seconds < 1e9 }

func element(path []string, at int) string {
	if at < len(path) {
		return path[at]
	}
	return ""
}

// layerName is what a leaf belongs to that other blocks have too: its layer, or
// what it is in where it has none.
func layerName(path []string) string {
	block := element(path, atBlock)
	if _, numbered := blockNumber(block); numbered {
		block = "block"
	}
	return cmp.Or(element(path, atLayer), block, element(path, atPhase), "unnamed")
}

func longest(parts []Part) []Part {
	slices.SortStableFunc(parts, func(a, b Part) int {
		return cmp.Or(cmp.Compare(b.Seconds, a.Seconds), cmp.Compare(a.Name, b.Name))
	})
	return parts[:min(most, len(parts))]
}

func phaseRank(name string) int {
	if i := slices.Index(phaseOrder, name); i >= 0 {
		return i
	}
	return len(phaseOrder)
}

func blockNumber(name string) (int, bool) {
	rest, ok := strings.CutPrefix(name, "block ")
	n, err := strconv.Atoi(rest)
	return n, ok && err == nil
}

// compareBlocks puts the embedding first and what is no numbered block last.
func compareBlocks(a, b string) int {
	rank := func(name string) (int, int) {
		n, numbered := blockNumber(name)
		switch {
		case name == "embedding":
			return 0, 0
		case numbered:
			return 1, n
		}
		return 2, 0
	}
	ra, na := rank(a)
	rb, nb := rank(b)
	return cmp.Or(cmp.Compare(ra, rb), cmp.Compare(na, nb), cmp.Compare(a, b))
}

func heldParts(helds []trainer.Held) (out []HeldPart, guessed int64) {
	at := map[string]int{}
	var total int64
	for _, h := range helds {
		kind := cmp.Or(element(h.Path, 0), "unnamed")
		i, ok := at[kind]
		if !ok {
			i, at[kind] = len(out), len(out)
			out = append(out, HeldPart{Name: kind})
		}
		out[i].Bytes = plus(out[i].Bytes, h.Bytes)
		total = plus(total, h.Bytes)
		if h.Modelled {
			out[i].ModelledBytes = plus(out[i].ModelledBytes, h.Bytes)
			guessed = plus(guessed, h.Bytes)
		}
	}
	for i := range out {
		out[i].Share = share(out[i].Bytes, total).Or(0)
	}
	slices.SortStableFunc(out, func(a, b HeldPart) int { return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Name, b.Name)) })
	return out, guessed
}

// plus adds what is not negative and stays at the largest number there is.
func plus(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

func share(part, whole int64) trainer.Opt[float64] {
	return quotient(float64(part), float64(whole))
}

// quotient is unknown where it is no number.
func quotient(a, b float64) trainer.Opt[float64] {
	q := a / b
	if b <= 0 || math.IsNaN(q) || math.IsInf(q, 0) {
		return trainer.Opt[float64]{}
	}
	return trainer.Some(q)
}

// profileSum is what one worker process said of its profile.
type profileSum struct {
	spans []trainer.Span
	helds []trainer.Held
	clock map[string]float64 // seconds by phase, over all steps
	end   *trainer.Profiled
}

// add takes an event of a profile in and reports whether it is one.
func (s *profileSum) add(p trainer.Payload) bool {
	switch p := p.(type) {
	case trainer.Phases:
		if s.clock == nil {
			s.clock = map[string]float64{}
		}
		for phase, seconds := range p.Seconds {
			if sane(trainer.Span{Seconds: seconds}) {
				s.clock[phase] += seconds
			}
		}
	case trainer.Span:
		s.spans = append(s.spans, p)
	case trainer.Held:
		s.helds = append(s.helds, p)
	case trainer.Profiled:
		s.end = &p
	default:
		return false
	}
	return true
}
