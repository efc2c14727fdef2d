package data

import (
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// widened is what padding is left when every batch takes the narrowest of the
// widths that holds it; a batch that none holds is beyond all.
func widened(counts map[int]int64, widths []int) int64 {
	var sum int64
	for need, n := range counts {
		at := slices.IndexFunc(widths, func(w int) bool { return w >= need })
		if at < 0 {
			return math.MaxInt64
		}
		sum += n * int64(widths[at]-need)
	}
	return sum
}

// bruteForce tries every set of at most so many of the candidates.
func bruteForce(counts map[int]int64, candidates []int, most int) int64 {
	best := int64(math.MaxInt64)
	for set := range 1 << len(candidates) {
		var widths []int
		for i, w := range candidates {
			if set>>i&1 == 1 {
				widths = append(widths, w)
			}
		}
		if len(widths) <= most {
			best = min(best, widened(counts, widths))
		}
	}
	return best
}

// TestFewestIsOptimal also offers brute force widths that no batch needs.
func TestFewestIsOptimal(t *testing.T) {
	const grid = 11
	rng := rand.New(rand.NewPCG(1, 2))
	for range 400 {
		candidates := make([]int, grid)
		counts := map[int]int64{}
		for i := range candidates {
			candidates[i] = 1 + padTo*(i+1)
			if rng.IntN(3) > 0 {
				counts[candidates[i]] = 1 + rng.Int64N(50)
			}
		}
		if len(counts) == 0 {
			continue
		}
		most := 1 + rng.IntN(6)
		got := fewest(counts, most)
		if len(got) > most || !slices.IsSorted(got) || len(slices.Compact(slices.Clone(got))) != len(got) {
			t.Fatalf("at most %d of %v: %v", most, counts, got)
		}
		if is, want := widened(counts, got), bruteForce(counts, candidates, most); is != want {
			t.Fatalf("at most %d of %v: %v pads %d, %d is possible", most, counts, got, is, want)
		}
		if least := len(slices.Collect(maps.Keys(counts))); len(got) < min(most, least) {
			t.Fatalf("%d widths where %d would pad less", len(got), min(most, least))
		}
	}
}

func drawBatching(t *rapid.T) Batching {
	return Batching{Batch: rapid.IntRange(1, 5).Draw(t, "batch"), MaxSeqLength: rapid.IntRange(2, 400).Draw(t, "cap"),
		Grouped: rapid.Bool().Draw(t, "grouped"), MaxShapes: rapid.IntRange(0, 9).Draw(t, "shapes"), Packed: rapid.Bool().Draw(t, "packed")}
}

func drawLengths(t *rapid.T, name string) []int32 {
	return rapid.SliceOfN(rapid.Int32Range(0, 500), 0, 80).Draw(t, name)
}

// TestBatchingChangesShapesAlone: bounded or packed, the same rows share the
// same batches, and all their tokens go through the model.
func TestBatchingChangesShapesAlone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b, lengths := drawBatching(t), drawLengths(t, "lengths")
		plain := PlanBatches(lengths, Batching{Batch: b.Batch, MaxSeqLength: b.MaxSeqLength, Grouped: b.Grouped})
		plan := PlanBatches(lengths, b)
		if len(plan) != len(plain) {
			t.Fatalf("%d batches instead of %d", len(plan), len(plain))
		}
		shapes := map[trainer.Shape]bool{}
		for i, got := range plan {
			shapes[got.Shape] = true
			if !slices.Equal(got.Rows, plain[i].Rows) {
				t.Fatalf("batch %d has rows %v instead of %v", i, got.Rows, plain[i].Rows)
			}
			need := plain[i].Shape
			longest, positions := 0, 0
			for _, r := range got.Rows {
				longest = max(longest, int(lengths[r]))
				positions += max(min(int(lengths[r]), b.MaxSeqLength)-1, 0)
			}
			if b.Packed && positions > 0 {
				want := Batch{Shape: trainer.Shape{Batch: b.Batch, Width: min(1+longest, b.MaxSeqLength), Packed: positions}, Tokens: int64(positions), Rows: got.Rows}
				if d := cmp.Diff(want, got); d != "" || got.Shape.Positions() != int64(positions) {
					t.Fatal(d)
				}
				continue
			}
			if got.Shape.Packed != 0 || got.Shape.Width < need.Width || got.Shape.Width > b.MaxSeqLength || got.Tokens != plain[i].Tokens {
				t.Fatalf("batch %+v of %+v", got, plain[i])
			}
			if (!b.Grouped || b.MaxShapes == 0 || b.Packed) && got.Shape != need {
				t.Fatalf("batch %+v is not bounded and differs from %+v", got, need)
			}
			if w := got.Shape.Width; w != b.MaxSeqLength && w%padTo != 1 {
				t.Fatalf("width %d", w)
			}
		}
		if b.Grouped && !b.Packed && b.MaxShapes > 0 {
			if len(shapes) > b.MaxShapes {
				t.Fatalf("%d shapes, at most %d are allowed", len(shapes), b.MaxShapes)
			}
			for w := range shapes {
				if !slices.Contains(Widths(lengths, b), w.Width) {
					t.Fatalf("width %d is not among %v", w.Width, Widths(lengths, b))
				}
			}
		} else if Widths(lengths, b) != nil {
			t.Fatalf("widths %v", Widths(lengths, b))
		}
	})
}

// TestBoundHoldsForBothSplits: training and validation together make no more
// shapes than allowed, and pad no more than brute force can.
func TestBoundHoldsForBothSplits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b, train, valid := drawBatching(t), drawLengths(t, "train"), drawLengths(t, "valid")
		b.Grouped, b.Packed, b.MaxShapes = true, false, max(b.MaxShapes, 1)
		own := b
		own.MaxShapes = 0
		b = b.Bounded(train, valid)
		shapes, counts := map[trainer.Shape]bool{}, map[int]int64{}
		var padding int64
		both := append(PlanBatches(train, b), Validation(valid, b, -1, 1)...)
		for i, plain := range append(PlanBatches(train, own), Validation(valid, own, -1, 1)...) {
			shapes[both[i].Shape] = true
			if plain.Shape.Batch == b.Batch {
				counts[plain.Shape.Width]++
				padding += int64(both[i].Shape.Width - plain.Shape.Width)
			} else if both[i].Shape != plain.Shape {
				t.Fatalf("validation in a small batch of %+v instead of %+v", both[i].Shape, plain.Shape)
			}
		}
		allowed, most := b.MaxShapes, b.MaxShapes
		if 0 < len(valid) && len(valid) < b.Batch {
			most = max(b.MaxShapes-1, 1)
			allowed = max(b.MaxShapes, 2) // one of them is the small batch's
		}
		if len(shapes) > allowed {
			t.Fatalf("%d shapes where %d are allowed: %v", len(shapes), allowed, shapes)
		}
		if candidates := slices.Sorted(maps.Keys(counts)); len(candidates) > 0 {
			if best := bruteForce(counts, candidates, most); padding != best {
				t.Fatalf("widths %v pad %d, %d is possible for %v", b.widths, padding, best, counts)
			}
		}
		if again := b.Bounded(valid, train); !slices.Equal(again.widths, b.widths) {
			t.Fatalf("chosen again: %v after %v", again.widths, b.widths)
		}
	})
}

// TestUngroupedValidationIsItsOwn: mlx-lm's evaluate() groups rows whatever
// training does, and there is no bound to share.
func TestUngroupedValidationIsItsOwn(t *testing.T) {
	lengths := []int32{10, 160, 40, 120, 80, 20}
	b := Batching{Batch: 2, MaxSeqLength: 512, MaxShapes: 2}
	var widths []int
	for _, v := range Validation(lengths, b.Bounded(lengths, lengths), -1, 1) {
		widths = append(widths, v.Shape.Width)
	}
	if slices.Sort(widths); !slices.Equal(widths, []int{33, 97, 161}) {
		t.Errorf("widths %v", widths)
	}
}

// TestSmallValidationTakesAShape: what it takes is not there for training.
func TestSmallValidationTakesAShape(t *testing.T) {
	train, valid := []int32{10, 10, 50, 50, 50, 50, 90, 90}, []int32{70}
	for most, want := range map[int][]int{1: {97}, 2: {97}, 3: {65, 97}, 4: {33, 65, 97}} {
		b := Batching{Batch: 2, MaxSeqLength: 512, Grouped: true, MaxShapes: most}.Bounded(train, valid)
		if !slices.Equal(b.widths, want) {
			t.Errorf("at most %d: widths %v, want %v", most, b.widths, want)
		}
		if got := Validation(valid, b, -1, 1); len(got) != 1 || got[0].Shape != (trainer.Shape{Batch: 1, Width: 97}) {
			t.Errorf("at most %d: validation %+v", most, got)
		}
	}
}

// TestForeignRowsFit: widths chosen for other rows hold wider ones, too.
func TestForeignRowsFit(t *testing.T) {
	b := Batching{Batch: 1, MaxSeqLength: 512, Grouped: true, MaxShapes: 2}.Bounded([]int32{30, 60}, nil)
	for _, got := range PlanBatches([]int32{5, 64, 65}, b) {
		if want := map[int]int{0: 33, 1: 65, 2: 97}[got.Rows[0]]; got.Shape.Width != want {
			t.Errorf("row %d in width %d, want %d", got.Rows[0], got.Shape.Width, want)
		}
	}
}

func TestBatchingOf(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*trainer.Config)
		device string
		want   Batching
	}{
		"on a GPU":           {func(*trainer.Config) {}, "cuda", Batching{MaxShapes: 8}},
		"on no known device": {func(*trainer.Config) {}, "", Batching{MaxShapes: 8}},
		"on a CPU":           {func(*trainer.Config) {}, "cpu", Batching{MaxShapes: 8, Packed: true}},
		"compiled on a CPU":  {func(c *trainer.Config) { c.Plan.Compile = "on" }, "cpu", Batching{MaxShapes: 8}},
		"eager on a GPU":     {func(c *trainer.Config) { c.Plan.Compile = "off" }, "metal", Batching{MaxShapes: 8, Packed: true}},
		"packing on":         {func(c *trainer.Config) { c.Plan.Packing = trainer.PackingOn }, "cuda", Batching{MaxShapes: 8, Packed: true}},
		"packing off":        {func(c *trainer.Config) { c.Plan.Packing = trainer.PackingOff }, "cpu", Batching{MaxShapes: 8}},
		"any shapes":         {func(c *trainer.Config) { c.Plan.MaxShapes = 0 }, "cuda", Batching{}},
		"parity":             {func(c *trainer.Config) { c.Parity, c.Plan.Packing = true, trainer.PackingOn }, "cpu", Batching{}},
		"mlx-lm":             {func(c *trainer.Config) { c.Engine = trainer.EngineMLXLM }, "cpu", Batching{}},
	} {
		c := trainer.DefaultConfig()
		c.Plan.Batch, c.Data.MaxSeqLength, c.Data.GroupByLength = 3, 99, true
		tt.change(&c)
		tt.want.Batch, tt.want.MaxSeqLength, tt.want.Grouped = 3, 99, true
		if d := cmp.Diff(tt.want, BatchingOf(c, tt.device), cmp.AllowUnexported(Batching{})); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
	c := trainer.DefaultConfig()
	if c.Data.GroupByLength = false; BatchingOf(c, "cuda").Grouped {
		t.Error("grouped against the configuration")
	}
}

func BenchmarkBounded(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 2))
	lengths := make([]int32, 100_000)
	for i := range lengths {
		lengths[i] = int32(math.Exp(5 + rng.NormFloat64()))
	}
	for b.Loop() {
		Batching{Batch: 4, MaxSeqLength: 32_769, Grouped: true, MaxShapes: 8}.Bounded(lengths, lengths[:10_000])
	}
}
