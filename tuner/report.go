package tuner

import (
	"slices"
	"time"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/tuner/compare"
	"github.com/mlxdyno/mlxdyno/tuner/search"
)

// Schema names the form of a Report.
const Schema = "mlxdyno/tune/1"

// Report is what a study found. It is plain data, complete enough to render,
// to write a configuration file from, and to say how sure it is.
type Report struct {
	Schema  string  `json:"schema"` // Schema
	Verdict Verdict `json:"verdict"`
	Problem string  `json:"problem,omitempty"` // why there is no configuration, or what its confirmation lacks
	Hint    string  `json:"hint,omitempty"`    // what to do about Problem

	Config   trainer.Config   `json:"config"` // zero when Verdict is Impossible
	Choices  []Choice         `json:"choices,omitempty"`
	Expected trainer.Expected `json:"expected"`
	Start    *Comparison      `json:"start,omitempty"` // the configuration the study began with

	// Baseline holds the result, as A, against the configuration that was in use
	// before, as B, by measurement.
	Baseline *compare.Report `json:"baseline,omitempty"`

	// More is what more memory would bring; nil when nothing that was considered
	// would be faster.
	More *More `json:"more,omitempty"`

	Gates      []Gate       `json:"gates,omitempty"`      // of the stability burst
	Limits     []LimitStair `json:"limits,omitempty"`     // lowered at its end
	Tried      []Tried      `json:"tried,omitempty"`      // other ways to compute the winner's steps
	Checks     []Check      `json:"checks,omitempty"`     // prediction against measurement
	Quality    []BaseLoss   `json:"quality,omitempty"`    // of the base at the bits of the space, most first
	Candidates []Candidate  `json:"candidates,omitempty"` // the best by prediction, best first
	Pareto     []Candidate  `json:"pareto,omitempty"`     // nothing else is both faster and smaller; fastest first
	Space      Space        `json:"space"`
	NotTried   []NotTried   `json:"not_tried,omitempty"`
	Constants  []Constant   `json:"constants,omitempty"` // of the fitted time and memory model

	Bursts    []BurstRecord `json:"bursts,omitempty"`
	Processes int           `json:"processes"` // started by this study, replayed ones not counted
	Seconds   float64       `json:"seconds"`   // wall time of the bursts, replayed ones not counted

	Limit  Limit       `json:"limit"`
	Wishes Wishes      `json:"wishes"`
	Data   DataSummary `json:"data"`
	Keys   Keys        `json:"keys"`
	Seed   uint64      `json:"seed"`

	File string `json:"file,omitempty"` // where the configuration was written

	// Changed names what is otherwise than when the last bursts that are kept of
	// this model or data were run, for which they were run again.
	Changed []string `json:"changed,omitempty"`
}

// Verdict says how far the result can be relied on.
type Verdict string

const (
	Confirmed   Verdict = "confirmed"   // measured, and every required gate passed
	Unconfirmed Verdict = "unconfirmed" // predicted, or a gate did not pass; Problem says which
	Impossible  Verdict = "impossible"  // nothing above the floors fits
)

// Choice is the value of one knob and why it has it.
type Choice struct {
	Knob   string         `json:"knob"` // name in trainer.Knobs
	Value  string         `json:"value"`
	Unit   string         `json:"unit,omitempty"`
	Origin trainer.Origin `json:"origin"`
	Reason string         `json:"reason"`
}

// Comparison holds the starting configuration against the chosen one.
type Comparison struct {
	Config          trainer.Config       `json:"config"`
	PeakBytes       trainer.Opt[int64]   `json:"peak_bytes,omitzero"`
	TokensPerSecond trainer.Opt[float64] `json:"tokens_per_second,omitzero"`
	Measured        bool                 `json:"measured"` // else predicted
	Fits            bool                 `json:"fits"`
	Speedup         trainer.Opt[float64] `json:"speedup,omitzero"`       // chosen tokens/s over its tokens/s
	SpeedupAlike    trainer.Opt[float64] `json:"speedup_alike,omitzero"` // the same, were its bits, rank and length the chosen ones; unknown where they are
	MemoryRatio     trainer.Opt[float64] `json:"memory_ratio,omitzero"`  // chosen peak over its peak
	Note            string               `json:"note,omitempty"`
}

// Gate is one requirement on the winner and what was seen.
type Gate struct {
	Name     string               `json:"name"`
	Passed   bool                 `json:"passed"`
	Advisory bool                 `json:"advisory,omitempty"` // not passing widens the stated error and fails nothing
	Observed trainer.Opt[float64] `json:"observed,omitzero"`  // unknown when Text says why
	Required float64              `json:"required"`           // Observed must not exceed it
	Unit     string               `json:"unit,omitempty"`
	Text     string               `json:"text"` // the same for a person
}

// Failed are the required gates that were not passed.
func (r *Report) Failed() []Gate {
	return slices.DeleteFunc(slices.Clone(r.Gates), func(g Gate) bool { return g.Passed || g.Advisory })
}

// Check is one prediction and the measurement that tested it.
type Check struct {
	What                     string               `json:"what"` // "calibration", "confirmation", "rehearsal", …
	Candidate                Point                `json:"candidate"`
	Shape                    *trainer.Shape       `json:"shape,omitempty"` // nil when it is about a whole epoch
	PredictedPeakBytes       trainer.Opt[int64]   `json:"predicted_peak_bytes,omitzero"`
	MeasuredPeakBytes        trainer.Opt[int64]   `json:"measured_peak_bytes,omitzero"`
	PeakError                trainer.Opt[float64] `json:"peak_error,omitzero"` // predicted / measured − 1
	PredictedTokensPerSecond trainer.Opt[float64] `json:"predicted_tokens_per_second,omitzero"`
	MeasuredTokensPerSecond  trainer.Opt[float64] `json:"measured_tokens_per_second,omitzero"`
	TokensError              trainer.Opt[float64] `json:"tokens_error,omitzero"` // predicted / measured − 1
	HeldOut                  bool                 `json:"held_out"`              // the measurement took no part in the fit
}

// Point is a place in the space, and Candidate a point with its prediction.
type (
	Point     = search.Point
	Candidate = search.Candidate
)

// Space counts what was considered.
type Space struct {
	Enumerated int          `json:"enumerated"`
	Feasible   int          `json:"feasible"`
	Infeasible []Infeasible `json:"infeasible,omitempty"`
	Axes       []Axis       `json:"axes"`
}

// Axis is one knob of the space and the values it took.
type Axis struct {
	Knob   string   `json:"knob"`
	Values []string `json:"values"`
	Why    string   `json:"why"` // why these and no others
}

// Infeasible counts candidates that were left out for one reason.
type Infeasible struct {
	Why   string `json:"why"`
	Count int    `json:"count"`
}

// NotTried is something that might have helped and was left alone.
type NotTried struct {
	What string `json:"what"`
	Why  string `json:"why"`
}

// Constant is one fitted or known constant of the time and memory model.
type Constant struct {
	Name   string  `json:"name"`
	Value  float64 `json:"value"`
	Unit   string  `json:"unit"`
	Doc    string  `json:"doc"`
	Fitted bool    `json:"fitted"` // else taken from the model's files or from arithmetic
}

// BurstRecord is one burst of the study.
type BurstRecord struct {
	Purpose    string          `json:"purpose"`
	Key        string          `json:"key"` // identity under which the journal holds it
	Point      Point           `json:"point"`
	Companions []Point         `json:"companions,omitempty"` // that it measured in turns with Point
	Shapes     []trainer.Shape `json:"shapes,omitempty"`     // empty: the data's own batches
	Steps      int             `json:"steps"`                // done
	Outcome    trainer.Outcome `json:"outcome"`
	Problem    string          `json:"problem,omitempty"` // what went wrong, in one line
	Seconds    float64         `json:"seconds"`           // of the process, load included
	Replayed   bool            `json:"replayed"`          // taken from the journal
}

// DataSummary is the training text as the chosen configuration sees it.
type DataSummary struct {
	Rows         int     `json:"rows"`
	Tokens       int64   `json:"tokens"`     // within the length cap
	Supervised   int64   `json:"supervised"` // of those, count in the loss
	TokensCut    int64   `json:"tokens_cut"` // beyond the length cap
	RowsCut      int     `json:"rows_cut"`
	P99          int     `json:"p99"` // row length
	Max          int     `json:"max"`
	Batches      int     `json:"batches"` // an epoch
	Shapes       int     `json:"shapes"`  // distinct
	PaddingShare float64 `json:"padding_share"`
	Epochs       float64 `json:"epochs"` // that the planned training sees
}

// Keys identify what the result is about: it holds while none of them changes.
// With a burst's job, which names the engine, they decide what a burst measures.
type Keys struct {
	Program  string            `json:"program"` // mlxdyno itself, whose trainer and drivers bursts run
	Machine  string            `json:"machine"` // device, memory, BLAS and threads
	Model    string            `json:"model"`
	Data     string            `json:"data"`
	Versions map[string]string `json:"versions,omitempty"`
}

// Limit is the memory that the training may use, and where the number is from.
type Limit struct {
	Bytes  int64  `json:"bytes"`
	Source string `json:"source"`
}

// Wishes are what the user asked of the study, beside knobs.
type Wishes struct {
	MinBits        int           `json:"min_bits,omitempty"`        // fewest bits of a weight; 16 forbids quantizing; 0 quantizes only what does not fit otherwise
	Ranks          []int         `json:"ranks,omitempty"`           // the only ranks to consider; empty derives one from the data
	Prefer         Preference    `json:"prefer,omitempty"`          // empty is Speed
	Budget         time.Duration `json:"budget_ns,omitempty"`       // for the whole study; 0 is DefaultBudget
	MaxMemory      int64         `json:"max_memory,omitempty"`      // bytes; tightens Limit; 0 does not
	EffectiveBatch int           `json:"effective_batch,omitempty"` // rows to one optimizer update; 0 keeps what the settings say
	Try            []string      `json:"try,omitempty"`             // knobs to turn at the winner, each at the price of a process; TryAll for all there are
}

// Preference orders what fits.
type Preference = search.Preference

const (
	Speed   = search.Speed   // least time for a useful token
	Memory  = search.Memory  // least peak
	Quality = search.Quality // most bits, longest rows, highest rank, then speed
)

const (
	Tie       = search.Tie       // relative difference below which two are equally fast
	WhyMemory = search.WhyMemory // a reason to be infeasible
)

// DefaultBudget is the time a study may take when Wishes names none.
const DefaultBudget = 75 * time.Second
