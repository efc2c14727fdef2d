package check

import (
	"fmt"

	"github.com/mlxdyno/mlxdyno/probe"
)

const (
	speedTolerance  = 0.15 // between what is printed and steps over time
	invertTolerance = 0.10
)

var patientSpeedUnit = Check{
	Code: "patient.speed-unit",
	Story: Story{
		Title: "A speed that is not what it says",
		Means: "The speed that is printed or told is not steps over time. Often it is its inverse: seconds a step, read as steps a second.",
		How:   "Steps over the time that passed, from the positions and times in the log or by our clock, against every speed that is printed or claimed (--claim).",
		Do:    "Take the speed from steps over time, and compare trainers by tokens a second.",
	},
	run: func(in Input) probe.Finding {
		if in.Patient == nil {
			return probe.Finding{}
		}
		s := in.Patient.Report.Speed
		truth, ok := s.StepsPerSecond.Get()
		if !ok || s.Basis == "what it prints, which nothing confirms" || truth <= 0 {
			return probe.Finding{}
		}
		evidence := []probe.Evidence{
			number("seconds a step", 1/truth, "s", "", s.Basis),
			number("steps a second", truth, "", "", s.Basis),
		}
		var wrong, why []string
		judge := func(what string, low, high, digit float64) {
			tolerance := speedTolerance + s.StepError
			switch {
			case truth >= low*(1-tolerance)-digit && truth <= high*(1+tolerance)+digit:
				return
			case 1/truth >= low*(1-invertTolerance) && 1/truth <= high*(1+invertTolerance):
				wrong = append(wrong, what)
				why = append(why, fmt.Sprintf("%s is seconds a step, read as steps a second: a step takes %.3g s", what, 1/truth))
			default:
				wrong = append(wrong, what)
				why = append(why, fmt.Sprintf("%s is %.3g times what steps over time give", what, (low+high)/2/truth))
			}
		}
		if v, ok := s.Printed.Get(); ok {
			evidence = append(evidence, number("printed", v, "steps/s", fmt.Sprintf("%.3g", truth), in.printed()))
			judge(fmt.Sprintf("the printed %.3g steps/s", v), v, v, s.PrintedDigit/2)
		}
		for _, c := range in.Patient.Record.Claims {
			if c.Unit != "steps/s" {
				continue
			}
			evidence = append(evidence, said("claimed", c.Text, fmt.Sprintf("%.3g steps/s", truth), "--claim"))
			judge("the claimed "+c.Text, c.Low, c.High, 0)
		}
		if len(evidence) == 2 {
			return probe.Finding{}
		}
		if len(wrong) == 0 {
			return pass("The speed that is told is steps over time", evidence...)
		}
		text := why[0]
		for _, w := range why[1:] {
			text += "; " + w
		}
		f := finding(probe.Warn, fmt.Sprintf("It does %.3g steps/s, %.3g s a step: not %s", truth, 1/truth, wrong[0]), text, evidence...)
		f.Confidence = in.grade(s.Basis == "steps over time, by our clock")
		f.Fix = []probe.Fix{{Text: "Take the speed from steps over time, and compare by tokens a second"}}
		return f
	},
}
