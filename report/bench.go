package report

import (
	"fmt"
	"io"
	"strconv"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/bench"
)

// BenchSchema names the JSON document of a comparison of engines.
const BenchSchema = "mlxdyno/bench/1"

// BenchDocument is a comparison of engines, row by row.
type BenchDocument struct {
	Schema   string            `json:"schema"` // BenchSchema
	Rows     []BenchRow        `json:"rows"`
	Versions map[string]string `json:"versions"`
	Device   string            `json:"device"`
}

// BenchRow is one case of a comparison.
type BenchRow struct {
	Case  string       `json:"case"`
	Sides []bench.Side `json:"sides,omitempty"` // the last one is what the others are held against
	Left  string       `json:"left,omitempty"`  // why the case was not run
}

// Bench writes a comparison for a person.
func Bench(w io.Writer, d BenchDocument, s Style) error {
	p := &page{Style: s}
	var rows [][]cell
	validated := false
	for _, r := range d.Rows {
		first := r.Case
		if r.Left != "" {
			rows = append(rows, cells(first, "not run: "+r.Left, "", "", "", "", "", "", ""))
		}
		for _, side := range r.Sides {
			ratio, peak := "", ""
			if q := side.Ratio; q != nil {
				ratio, peak = fmt.Sprintf("%.3f×", q.Speed), fmt.Sprintf("%.3f×", q.Peak)
				if low, ok := q.Low.Get(); ok {
					ratio += fmt.Sprintf(" (%.3f–%.3f)", low, q.High.Or(low))
				}
			}
			rows = append(rows, cells(first, side.Name, number(side.TokensPerSecond), ratio, trainer.FormatBytes(side.PeakBytes), peak, strconv.FormatFloat(side.Loss, 'f', 5, 64), percent(side.PaddingShare()), validation(side)))
			validated = validated || side.ValidationLoss.Known()
			first = ""
		}
	}
	columns := []column{{title: "case"}, {title: "engine"}, {title: "tok/s", right: true}, {title: "speed"}, {title: "peak", right: true}, {title: "peak"}, {title: "last loss", right: true}}
	if validated { // real rows, which need padding
		columns = append(columns, column{title: "padding", right: true}, column{title: "validation loss", right: true})
	} else {
		for i := range rows {
			rows[i] = rows[i][:len(columns)]
		}
	}
	p.table(columns, rows)
	p.gap()
	p.text(2, faint, "Everything in a process of its own, in turns, forth and back; medians; the ratios are to the last of each case, their geometric mean over rounds with its 95 % interval.")
	return p.flush(w)
}

func validation(s bench.Side) string {
	if v, ok := s.ValidationLoss.Get(); ok {
		return strconv.FormatFloat(v, 'f', 4, 64)
	}
	return ""
}
