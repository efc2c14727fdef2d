// Package pace judges how fast a run goes, from the seconds of its steps:
// whether it slows down, how much steps differ, how long the device waits for
// data, whether the host holds it up, and how near it comes to what the machine
// can do.
//
// Steps of different shapes take different times, and the first of each shape
// pays for compiling it: shapes are compared each with itself. A drift is said
// only where it is sure and worth a word; else the report says how large one
// would have been seen. The package imports nothing of ours, and does not know
// where steps come from.
package pace

import (
	"fmt"
	"math"
	"slices"
)

// Step is one step of a run. What is zero, negative or no number was not
// measured.
type Step struct {
	Seconds     float64 // without the wait for data
	DataSeconds float64
	Tokens      float64 // that the step was worth
	Positions   float64 // that it computed, padding included; equal ones are one shape
}

// Run is what is judged.
type Run struct {
	Steps     []Step  // oldest first
	Skip      int     // steps at the start that are not looked at
	BusyShare float64 // of the time in which the device computed; 0 when unknown
	Ceiling   float64 // tokens a second that the machine can do at best; 0 when unknown
}

// Report is the judgement.
type Report struct {
	Steps    int     `json:"steps"`     // judged: those with a time, without the first of each shape
	Drift    Drift   `json:"drift"`     //
	Jitter   Jitter  `json:"jitter"`    //
	DataWait float64 `json:"data_wait"` // share of step and data time spent on waiting for data
	Host     Host    `json:"host"`

	TokensPerSecond float64 `json:"tokens_per_second"` // over step and data time; 0 when tokens are unknown
	CeilingShare    float64 `json:"ceiling_share"`     // 0 when unknown
	Impossible      bool    `json:"impossible"`        // faster than the machine can be: a wrong unit or a wrong log
}

// Jitter is how much steps differ, each relative to the median of its shape.
type Jitter struct {
	P50 float64 `json:"p50_seconds"` // of all steps judged
	P95 float64 `json:"p95_ratio"`
	P99 float64 `json:"p99_ratio"`
}

// Host says whether the device is suspected to wait for the host.
type Host struct {
	Suspected  bool    `json:"suspected"`
	FixedShare float64 `json:"fixed_share"` // of a median step that does not depend on its size; 0 when shapes do not tell
	Reason     string  `json:"reason"`
}

const (
	minSize    = 3    // steps of a shape that make a median
	idle       = 0.20 // of the time: a device that waits for its host
	fixed      = 0.50 // of a step: launching, not computing
	minSpread  = 1.5  // between the sizes of steps, to tell what is fixed
	overheard  = 1.02 // above a ceiling, by rounding
	minSizes   = 2    // different ones
	percentile = 100
)

// Judge reports on a run.
func Judge(r Run) Report {
	all := measured(r)
	steps, ratios := normal(all)
	out := Report{Steps: len(steps), Drift: drift(ratios)}
	var seconds []float64
	for _, s := range steps {
		seconds = append(seconds, s.Seconds)
	}
	out.Jitter = Jitter{P50: quantile(seconds, 50), P95: quantile(ratios, 95), P99: quantile(ratios, 99)}
	var busy, wait, tokens float64
	for _, s := range steps {
		busy, wait, tokens = busy+s.Seconds, wait+s.DataSeconds, tokens+s.Tokens
	}
	if busy+wait > 0 && !math.IsInf(busy+wait+tokens, 0) {
		out.DataWait = wait / (busy + wait)
		out.TokensPerSecond = finite(tokens / (busy + wait))
	}
	if r.Ceiling > 0 {
		out.CeilingShare = finite(out.TokensPerSecond / r.Ceiling)
		out.Impossible = out.CeilingShare > overheard
	}
	out.Host = host(steps, r.BusyShare)
	return out
}

// measured are the steps that have a time, with what else is known of them.
func measured(r Run) []Step {
	var out []Step
	for _, s := range r.Steps[min(max(r.Skip, 0), len(r.Steps)):] {
		if !(s.Seconds > 0) || math.IsInf(s.Seconds, 0) {
			continue
		}
		for _, v := range []*float64{&s.DataSeconds, &s.Tokens, &s.Positions} {
			if !(*v > 0) || math.IsInf(*v, 0) {
				*v = 0
			}
		}
		out = append(out, s)
	}
	return out
}

// normal leaves out the first step of each shape, which pays for compiling, and
// says how long each other one took against the median of its shape.
func normal(all []Step) (steps []Step, ratios []float64) {
	times := map[float64][]float64{}
	seen := map[float64]bool{}
	for _, s := range all {
		if seen[s.Positions] {
			steps = append(steps, s)
			times[s.Positions] = append(times[s.Positions], s.Seconds)
		}
		seen[s.Positions] = true
	}
	typical := map[float64]float64{}
	for p, t := range times {
		if len(t) >= minSize {
			typical[p] = quantile(t, 50)
		}
	}
	var kept []Step
	for _, s := range steps {
		if m := typical[s.Positions]; m > 0 && !math.IsInf(s.Seconds/m, 0) && s.Seconds/m > 0 {
			kept = append(kept, s)
			ratios = append(ratios, s.Seconds/m)
		}
	}
	return kept, ratios
}

// host suspects the host where the device is said to idle, or where a step
// takes much the same time whatever its size.
func host(steps []Step, busyShare float64) Host {
	h := Host{FixedShare: fixedShare(steps)}
	known := busyShare > 0 && busyShare <= 1
	switch {
	case known && busyShare < 1-idle:
		h.Suspected, h.Reason = true, fmt.Sprintf("the device computes %.0f %% of the time", 100*busyShare)
	case known:
		h.Reason = fmt.Sprintf("the device computes %.0f %% of the time", 100*busyShare)
	case h.FixedShare > fixed:
		h.Suspected, h.Reason = true, fmt.Sprintf("%.0f %% of a step does not depend on its size", 100*h.FixedShare)
	case h.FixedShare > 0:
		h.Reason = fmt.Sprintf("%.0f %% of a step depends on its size", 100*(1-h.FixedShare))
	default:
		h.Reason = "steps of one size do not tell"
	}
	return h
}

// fixedShare is what a line through the median times of all sizes leaves of a
// median step when its size goes to zero.
func fixedShare(steps []Step) float64 {
	times := map[float64][]float64{}
	for _, s := range steps {
		if s.Positions > 0 {
			times[s.Positions] = append(times[s.Positions], s.Seconds)
		}
	}
	var sizes []float64
	for p := range times {
		sizes = append(sizes, p)
	}
	slices.Sort(sizes)
	if len(sizes) < minSizes || sizes[len(sizes)-1] < minSpread*sizes[0] {
		return 0
	}
	var slopes, seconds []float64
	for i, p := range sizes {
		seconds = append(seconds, quantile(times[p], 50))
		for j := range i {
			slopes = append(slopes, (seconds[i]-seconds[j])/(p-sizes[j]))
		}
	}
	mid := len(sizes) / 2
	share := 1 - quantile(slopes, 50)*sizes[mid]/seconds[mid]
	return min(max(finite(share), 0), 1)
}

// quantile is the p-th percentile, between two values the lower; 0 of nothing.
func quantile(values []float64, p int) float64 {
	if len(values) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(values))
	if p == 50 && len(s)%2 == 0 {
		return s[len(s)/2-1]/2 + s[len(s)/2]/2
	}
	return s[min(len(s)*p/percentile, len(s)-1)]
}

func finite(v float64) float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return 0
	}
	return v
}
