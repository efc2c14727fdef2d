package check

import (
	"fmt"
	"time"

	"github.com/mlxdyno/mlxdyno/probe"
)

// nearEnd is how soon after a training's last word a crash of the system counts
// as its end. Clocks, and reports that are written after a restart, differ.
const nearEnd = 10 * time.Minute

var crashLastRun = Check{
	Code: "crash.last-run",
	Story: Story{
		Title: "The last training",
		Means: "The newest training in mlxdyno's home did not end well: it failed, or it and what supervised it were ended from outside. Its journal tells what it was doing.",
		How:   "The journal and the end of the events of the newest run are read, and what the system noted within ten minutes of it.",
		Do:    "Go on from its last checkpoint, with less memory if memory was the cause.",
	},
	run: func(in Input) probe.Finding {
		r := in.Snapshot.LastRun
		if r == nil {
			return probe.Finding{}
		}
		evidence := []probe.Evidence{
			said("run", r.Dir, "", "mlxdyno's home"),
			said("last word", r.At.Format("2006-01-02 15:04:05 MST"), "", "journal and events"),
			said("was", r.Doing, "", "events"),
			count("steps done", r.Step, "", fmt.Sprint(r.Steps), "events"),
		}
		if n, ok := r.Peak.Get(); ok {
			evidence = append(evidence, size("peak of its last step", n, "", r.Peak.Source()))
		}
		if n, ok := r.Held.Get(); ok {
			evidence = append(evidence, size("its process held", n, "", r.Held.Source()))
		}
		title, why := "The last training failed while it "+r.Doing, r.Why
		if r.State == "died" {
			title = "The last training was cut off while it " + r.Doing
		}
		memory := r.Outcome == "oom"
		confidence := probe.Measured
		for _, c := range in.Snapshot.Crashes {
			if d := c.At.Sub(r.At); c.At.IsZero() || d < -time.Minute || d > nearEnd {
				continue
			}
			evidence = append(evidence, crashEvidence(c)...)
			confidence = probe.Likely
			switch c.Kind {
			case probe.CrashPanic:
				why, memory = "the machine stopped with a kernel panic right then", memory || byGPU(c)
			case probe.CrashJetsam, probe.CrashOOM:
				why, memory = "the system killed "+c.Process+" for want of memory right then", true
			case probe.CrashGPU:
				why = "NVIDIA's driver noted an error right then"
			}
			break
		}
		if why == "" {
			why = "nothing says why; it was ended from outside, or the machine was"
		}
		f := finding(probe.Warn, title, why, evidence...)
		f.Confidence = confidence
		if memory && r.Smaller != "" {
			f.Fix = append(f.Fix, probe.Fix{Text: "Start again with less memory", Command: r.Smaller})
		}
		if r.Resume != "" {
			f.Fix = append(f.Fix, probe.Fix{Text: "Go on from its last checkpoint", Command: r.Resume})
		}
		return f
	},
}
