package replay

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/tuner"
	"github.com/mlxdyno/mlxdyno/tuner/search"
)

// near is how close to the best a configuration must be.
const near = 0.05

// ground is what searchers run on: a table, a limit of memory, and what is true
// there.
type ground struct {
	name   string
	m      *Machine
	limit  int64
	points []search.Point
	truth  map[search.Point]Truth
	best   float64 // seconds a useful token of the best that fits
	fit    int     // how many fit

	calibration cost // of tune, here
}

// grounds are the table with room for every configuration, for about six of ten
// and for about three of ten. Each limit is halfway between two peaks: it is no
// searcher's merit to hit one that fits by a hair.
func grounds(t testing.TB, table *Table) []*ground {
	t.Helper()
	m := table.NewMachine(math.MaxInt64, 0)
	points := table.Head.Points()
	truth := map[search.Point]Truth{}
	var peaks []int64
	for _, p := range points {
		v, err := m.Truth(p)
		if err != nil {
			t.Fatal(err)
		}
		truth[p] = v
		peaks = append(peaks, v.PeakBytes)
	}
	noFasterByRank(table.Head, truth)
	slices.Sort(peaks)
	var out []*ground
	for _, share := range []struct {
		name string
		of   float64
	}{{"all fit", 1}, {"six of ten fit", 0.6}, {"three of ten fit", 0.3}} {
		g := &ground{name: share.name, m: m, points: points, truth: truth, best: math.Inf(1)}
		n := int(share.of * float64(len(peaks)))
		if n == len(peaks) {
			g.limit = peaks[n-1] * 5 / 4
		} else { // the widest gap among the neighbours
			at, near := n, max(len(peaks)/20, 1)
			for i := n - near; i < n+near; i++ {
				if float64(peaks[i])/float64(peaks[i-1]) > float64(peaks[at])/float64(peaks[at-1]) {
					at = i
				}
			}
			g.limit = (peaks[at] + peaks[at-1]) / 2
		}
		for _, p := range points {
			if truth[p].PeakBytes <= g.limit {
				g.fit++
				g.best = min(g.best, truth[p].SecondsPerUsefulToken)
			}
		}
		_, _, report := ours(t, g, 0)
		for _, b := range report.Bursts {
			if b.Purpose == "calibrate" {
				g.calibration.processes++
				g.calibration.seconds += b.Seconds
			}
		}
		out = append(out, g)
	}
	return out
}

// noFasterByRank pools the times of neighbouring ranks where more parameters would
// come out as less work (isotonic regression). Processes of one configuration differ
// by a tenth, so their mean over a few rounds is not known to 5 %, and the least of
// many such means is the luckiest rather than the fastest.
func noFasterByRank(h Head, truth map[search.Point]Truth) {
	for p := range truth {
		if p.Rank != h.Ranks[0] {
			continue
		}
		times := make([]float64, len(h.Ranks))
		for i, rank := range h.Ranks {
			p.Rank = rank
			times[i] = truth[p].SecondsPerUsefulToken
		}
		for i, v := range isotonic(times) {
			p.Rank = h.Ranks[i]
			t := truth[p]
			t.SecondsPerUsefulToken = v
			truth[p] = t
		}
	}
}

// isotonic is the nearest sequence that never falls, by pooling neighbours.
func isotonic(v []float64) []float64 {
	type pool struct {
		sum float64
		n   int
	}
	mean := func(p pool) float64 { return p.sum / float64(p.n) }
	var pools []pool
	for _, x := range v {
		pools = append(pools, pool{x, 1})
		for n := len(pools); n > 1 && mean(pools[n-2]) > mean(pools[n-1]); n = len(pools) {
			pools[n-2] = pool{pools[n-2].sum + pools[n-1].sum, pools[n-2].n + pools[n-1].n}
			pools = pools[:n-1]
		}
	}
	var out []float64
	for _, p := range pools {
		for range p.n {
			out = append(out, mean(p))
		}
	}
	return out
}

// good reports whether p fits and is near the best.
func (g *ground) good(p search.Point) bool {
	v := g.truth[p]
	return v.PeakBytes <= g.limit && v.SecondsPerUsefulToken <= g.best*(1+near)
}

// race is one search on a ground.
type race struct {
	*ground
	machine   *Machine
	processes int
	seconds   float64

	incumbent search.Point
	value     float64 // measured of the incumbent; 0 before there is one
	reached   *cost   // when the incumbent first was good
	confirmed *cost   // when a good incumbent was measured again
}

// cost is what a search has spent.
type cost struct {
	processes int
	seconds   float64
}

// searcher proposes configurations until it is stopped or has none left.
type searcher func(r *race, rng *rand.Rand)

// tried is what a process showed of a configuration.
type tried struct {
	value float64 // seconds a useful token; 0 when it died
	peak  int64   // highest that was seen
}

// steps of every width in a trial: one that pays for first allocations and one
// whole update or two steps.
func trialSteps(accumulation int) int { return 1 + max(2, accumulation) }

// try runs a configuration in a process of its own, on every shape of its epoch.
func (r *race) try(p search.Point) tried {
	h := r.m.table.Head
	epoch := h.epoch(p.Batch)
	job := trainer.Job{Config: h.config(p), Mode: trainer.Normal}
	for _, s := range epoch {
		job.Shapes = append(job.Shapes, trainer.Shape{Batch: s.Batch, Width: s.Width, Steps: trialSteps(p.Accumulation)})
	}
	b := r.run(job)
	var out tried
	var seconds float64
	steps := b.Summary.Steps
	for _, s := range epoch {
		n := trialSteps(p.Accumulation)
		for i, step := range steps[:min(n, len(steps))] {
			out.peak = max(out.peak, step.Memory.Peak.Or(0))
			if i > 0 {
				seconds += step.Seconds / float64(n-1) * float64(s.Steps)
			}
		}
		steps = steps[min(n, len(steps)):]
	}
	if b.Result.Outcome.Good() {
		out.value = seconds / float64(h.useful(p.Batch))
	}
	return out
}

func (r *race) run(job trainer.Job) trainer.Burst {
	b, err := r.machine.Burst(context.Background(), job)
	if err != nil {
		panic(err) // the table holds the whole space
	}
	r.processes++
	r.seconds += b.Result.Elapsed.Seconds()
	return b
}

// consider tries p and keeps it when it is the best so far.
func (r *race) consider(p search.Point) tried {
	v := r.try(p)
	if v.value > 0 && (r.value == 0 || v.value < r.value) {
		r.incumbent, r.value = p, v.value
		if r.reached == nil && r.good(p) {
			r.reached = &cost{r.processes, r.seconds}
		}
	}
	return v
}

// over reports whether the search may end: its incumbent is what was looked for.
// A searcher without a rule of its own for when to stop gets this one, for free.
func (r *race) over() bool { return r.reached != nil }

// start makes a race of one seed.
func (g *ground) start(seed uint64) *race {
	return &race{ground: g, machine: g.m.again(g.limit, seed)}
}

// finish measures the incumbent once more, which confirms it.
func (r *race) finish() {
	if r.value > 0 && r.good(r.incumbent) {
		r.try(r.incumbent)
		r.confirmed = &cost{r.processes, r.seconds}
	}
}

// compete runs a searcher with a seed.
func (g *ground) compete(s searcher, seed uint64) *race {
	r := g.start(seed)
	s(r, rand.New(rand.NewPCG(seed, 2))) //nolint:gosec // not for secrets
	r.finish()
	return r
}

// ours is tune itself. It has a stopping rule: what it recommends is confirmed
// when its last confirmation is over, and whole is what all of it takes, the
// watch for leaks and the rehearsal included.
func ours(t testing.TB, g *ground, seed uint64) (r *race, whole cost, report *tuner.Report) {
	t.Helper()
	r = g.start(seed)
	h := g.m.table.Head
	base, err := h.Base()
	if err != nil {
		t.Fatal(err)
	}
	report, err = tuner.Study{
		Bursts: r.machine, Base: base, Facts: h.Facts, Lengths: h.Lengths, Prompts: h.Prompts, Device: h.Device,
		Tokens: trainer.TokenFiles{Train: "train"}, Limit: tuner.Limit{Bytes: g.limit, Source: "the replay"},
		Wishes: tuner.Wishes{MinBits: slices.Min(h.bitsAsked()), Ranks: h.Ranks, EffectiveBatch: h.Effective},
		Keys:   tuner.Keys{Machine: h.Machine, Data: "replay"}, Seed: seed,
	}.Run(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	c := report.Config
	r.incumbent = search.Point{Bits: c.Model.Quantize, Rank: c.Quality.Rank, Batch: c.Plan.Batch, Accumulation: c.Plan.Accumulation,
		Checkpointing: c.Plan.Checkpointing, MaxSeqLength: c.Data.MaxSeqLength}
	var last cost
	for _, b := range report.Bursts {
		whole.processes++
		whole.seconds += b.Seconds
		if b.Purpose != "confirm" {
			continue
		}
		last = whole
		if r.reached == nil && b.Outcome.Good() && slices.ContainsFunc(append(b.Companions, b.Point), g.good) {
			r.reached = &cost{whole.processes, whole.seconds}
		}
	}
	r.processes, r.seconds = last.processes, last.seconds
	if report.Verdict == tuner.Confirmed {
		r.value = 1 // it recommends what it ends with
		if g.good(r.incumbent) {
			r.confirmed = &last
		}
	}
	return r, whole, report
}
