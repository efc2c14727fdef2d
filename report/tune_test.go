package report

import (
	"testing"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/tuner"
)

func TestConfirmedNamesAdvisoryGates(t *testing.T) {
	passed := tuner.Gate{Name: "leak", Passed: true}
	drift, spread := tuner.Gate{Name: "drift", Advisory: true, Observed: trainer.Some(0.1)}, tuner.Gate{Name: "spread", Advisory: true, Observed: trainer.Some(0.3)}
	steady := tuner.Gate{Name: "spread", Advisory: true, Passed: true}
	for _, tt := range []struct {
		name  string
		gates []tuner.Gate
		want  string
	}{
		{"all passed", []tuner.Gate{passed, steady}, "confirmed: measured, and every required gate passed"},
		{"one did not", []tuner.Gate{passed, drift, steady}, "confirmed: measured, and every required gate passed; not passed, and only advice: drift"},
		{"two did not", []tuner.Gate{passed, drift, spread}, "confirmed: measured, and every required gate passed; not passed, and only advice: drift, spread"},
		{"of one nothing is known", []tuner.Gate{passed, drift, {Name: "loss", Advisory: true}}, "confirmed: measured, and every required gate passed; not passed, and only advice: drift; not known, and only advice: loss"},
	} {
		if got := confirmed(tt.gates); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}
