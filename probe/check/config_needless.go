package check

import (
	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/probe/budget"
	"github.com/mlxdyno/mlxdyno/trainer"
)

// roomy is the part of the limit below which activations surely can be kept.
const roomy = 0.6

var configCheckpointNeedless = Check{
	Code: "config.checkpoint-needless", DependsOn: []string{"config.checkpoint-dropout", "burst.outcome"},
	Story: Story{
		Title: "Activations computed twice for nothing",
		Means: "Gradient checkpointing computes every block's activations a second time in the backward pass, which takes 30 to 40 % longer, although there is memory enough to keep them.",
		How:   "The peak without checkpointing is estimated, corrected by the measured one, for the widest batch; it must be below 60 % of the limit. A burst without it shows what it costs.",
		Do:    "Train without --grad-checkpoint.",
	},
	run: func(in Input) probe.Finding {
		c := in.config()
		m := in.Snapshot.Model
		if !c.Plan.Checkpointing || in.Budget == nil || m == nil || m.Facts == nil {
			return probe.Finding{}
		}
		limit, ok := in.Budget.Limit.Bytes.Get()
		if !ok {
			return probe.Finding{}
		}
		c.Plan.Checkpointing = false
		shape := in.Budget.Shape
		if in.Widest.Positions() > shape.Positions() {
			shape = in.Widest
		}
		peak := int64(max(in.correction(), 1) * float64(budget.Estimate(*m.Facts, c, shape).Peak.Estimated.Or(0)))
		room := int64(roomy * float64(limit))
		if free, ok := budget.Available(in.Snapshot).Get(); ok && in.backend() != "cuda" {
			room = min(room, free)
		}
		evidence := size("peak without checkpointing", peak, "> "+trainer.FormatBytes(room), "estimate")
		if peak > room {
			return pass("Checkpointing saves memory that is needed", evidence)
		}
		f := finding(probe.Warn, "Activations are computed twice, and could be kept", "the memory that it saves is there", evidence)
		f.Confidence = probe.Likely
		f.Fix = []probe.Fix{{Text: "Keep activations", Command: Command("doctor", in.Settings, Change{"grad-checkpoint", "false"})}}
		return f
	},
	prove: func(Input) (Experiment, bool) {
		return Experiment{Changes: []Change{{"grad-checkpoint", "false"}}, Timed: true, Symptom: "step", Unit: "s", Measure: stepSeconds, Ratio: 0.92}, true
	},
}
