package report

import (
	"fmt"
	"io"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/tuner"
)

// CapSchema names the JSON document of trainings under a cap.
const CapSchema = "mlxdyno/bench-cap/1"

// CapDocument is what trainings took that were tuned under a cap.
type CapDocument struct {
	Schema   string            `json:"schema"` // CapSchema
	Rows     []CapRow          `json:"rows"`
	Versions map[string]string `json:"versions"`
	Device   string            `json:"device"`
}

// CapRow is one cap.
type CapRow struct {
	Engine   string         `json:"engine"`
	CapBytes int64          `json:"cap_bytes"`
	Default  MemoryUse      `json:"default"` // an epoch of the configuration that one starts with
	Verdict  tuner.Verdict  `json:"verdict"`
	Problem  string         `json:"problem,omitempty"` // why nothing was found, and nothing trained
	Config   trainer.Config `json:"config"`
	Steps    int            `json:"steps"`
	Trained  MemoryUse      `json:"trained"`
	Held     bool           `json:"held"`
}

// MemoryUse is the most of each over the steps of a training.
type MemoryUse struct {
	PeakBytes         int64 `json:"peak_bytes"`           // of MLX's live buffers
	PeakAndCacheBytes int64 `json:"peak_and_cache_bytes"` // of one step
	FootprintBytes    int64 `json:"footprint_bytes"`      // of the process, after a step
}

// Caps writes trainings under caps for a person.
func Caps(w io.Writer, d CapDocument, s Style) error {
	p := &page{Style: s}
	columns := []column{{title: "engine"}, {title: "cap", right: true}, {title: "default: peak + cache", right: true}, {title: "footprint", right: true},
		{title: "found"}, {title: "steps", right: true}, {title: "peak + cache", right: true}, {title: "footprint", right: true}, {title: "held"}}
	var rows [][]cell
	for _, r := range d.Rows {
		held := "yes"
		if !r.Held {
			held = "no"
		}
		if r.Verdict == tuner.Impossible {
			rows = append(rows, cells(r.Engine, trainer.FormatBytes(r.CapBytes), trainer.FormatBytes(r.Default.PeakAndCacheBytes), trainer.FormatBytes(r.Default.FootprintBytes),
				"nothing fits", "–", "–", "–", "–"))
			continue
		}
		plan := fmt.Sprintf("%d × %d, rank %d", r.Config.Plan.Batch, r.Config.Plan.Accumulation, r.Config.Quality.Rank)
		if b := r.Config.Model.Quantize; b > 0 {
			plan += fmt.Sprintf(", %d bits", b)
		}
		if r.Config.Plan.Checkpointing {
			plan += ", checkpointing"
		}
		if r.Verdict != tuner.Confirmed {
			plan += fmt.Sprintf(" (%s)", r.Verdict)
		}
		rows = append(rows, cells(r.Engine, trainer.FormatBytes(r.CapBytes), trainer.FormatBytes(r.Default.PeakAndCacheBytes), trainer.FormatBytes(r.Default.FootprintBytes),
			plan, fmt.Sprint(r.Steps), trainer.FormatBytes(r.Trained.PeakAndCacheBytes), trainer.FormatBytes(r.Trained.FootprintBytes), held))
	}
	p.table(columns, rows)
	return p.flush(w)
}
