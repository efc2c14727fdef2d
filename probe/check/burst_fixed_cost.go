package check

import (
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/trainer"
)

const (
	fixedSteps     = 10  // timed steps needed
	fixedRange     = 1.5 // between the smallest and the largest of them
	fixedTolerated = 0.5 // of a step
)

var burstFixedCost = Check{
	Code: "burst.fixed-cost", DependsOn: []string{"burst.outcome", "burst.traces", "burst.swapping"},
	Story: Story{
		Title: "Steps bound by the host",
		Means: "Most of a step's time does not depend on how much it computes: the device waits for the host, which prepares, launches or interprets operations. A larger batch would be nearly free.",
		How:   "Step times over the data's batches are fitted by a constant and a part that grows with the tokens; the first step, and where steps are compiled the first of each shape, is left out. The constant's lower bound must exceed half of a typical step.",
		Do:    "Use a larger batch with less accumulation, rows packed end to end (--packing on), compiled steps (--compile on), or --engine native, which has no interpreter in its way.",
	},
	run: func(in Input) probe.Finding {
		if in.Data == nil {
			return probe.Finding{}
		}
		var x, y []float64
		for _, s := range settled(*in.Data) {
			x = append(x, float64(s.Shape.Positions()))
			y = append(y, s.Seconds)
		}
		if len(x) < fixedSteps || slices.Min(x) <= 0 || slices.Max(x) < fixedRange*slices.Min(x) {
			return probe.Finding{}
		}
		constant, deviation := intercept(x, y)
		sorted := slices.Sorted(slices.Values(y))
		typical := sorted[len(sorted)/2]
		if typical <= 0 {
			return probe.Finding{}
		}
		low := constant - 2*deviation
		evidence := []probe.Evidence{
			number("time that does not grow with the tokens", max(constant, 0), "s", fmt.Sprintf("≤ %.3g s", fixedTolerated*typical), fmt.Sprintf("fit over %d steps, ± %.2g s", len(x), 2*deviation)),
			number("a typical step", typical, "s", "", "trial over the data's own batches"),
		}
		if low <= fixedTolerated*typical {
			return pass("Steps take the time of what they compute", evidence...)
		}
		f := finding(probe.Warn, percent(min(constant/typical, 1))+" of a step's time does not depend on its size", "the device waits for the host; more rows at once would cost little", evidence...)
		f.Confidence = probe.Likely
		c := in.config()
		if c.Plan.Accumulation > 1 {
			f.Fix = append(f.Fix, probe.Fix{Text: "Put the rows of an update into one batch, if memory allows",
				Command: Command("doctor", in.Settings, Change{"batch-size", strconv.Itoa(c.EffectiveBatch())}, Change{"grad-accumulation-steps", "1"})})
		}
		if c.Engine != trainer.EngineNative {
			f.Fix = append(f.Fix, probe.Fix{Text: "Train without an interpreter", Command: Command("doctor", in.Settings, Change{"engine", trainer.EngineNative})})
		}
		f.Fix = append(f.Fix, probe.Fix{Text: "Let tune compare batches", Command: Command("tune", in.Settings)})
		return f
	},
	prove: func(in Input) (Experiment, bool) {
		c := in.config()
		return Experiment{Changes: []Change{{"batch-size", strconv.Itoa(c.EffectiveBatch())}, {"grad-accumulation-steps", "1"}}, Data: true, Timed: true,
			Symptom: "time of 1000 tokens", Unit: "s", Measure: secondsPerThousand, Ratio: 0.8}, c.Plan.Accumulation > 1
	},
}

// intercept fits y = a + b·x and returns a with its standard error.
func intercept(x, y []float64) (a, deviation float64) {
	n := float64(len(x))
	var mx, my float64
	for i := range x {
		mx += x[i] / n
		my += y[i] / n
	}
	var xx, xy float64
	for i := range x {
		xx += (x[i] - mx) * (x[i] - mx)
		xy += (x[i] - mx) * (y[i] - my)
	}
	b := xy / xx
	a = my - b*mx
	var rest float64
	for i := range x {
		d := y[i] - a - b*x[i]
		rest += d * d
	}
	return a, math.Sqrt(rest / max(n-2, 1) * (1/n + mx*mx/xx))
}
