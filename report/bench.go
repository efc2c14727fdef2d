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
	Case string `json:"case"`
	bench.Comparison
}

// Bench writes a comparison for a person.
func Bench(w io.Writer, d BenchDocument, s Style) error {
	p := &page{Style: s}
	var rows [][]cell
	for _, r := range d.Rows {
		for i, side := range []bench.Side{r.A, r.B} {
			first, ratio, peak := "", "", ""
			if i == 0 {
				first = r.Case
				ratio = fmt.Sprintf("%.3f× (%.3f–%.3f)", r.Ratio.Speed, r.Ratio.Low, r.Ratio.High)
				peak = fmt.Sprintf("%.3f×", r.Ratio.Peak)
			}
			rows = append(rows, cells(first, side.Name, number(side.TokensPerSecond), ratio, trainer.FormatBytes(side.PeakBytes), peak, strconv.FormatFloat(side.Loss, 'f', 5, 64)))
		}
	}
	p.table([]column{{title: "case"}, {title: "engine"}, {title: "tok/s", right: true}, {title: "speed"}, {title: "peak", right: true}, {title: "peak"}, {title: "last loss", right: true}}, rows)
	p.gap()
	p.text(2, faint, "Every engine in a process of its own, in turns (A B B A); medians; the ratio is the geometric mean over rounds with its 95 % interval.")
	return p.flush(w)
}
