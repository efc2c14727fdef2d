package check

import (
	"fmt"

	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/probe/patient"
)

var patientUnderstood = Check{
	Code: "patient.understood", DependsOn: []string{"patient.outcome"},
	Story: Story{
		Title: "Are its lines understood",
		Means: "No line of what the trainer prints looks like a step, a loss or a metric, so that nothing can be said of its speed and its own memory counters.",
		How:   "Every line is offered to the adapters: your_ai, mlx-lm, JSON lines, lines that name a step and a loss.",
		Do:    "Describe its lines in a file and name it with --adapter FILE.yaml, or make it print a JSON object a step with step, loss, active_bytes and cache_bytes.",
	},
	run: func(in Input) probe.Finding {
		p := in.Patient
		if p == nil || p.Record.Source == patient.Process {
			return probe.Finding{}
		}
		a := p.Record.Adapter
		evidence := said("adapter", a.Name+" ("+a.Sure+")", "", a.Why)
		if p.Report.Reports == 0 && a.Sure != "none" && a.Sure != "" {
			return unclear("It reported no step", a.Why+", none of them a step: it may still load, or have been ended too soon")
		}
		if p.Report.Reports == 0 {
			f := finding(probe.Warn, "Nothing that it prints was understood", a.Why+"; nothing can be said of its speed and its own counters", evidence)
			f.Fix = []probe.Fix{{Text: "Describe its lines: name: mine, patterns: [{match: 'step (?P<step>\\d+) loss (?P<loss>\\S+)'}], and give --adapter FILE.yaml"}}
			return f
		}
		return pass(fmt.Sprintf("Its lines are understood as those of %s", a.Name), evidence, count("reports", p.Report.Reports, "steps", "", in.printed()))
	},
}
