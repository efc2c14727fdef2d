package leak

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Size is something that may have been kept.
type Size struct {
	Name  string
	Bytes int64
}

// Sizes are all that growth is compared with.
type Sizes struct {
	Gradients   []Size // one of each tensor that is trained
	Moments     int    // copies of all of them that the optimizer keeps: 2 for Adam
	Activations []Size // what the backward pass keeps of each layer
	Loss        []Size // arrays of the loss's graph, such as the logits
	Batch       []Size // arrays of a batch, such as its tokens
	Others      []Size // anything else, such as gradients of frozen tensors

	UpdateEvery int   // steps to one optimizer update; what is kept once an update is spread over them
	Page        int64 // arrays larger than this take whole pages of it; 0 when they do not
}

// Kind is what sort of thing was kept.
type Kind string

const (
	AllGradients  Kind = "all gradients"
	OneGradient   Kind = "one gradient"
	AllMoments    Kind = "all optimizer state"
	OneMoment     Kind = "one optimizer moment"
	LayersBackups Kind = "activations"
	LossGraph     Kind = "loss graph"
	BatchArrays   Kind = "batch"
	Other         Kind = "other"
)

// Attribution is one thing of the right size.
type Attribution struct {
	Kind          Kind     `json:"kind"`
	Names         []string `json:"names,omitempty"` // any one of these, all of one size; none for what is one of its kind
	Bytes         int64    `json:"bytes"`           // of one
	Multiple      int      `json:"multiple"`        // so many are kept
	EverySteps    int      `json:"every_steps"`     // once in so many steps
	RelativeError float64  `json:"relative_error"`  // of the growth against this
	IsExact       bool     `json:"is_exact"`        // equal to the byte
	Rivals        int      `json:"rivals"`          // other attributions, and other names in this one, that fit as well
}

// String is the attribution in words.
func (a Attribution) String() string {
	var b strings.Builder
	if a.Multiple > 1 {
		fmt.Fprintf(&b, "%d × ", a.Multiple)
	}
	switch {
	case len(a.Names) == 0:
		b.WriteString(string(a.Kind))
	case a.Kind == OneGradient:
		b.WriteString("a gradient of " + strings.Join(a.Names, " or of "))
	default:
		b.WriteString(strings.Join(a.Names, " or "))
	}
	if a.EverySteps > 1 {
		fmt.Fprintf(&b, " every %d steps", a.EverySteps)
	}
	return b.String()
}

const (
	near         = 0.01 // of a size, for growth that is not equal to the byte
	maxMultiples = 4
)

// Attribute lists what has the size of the growth, the likeliest first: equal
// to the byte before near, one before several, kept at every step before kept
// once an update. Near is within the growth's interval, but for exact growth
// within 1 %. Small multiples of many sizes meet a wide interval by chance: the
// rivals say how much one attribution is worth.
func Attribute(r Rate, s Sizes) []Attribution {
	if !(r.BytesAStep > 0) || math.IsInf(r.BytesAStep, 0) {
		return nil
	}
	low, high := r.Low, r.High
	if r.IsExact || !(low <= r.BytesAStep && r.BytesAStep <= high) {
		low, high = (1-near)*r.BytesAStep, (1+near)*r.BytesAStep
	}
	periods := []int{1}
	if s.UpdateEvery > 1 {
		periods = append(periods, s.UpdateEvery)
	}
	var out []Attribution
	for _, c := range s.candidates() {
		for multiple := 1; multiple <= maxMultiples; multiple++ {
			for _, every := range periods {
				if every > 1 && multiple%every == 0 || c.Kind == OneMoment && multiple > 1 && multiple%s.Moments == 0 {
					continue // the same as fewer at each step, or as all moments
				}
				bytes := float64(c.Bytes) * float64(multiple) / float64(every)
				c.RelativeError = r.BytesAStep/bytes - 1
				c.IsExact = r.IsExact && r.BytesAStep*float64(every) == float64(c.Bytes)*float64(multiple)
				if !(c.IsExact || low <= bytes && bytes <= high) {
					continue
				}
				c.Multiple, c.EverySteps = multiple, every
				out = append(out, c)
			}
		}
	}
	slices.SortStableFunc(out, func(a, b Attribution) int {
		return cmp.Or(boolFirst(a.IsExact, b.IsExact), cmp.Compare(a.strain(high/low), b.strain(high/low)))
	})
	return distinct(out)
}

// distinct drops a size that occurs both as it is and in whole pages, and
// counts rivals.
func distinct(all []Attribution) []Attribution {
	var out []Attribution
	for _, a := range all {
		if !slices.ContainsFunc(out, func(b Attribution) bool {
			return a.Kind == b.Kind && a.Multiple == b.Multiple && a.EverySteps == b.EverySteps && slices.Equal(a.Names, b.Names)
		}) {
			out = append(out, a)
		}
	}
	exact := 0
	names := 0
	for _, a := range out {
		if a.IsExact {
			exact += max(len(a.Names), 1)
		}
		names += max(len(a.Names), 1)
	}
	for i := range out {
		if out[i].IsExact {
			out[i].Rivals = exact - 1
		} else {
			out[i].Rivals = names - 1
		}
	}
	return out
}

// strain is how far-fetched an attribution is: its error against the interval's
// ratio, and what it needs beside one array at each step.
func (a Attribution) strain(ratio float64) float64 {
	s := 0.5 * float64(a.Multiple-1)
	if a.EverySteps > 1 {
		s += 0.5
	}
	if !a.IsExact && ratio > 1 {
		s += math.Abs(math.Log1p(a.RelativeError)) / math.Log(ratio)
	}
	return s
}

func boolFirst(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// candidates are all sizes, those of a kind and a size together.
func (s Sizes) candidates() []Attribution {
	var out []Attribution
	add := func(k Kind, bytes int64, name ...string) {
		if bytes <= 0 {
			return
		}
		if i := slices.IndexFunc(out, func(a Attribution) bool { return a.Kind == k && a.Bytes == bytes }); i >= 0 {
			out[i].Names = append(out[i].Names, name...)
			return
		}
		out = append(out, Attribution{Kind: k, Names: name, Bytes: bytes})
	}
	measures := []func(int64) int64{func(b int64) int64 { return b }}
	if s.Page > 0 {
		measures = append(measures, s.allocated)
	}
	for _, measure := range measures {
		var all int64
		for _, g := range s.Gradients {
			all += measure(max(g.Bytes, 0))
		}
		if all < 0 { // sizes that no machine has
			all = 0
		}
		add(AllGradients, all)
		if s.Moments > 0 && all <= math.MaxInt64/int64(s.Moments) {
			add(OneMoment, all)
			if s.Moments > 1 {
				add(AllMoments, int64(s.Moments)*all)
			}
		}
		for _, group := range []struct {
			kind  Kind
			sizes []Size
		}{{OneGradient, s.Gradients}, {LayersBackups, s.Activations}, {LossGraph, s.Loss}, {BatchArrays, s.Batch}, {Other, s.Others}} {
			seen := len(out)
			for _, x := range group.sizes {
				b := measure(x.Bytes)
				known := func(a Attribution) bool {
					return a.Kind == group.kind && a.Bytes == b && slices.Contains(a.Names, x.Name)
				}
				if !slices.ContainsFunc(out[:seen], known) {
					add(group.kind, b, x.Name)
				}
			}
		}
	}
	return out
}

// allocated is what an allocator in whole pages takes.
func (s Sizes) allocated(bytes int64) int64 {
	if bytes <= s.Page || bytes > math.MaxInt64-s.Page {
		return bytes
	}
	return (bytes + s.Page - 1) / s.Page * s.Page
}
