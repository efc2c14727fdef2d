package report

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/mlxdyno/mlxdyno/tuner"
)

// PredictSchema names the JSON document of predictions held against bursts.
const PredictSchema = "mlxdyno/bench-predict/2"

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
	columns := []column{{title: "model"}, {title: "engine"}, {title: "base"}, {title: "n", right: true},
		{title: "peak", right: true}, {title: "p95", right: true}, {title: "worst", right: true}, {title: "bias", right: true}, {title: "over", right: true},
		{title: "time", right: true}, {title: "bias", right: true}, {title: "again", right: true}, {title: "bias", right: true}, {title: "beside", right: true}, {title: "bias", right: true}}
	line := func(a tuner.Accuracy, first ...string) []cell {
		return cells(append(first, strconv.Itoa(a.Predictions), share(a.PeakMedian), fmt.Sprintf("%.1f", 100*a.PeakP95), signed(a.PeakWorst), signed(a.PeakBias), strconv.Itoa(a.Above),
			middle(a.Time), bias(a.Time), middle(a.Again), bias(a.Again), middle(a.Beside), bias(a.Beside))...)
	}
	var rows [][]cell
	for _, c := range d.Cells {
		base := "f32"
		if c.Bits > 0 {
			base = strconv.Itoa(c.Bits)
		}
		if c.Checkpointing {
			base += " gc"
		}
		model, _, _ := strings.Cut(c.Model, ",")
		rows = append(rows, line(c.Accuracy, model, c.Engine, base))
	}
	rows = append(rows, line(d.All, "all", "", ""))
	p.table(columns, rows)
	p.gap()
	p.text(2, faint, "Shapes and ranks that took no part in the fit; errors are predicted over measured, less 1, in percent; peak, p95, time, again and beside are of absolute errors, medians but for p95. Over: more than the bound of 99 %. gc: checkpointing.")
	p.text(2, faint, "Time: as calibrated before. Again: the calibration's own shapes, timed again. Beside: with these times instead of the calibration's, taken in turns with what is predicted.")
	if d.Left != "" {
		p.text(2, plain, "Not all cells: "+d.Left)
	}
	return p.flush(w)
}

// middle and bias are of errors that may not be known.
func middle(e *tuner.Errors) string {
	if e == nil {
		return "–"
	}
	return fmt.Sprintf("%.1f", 100*e.Median)
}

func bias(e *tuner.Errors) string {
	if e == nil {
		return "–"
	}
	return signed(e.Bias)
}

// share and signed are in percent.
func share(v float64) string  { return fmt.Sprintf("%.2f", 100*v) }
func signed(v float64) string { return fmt.Sprintf("%+.1f", 100*v) }
