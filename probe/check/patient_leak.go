package check

import (
	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/probe/leak"
	"github.com/mlxdyno/mlxdyno/probe/patient"
)

var patientLeak = Check{
	Code: "patient.leak", Required: true, DependsOn: []string{"patient.binding-leak"},
	Story: Story{
		Title: "Leak of MLX memory",
		Means: "Every step keeps memory that it should return: arrays that somebody still holds, such as gradients, optimizer copies or losses that were never turned into numbers.",
		How:   "Active memory as the trainer prints it, against steps: to the byte where it prints bytes, by statistics from 200 readings on, else only if every reading rises by much the same. The size is compared with the model's tensors.",
		Do:    "Find what is kept across steps: lists of losses or gradients, closures, logs of arrays. Call .item() on what is logged, and delete gradients after the update.",
	},
	run: func(in Input) probe.Finding {
		if in.Patient == nil || in.held() == nil {
			return probe.Finding{}
		}
		g := in.held()
		if g.Kind == patient.Active && g.State == leak.None {
			return pass("Its active memory does not grow", said("active memory", g.Reason, "", in.printed()))
		}
		if g.State != leak.Leaking {
			if g.Kind != patient.Active || g.Readings < 3 {
				return probe.Finding{}
			}
			return unclear("Whether its active memory grows is unknown", g.Reason)
		}
		what := "its memory grows by "
		if g.Kind == patient.Active {
			what = "every step keeps "
		}
		f := finding(in.worry(g), upper(what)+rate(g), g.Reason, in.rateEvidence(g)...)
		f.Confidence = in.grade(g.Rate.IsExact)
		in.attributed(&f, g)
		f.Fix = []probe.Fix{{Text: "Look for what outlives a step: gradients, losses or batches in a list, a closure or a log; .item() makes a number of a loss"}}
		if in.Patient.Record.Adapter.Name == "your_ai" && in.Patient.Record.Versions == nil {
			f.Fix = append(f.Fix, probe.Fix{Text: "Name its Cargo.lock with --lockfile: mlx-rs before " + freedSince + " keeps all gradients"})
		}
		f.Fix = append(f.Fix, in.restartFix(g, &f)...)
		return f
	},
}

func upper(s string) string {
	if s == "" || s[0] < 'a' || s[0] > 'z' {
		return s
	}
	return string(s[0]-'a'+'A') + s[1:]
}
