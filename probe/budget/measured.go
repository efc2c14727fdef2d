package budget

import (
	"fmt"
	"math"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// WithMeasured returns b with what a burst measured. Only what a counter shows
// is filled in: MLX does not tell activations, logits and gradients apart.
func (b Budget) WithMeasured(s trainer.Summary) Budget {
	lines := make([]Line, len(b.Lines))
	copy(lines, b.Lines)
	b.Lines = lines
	set := func(name string, v trainer.Opt[int64], source string) {
		for i := range lines {
			if lines[i].Name == name && v.Known() {
				lines[i].Measured, lines[i].Source = v, source
			}
		}
	}
	if r := s.Ready; r != nil {
		set(Weights, trainer.Some(r.WeightBytes), "sum over the loaded arrays")
		set(Adapters, trainer.Some(r.TrainableBytes), "sum over the adapter arrays")
	}
	if n := len(s.Steps); n > 0 {
		set(Cache, s.Steps[n-1].Memory.Cache, "MLX's cache after the last step")
	}
	set(Others, others(s.Steps), "footprint − (active + cache), after a step")
	if peak := s.Figures.PeakBytes; peak.Known() {
		b.Peak.Measured, b.Peak.Source = peak, "MLX's peak of live buffers"
		b.Gap = gap(b.Peak)
	}
	return b
}

// others is the largest part of the footprint that MLX does not account for.
// It is unknown where the footprint leaves MLX's buffers out, as it does with
// the memory of a separate GPU.
func others(steps []trainer.StepRecord) trainer.Opt[int64] {
	var most trainer.Opt[int64]
	for _, r := range steps {
		footprint, ok1 := r.Memory.Footprint.Get()
		active, ok2 := r.Memory.Active.Get()
		cache, ok3 := r.Memory.Cache.Get()
		if rest := footprint - active - cache; ok1 && ok2 && ok3 && rest >= most.Or(0) {
			most = trainer.Some(rest)
		}
	}
	return most
}

func gap(peak Line) string {
	measured, _ := peak.Measured.Get()
	estimated, ok := peak.Estimated.Get()
	if !ok || estimated <= 0 {
		return ""
	}
	share := float64(measured)/float64(estimated) - 1
	word := "above"
	if share < 0 {
		word = "below"
	}
	return fmt.Sprintf("the measured peak of %s is %.0f %% %s the estimate of %s",
		trainer.FormatBytes(measured), 100*math.Abs(share), word, trainer.FormatBytes(estimated))
}
