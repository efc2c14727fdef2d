package check

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/probe/budget"
	"github.com/mlxdyno/mlxdyno/trainer"
)

const (
	othersShown = 3
	othersLarge = 0.10 // of physical memory, for one process
)

var memoryOthers = Check{
	Code: "memory.others",
	Story: Story{
		Title: "Other programs",
		Means: "Other processes hold memory that the training could use.",
		How:   "The largest processes are listed with their footprint, or their resident memory where the footprint cannot be read.",
		Do:    "Close what you do not need while training.",
	},
	run: func(in Input) probe.Finding {
		total, ok := in.Snapshot.Memory.TotalBytes.Get()
		if !ok || len(in.Snapshot.Processes) == 0 {
			return probe.Finding{}
		}
		type holder struct {
			probe.Process
			bytes  int64
			source string
		}
		var largest []holder
		for _, p := range in.Snapshot.Processes {
			v := p.FootprintBytes
			if !v.Known() {
				v = p.ResidentBytes
			}
			if n, ok := v.Get(); ok && p.Name != "mlxdyno" {
				largest = append(largest, holder{p, n, v.Source()})
			}
		}
		slices.SortStableFunc(largest, func(a, b holder) int { return cmp.Compare(b.bytes, a.bytes) })
		largest = largest[:min(len(largest), othersShown)]
		if len(largest) == 0 || float64(largest[0].bytes) < othersLarge*float64(total) {
			return pass("No other program is large")
		}
		var evidence []probe.Evidence
		var names []string
		var sum int64
		for _, h := range largest {
			evidence = append(evidence, size(fmt.Sprintf("%s (process %d)", h.Name, h.PID), h.bytes, "", h.source))
			names = append(names, h.Name)
			sum += h.bytes
		}
		severity, why := probe.Info, "a training could use that memory"
		need, known1 := peakOf(in)
		available, known2 := budget.Available(in.Snapshot).Get()
		if known1 && known2 && need > available && in.backend() != "cuda" {
			severity = probe.Warn
			why = "a step needs " + trainer.FormatBytes(need) + ", and only " + trainer.FormatBytes(available) + " are free"
		}
		f := finding(severity, "The largest other programs hold "+trainer.FormatBytes(sum), why, evidence...)
		f.Fix = []probe.Fix{{Text: "Close what you do not need while training: " + strings.Join(names, ", ")}}
		return f
	},
}

// peakOf is the highest peak to expect.
func peakOf(in Input) (int64, bool) {
	if in.Budget == nil {
		return 0, false
	}
	if wide, ok := in.widestPeak(); ok {
		return wide, true
	}
	return in.Budget.Peak.Best().Get()
}
