package check

import (
	"slices"
	"strings"

	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/probe/patient"
)

var patientFlags = Check{
	Code: "patient.unknown-flag",
	Story: Story{
		Title: "Flags that the trainer does not have",
		Means: "The command line has flags that the trainer's --help does not name. It refuses them or, worse, ignores them.",
		How:   "The command line (-- COMMAND or --command-line), and one that is proposed (--proposed), against the text of its --help (--patient-help FILE).",
		Do:    "Leave them out. What they were meant to do, the trainer cannot do.",
	},
	run: func(in Input) probe.Finding {
		if in.Patient == nil || in.Patient.Record.Help == nil {
			return probe.Finding{}
		}
		flags := slices.Concat(patient.Flags(in.Patient.Record.Argv), patient.Flags(in.Patient.Record.Proposed))
		if len(flags) == 0 {
			return probe.Finding{}
		}
		slices.Sort(flags)
		var unknown, known []string
		for _, flag := range slices.Compact(flags) {
			if in.Patient.Record.Help.Has(flag) {
				known = append(known, flag)
			} else {
				unknown = append(unknown, flag)
			}
		}
		evidence := []probe.Evidence{said("flags that it has", strings.Join(known, " "), "", "its --help")}
		if len(unknown) == 0 {
			return pass("It has all flags that it is given", evidence...)
		}
		f := finding(probe.Warn, "It has no "+strings.Join(unknown, ", "), "its --help does not name it: what that was to do does not happen",
			append([]probe.Evidence{said("flags that it lacks", strings.Join(unknown, " "), "none", "its --help")}, evidence...)...)
		f.Fix = []probe.Fix{{Text: "Leave out " + strings.Join(unknown, ", ")}}
		return f
	},
}
