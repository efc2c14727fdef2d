package check

import (
	"fmt"

	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/probe/patient"
	"github.com/mlxdyno/mlxdyno/trainer"
)

var patientOutcome = Check{
	Code: "patient.outcome", Required: true,
	Story: Story{
		Title: "How the training ended",
		Means: "The training died, or stopped printing. What it printed last, and its exit status or signal, say why.",
		How:   "Of a command: its exit status, the signal that ended it, the kernel's count of processes killed for want of memory, and the errors in what it printed. Of a log: the errors in it.",
		Do:    "Cure what the last lines name. After a lack of memory: a smaller batch, shorter sequences, checkpointing, or fewer steps a process.",
	},
	run: func(in Input) probe.Finding {
		p := in.Patient
		if p == nil {
			return probe.Finding{}
		}
		r := p.Record
		var evidence []probe.Evidence
		for _, e := range r.Evidence {
			evidence = append(evidence, said(e.Name, e.Observed, "", e.Source))
		}
		if r.Source != patient.Command {
			return in.lastError()
		}
		title := map[trainer.Outcome]string{
			trainer.Failed: "It failed", trainer.Crashed: "It ended without a word", trainer.Killed: "It was killed", trainer.OOM: "It ran out of memory",
			trainer.Stalled: "It stopped printing", trainer.Broken: "It broke off",
		}[r.Outcome]
		if r.Outcome.Good() || title == "" {
			return pass("It ran as long as it was to run", evidence...)
		}
		if p.Report.LastStep.Known() {
			title += fmt.Sprintf(" after step %d", p.Report.LastStep.Or(0))
		}
		why := "what it printed last is below"
		if f := r.Failure; f != nil {
			why = f.Text
		}
		f := finding(probe.Fail, title, why, evidence...)
		f.Fix = []probe.Fix{{Text: "Read its last lines, below; the transcript is kept with --transcript FILE"}}
		return f
	},
}

// lastError is the last error that a log has.
func (in Input) lastError() probe.Finding {
	var last *patient.Notice
	for i, n := range in.Patient.Record.Notices {
		if n.Level == "error" {
			last = &in.Patient.Record.Notices[i]
		}
	}
	if last == nil {
		return probe.Finding{}
	}
	f := finding(probe.Warn, "It ended with an error", last.Text, said("error", last.Text, "", in.printed()))
	f.Confidence = probe.Likely
	f.Fix = []probe.Fix{{Text: "Cure what that line names; the findings below may say why"}}
	return f
}
