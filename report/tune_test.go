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
		speed float64 // its error
		want  string
	}{
		{"all passed", []tuner.Gate{passed, steady}, 0.24, "confirmed: measured, and every required gate passed"},
		{"one did not", []tuner.Gate{passed, drift, steady}, 0, "confirmed: measured, and every required gate passed; not passed, and only advice: drift"},
		{"two did not", []tuner.Gate{passed, drift, spread}, 0, "confirmed: measured, and every required gate passed; not passed, and only advice: drift, spread"},
		{"of one nothing is known", []tuner.Gate{passed, drift, {Name: "loss", Advisory: true}}, 0, "confirmed: measured, and every required gate passed; not passed, and only advice: drift; not known, and only advice: loss"},
		{"the speed is hardly known", []tuner.Gate{passed, drift}, 1, "confirmed: measured, and every required gate passed; but its speed is known to ± 100 % only; not passed, and only advice: drift"},
	} {
		if got := confirmed(tt.gates, tt.speed); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}
