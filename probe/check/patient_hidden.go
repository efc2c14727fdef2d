package check

import (
	"fmt"

	"github.com/mlxdyno/mlxdyno/probe"
)

const hiddenTolerated = 0.30 // of the time

var patientHidden = Check{
	Code: "patient.hidden-time",
	Story: Story{
		Title: "Time that its speed leaves out",
		Means: "The trainer prints more tokens a second than it trains on over time: its clock stops while data is prepared, while it validates or saves. The training takes that much longer than the printed speed says.",
		How:   "Trained tokens over the time that passed, against the median of the printed tokens a second. Both count the same tokens.",
		Do:    "Prepare the data beforehand (tokenize once), or validate and save less often.",
	},
	run: func(in Input) probe.Finding {
		if in.Patient == nil {
			return probe.Finding{}
		}
		s := in.Patient.Report.Speed
		printed, ok1 := s.PrintedTokens.Get()
		truth, ok2 := s.TokensPerSecond.Get()
		if !ok1 || !ok2 || !s.TokensAStep.Known() || printed <= 0 {
			return probe.Finding{}
		}
		hidden := 1 - truth/printed
		evidence := []probe.Evidence{
			number("tokens a second, printed", printed, "", "", in.printed()),
			number("tokens a second, over time", truth, "", "", s.Basis),
			share("time that is left out", max(hidden, 0), fmt.Sprintf("≤ %.0f %%", 100*hiddenTolerated), "the two compared"),
		}
		if hidden <= hiddenTolerated {
			return pass("Its printed speed is that of the whole training", evidence...)
		}
		f := finding(probe.Warn, fmt.Sprintf("Its speed leaves out %s of the time: %.4g tok/s over time, %.4g printed", percent(hidden), truth, printed),
			"its clock stops while data is prepared, and while it validates or saves", evidence...)
		f.Confidence = in.grade(true)
		f.Fix = []probe.Fix{{Text: "Tokenize the data once, beforehand, and validate and save less often; then look again"}}
		return f
	},
}
