package check

import (
	"fmt"

	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/probe/leak"
	"github.com/mlxdyno/mlxdyno/probe/patient"
	"github.com/mlxdyno/mlxdyno/trainer"
)

const (
	manyShapes = 16   // distinct ones, and half of the steps, that count as unbounded
	leftOver   = 0.25 // of a growth, that a warm-up may leave once its cause is gone
)

var patientShapes = Check{
	Code: patient.ShapeGrowth, DependsOn: []string{"patient.leak", "patient.binding-leak"},
	Story: Story{
		Title: "Shapes without bound",
		Means: "Nearly every step has a shape that was not there before. Each is compiled anew and kept: steps are slow, and the process grows beside MLX's counters.",
		How:   "The widths that the trainer prints (width, sequence_length or tokens of a padded batch), and the growth of its memory.",
		Do:    "Pad batches to few widths, such as multiples of 32 or 64 up to the cap.",
	},
	run: func(in Input) probe.Finding {
		if in.Patient == nil || in.Patient.Report.Shapes == 0 {
			return probe.Finding{}
		}
		r := in.Patient.Report
		evidence := []probe.Evidence{count("distinct shapes", r.Shapes, fmt.Sprintf("in %d steps", r.Reports), fmt.Sprintf("< %d", manyShapes), in.printed())}
		if r.Shapes < manyShapes || 2*r.Shapes < r.Reports {
			return pass(fmt.Sprintf("Its steps have few shapes: %d", r.Shapes), evidence...)
		}
		f := finding(probe.Warn, fmt.Sprintf("%d of %d steps have a shape of their own", r.Shapes, r.Reports), "each new shape is traced and compiled again, needs buffers of new sizes, and stays in the compile cache", evidence...)
		for _, kind := range []string{patient.Cache, patient.Footprint} {
			if g := r.Grows(kind); g != nil {
				f.Evidence = append(f.Evidence, said(kind, "grows: "+g.Reason, "level", in.printed()))
			}
		}
		f.Confidence = in.grade(true)
		in.provedUncompiled(&f)
		f.Fix = []probe.Fix{{Text: "Pad batches to few widths: width = 64 * ceil(longest / 64)"}}
		return f
	},
}

// provedUncompiled holds the growth of its processes against a second burst, in
// which MLX compiled nothing and so kept no compiled step.
func (in Input) provedUncompiled(f *probe.Finding) {
	again, before := in.Patient.Again, in.Patient.Report.Grows(patient.Footprint)
	if again == nil || again.Of != patient.ShapeGrowth || before == nil {
		return
	}
	g := again.Report.Of(patient.Footprint)
	if g == nil || g.PerSteps == 0 || before.PerSteps == 0 || g.Readings < leak.MinReadings {
		f.Evidence = append(f.Evidence, said(again.Change, "its processes were read too seldom to tell", "", "second burst"))
		return
	}
	rest := risen(g)
	for _, kind := range []string{patient.Active, patient.Cache} { // new sizes fill the cache up, compiled or not
		if c := again.Report.Of(kind); c != nil && c.PerSteps > 0 {
			rest -= risen(c)
		}
	}
	f.Evidence = append(f.Evidence, said(again.Change, fmt.Sprintf("%s a step beside MLX's counters; footprint %s → %s", trainer.FormatBytes(int64(rest)), trainer.FormatBytes(g.First), trainer.FormatBytes(g.Last)),
		rate(before)+" compiled", "second burst"))
	if rest < leftOver*before.Rate.Low {
		f.Confidence = probe.Proven
		f.Why += "; uncompiled, its processes stay as they are"
	}
}

// risen is how much a series rose from its first reading to its last, a step.
func risen(g *patient.Growth) float64 {
	return float64(g.Last-g.First) / (g.PerSteps * float64(g.Readings-1))
}
