package check

import (
	"fmt"

	"github.com/mlxdyno/mlxdyno/probe"
)

var crashOOM = Check{
	Code: "crash.oom-kill",
	Story: Story{
		Title: "Processes killed by Linux",
		Means: "The kernel killed processes for want of memory, on the whole machine or in this control group. A training among them was too large.",
		How:   "The kernel's log is read where that is allowed, and the counts of kills: of the control group, and of the machine since it started.",
		Do:    "Use a smaller configuration, or raise the control group's limit.",
	},
	run: func(in Input) probe.Finding {
		s := in.Snapshot
		if s.Host.OS != "linux" {
			return probe.Finding{}
		}
		fix := []probe.Fix{{Text: "Let tune find what fits this machine", Command: Command("tune", in.Settings)}}
		for _, c := range in.crashes(probe.CrashOOM) {
			if trains(c.Process) {
				f := finding(probe.Warn, "The kernel killed "+c.Process+" for want of memory", "it held more than there was", crashEvidence(c)...)
				f.Fix = fix
				return f
			}
		}
		if g := s.Cgroup; g != nil {
			if n, ok := g.OOMKills.Get(); ok && n > 0 {
				f := finding(probe.Info, fmt.Sprintf("%d processes of this control group were killed for want of memory", n), "the group's limit was reached since it was made; who it was, and when, is not told here",
					count("kills in this group", n, "", "0", g.OOMKills.Source()))
				f.Fix = fix
				return f
			}
		}
		n, ok := s.Pressure.OOMKills.Get()
		switch {
		case !ok:
			return probe.Finding{}
		case n > 0:
			return finding(probe.Info, fmt.Sprintf("%d processes were killed for want of memory since the machine started", n), "who they were is not told here", count("kills", n, "", "0", s.Pressure.OOMKills.Source()))
		}
		return pass("Nothing was killed for want of memory since the machine started")
	},
}
