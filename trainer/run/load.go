package run

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/checkpoint"
)

// Run is a run directory as far as its small files tell.
type Run struct {
	Dir   string // absolute
	Spec  Spec
	State State
}

// Open reads what a run is and where it stands. A directory that is no run is
// a *NoRunError.
func Open(dir string) (Run, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return Run{}, fmt.Errorf("open run: %w", err)
	}
	spec, err := readSpec(dir)
	if err != nil {
		return Run{}, err
	}
	busy, err := running(filepath.Join(dir, lockName))
	if err != nil {
		return Run{}, err
	}
	past, err := readHistory(dir, spec)
	if err != nil {
		return Run{}, err
	}
	return Run{Dir: dir, Spec: spec, State: past.state(busy)}, nil
}

// divergence is how much higher a validation loss may be at the end than at
// the beginning before it counts as worse.
const divergence = 1.01

// Load tells a training from its directory, whether it is over, at work or
// was cut off.
func Load(dir string) (Report, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return Report{}, fmt.Errorf("load run: %w", err)
	}
	busy, err := running(filepath.Join(dir, lockName))
	if err != nil {
		return Report{}, err
	}
	return load(dir, busy)
}

func (h history) state(busy bool) State {
	switch {
	case busy:
		return StateRunning
	case h.finish != nil:
		return h.finish.State
	}
	return StateDied
}

func load(dir string, busy bool) (Report, error) {
	spec, err := readSpec(dir)
	if err != nil {
		return Report{}, err
	}
	past, err := readHistory(dir, spec)
	if err != nil {
		return Report{}, err
	}
	kept := newKeeper(past.segments)
	if p := past.profile; p != nil && p.Abandoned == "" {
		kept.profiler = p.Segment
	}
	bad, err := readEvents(filepath.Join(dir, eventsName), kept.add)
	if err != nil {
		return Report{}, err
	}
	r := Report{Schema: Schema, State: past.state(busy), Dir: dir, Created: spec.Created,
		Config: past.config, ConfigKey: past.config.Key(), Identity: spec.Identity, Steps: past.config.Schedule.Steps,
		BackOffs: past.backOffs, Notes: past.notes, Expected: spec.Expected}
	if r.Checkpoints, err = onDisk(filepath.Join(dir, checkpointsName)); err != nil {
		return Report{}, err
	}
	r.tell(past, kept)
	if n := r.Totals.UnrecordedSteps; n > 0 {
		r.Warnings = append(r.Warnings, Warning{Count: n, Warning: trainer.Warning{Code: "events.missing",
			Text: "steps were trained and saved whose losses and times were lost when the supervising process died; sums here leave them out"}})
	}
	if p := r.Profile; p != nil && p.Missing > 0 {
		r.Warnings = append(r.Warnings, Warning{Count: p.Missing, Warning: trainer.Warning{Code: "profile.incomplete",
			Text: "parts of the profile cannot be read or cannot be true; its sums leave them out"}})
	}
	if bad > 0 {
		r.Warnings = append(r.Warnings, Warning{Count: bad, Warning: trainer.Warning{Code: "events.unreadable",
			Text: fmt.Sprintf("%s has lines that cannot be read; their steps are missing here, the training itself lost nothing", eventsName)}})
	}
	if first, last := r.FirstEval, r.LastEval; first != nil && last != nil && last.AfterStep > first.AfterStep && float64(last.Loss) > divergence*float64(first.Loss) {
		r.Warnings = append(r.Warnings, Warning{Count: 1, Warning: trainer.Warning{Code: "training.diverged",
			Text: fmt.Sprintf("validation loss rose from %.3f to %.3f: this adapter is worse than none; lower --learning-rate", float64(first.Loss), float64(last.Loss))}})
	}
	if f := past.finish; f != nil && !busy {
		r.Failure = f.Failure
		if f.State == StateFinished {
			r.AdapterPath = adapterAt(f.Adapter, filepath.Join(dir, adapterName))
		}
	}
	begun := r.StepsDone > 0 || len(r.Checkpoints) > 0
	if r.State == StateInterrupted || r.State == StateDied || r.State == StateFailed && begun {
		r.ResumeCommand = resumeCommand(dir)
	}
	return r, nil
}

// adapterAt is the first of the paths at which there is a directory.
func adapterAt(paths ...string) string {
	for _, p := range paths {
		if info, err := os.Stat(p); err == nil && info.IsDir() {
			return p
		}
	}
	return ""
}

func onDisk(root string) ([]CheckpointRecord, error) {
	refs, err := checkpoint.List(root)
	if err != nil {
		return nil, err
	}
	var out []CheckpointRecord
	for _, ref := range refs {
		if m, err := checkpoint.Read(ref.Dir); err == nil { // a damaged one is judged when it is needed
			out = append(out, CheckpointRecord{CheckpointRef: ref, Bytes: m.Bytes()})
		}
	}
	return out, nil
}

// tell fills in what the segments and events add up to.
func (r *Report) tell(past history, kept *keeper) {
	events, replayed := kept.result()
	sum := trainer.Summarize(events)
	r.Ready, r.Figures = sum.Ready, trainer.Summarize(withoutProfile(events, past.segments)).Figures
	r.Evals = latestEvals(sum.Evals)
	r.FirstEval, r.LastEval, r.BestEval = pickEvals(r.Evals)
	if n := len(r.Evals); n > 0 && r.Evals[n-1].Loss.Finite() {
		r.Figures.ValLoss = trainer.Some(float64(r.Evals[n-1].Loss))
	}
	if n := len(sum.Steps); n > 0 {
		r.StepsDone = sum.Steps[n-1].Number
	}
	for _, c := range r.Checkpoints {
		r.StepsDone = max(r.StepsDone, c.Step)
	}
	r.Losses = lossPoints(sum.Steps)
	r.Warnings = countWarnings(sum.Warns)

	r.Segments = past.segments
	for i := range r.Segments {
		kept.fill(&r.Segments[i])
		if s := r.Segments[i]; i > 0 && r.Segments[i-1].planned() && s.FromStep > r.Segments[i-1].FromStep {
			r.Reloads++
		}
	}
	if kept.profile.end != nil {
		r.Profile = newProfile(&kept.profile, past.segments[kept.profiler])
	}
	r.Totals = totals(events, past.segments)
	r.Totals.ReplayedSteps, r.Totals.UnrecordedSteps = replayed, r.StepsDone-len(sum.Steps)
	// A training with a profile in it takes longer than was promised for one
	// without.
	if r.State == StateFinished && !slices.ContainsFunc(r.Segments, func(s Segment) bool { return s.Profile }) {
		r.Figures.TotalSeconds = r.Totals.Seconds
	}
	if r.Expected != nil {
		r.Compared = compare(*r.Expected, r.Figures)
	}
}

// withoutProfile leaves out the steps of segments that recorded a profile:
// they are slower and may need more memory than the training does.
func withoutProfile(events []trainer.Event, segments []Segment) []trainer.Event {
	return slices.DeleteFunc(slices.Clone(events), func(e trainer.Event) bool {
		_, step := e.Payload.(trainer.Step)
		return step && e.Segment >= 0 && e.Segment < len(segments) && segments[e.Segment].Profile
	})
}

// planned reports whether what follows a segment is a reload rather than a
// recovery or a resumption.
func (s Segment) planned() bool {
	return !s.Profile && s.Outcome == trainer.Finished || s.Outcome == trainer.Stopped && s.Reason == "guard"
}

func totals(events []trainer.Event, segments []Segment) Totals {
	var t Totals
	for _, e := range events {
		switch p := e.Payload.(type) {
		case trainer.Ready:
			t.LoadSeconds += p.LoadSeconds
		case trainer.Step:
			t.StepSeconds += p.Seconds + p.DataSeconds
			t.DataSeconds += p.DataSeconds
			t.Tokens += p.Tokens
			t.Supervised += p.Supervised
		case trainer.Eval:
			t.EvalSeconds += p.Seconds
		case trainer.Checkpoint:
			t.CheckpointSeconds += p.Seconds
		}
	}
	t.DataShare = quotient(t.DataSeconds, t.StepSeconds)
	t.Seconds = trainer.Some(0.0)
	for _, s := range segments {
		sum, known := t.Seconds.Get()
		if seconds, ended := s.Seconds.Get(); known && ended {
			t.Seconds = trainer.Some(sum + seconds)
		} else {
			t.Seconds = trainer.Opt[float64]{}
		}
	}
	return t
}

// latestEvals keeps the newest of several evaluations after the same step.
func latestEvals(evals []trainer.EvalRecord) []trainer.EvalRecord {
	var out []trainer.EvalRecord
	at := map[int]int{}
	for _, e := range evals {
		if i, ok := at[e.AfterStep]; ok {
			out[i] = e
			continue
		}
		at[e.AfterStep] = len(out)
		out = append(out, e)
	}
	return out
}

func pickEvals(evals []trainer.EvalRecord) (first, last, best *trainer.EvalRecord) {
	for i := range evals {
		e := &evals[i]
		if first == nil {
			first = e
		}
		last = e
		if e.Loss.Finite() && (best == nil || e.Loss < best.Loss) {
			best = e
		}
	}
	return first, last, best
}

// maxLossPoints bounds a report's size; a longer training is told in means.
const maxLossPoints = 1000

func lossPoints(steps []trainer.StepRecord) []LossPoint {
	width := (len(steps) + maxLossPoints - 1) / maxLossPoints
	var out []LossPoint
	for i := 0; i < len(steps); i += width {
		stretch := steps[i:min(i+width, len(steps))]
		p := LossPoint{Step: stretch[len(stretch)-1].Number, Steps: len(stretch)}
		for _, s := range stretch {
			p.Loss += s.Loss / trainer.Float(len(stretch))
		}
		out = append(out, p)
	}
	return out
}

func countWarnings(warns []trainer.Warning) []Warning {
	var out []Warning
	at := map[trainer.Warning]int{}
	for _, w := range warns {
		if i, ok := at[w]; ok {
			out[i].Count++
			continue
		}
		at[w] = len(out)
		out = append(out, Warning{Warning: w, Count: 1})
	}
	return out
}

// compare sets measured figures beside the promised ones, as far as both are
// known. Within looks at the error both ways: a promise that was far too high
// was wrong too.
func compare(e trainer.Expected, a trainer.Figures) []Comparison {
	var out []Comparison
	add := func(name, unit string, expected, actual trainer.Opt[float64], promise float64) {
		want, ok := expected.Get()
		got, measured := actual.Get()
		if !ok || !measured || want == 0 {
			return
		}
		c := Comparison{Name: name, Unit: unit, Expected: want, Actual: got, RelativeError: (got - want) / want}
		if promise > 0 {
			c.Promise = trainer.Some(promise)
			c.Within = trainer.Some(math.Abs(c.RelativeError) <= promise)
		}
		out = append(out, c)
	}
	add("peak_bytes", "bytes", float(e.PeakBytes), float(a.PeakBytes), e.PeakError)
	add("footprint_bytes", "bytes", float(e.FootprintBytes), float(a.FootprintBytes), 0)
	add("tokens_per_second", "tokens/s", e.TokensPerSecond, a.TokensPerSecond, e.TokensError)
	add("step_seconds", "s", e.StepSeconds, a.StepSeconds, 0)
	add("total_seconds", "s", e.TotalSeconds, a.TotalSeconds, 0)
	add("val_loss", "", e.ValLoss, a.ValLoss, 0)
	return out
}

func float(o trainer.Opt[int64]) trainer.Opt[float64] {
	if v, ok := o.Get(); ok {
		return trainer.Some(float64(v))
	}
	return trainer.Opt[float64]{}
}
