package diagnose

import (
	"time"

	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/probe/budget"
	"github.com/mlxdyno/mlxdyno/probe/leak"
	"github.com/mlxdyno/mlxdyno/probe/patient"
	"github.com/mlxdyno/mlxdyno/trainer"
)

// Schema names the form of a Report.
const Schema = "mlxdyno/doctor/1"

// Report is a whole diagnosis. It is plain data, complete enough to render.
type Report struct {
	Schema  string    `json:"schema"` // Schema
	At      time.Time `json:"at"`
	Healthy bool      `json:"healthy"` // no required check failed
	Quick   bool      `json:"quick"`   // nothing was run; Skipped says why
	Skipped string    `json:"skipped,omitempty"`

	// Findings are all results but the passed ones, worst first: fail, warn,
	// unknown, info, skipped.
	Findings []probe.Finding `json:"findings"`
	Passes   []probe.Finding `json:"passes"`
	Passed   int             `json:"passed"` // len(Passes)

	Patient *patient.Report `json:"patient,omitempty"` // the training that is not ours; nil when there is none

	Budget  *budget.Budget `json:"budget,omitempty"` // nil when no model could be read
	Probe   *Figures       `json:"probe,omitempty"`  // the burst of one exact shape; nil when not run
	Data    *Figures       `json:"data,omitempty"`   // the burst over the data's own batches; nil when not run
	Leak    *leak.Verdict  `json:"leak,omitempty"`   // on active memory of the probe
	Seconds float64        `json:"seconds"`          // wall time of the diagnosis

	Next    string `json:"next"`     // the command line that goes on
	NextWhy string `json:"next_why"` // what it will do, in a sentence

	Config   trainer.Config            `json:"config"`
	Origins  map[string]trainer.Origin `json:"origins,omitempty"` // by knob; absent ones have their default
	Snapshot probe.Snapshot            `json:"snapshot"`
}

// Figures are what one burst measured.
type Figures struct {
	Outcome         trainer.Outcome      `json:"outcome"`
	Shape           *trainer.Shape       `json:"shape,omitempty"` // nil for the data's own batches
	ShapeWhy        string               `json:"shape_why,omitempty"`
	Steps           int                  `json:"steps"`
	Shapes          int                  `json:"shapes"` // distinct ones seen
	LoadSeconds     trainer.Opt[float64] `json:"load_seconds,omitzero"`
	TokensPerSecond trainer.Opt[float64] `json:"tokens_per_second,omitzero"` // real tokens over step and data time
	StepSeconds     trainer.Opt[float64] `json:"step_seconds,omitzero"`      // median, data time included
	StepSpread      trainer.Opt[float64] `json:"step_spread,omitzero"`       // (p90 − p10) / median
	DataShare       trainer.Opt[float64] `json:"data_share,omitzero"`        // of step and data time
	FirstLoss       trainer.Opt[float64] `json:"first_loss,omitzero"`
	LastLoss        trainer.Opt[float64] `json:"last_loss,omitzero"`
	PeakBytes       trainer.Opt[int64]   `json:"peak_bytes,omitzero"`      // highest of MLX's live buffers
	ActiveBytes     trainer.Opt[int64]   `json:"active_bytes,omitzero"`    // after the last step
	CacheBytes      trainer.Opt[int64]   `json:"cache_bytes,omitzero"`     // after the last step
	FootprintBytes  trainer.Opt[int64]   `json:"footprint_bytes,omitzero"` // highest of the process
}
