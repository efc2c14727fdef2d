package check

import (
	"fmt"

	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/probe/patient"
)

const manyShapes = 16 // distinct ones, and half of the steps, that count as unbounded

var patientShapes = Check{
	Code: "patient.shape-growth", DependsOn: []string{"patient.leak", "patient.binding-leak"},
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
		f.Fix = []probe.Fix{{Text: "Pad batches to few widths: width = 64 * ceil(longest / 64)"}}
		return f
	},
}
