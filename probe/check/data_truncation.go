package check

import (
	"fmt"
	"strconv"

	"github.com/mlxdyno/mlxdyno/probe"
)

const truncationTolerated = 0.01 // of the rows

var dataTruncation = Check{
	Code: "data.truncation", DependsOn: []string{"data.readable"},
	Story: Story{
		Title: "Rows cut at max-seq-length",
		Means: "More than 1 % of the rows are longer than max-seq-length. Their ends, usually the answers, are never seen.",
		How:   "Exact token counts of all rows are compared with max-seq-length.",
		Do:    "Raise --max-seq-length to the longest row if memory allows, or split long rows.",
	},
	run: func(in Input) probe.Finding {
		l := in.lengths()
		if l == nil {
			return probe.Finding{}
		}
		cut := float64(l.RowsCut) / float64(l.Rows)
		evidence := []probe.Evidence{
			share("rows cut", cut, "≤ "+percent(truncationTolerated), "token counts"),
			count("tokens lost", l.TokensCut, "tokens", "0", "token counts"),
			count("longest row", l.Max, "tokens", fmt.Sprintf("≤ %d tokens", l.Cap), "token counts"),
		}
		if cut <= truncationTolerated {
			return pass("max-seq-length covers the data", evidence...)
		}
		f := finding(probe.Warn, fmt.Sprintf("%s of the rows are cut at %d tokens", percent(cut), l.Cap),
			"what lies beyond the cut is never learned, and a cut row has no end to learn", evidence...)
		covers := (l.P99+31)/32*32 + 1 // batches are padded to 1 + a multiple of 32
		f.Fix = []probe.Fix{{Text: "Cover 99 % of the rows; check that it still fits",
			Command: Command("doctor", in.Settings, Change{"max-seq-length", strconv.Itoa(covers)})}}
		return f
	},
}
