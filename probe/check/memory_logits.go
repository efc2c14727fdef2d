package check

import (
	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/probe/budget"
	"github.com/mlxdyno/mlxdyno/probe/model"
	"github.com/mlxdyno/mlxdyno/trainer"
)

const (
	logitsLarge = 1_000_000_000 // bytes
	logitsShare = 0.4           // of the peak
)

var memoryLogits = Check{
	Code: "memory.logits",
	Story: Story{
		Title: "Memory for the logits",
		Means: "A large part of a step's memory is the scores of every token of the vocabulary at every position, in several copies. It grows with batch × length × vocabulary, and checkpointing does not help.",
		How:   "The logits of the step's shape are computed from vocabulary and configuration, and compared with the estimated peak. Our own engine computes them in pieces, or only where they count, and is left out unless --loss-positions all or --parity asks for more.",
		Do:    "Use --engine native, which computes scores in pieces; or a smaller batch with accumulation, or a shorter --max-seq-length.",
	},
	run: func(in Input) probe.Finding {
		c := in.config()
		if in.Budget == nil || c.Engine == trainer.EngineNative && !c.Parity && c.Plan.LossPositions != trainer.LossAll {
			return probe.Finding{}
		}
		shape, peak := in.Budget.Shape, in.Budget.Peak.Estimated.Or(0)
		logits := in.Budget.Line(budget.Logits).Estimated.Or(0)
		if m := in.Snapshot.Model; m != nil && m.Facts != nil && in.Widest.Positions() > shape.Positions() {
			wide := budget.Estimate(*m.Facts, c, in.Widest)
			shape, peak, logits = in.Widest, wide.Peak.Estimated.Or(0), wide.Line(budget.Logits).Estimated.Or(0)
		}
		if peak == 0 {
			return probe.Finding{}
		}
		evidence := []probe.Evidence{
			size("logits and their copies", logits, "", "estimate"),
			share("of the estimated peak", float64(logits)/float64(peak), "< "+percent(logitsShare), "estimate"),
			count("positions of the batch", shape.Positions(), "", "", "batch × length"),
		}
		if logits < logitsLarge || float64(logits) < logitsShare*float64(peak) {
			return pass("Logits take a small part of the memory", evidence...)
		}
		severity := probe.Info
		if limit, ok := in.Budget.Limit.Bytes.Get(); ok && peak > limit/10*7 {
			severity = probe.Warn
		}
		f := finding(severity, trainer.FormatBytes(logits)+" of a step are logits", "they grow with batch × length × vocabulary, and recomputing activations does not shrink them", evidence...)
		f.Confidence = probe.Likely
		if m := in.Snapshot.Model; c.Engine != trainer.EngineNative && m != nil && m.Facts != nil && model.Checked(m.Facts.Arch) {
			f.Fix = append(f.Fix, probe.Fix{Text: "Compute scores in pieces", Command: Command("doctor", in.Settings, Change{"engine", trainer.EngineNative})})
		}
		if c.Plan.Batch > 1 {
			f.Fix = append(f.Fix, probe.Fix{Text: "Keep the effective batch with one row a step",
				Command: Command("doctor", in.Settings, Change{"batch-size", "1"}, Change{"grad-accumulation-steps", itoa(c.EffectiveBatch())})})
		}
		return f
	},
}
