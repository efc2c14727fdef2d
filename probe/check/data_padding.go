package check

import (
	"fmt"

	"github.com/mlxdyno/mlxdyno/probe"
)

const paddingTolerated = 0.20 // of computed positions

var dataPadding = Check{
	Code: "data.padding", DependsOn: []string{"data.readable"},
	Story: Story{
		Title: "Padding",
		Means: "Rows of unlike length share batches, so that much of the computation is spent on padding. mlx-lm means to sort by length but does not.",
		How:   "The batches of one epoch are planned from exact token counts, in file order and grouped by length.",
		Do:    "Train with --group-by-length=true, or with smaller batches and accumulation.",
	},
	run: func(in Input) probe.Finding {
		l := in.lengths()
		if l == nil {
			return probe.Finding{}
		}
		grouped := in.config().Data.GroupByLength
		evidence := []probe.Evidence{share("padding as planned", l.PaddingShare, "≤ "+percent(paddingTolerated), "planned batches")}
		if grouped {
			evidence = append(evidence, share("padding in file order", l.PaddingShareUngrouped, "", "planned batches"))
		} else if g, ok := in.PaddingGrouped.Get(); ok {
			evidence = append(evidence, share("padding if grouped", g, "", "planned batches"))
		}
		if l.PaddingShare <= paddingTolerated {
			return pass(percent(l.PaddingShare)+" of the computation is padding", evidence...)
		}
		f := finding(probe.Warn, percent(l.PaddingShare)+" of the computation is padding", "padded positions cost as much as real tokens and teach nothing", evidence...)
		better, known := in.PaddingGrouped.Get()
		switch {
		case !grouped && (!known || better < l.PaddingShare):
			text := "Group rows by length"
			if known {
				text = fmt.Sprintf("Group rows by length: padding falls to %s", percent(better))
			}
			f.Fix = []probe.Fix{{Text: text, Command: Command("doctor", in.Settings, Change{"group-by-length", "true"})}}
		case in.config().Plan.Batch > 1:
			f.Fix = []probe.Fix{{Text: "Keep the effective batch with one row a step: one row has little padding",
				Command: Command("doctor", in.Settings, Change{"batch-size", "1"}, Change{"grad-accumulation-steps", fmt.Sprint(in.config().EffectiveBatch())})}}
		}
		return f
	},
}
