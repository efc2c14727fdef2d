package search

import (
	"math"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/mlxdyno/mlxdyno/probe/budget"
	"github.com/mlxdyno/mlxdyno/probe/model"
	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/tuner/predict"
)

func candidates(t *rapid.T) []Candidate {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Candidate {
		return Candidate{
			Point:                 Point{Bits: rapid.SampledFrom([]int{0, 4, 8}).Draw(t, "bits"), Rank: rapid.SampledFrom([]int{8, 16}).Draw(t, "rank"), Batch: rapid.IntRange(1, 4).Draw(t, "batch"), MaxSeqLength: 33},
			PeakBytes:             rapid.Int64Range(1, 20).Draw(t, "peak"),
			SecondsPerUsefulToken: rapid.Float64Range(1, 2).Draw(t, "time"),
		}
	}), 1, 20).Draw(t, "candidates")
}

func TestParetoIsUndominatedAndComplete(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := candidates(t)
		front := Pareto(all)
		beats := func(a, b Candidate) bool {
			return a.SecondsPerUsefulToken <= b.SecondsPerUsefulToken && a.PeakBytes <= b.PeakBytes &&
				(a.SecondsPerUsefulToken < b.SecondsPerUsefulToken || a.PeakBytes < b.PeakBytes)
		}
		for _, f := range front {
			if slices.ContainsFunc(all, func(c Candidate) bool { return beats(c, f) }) {
				t.Fatalf("%+v is on the front and beaten", f)
			}
		}
		for _, c := range all {
			if !slices.ContainsFunc(front, func(f Candidate) bool {
				return f.SecondsPerUsefulToken <= c.SecondsPerUsefulToken && f.PeakBytes <= c.PeakBytes
			}) {
				t.Fatalf("%+v is neither on the front nor matched by it", c)
			}
		}
	})
}

func TestOrderDoesNotDependOnTheInput(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := candidates(t)
		for _, prefer := range []Preference{Speed, Memory, Quality} {
			a, b := slices.Clone(all), rapid.Permutation(all).Draw(t, "shuffled")
			Order(a, prefer)
			Order(b, prefer)
			if d := cmp.Diff(a, b); d != "" {
				t.Fatalf("%s: %s", prefer, d)
			}
		}
	})
}

func TestOrder(t *testing.T) {
	c := func(bits, rank int, peak int64, seconds float64) Candidate {
		return Candidate{Point: Point{Bits: bits, Rank: rank}, PeakBytes: peak, SecondsPerUsefulToken: seconds}
	}
	fast, tied, smallest, small, precise := c(4, 8, 100, 1.00), c(4, 8, 50, 1.04), c(4, 8, 1000, 3), c(8, 8, 1040, 3), c(0, 8, 2000, 2)
	fast.PeakBytes, tied.PeakBytes = 10_000, 5000
	tests := []struct {
		prefer Preference
		first  Candidate
	}{{Speed, tied}, {Memory, small}, {Quality, precise}}
	for _, tt := range tests {
		t.Run(string(tt.prefer), func(t *testing.T) {
			all := []Candidate{smallest, small, precise, fast, tied}
			Order(all, tt.prefer)
			if all[0] != tt.first {
				t.Fatalf("first is %+v", all[0])
			}
		})
	}
}

// large is a problem with a hundred thousand points.
func large(tb testing.TB) Problem {
	facts := model.Facts{Arch: "llama", Layers: 16, Hidden: 1024, Intermediate: 2816, Heads: 16, KVHeads: 8, HeadDim: 64, Vocab: 8192, DType: "F32", WeightBytes: 9e8}
	var samples []predict.Sample
	for _, gc := range []bool{false, true} {
		for _, s := range []trainer.Shape{{Batch: 1, Width: 129}, {Batch: 1, Width: 513}, {Batch: 4, Width: 257}, {Batch: 8, Width: 513}} {
			w := predict.WorkOf(s)
			samples = append(samples, predict.Sample{Condition: predict.Condition{Bits: 0, Rank: 8, Checkpointing: gc}, Shape: s, PeakBytes: 1e9 + 1e6*w.Positions + 1e3*w.Squares, Seconds: 0.01 + 1e-5*w.Positions})
		}
	}
	m, ok := predict.Fit(samples, predict.Known{
		WeightBytes:       func(bits int) int64 { return 1e9 / int64(1+bits) },
		AdapterParameters: func(rank int) int64 { return 1e5 * int64(rank) },
		Parameters:        1e9,
		Stages: func(c predict.Condition) budget.Stages {
			k := trainer.DefaultConfig()
			k.Model.Quantize, k.Quality.Rank, k.Plan.Checkpointing = c.Bits, c.Rank, c.Checkpointing
			return budget.StagesOf(facts, k, "cpu")
		}})
	if !ok {
		tb.Fatal("no fit")
	}
	space := Space{Bits: []int{0, 2, 3, 4, 8}, Checkpointing: []bool{false, true}}
	for i := range 10 {
		space.Ranks = append(space.Ranks, 4*(i+1))
		space.Caps = append(space.Caps, 1+32*(i+1))
	}
	for b := range 100 {
		space.Batchings = append(space.Batchings, Batching{b + 1, 1})
	}
	return Problem{Space: space, Model: m, Limit: 3e9, Plan: func(batch, limit int) Plan {
		s := trainer.Shape{Batch: batch, Width: limit}
		return Plan{Work: []predict.Work{predict.WorkOf(s)}, Widest: s, Batches: 1, Tokens: s.Positions(), Useful: s.Positions(), Positions: s.Positions()}
	}}
}

func TestEnumerateCountsEverything(t *testing.T) {
	p := large(t)
	p.Reject = func(pt Point) string {
		if pt.Batch == 7 {
			return "seven"
		}
		return ""
	}
	out := Enumerate(p)
	sum := len(out.Feasible)
	for _, n := range out.Infeasible {
		sum += n
	}
	if out.Enumerated != 100_000 || sum != out.Enumerated || out.Infeasible["seven"] != 1000 || out.Infeasible[WhyMemory] == 0 {
		t.Fatalf("%d enumerated, %d accounted for: %v", out.Enumerated, sum, out.Infeasible)
	}
	for _, c := range out.Feasible {
		if c.PeakBytes > p.Limit || !c.Fits {
			t.Fatalf("%+v does not fit", c)
		}
	}
	if n := len(out.Doubtful); n == 0 || n >= out.Infeasible[WhyMemory] {
		t.Fatalf("%d are doubtful of the %d that take too much", n, out.Infeasible[WhyMemory])
	}
	for _, c := range out.Doubtful {
		if c.PeakBytes > 2*p.Limit || c.Fits {
			t.Fatalf("%+v is beyond doubt", c)
		}
	}
}

// Where nothing is near to fitting, the candidate that takes least is left to be tried.
func TestEnumerateLeavesTheLeast(t *testing.T) {
	p := large(t)
	p.Limit = 1000
	out := Enumerate(p)
	if len(out.Feasible) > 0 || len(out.Doubtful) != 1 || out.Infeasible[WhyMemory] != out.Enumerated {
		t.Fatalf("%d fit, %d are doubtful of %d", len(out.Feasible), len(out.Doubtful), out.Enumerated)
	}
	p.Limit = math.MaxInt64
	for _, c := range Enumerate(p).Feasible {
		if c.PeakBytes < out.Doubtful[0].PeakBytes {
			t.Fatalf("%v takes less than %v", c.Point, out.Doubtful[0].Point)
		}
	}
}

func BenchmarkEnumerate100k(b *testing.B) {
	p := large(b)
	for b.Loop() {
		Enumerate(p)
	}
}
