package check

import (
	"github.com/mlxdyno/mlxdyno/probe"
)

var crashJetsam = Check{
	Code: "crash.jetsam",
	Story: Story{
		Title: "Processes killed by macOS",
		Means: "macOS ran out of memory and killed processes, or noted which it would kill. A training among them was too large for this machine.",
		How:   "macOS's reports JetsamEvent-*.ips of the last 14 days are read.",
		Do:    "Use a smaller configuration, and close large programs while training.",
	},
	run: func(in Input) probe.Finding {
		if in.Snapshot.Host.OS != "darwin" {
			return probe.Finding{}
		}
		all := in.crashes(probe.CrashJetsam)
		if len(all) == 0 {
			if !in.Snapshot.CrashesFound.Known() {
				return probe.Finding{} // said by crash.kernel-panic
			}
			return pass("macOS killed nothing for memory in 14 days")
		}
		c := all[0]
		for _, other := range all {
			if trains(other.Process) || trains(other.Largest) {
				c = other
				break
			}
		}
		evidence := append(crashEvidence(c), count("events in 14 days", len(all), "", "0", "DiagnosticReports"))
		if c.Largest != "" {
			evidence = append(evidence, said("largest process then", c.Largest, "", c.Source))
		}
		switch {
		case trains(c.Process):
			f := finding(probe.Warn, "macOS killed "+c.Process+" for want of memory", "it held more than the system could give", evidence...)
			f.Fix = []probe.Fix{{Text: "Let tune find what fits this machine", Command: Command("tune", in.Settings)}}
			return f
		case trains(c.Largest):
			f := finding(probe.Warn, "macOS ran out of memory while "+c.Largest+" held most of it", "it killed others first", evidence...)
			f.Confidence = probe.Likely
			f.Fix = []probe.Fix{{Text: "Let tune find what fits this machine", Command: Command("tune", in.Settings)}}
			return f
		}
		return finding(probe.Info, "macOS ran out of memory", "no training was among what it killed", evidence...)
	},
}
