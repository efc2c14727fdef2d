package check

import (
	"fmt"

	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/probe/budget"
	"github.com/mlxdyno/mlxdyno/trainer"
)

const (
	diskReserve = 2_000_000_000 // bytes that a run's logs and the system should keep

	// A training keeps its 3 newest checkpoints; the oldest goes when the next
	// has been written.
	checkpointsAtOnce = 3 + 1
)

var diskSpace = Check{
	Code: "disk.space",
	Story: Story{
		Title: "Space for checkpoints",
		Means: "The disk may fill up with checkpoints during the training. A checkpoint that cannot be written is lost work.",
		How: "Adapters and optimizer state, times the checkpoints that are there at once (the 3 newest and the one being written), plus 2 GB are compared with free space where mlxdyno keeps its runs. " +
			"The disk that --adapter-path may name is not looked at.",
		Do: "Free space, remove old runs with mlxdyno runs --prune, or let MLXDYNO_HOME name a directory on a larger disk.",
	},
	run: func(in Input) probe.Finding {
		d := in.Snapshot.Disk
		free, ok := d.FreeBytes.Get()
		if !ok {
			return notRead("Free disk space is unknown", d.FreeBytes)
		}
		need := int64(diskReserve)
		var evidence []probe.Evidence
		if in.Budget != nil {
			one := in.Budget.Line(budget.Adapters).Best().Or(0) + in.Budget.Line(budget.Optimizer).Best().Or(0)
			saves := 1 // at the end
			if every := in.config().Schedule.SaveEvery; every > 0 {
				saves += in.config().Schedule.Steps / every
			}
			saves = min(saves, checkpointsAtOnce)
			need += one * int64(saves)
			evidence = append(evidence, size(fmt.Sprintf("one of %d checkpoints at once", saves), one, "", "adapters + optimizer state"))
		}
		evidence = append(evidence, size("free on "+d.Path, free, "≥ "+trainer.FormatBytes(need), d.FreeBytes.Source()))
		if free >= need {
			return pass("There is space for the checkpoints", evidence...)
		}
		f := finding(probe.Warn, "Only "+trainer.FormatBytes(free)+" of disk are free", "checkpoints and logs may need "+trainer.FormatBytes(need), evidence...)
		f.Fix = []probe.Fix{{Text: "Free space on the disk of " + d.Path + ", or let MLXDYNO_HOME name a directory on another disk"}}
		return f
	},
}
