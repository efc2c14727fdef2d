package budget

import (
	"math"
	"testing"

	"github.com/mlxdyno/mlxdyno/probe/model"
	"github.com/mlxdyno/mlxdyno/trainer"
)

// byFormula is the peak when every part is what its formula says.
func byFormula(all Stages, s trainer.Shape) (peak float64, stage int) {
	for i, st := range all.At(s) {
		sum := all.Resident + st.Fixed
		for p, bytes := range st.Parts {
			if Part(p).Known() {
				sum += bytes
			}
		}
		if sum > peak {
			peak, stage = sum, i
		}
	}
	return peak, stage
}

// Formulas are near what was measured before any factor is fitted.
func TestStagesAgainstMeasured(t *testing.T) {
	for name, set := range map[string]struct {
		steps []measuredStep
		facts func(dtype string) model.Facts
	}{
		"large": {measuredByBlocks, func(dtype string) model.Facts { return llama(512, 1408, 8, 8, 4, 8192, dtype) }},
		"small": {heldOutSmall, func(dtype string) model.Facts { return llama(192, 512, 4, 3, 3, 1024, dtype) }},
	} {
		for _, c := range set.steps {
			k := config(func(k *trainer.Config) {
				k.Quality.Rank, k.Plan.Checkpointing, k.Model.Quantize = c.rank, c.checkpointing, c.bits
			})
			got, stage := byFormula(StagesOf(set.facts(c.dtype), k, "cpu"), trainer.Shape{Batch: c.batch, Width: c.length + 1})
			off := got/1e6/c.megabytes - 1
			t.Logf("%s %+v: %.1f MB in stage %d (%+.1f %%)", name, c, got/1e6, stage, 100*off)
			if math.Abs(off) > 0.2 {
				t.Errorf("%s %+v: %.1f MB by formula, measured %.1f", name, c, got/1e6, c.megabytes)
			}
		}
	}
}

// What decides which stage is highest, one thing at a time.
func TestStagesTurn(t *testing.T) {
	facts := llama(192, 512, 4, 3, 3, 8192, "F32")
	at := func(bits, rank int, gc bool, batch, length int) [StageCount]Stage {
		k := config(func(k *trainer.Config) { k.Quality.Rank, k.Plan.Checkpointing, k.Model.Quantize = rank, gc, bits })
		return StagesOf(facts, k, "cpu").At(trainer.Shape{Batch: batch, Width: length + 1})
	}
	part := func(s [StageCount]Stage, stage int, p Part) float64 { return s[stage].Parts[p] }
	if one, two := part(at(0, 8, false, 1, 512), StageLoss, PartLoss), part(at(0, 8, false, 1, 514), StageLoss, PartLoss); two > 0.51*one {
		t.Errorf("512 positions are scored at once with %.0f B, 514 in two parts with %.0f B", one, two)
	}
	if few, many := part(at(4, 8, false, 1, 4), StageBackward, PartDense), part(at(4, 8, false, 1, 5), StageBackward, PartDense); few != 0 || many == 0 {
		t.Errorf("dense matrices: %.0f B for 4 positions, %.0f B for 5", few, many)
	}
	if few, many := at(4, 8, false, 1, 4), at(4, 8, false, 1, 66); part(few, StageLoss, PartHead) != 0 || part(many, StageLoss, PartHead) == 0 || part(many, StageUnpack, PartHead) != 2*part(many, StageLoss, PartHead) {
		t.Errorf("a quantized head: for 4 positions %+v, for 66 %+v", few, many)
	}
	// 3 heads: 8 rows of 512 have 25 MB of scores, of which 6 MiB are there at once;
	// of 3 rows, no more than 2.
	two, three, eight := at(0, 8, false, 2, 512), at(0, 8, false, 3, 512), at(0, 8, false, 8, 512)
	if once := part(two, StageBackward, PartBlockScores); once == 0 || part(two, StageFew, PartFewScores) != 0 || part(three, StageFew, PartFewScores) != once || part(eight, StageFew, PartFewScores) != once || part(eight, StageBackward, PartBlockScores) != 0 {
		t.Errorf("scores of 2 rows %+v, of 3 rows %+v, of 8 rows %+v", two, three, eight)
	}
	if kept := part(eight, StageFew, PartKeptScores); kept != 4*part(two, StageBackward, PartKeptScores) {
		t.Error("scores that are kept do not grow with the rows")
	}
	if plain, again := at(0, 32, false, 4, 128), at(0, 32, true, 4, 128); again[StageBackward].Fixed == 0 || part(again, StageBackward, PartKept) >= part(plain, StageBackward, PartKept) {
		t.Errorf("with checkpointing %+v, without %+v", again[StageBackward], plain[StageBackward])
	}
	if low, high := part(at(0, 8, false, 1, 64), StageUpdate, PartUpdate), part(at(0, 32, false, 1, 64), StageUpdate, PartUpdate); high != 4*low {
		t.Errorf("update: %.0f B at rank 8, %.0f B at rank 32", low, high)
	}
}

// What is said of all steps up to a shape is no less than of any of them, and grows
// with the shape.
func TestStagesAtMost(t *testing.T) {
	facts := llama(192, 512, 4, 3, 3, 8192, "F32")
	for _, bits := range []int{0, 4} {
		all := StagesOf(facts, config(func(k *trainer.Config) { k.Model.Quantize = bits }), "cpu")
		for batch := 1; batch <= 8; batch++ {
			before := [StageCount]Stage{}
			for length := 1; length <= 700; length++ {
				s := trainer.Shape{Batch: batch, Width: length + 1}
				exact, most := all.At(s), all.AtMost(s)
				for i := range most {
					for p := range most[i].Parts {
						if most[i].Parts[p] < exact[i].Parts[p] || most[i].Parts[p] < before[i].Parts[p]*(1-1e-9) {
							t.Fatalf("%d bits, %d × %d, stage %d, part %d: %g at most, here %g, before %g", bits, batch, length, i, p, most[i].Parts[p], exact[i].Parts[p], before[i].Parts[p])
						}
					}
				}
				before = most
			}
		}
	}
}
