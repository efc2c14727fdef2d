package tuner

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/tuner/predict"
)

// TestEpochCountsWhatIsComputed: positions as padded or packed, and the squares
// of packed rows one by one, whatever rows share a batch.
func TestEpochCountsWhatIsComputed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lengths := rapid.SliceOfN(rapid.Int32Range(0, 300), 1, 60).Draw(t, "lengths")
		batch, limit := rapid.IntRange(1, len(lengths)).Draw(t, "batch"), rapid.IntRange(2, 257).Draw(t, "cap")
		s := study(laptop(), 8<<30)
		s.Lengths, s.Prompts, s.Device = lengths, make([]int32, len(lengths)), rapid.SampledFrom([]string{"cpu", "cuda"}).Draw(t, "device")
		s.Base.Config.Plan.Batch, s.Base.Config.Data.GroupByLength = 1, rapid.Bool().Draw(t, "grouped")
		r, err := s.prepare()
		if err != nil {
			t.Fatal(err)
		}
		e := r.epoch(batch, limit)
		var want predict.Work
		var positions, widest int64
		for _, b := range e.batches {
			w := predict.Work{Steps: 1}
			for _, row := range b.Rows {
				n := float64(b.Shape.Width - 1)
				if b.Shape.Packed > 0 {
					n = float64(max(min(int(lengths[row]), limit)-1, 0))
				}
				w.Positions += n
				w.Squares += n * n
			}
			want = want.Plus(w)
			positions += b.Shape.Positions()
			widest = max(widest, b.Shape.Positions())
		}
		if got := predict.Sum(e.Work); got != want || e.Positions != positions || float64(positions) != want.Positions {
			t.Fatalf("work %+v of %d positions, want %+v of %d", got, e.Positions, want, positions)
		}
		if got := e.Widest; got.Packed != 0 || got.Positions() < widest || got.Positions() >= widest+int64(batch) || got.Width > limit {
			t.Fatalf("widest %+v, where the most positions are %d", got, widest)
		}
		steps := 0
		for i, shape := range e.shapes() {
			if steps += shape.Steps; shape.Packed != 0 || i > 0 && shape.Width <= e.shapes()[i-1].Width {
				t.Fatalf("shapes %+v", e.shapes())
			}
		}
		if steps != e.Batches {
			t.Fatalf("%d batches in shapes of %d", e.Batches, steps)
		}
	})
}

// TestDeviceDecidesOnBatches: their shapes are bounded on a device that compiles,
// and rows are packed on one that does not, as soon as it is known.
func TestDeviceDecidesOnBatches(t *testing.T) {
	r, err := study(laptop(), 8<<30).prepare()
	if err != nil {
		t.Fatal(err)
	}
	if e := r.epoch(4, 2049); e.packed || len(e.shapes()) > int(trainer.DefaultMaxShapes) {
		t.Errorf("unknown device: packed %t, %d shapes", e.packed, len(e.shapes()))
	}
	padded := r.epoch(4, 2049)
	r.observe(trainer.Burst{Summary: trainer.Summary{Hello: &trainer.Hello{Device: trainer.Device{Kind: "cpu"}}}})
	if e := r.epoch(4, 2049); !e.packed || e.Positions >= padded.Positions || e.Tokens > e.Positions {
		t.Errorf("on a CPU: packed %t, %d positions instead of %d for %d tokens", e.packed, e.Positions, padded.Positions, e.Tokens)
	}
	r.Base.Config.Engine = trainer.EngineMLXLM
	clear(r.plans)
	if e := r.epoch(4, 2049); e.packed || len(e.shapes()) <= int(trainer.DefaultMaxShapes) {
		t.Errorf("mlx-lm: packed %t, %d shapes", e.packed, len(e.shapes()))
	}
}

// TestValidationSharesShapes: widths that the validation rows need are reckoned
// with.
func TestValidationSharesShapes(t *testing.T) {
	s := study(laptop(), 8<<30)
	s.Device = "cuda"
	alone, err := s.prepare()
	if err != nil {
		t.Fatal(err)
	}
	for range 400 {
		s.ValidLengths = append(s.ValidLengths, 900)
	}
	both, err := s.prepare()
	if err != nil {
		t.Fatal(err)
	}
	if a, b := alone.epoch(4, 2049).Positions, both.epoch(4, 2049).Positions; a >= b {
		t.Errorf("%d positions alone, %d when validation takes a width", a, b)
	}
}
