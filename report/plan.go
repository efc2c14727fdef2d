package report

import (
	"io"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// PlanSchema names the JSON document of train --explain-plan.
const PlanSchema = "mlxdyno/plan/1"

// PlanDocument says how a training would be computed.
type PlanDocument struct {
	Schema      string               `json:"schema"` // PlanSchema
	Engine      string               `json:"engine"`
	Device      string               `json:"device"`
	Differences []trainer.Difference `json:"differences"` // from mlx-lm's train()
}

// Plan writes a plan for a person.
func Plan(w io.Writer, d PlanDocument, s Style) error {
	p := &page{Style: s}
	if len(d.Differences) == 0 {
		p.text(0, plain, "This training computes what mlx-lm's train() does, in the same way.")
		return p.flush(w)
	}
	p.text(0, plain, "What this training does otherwise than mlx-lm's train(), on "+d.Device+":")
	p.gap()
	var rows [][]cell
	for _, x := range d.Differences {
		knob := "always"
		if x.Knob != "" {
			knob = "--" + x.Knob
		}
		rows = append(rows, cells(knob, x.Here, x.MLXLM, x.Gives))
	}
	p.table([]column{{title: "knob"}, {title: "here"}, {title: "mlx-lm"}, {title: "is expected to give"}}, rows)
	p.gap()
	p.text(0, faint, "Each computes the same losses and gradients, which tests hold to; --parity turns all of it off. To measure one here: mlxdyno bench --variant KNOB=VALUE.")
	return p.flush(w)
}
