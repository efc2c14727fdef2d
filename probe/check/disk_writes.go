package check

import (
	"fmt"
	"strconv"

	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/probe/budget"
	"github.com/mlxdyno/mlxdyno/trainer"
)

const (
	writesTolerated = 1_000_000_000_000 // bytes in one training
	writesAim       = writesTolerated / 10
)

var diskWrites = Check{
	Code: "disk.write-volume",
	Story: Story{
		Title: "What checkpoints write",
		Means: "Over the whole training, checkpoints write terabytes. An SSD is made for some hundreds of them in its life, and each save holds the training up. A trainer that reloaded every 8 steps once wrote 3.9 TB in one run.",
		How:   "Adapters and optimizer state, times the saves of the whole training: those of --save-every, and one for every restart of --reload-interval.",
		Do:    "Save less often with --save-every, and restart less often.",
	},
	run: func(in Input) probe.Finding {
		if in.Budget == nil {
			return probe.Finding{}
		}
		one := in.Budget.Line(budget.Adapters).Best().Or(0) + in.Budget.Line(budget.Optimizer).Best().Or(0)
		if one == 0 {
			return probe.Finding{}
		}
		s := in.config().Schedule
		every := func(n int) int64 {
			if n <= 0 {
				return 0
			}
			return int64(s.Steps / n)
		}
		saves := every(s.SaveEvery) + every(s.ReloadInterval) + 1
		total := one * saves
		evidence := []probe.Evidence{
			size("written over the training", total, "≤ "+trainer.FormatBytes(writesTolerated), fmt.Sprintf("%d saves", saves)),
			size("one checkpoint", one, "", "adapters + optimizer state"),
		}
		if total <= writesTolerated {
			return pass("Checkpoints write "+trainer.FormatBytes(total)+" in all", evidence...)
		}
		f := finding(probe.Warn, "Checkpoints write "+trainer.FormatBytes(total)+" over the training", "that wears the disk and holds the training up at every save", evidence...)
		f.Confidence = probe.Likely
		apart := int(int64(s.Steps)*one/writesAim) + 1
		changes := []Change{{"save-every", strconv.Itoa(max(apart, s.SaveEvery))}}
		if s.ReloadInterval > 0 {
			changes = append(changes, Change{"reload-interval", strconv.Itoa(max(apart, s.ReloadInterval))})
		}
		f.Fix = []probe.Fix{{Text: "Save less often", Command: Command("doctor", in.Settings, changes...)}}
		return f
	},
}
