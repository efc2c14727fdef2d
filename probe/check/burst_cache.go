package check

import (
	"cmp"

	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/probe/leak"
	"github.com/mlxdyno/mlxdyno/trainer"
)

const (
	cacheLarge = 1_000_000_000 // bytes that are worth a word
	cacheShare = 0.5           // of the peak, kept for reuse
)

var burstCache = Check{
	Code: "burst.cache-growth", DependsOn: []string{"burst.outcome"},
	Story: Story{
		Title: "Cache without a bound",
		Means: "MLX keeps freed buffers for reuse, but reuses one only for a size close to its own. Batches of many lengths fill the cache with buffers that nobody takes: memory that counters of active memory and MLX's peak do not show (mlx #3350, mlx-lm #986: 51 GiB instead of 7).",
		How:   "The cache after each step is read: one of half the peak and more, without a limit, is large; one that keeps growing over 200 steps and more is a finding in any case.",
		Do:    "Set --cache-limit, and let tune find how large it must be: too small a one costs 30 to 70 % of the speed. Fewer shapes (--max-shapes) help too.",
	},
	run: func(in Input) probe.Finding {
		b := in.Data
		if b == nil {
			b = in.Burst
		}
		if b == nil || len(b.Summary.Steps) == 0 || in.config().Plan.CacheLimit.IsSet {
			return probe.Finding{}
		}
		var most int64
		known := false
		for _, s := range b.Summary.Steps {
			if n, ok := s.Memory.Cache.Get(); ok {
				most, known = max(most, n), true
			}
		}
		peak, ok := b.Summary.Figures.PeakBytes.Get()
		if !known || !ok || peak == 0 {
			return probe.Finding{}
		}
		evidence := []probe.Evidence{
			size("kept for reuse", most, "< "+trainer.FormatBytes(max(int64(cacheShare*float64(peak)), cacheLarge)), "MLX's counter"),
			size("peak of live buffers", peak, "", "MLX's counter"),
		}
		j, judged := in.judgement(b, leak.AllocatorPool)
		grows := judged && j.State == leak.Leaking
		if !grows && (most < cacheLarge || float64(most) < cacheShare*float64(peak)) {
			return pass("MLX's cache stays small", evidence...)
		}
		why := "they count for the system as in use, and neither MLX's peak nor its limit on active memory shows them"
		title := trainer.FormatBytes(most) + " of freed buffers are kept, without a limit"
		if grows {
			title = "MLX's cache grows by " + trainer.FormatBytes(int64(j.Rate.BytesAStep)) + " a step"
			why = j.Reason + "; " + why
		}
		f := finding(probe.Warn, title, why, evidence...)
		f.Fix = []probe.Fix{
			{Text: "Bound it; tune finds how much it may be without a loss of speed", Command: Command("tune", in.Settings)},
			{Text: "Or bound it by hand", Command: Command("doctor", in.Settings, Change{"cache-limit", megabytes(max(peak/4, 100_000_000))})},
		}
		return f
	},
	prove: func(in Input) (Experiment, bool) {
		peak := in.Burst.Summary.Figures.PeakBytes.Or(0)
		limit := max(peak/4, 100_000_000)
		return Experiment{Changes: []Change{{"cache-limit", megabytes(limit)}}, Data: in.Data != nil, Before: cmp.Or(in.Data, in.Burst),
			Symptom: "freed buffers kept", Unit: "bytes", Measure: cacheBytes, Least: float64(limit), Ratio: 0.5}, true
	},
}
