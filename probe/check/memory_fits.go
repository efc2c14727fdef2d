package check

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/probe/budget"
	"github.com/mlxdyno/mlxdyno/trainer"
)

var memoryFits = Check{
	Code: "memory.fits", DependsOn: []string{"memory.page-size", "memory.limit-below-weights"},
	Story: Story{
		Title: "Does the configuration fit",
		Means: "The peak of a step is above the limit or above what is free now. The system swaps, kills the training, or on a Mac may stall altogether.",
		How:   "The measured peak, or else the estimated one, plus the process's own memory is compared with the tightest limit and with available memory.",
		Do:    "In this order: gradient checkpointing, a smaller batch with accumulation, quantization, a shorter sequence; or close other programs.",
	},
	run: func(in Input) probe.Finding {
		b := in.Budget
		if b == nil {
			return probe.Finding{}
		}
		peak, ok := b.Peak.Best().Get()
		limit, limited := b.Limit.Bytes.Get()
		if !ok || !limited {
			return unclear("Whether the configuration fits is unknown", "the peak or every limit is unknown")
		}
		source, confidence := "estimate", probe.Likely
		if b.Peak.Measured.Known() {
			source, confidence = b.Peak.Source, probe.Measured
		}
		name := fmt.Sprintf("peak of a step of %d × %d tokens", b.Shape.Batch, b.Shape.Width-1)
		if wide, ok := in.widestPeak(); ok {
			peak, confidence = wide, probe.Likely
			name = fmt.Sprintf("peak of the widest batch, %d × %d tokens", in.Widest.Batch, in.Widest.Width-1)
			if source = "estimate"; b.Peak.Measured.Known() {
				source = fmt.Sprintf("estimate, scaled by what %d × %d tokens took", b.Shape.Batch, b.Shape.Width-1)
			}
		}
		need := peak
		evidence := []probe.Evidence{size(name, peak, "≤ "+trainer.FormatBytes(limit), source), size("limit: "+b.Limit.Name, limit, "", b.Limit.From)}
		if rest, ok := b.Line(budget.Others).Measured.Get(); ok {
			need += rest
			evidence = append(evidence, size("process besides MLX", rest, "", b.Line(budget.Others).Source))
		}
		free := budget.Available(in.Snapshot)
		if in.backend() == "cuda" {
			free = probe.Unknown[int64]("not compared on a GPU of its own", "")
		}
		available, known := free.Get()
		if known {
			evidence = append(evidence, size("available now", available, "≥ "+trainer.FormatBytes(need), free.Source()))
		}
		var f probe.Finding
		switch {
		case need > limit:
			f = finding(probe.Warn, "A step needs "+trainer.FormatBytes(need)+", above the limit of "+trainer.FormatBytes(limit),
				"the limit is "+b.Limit.Name+": "+b.Limit.Note, evidence...)
			f.Fix = in.shrink(limit)
		case known && need > available:
			f = finding(probe.Warn, "A step needs "+trainer.FormatBytes(need)+", but "+trainer.FormatBytes(available)+" are free now",
				"the rest must be taken from other programs, by compressing or swapping their memory", evidence...)
			f.Fix = append([]probe.Fix{{Text: "Close large programs (see memory.others)"}}, in.shrink(available)...)
		case need > limit/10*9:
			f = finding(probe.Info, "A step needs "+percent(float64(need)/float64(limit))+" of the limit", "there is little room for error", evidence...)
		default:
			f = pass("A step needs "+trainer.FormatBytes(need)+" of "+trainer.FormatBytes(limit), evidence...)
		}
		f.Confidence = confidence
		return f
	},
	prove: func(in Input) (Experiment, bool) {
		limit, ok := in.Budget.Limit.Bytes.Get()
		changes, _, found := in.smaller(limit)
		// The probe is the shape that was measured; a wider one is estimated.
		_, wider := in.widestPeak()
		return Experiment{Changes: changes, Before: in.Burst, Symptom: "peak", Unit: "bytes", Measure: peakBytes, Least: float64(limit)},
			ok && found && !wider && in.Burst != nil && in.Budget.Peak.Best().Or(0) > limit
	},
}

// correction is the ratio of the measured peak to its estimate, 1 before one
// was measured.
func (in Input) correction() float64 {
	if estimated := in.Budget.Peak.Estimated.Or(0); estimated > 0 && in.Budget.Peak.Measured.Known() {
		return float64(in.Budget.Peak.Measured.Or(0)) / float64(estimated)
	}
	return 1
}

// widestPeak is the likely peak of the data's widest batch, when that is wider
// than the budget's.
func (in Input) widestPeak() (int64, bool) {
	m := in.Snapshot.Model
	if in.Budget == nil || m == nil || m.Facts == nil || in.Widest.Positions() <= in.Budget.Shape.Positions() {
		return 0, false
	}
	estimated := budget.Estimate(*m.Facts, in.config(), in.Widest).Peak.Estimated.Or(0)
	return int64(in.correction() * float64(estimated)), true
}

// shrink proposes the mildest change whose estimated peak, corrected by the
// ratio of a measured peak to its estimate, is below limit.
func (in Input) shrink(limit int64) []probe.Fix {
	m := in.Snapshot.Model
	if in.Budget == nil || m == nil || m.Facts == nil {
		return nil
	}
	changes, words, ok := in.smaller(limit)
	if !ok {
		return []probe.Fix{{Text: "No change that is safe to propose makes it fit by estimate: use a smaller model or a larger machine"}}
	}
	return []probe.Fix{{Text: "By estimate it fits with: " + strings.Join(words, ", "), Command: Command("doctor", in.Settings, changes...)}}
}

// smaller finds the change that shrink proposes; ok says whether there is one.
func (in Input) smaller(limit int64) (changes []Change, words []string, ok bool) {
	m := in.Snapshot.Model
	if in.Budget == nil || m == nil || m.Facts == nil {
		return nil, nil, false
	}
	ratio := in.correction()
	c, shape := in.config(), in.Budget.Shape
	if _, ok := in.widestPeak(); ok {
		shape = in.Widest
	}
	turn := func(knob, value, word string) {
		k, _ := trainer.FindKnob(knob)
		if k.Set(&c, value) == nil {
			changes = append(changes, Change{knob, value})
		}
		if word != "" {
			words = append(words, word)
		}
	}
	fits := func() bool {
		peak := budget.Estimate(*m.Facts, c, shape).Peak.Estimated.Or(0)
		return len(changes) > 0 && ratio*float64(peak) <= float64(limit)
	}
	steps := []func(){
		func() {
			if !c.Plan.Checkpointing && c.Quality.Dropout == 0 { // see configCheckpointDropout
				turn("grad-checkpoint", "true", "recompute activations")
			}
		},
		func() {
			if c.Plan.Batch > 1 {
				turn("grad-accumulation-steps", strconv.Itoa(c.EffectiveBatch()), "")
				turn("batch-size", "1", "one row a step, accumulated to the same effective batch")
				shape.Batch = 1
			}
		},
		func() {
			if c.Model.Quantize == 0 && m.Facts.Quant == nil {
				turn("quantize", "8", "8-bit weights")
			}
		},
		func() {
			if c.Model.Quantize == 8 && m.Facts.Quant == nil {
				changes = changes[:len(changes)-1]
				words = words[:len(words)-1]
				turn("quantize", "4", "4-bit weights")
			}
		},
		func() {
			if half := (shape.Width-1)/2/32*32 + 1; half >= 129 {
				turn("max-seq-length", strconv.Itoa(half), "shorter rows")
				shape.Width = half
			}
		},
	}
	for _, step := range steps {
		step()
		if fits() {
			return changes, words, true
		}
	}
	return nil, nil, false
}
