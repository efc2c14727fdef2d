package diagnose

import (
	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/probe/check"
	"github.com/mlxdyno/mlxdyno/probe/patient"
	"github.com/mlxdyno/mlxdyno/trainer"
)

// PatientRequest is a training that is not ours, on a machine.
type PatientRequest struct {
	Snapshot probe.Snapshot
	Settings trainer.Settings // what the user says of the training: model, rank, batch
	Record   patient.Record
	Again    *patient.Again // a second burst; nil when there was none
}

// Patient diagnoses a training that is not ours, by what was seen of it. It
// runs nothing.
func Patient(r PatientRequest) Report {
	judged := patient.Judge(r.Record)
	d := diagnosis{Request: Request{Snapshot: r.Snapshot, Settings: r.Settings},
		in: check.Input{Snapshot: r.Snapshot, Settings: r.Settings, Patient: &patient.Case{Record: r.Record, Report: judged, Again: r.Again}}}
	d.report = Report{Schema: Schema, At: r.Snapshot.At, Config: r.Settings.Config, Origins: r.Settings.Origins, Patient: &judged, Quick: true,
		Skipped: "a training that is not ours is watched, and no trial steps of ours are run"}
	d.file(check.Run(d.in))
	d.report.Next, d.report.NextWhy = d.afterPatient()
	return d.report
}

// afterPatient is the cure of the worst finding that has a command, or what
// would tell more.
func (d *diagnosis) afterPatient() (command, why string) {
	for _, f := range d.report.Findings {
		if f.Severity != probe.Fail && f.Severity != probe.Warn {
			continue
		}
		for _, fix := range f.Fix {
			if fix.Command != "" && !fix.NeedsSudo {
				return fix.Command, "cures: " + lowerFirst(f.Title)
			}
		}
	}
	if d.Snapshot.Model == nil {
		return check.Command("doctor", d.Settings) + " --model DIR --data DIR", "looks at the model and the data that it trains on"
	}
	return check.Command("tune", d.Settings), "finds the best settings for this machine, with a trainer that is watched from inside"
}
