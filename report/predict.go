package report

import (
	"fmt"
	"io"
	"strconv"

	"github.com/mlxdyno/mlxdyno/tuner"
)

// PredictSchema names the JSON document of predictions held against bursts.
const PredictSchema = "mlxdyno/bench-predict/1"

// PredictDocument is what predictions missed, cell by cell.
type PredictDocument struct {
	Schema   string            `json:"schema"` // PredictSchema
	Cells    []PredictCell     `json:"cells"`
	All      tuner.Accuracy    `json:"all"`            // cells together
	Left     string            `json:"left,omitempty"` // why cells are missing
	Versions map[string]string `json:"versions"`
	Device   string            `json:"device"`
}

// PredictCell is one engine on one model at one width of weights, with or without
// checkpointing.
type PredictCell struct {
	Model         string          `json:"model"`
	Engine        string          `json:"engine"`
	Bits          int             `json:"bits"` // 0 is as stored
	Checkpointing bool            `json:"checkpointing"`
	Accuracy      tuner.Accuracy  `json:"accuracy"`
	HeldOut       []tuner.HeldOut `json:"held_out"`
	Again         []tuner.Repeat  `json:"again"` // what calibration had timed
}

// Predictions writes what predictions missed for a person.
func Predictions(w io.Writer, d PredictDocument, s Style) error {
	p := &page{Style: s}
	columns := []column{{title: "model"}, {title: "engine"}, {title: "bits", right: true}, {title: "ckpt"}, {title: "n", right: true},
		{title: "peak: median", right: true}, {title: "p95", right: true}, {title: "worst", right: true}, {title: "bias", right: true}, {title: "above bound", right: true},
		{title: "time: median", right: true}, {title: "bias", right: true}, {title: "again", right: true}, {title: "bias", right: true}, {title: "side by side", right: true}, {title: "bias", right: true}}
	line := func(a tuner.Accuracy, first ...string) []cell {
		return cells(append(first, strconv.Itoa(a.Predictions), share(a.PeakMedian), share(a.PeakP95), signed(a.PeakWorst), signed(a.PeakBias), strconv.Itoa(a.Above),
			share(a.TimeMedian), signed(a.TimeBias), share(a.AgainMedian), signed(a.AgainBias), share(a.BesideMedian), signed(a.BesideBias))...)
	}
	var rows [][]cell
	for _, c := range d.Cells {
		bits, gc := "f32", "off"
		if c.Bits > 0 {
			bits = strconv.Itoa(c.Bits)
		}
		if c.Checkpointing {
			gc = "on"
		}
		rows = append(rows, line(c.Accuracy, c.Model, c.Engine, bits, gc))
	}
	rows = append(rows, line(d.All, "all", "", "", ""))
	p.table(columns, rows)
	p.gap()
	p.text(2, faint, "Shapes and ranks that took no part in the fit; errors are predicted over measured, less 1; medians and p95 are of absolute errors.")
	p.text(2, faint, "Time: as calibrated before. Again: the calibration's own shapes, timed again. Side by side: with these times instead of the calibration's, taken in turns with what is predicted.")
	if d.Left != "" {
		p.text(2, plain, "Not all cells: "+d.Left)
	}
	return p.flush(w)
}

func share(v float64) string  { return fmt.Sprintf("%.2f %%", 100*v) }
func signed(v float64) string { return fmt.Sprintf("%+.2f %%", 100*v) }
