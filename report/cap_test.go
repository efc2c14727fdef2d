package report

import (
	"strings"
	"testing"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/tuner"
)

// What did not hold is told apart by whether it was said that it would.
func TestCapsNameWhatIsNotConfirmed(t *testing.T) {
	row := CapRow{Engine: trainer.EngineNative, CapBytes: 106e6, Config: trainer.DefaultConfig(), Verdict: tuner.Confirmed}
	text := func() string {
		var b strings.Builder
		if err := Caps(&b, CapDocument{Rows: []CapRow{row}}, Style{}); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	if got := text(); strings.Contains(got, "confirmed") {
		t.Errorf("confirmed:\n%s", got)
	}
	row.Verdict = tuner.Unconfirmed
	if got := text(); !strings.Contains(got, "(unconfirmed)") {
		t.Errorf("unconfirmed:\n%s", got)
	}
}
