package fits

import (
	"fmt"
	"slices"

	"github.com/mlxdyno/mlxdyno/probe/budget"
	"github.com/mlxdyno/mlxdyno/probe/model"
	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/data"
	"github.com/mlxdyno/mlxdyno/tuner/predict"
)

// Schema names the form of a Report.
const Schema = "mlxdyno/fits/1"

// Report is what fits. It is plain data.
type Report struct {
	Schema  string `json:"schema"` // Schema
	Machine string `json:"machine"`
	Limit   Limit  `json:"limit"`
	Host    int64  `json:"host_bytes"` // of the limit, what the process needs outside MLX
	Basis   Basis  `json:"basis"`
	Model   string `json:"model"`
	Stored  int    `json:"stored_bits"` // of the base's weights in its files

	Conditions []Condition `json:"conditions"`          // most bits and lowest rank first
	Training   []Training  `json:"training,omitempty"`  // the planned training on the user's own rows
	Rows       *Summary    `json:"rows,omitempty"`      // the user's own
	Most       Most        `json:"most"`                // where looking ended
	Considered int64       `json:"considered"`          // combinations that the answer covers
	Notes      []string    `json:"notes,omitempty"`     // what to know about the figures
	NotKnown   []string    `json:"not_known,omitempty"` // what is missing, and how to come by it
}

// Basis is what the figures rest on.
type Basis struct {
	Kind        BasisKind            `json:"kind"`
	Text        string               `json:"text"`
	MemoryError trainer.Opt[float64] `json:"memory_error,omitzero"` // share by which bounds of arithmetic are above the estimate; a fit's differ by shape
	TimeSource  string               `json:"time_source,omitempty"` // empty when times are unknown
}

// BasisKind says how far figures can be relied on.
type BasisKind string

const (
	Calibrated BasisKind = "calibrated" // fitted to steps that were measured with this model on this machine
	Arithmetic BasisKind = "arithmetic" // from the model's files, on this machine's memory
	Published  BasisKind = "published"  // from the model's files and what was published of another machine
)

// Most is where looking ended.
type Most struct {
	Length int    `json:"length"`
	Batch  int    `json:"batch"`
	Why    string `json:"why"` // of Length
}

// Condition is a base as loaded, with adapters.
type Condition struct {
	Bits          int       `json:"bits"` // 0 is as stored
	Rank          int       `json:"rank"`
	Checkpointing bool      `json:"checkpointing"`
	Basis         BasisKind `json:"basis"`
	WeightBytes   int64     `json:"weight_bytes"` // of the base as loaded
	Longest       []Place   `json:"longest"`      // for each batch, its longest length
	Largest       []Place   `json:"largest"`      // for each length, its largest batch
}

// Place is a batch at the border of what fits.
type Place struct {
	Batch      int   `json:"batch"`       // rows; 0 when not even one fits
	Length     int   `json:"length"`      // predicted tokens of a row; 0 when none fit
	AtMost     bool  `json:"at_most"`     // looking ended there: more may fit
	PeakBytes  int64 `json:"peak_bytes"`  // of MLX's buffers; of the smallest batch when that does not fit
	BoundBytes int64 `json:"bound_bytes"` // not exceeded, as far as the basis says

	SecondsA1000Tokens trainer.Opt[float64] `json:"seconds_a_1000_tokens,omitzero"`
	SecondsError       trainer.Opt[float64] `json:"seconds_error,omitzero"` // share
}

// Fits reports whether anything does.
func (p Place) Fits() bool { return p.Batch > 0 && p.Length > 0 }

// Training is the planned training in one condition, with batches of so many rows
// of the user's own.
type Training struct {
	Bits          int           `json:"bits"`
	Rank          int           `json:"rank"`
	Checkpointing bool          `json:"checkpointing"`
	Batch         int           `json:"batch"`
	Steps         int           `json:"steps"`  // that see the rows which the settings ask for
	Widest        trainer.Shape `json:"widest"` // batch of an epoch
	Fits          bool          `json:"fits"`
	PeakBytes     int64         `json:"peak_bytes"`
	BoundBytes    int64         `json:"bound_bytes"`

	EpochSeconds    trainer.Opt[float64] `json:"epoch_seconds,omitzero"`
	TrainingSeconds trainer.Opt[float64] `json:"training_seconds,omitzero"` // validations, checkpoints and loading left out
	SecondsError    trainer.Opt[float64] `json:"seconds_error,omitzero"`    // share
}

// Summary is the user's rows within the length cap.
type Summary struct {
	Rows   int   `json:"rows"`
	Tokens int64 `json:"tokens"`
	Cap    int   `json:"cap"`
	P50    int   `json:"p50"`
	P99    int   `json:"p99"`
	Max    int   `json:"max"`
}

// Answer works out what fits. An error is an *Unanswerable, or says what is wrong
// with the question.
func Answer(q Question) (*Report, error) {
	q, err := q.settled()
	if err != nil {
		return nil, err
	}
	o := newOracle(q)
	r := &Report{Schema: Schema, Machine: q.Machine, Limit: q.Limit, Host: q.Limit.Bytes - q.room(), Model: q.Facts.Path, Stored: storedBits(q.Facts), Basis: o.basis()}
	r.Most = Most{Length: q.mostLength(), Batch: mostBatch, Why: "the positions that the model takes"}
	if q.Facts.MaxPositions == 0 {
		r.Most.Why = "its configuration names no limit"
	}
	for _, c := range q.conditions() {
		r.Conditions = append(r.Conditions, o.condition(c))
	}
	r.Considered = int64(len(r.Conditions)) * int64(mostBatch) * int64(q.mostLength()/unit)
	if q.Rows != nil && len(q.Rows.Lengths) > 0 {
		r.Rows, r.Training = q.Rows.summary(q.Config.Data.MaxSeqLength), o.trainings()
	}
	r.Notes, r.NotKnown = o.notes()
	return r, nil
}

func storedBits(f model.Facts) int {
	switch {
	case f.Quant != nil:
		return f.Quant.Bits
	case f.DType == "BF16" || f.DType == "F16":
		return 16
	}
	return 32
}

func (o *oracle) condition(c predict.Condition) Condition {
	out := Condition{Bits: c.Bits, Rank: c.Rank, Checkpointing: c.Checkpointing, Basis: o.kind(c), WeightBytes: o.known.WeightBytes(c.Bits)}
	for _, batch := range o.q.Batches {
		length := o.longest(c, batch)
		p := o.place(c, batch, max(length, unit))
		p.Length, p.AtMost = length, length == o.q.mostLength()
		out.Longest = append(out.Longest, p)
	}
	for _, length := range o.q.Lengths {
		batch := o.largest(c, length)
		p := o.place(c, max(batch, 1), length)
		p.Batch, p.AtMost = batch, batch == mostBatch
		out.Largest = append(out.Largest, p)
	}
	return out
}

func (o *oracle) place(c predict.Condition, batch, length int) Place {
	s := shape(batch, length)
	peak := o.peak(c, s)
	p := Place{Batch: batch, Length: length, PeakBytes: int64(peak.Bytes), BoundBytes: int64(peak.Bound)}
	if t := o.time(c, float64(s.Positions()), predict.WorkOf(s)); t.Seconds > 0 {
		p.SecondsA1000Tokens = trainer.Some(1000 * t.Seconds / float64(s.Positions()))
		p.SecondsError = trainer.Some(t.Error / t.Seconds)
	}
	return p
}

func (o *oracle) kind(c predict.Condition) BasisKind {
	switch {
	case o.measured(c):
		return Calibrated
	case o.q.Published != "":
		return Published
	}
	return Arithmetic
}

// trainings are the planned training with batches of every size.
func (o *oracle) trainings() []Training {
	q := o.q
	wanted := q.Config.Schedule.Steps * q.Config.Plan.Batch // rows
	limit := min(q.Config.Data.MaxSeqLength, q.mostLength()+1)
	var out []Training
	for _, batch := range q.Batches {
		if batch > len(q.Rows.Lengths) {
			continue
		}
		c := q.Config
		c.Plan.Batch, c.Data.MaxSeqLength = batch, limit
		batches := data.PlanBatches(q.Rows.Lengths, data.BatchingOf(c, q.Device).Bounded(q.Rows.Lengths, q.Rows.Valid))
		if len(batches) == 0 {
			continue
		}
		var each []predict.Work
		var widest trainer.Shape
		for _, b := range batches {
			each = append(each, o.workOf(b, limit))
			if s := b.Shape.Even(); s.Positions() > widest.Positions() {
				widest = s
			}
		}
		work := predict.Gather(each, predict.WorksAhead(q.Device))
		steps := (wanted + batch - 1) / batch
		for _, c := range q.conditions() {
			peak := o.peak(c, widest)
			t := Training{Bits: c.Bits, Rank: c.Rank, Checkpointing: c.Checkpointing, Batch: batch, Steps: steps, Widest: widest,
				Fits: peak.Bound <= float64(q.room()), PeakBytes: int64(peak.Bytes), BoundBytes: int64(peak.Bound)}
			if took := o.time(c, float64(widest.Positions()), work...); took.Seconds > 0 {
				t.EpochSeconds = trainer.Some(took.Seconds)
				t.TrainingSeconds = trainer.Some(took.Seconds / float64(len(batches)) * float64(steps))
				t.SecondsError = trainer.Some(took.Error / took.Seconds)
			}
			out = append(out, t)
		}
	}
	return out
}

// workOf is the work of a batch. In a packed one every row attends to itself alone.
func (o *oracle) workOf(b data.Batch, limit int) predict.Work {
	w := predict.WorkOf(b.Shape)
	if b.Shape.Packed > 0 {
		w.Squares = 0
		for _, row := range b.Rows {
			n := float64(max(min(int(o.q.Rows.Lengths[row]), limit)-1, 0))
			w.Squares += n * n
		}
	}
	return w
}

func (r *Rows) summary(limit int) *Summary {
	sorted := slices.Sorted(slices.Values(r.Lengths))
	s := &Summary{Rows: len(sorted), Cap: limit, Max: int(sorted[len(sorted)-1]), P50: int(sorted[(len(sorted)-1)/2]), P99: int(sorted[(len(sorted)*99+99)/100-1])}
	for _, n := range sorted {
		s.Tokens += int64(min(int(n), limit))
	}
	return s
}

func (o *oracle) basis() Basis {
	b := Basis{Kind: Arithmetic, MemoryError: trainer.Some(o.arithmeticError())}
	b.Text = fmt.Sprintf("computed from the model's files; bounds are %.0f %% above it", 100*o.arithmeticError())
	if o.q.Rate != nil {
		b.TimeSource = o.q.Rate.Source
	}
	if o.q.Published != "" {
		b.Kind = Published
		b.Text += "; of the machine, " + o.q.Published
	}
	if o.model != nil {
		b.Kind, b.TimeSource = Calibrated, "the same shapes"
		b.Text = o.q.Sampled
	}
	return b
}

func (o *oracle) notes() (notes, unknown []string) {
	if o.model == nil && o.q.Rate == nil {
		unknown = append(unknown, "seconds: no step of this model was timed on this machine; mlxdyno tune times some, and what fits is then known more closely, too")
	}
	if o.vague {
		unknown = append(unknown, "seconds that are left out: they are too far from the shapes that were measured, or those were measured too unsteadily; mlxdyno tune --fresh on a quiet machine, with the lengths and batches in question, tells")
	}
	if o.model == nil && (o.q.Device == "metal" || o.q.Device == "cuda") {
		notes = append(notes, "attention is taken to keep no scores, as MLX from 0.32.4 on computes it on GPUs: nothing of that was measured here, and where it does keep them long rows need far more")
	}
	if o.model != nil && slices.ContainsFunc(o.q.conditions(), func(c predict.Condition) bool { return o.measured(c) && !o.model.Measured(c) }) {
		notes = append(notes, "bits and ranks that were not measured themselves are reached from those that were, by what the model's files say of them")
	}
	if o.model != nil {
		for _, c := range o.q.conditions() {
			if !o.measured(c) {
				notes = append(notes, "with checkpointing or without was not measured: that part is arithmetic")
				break
			}
		}
	}
	return notes, unknown
}

// arithmeticError is the share by which arithmetic may be exceeded.
func (o *oracle) arithmeticError() float64 {
	return budget.PeakError(o.q.Config, o.q.Facts.Arch, o.q.Device)
}
