package tuner

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/mlxdyno/mlxdyno/probe/leak"
	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/data"
	"github.com/mlxdyno/mlxdyno/tuner/search"
)

const (
	saveSeconds   = 120 // between checkpoints, at most
	topCandidates = 10
)

// decision collects the values of the knobs with their reasons.
type decision struct {
	run     *run
	config  trainer.Config
	reasons map[string]string
}

// because notes the reason of a knob that the user left free, and reports
// whether it is free.
func (d *decision) because(knob, format string, args ...any) bool {
	if d.run.userSet(knob) {
		d.reasons[knob] = setByUser
		return false
	}
	d.reasons[knob] = fmt.Sprintf(format, args...)
	return true
}

// conclude turns the winner into the report's configuration, promises and
// comparisons.
func (r *run) conclude(f *finalist, s steadiness) {
	d := &decision{run: r, config: f.config, reasons: map[string]string{}}
	step := f.EpochSeconds / float64(f.plan.Batches)
	r.decideQuality(d, f)
	r.decideSchedule(d, f, step)
	reload := r.decideReload(d, f, s)
	r.decideLimits(d, f, s, reload)
	r.report.Config = d.config
	r.report.Expected = r.expect(d, f, s, step)
	r.report.Choices = d.choices()
	r.report.Data = r.dataSummary(f, d.config)
	r.compare(f)
	r.rank(f)
	r.report.More = r.more(f)
	r.verdict()
}

func (r *run) decideQuality(d *decision, f *finalist) {
	why := r.axes.why
	gc := f.plan.Widest
	for _, knob := range []string{"max-seq-length", "rank"} {
		d.because(knob, "%s", why[knob])
	}
	bits := why["quantize"]
	if text := qualityText(r.report.Quality); text != "" {
		bits += "; " + text
	}
	d.because("quantize", "%s", bits)
	if d.config.Quality.Scale != r.Base.Config.Quality.Scale {
		d.because("scale", "keeps alpha = scale × rank at %g", r.Base.Config.Alpha())
	}
	predicted := r.outcome.Enumerated - r.outcome.Infeasible[search.WhyNoMeasure]
	note := fmt.Sprintf("%s; %.0f tok/s measured, %d of %d configurations that could be predicted fit", why["batch-size"], f.TokensPerSecond, len(r.outcome.Feasible), predicted)
	d.because("batch-size", "%s", note)
	d.because("grad-accumulation-steps", "%s", why["grad-accumulation-steps"])
	other := f.Point
	other.Checkpointing = !f.Checkpointing
	if c, ok := r.problem().Predict(other); ok {
		d.because("grad-checkpoint", "the other way: %.0f tok/s and %s at %d × %d (predicted)",
			c.TokensPerSecond/f.ratio, trainer.FormatBytes(c.PeakBytes), gc.Batch, gc.Width)
	} else if why := r.problem().Reject(other); why != "" {
		d.because("grad-checkpoint", "the other way is out: %s", why)
	} else if !r.couldPay(other) {
		d.because("grad-checkpoint", "batches fit without it that are as fast as those that it could make room for; it saves memory only (not measured)")
	} else {
		d.because("grad-checkpoint", "the other way was not measured: its bursts gave nothing")
	}
}

// decideSchedule keeps the rows that the training sees, and everything that is
// counted in steps in proportion.
func (r *run) decideSchedule(d *decision, f *finalist, step float64) {
	base, c := r.Base.Config.Schedule, &d.config.Schedule
	wanted := roundUp((r.axes.rows+f.Batch-1)/f.Batch, f.Accumulation)
	if d.because("iters", "%d rows, as %d steps of %d would see", r.axes.rows, base.Steps, r.Base.Config.Plan.Batch) {
		c.Steps = wanted
	}
	if d.because("steps-per-eval", "as many validations as %d steps of %d would have", base.Steps, r.Base.Config.Plan.Batch) {
		c.EvalEvery = max(roundUp(base.EvalEvery*c.Steps/base.Steps, f.Accumulation), 1)
	}
	if d.because("val-batches", "as many rows as %d batches of %d", base.ValBatches, r.Base.Config.Plan.Batch) && base.ValBatches > 0 {
		c.ValBatches = max(base.ValBatches*r.Base.Config.Plan.Batch/f.Batch, 1)
	}
	every := int(saveSeconds/step) / f.Accumulation * f.Accumulation
	every = max(min(every, roundUp(c.Steps, f.Accumulation)), f.Accumulation)
	why := fmt.Sprintf("at most %d s of work to lose, at a step of %.3g s, after whole updates", saveSeconds, step)
	if every >= c.Steps {
		why = fmt.Sprintf("at the end: less than %d s of work are there to lose, at a step of %.3g s", saveSeconds, step)
	}
	if d.because("save-every", "%s", why) {
		c.SaveEvery = every
	}
}

func roundUp(n, multiple int) int { return (n + multiple - 1) / multiple * multiple }

// decideReload says after how many steps the process must be replaced. It
// returns the number that the leak asks for, 0 for never.
func (r *run) decideReload(d *decision, f *finalist, s steadiness) int {
	evidence := fmt.Sprintf("%d steps of %d × %d: %s", s.steps, s.shape.Batch, s.shape.Width, s.leak.Reason)
	c := &d.config.Schedule
	if s.leak.State != leak.Leaking {
		text := "no leak seen; reload not needed"
		if s.leak.State == leak.Inconclusive {
			text = "no verdict on leaks"
		}
		if d.because("reload-interval", "%s (%s)", text, evidence) {
			c.ReloadInterval = 0
		}
		return 0
	}
	g := r.growth(f.Candidate, f.trace, s)
	g.steps = c.Steps
	n, ok := g.interval()
	lost, headroom := trainer.FormatBytes(int64(s.leak.BytesAStep)), trainer.FormatBytes(max(g.headroom, 0))
	gate := slices.IndexFunc(r.report.Gates, func(g Gate) bool { return g.Name == gateLeak })
	switch {
	case !ok:
		d.because("reload-interval", "%s a step is lost, and not even one update fits the headroom of %s (%s)", lost, headroom, evidence)
		return 0
	case n == 0:
		r.report.Gates[gate].Passed = true
		if d.because("reload-interval", "%s a step is lost, and the %d steps of the training fit the headroom of %s (%s)", lost, c.Steps, headroom, evidence) {
			c.ReloadInterval = 0
		}
		return 0
	}
	r.report.Gates[gate].Passed = true
	r.report.Gates[gate].Text += fmt.Sprintf("; a new process every %d steps bounds it", n)
	why := fmt.Sprintf("headroom %s / %s a step; a reload of %.1f s costs %.1f %%", headroom, lost, g.reload, 100*g.reload/(float64(n)*s.seconds+g.reload))
	if g.slowdown > 0 {
		why += fmt.Sprintf("; every step takes %.3g ms longer than the one before", 1000*g.slowdown)
	}
	if d.because("reload-interval", "%s (%s)", why, evidence) {
		c.ReloadInterval = n
	}
	return n
}

func (d *decision) choices() []Choice {
	var out []Choice
	for _, k := range trainer.Knobs {
		c := Choice{Knob: k.Name, Value: k.Get(&d.config), Unit: k.Unit, Origin: d.run.Base.Origin(k.Name), Reason: d.reasons[k.Name]}
		switch {
		case d.run.userSet(k.Name):
			c.Reason = setByUser
		case d.run.triedText(k.Name) != "":
			c.Reason, c.Origin = "tried: "+d.run.triedText(k.Name), trainer.FromTuned
		case c.Reason != "":
			c.Origin = trainer.FromTuned
		case c.Origin == trainer.FromTuned:
			c.Reason = "as tuned before"
		default:
			c.Reason = "default; not searched"
		}
		out = append(out, c)
	}
	return out
}

// compare predicts what the study began with.
func (r *run) compare(f *finalist) {
	b := r.Base.Config
	point := Point{Bits: b.Model.Quantize, Rank: b.Quality.Rank, Batch: b.Plan.Batch, Accumulation: b.Plan.Accumulation,
		Checkpointing: b.Plan.Checkpointing, MaxSeqLength: b.Data.MaxSeqLength}
	start := &Comparison{Config: b}
	r.report.Start = start
	c, ok := r.against(point, f)
	if !ok {
		start.Note = "nothing that was measured says what it takes"
		return
	}
	like := point
	like.Bits, like.Rank, like.MaxSeqLength = f.Bits, f.Rank, f.MaxSeqLength
	if same, ok := r.against(like, f); ok && like != point {
		start.SpeedupAlike = trainer.Some(f.TokensPerSecond / same.TokensPerSecond)
	}
	if !c.Measured {
		start.Note = "predicted, corrected by what the confirmation showed"
	}
	start.Fits, start.Measured = c.Fits, c.Measured
	start.PeakBytes, start.TokensPerSecond = trainer.Some(c.PeakBytes), trainer.Some(c.TokensPerSecond)
	start.Speedup = trainer.Some(f.TokensPerSecond / c.TokensPerSecond)
	start.MemoryRatio = trainer.Some(float64(f.PeakBytes) / float64(c.PeakBytes))
	if !c.Fits {
		start.Note += "; it does not fit"
	}
}

// against is what is known of a point, to be held against the winner.
func (r *run) against(p Point, f *finalist) (Candidate, bool) {
	c, ok := r.problem().Predict(p)
	c = r.lighten(c)
	if i := slices.IndexFunc(r.outcome.Feasible, func(c search.Candidate) bool { return c.Point == p }); i >= 0 {
		c, ok = r.outcome.Feasible[i], true
	}
	switch {
	case c.Point == f.Point && f.gain > 0:
		return atPace(f.plain, f.ratio/f.least), ok
	case c.Point == f.Point:
		return f.Candidate, ok
	}
	return r.corrected(c, f), ok
}

// corrected returns a candidate at the winner's pace: with what the machine
// added to the least times, and for one that was only predicted also with what
// the prediction missed.
func (r *run) corrected(c Candidate, f *finalist) Candidate {
	if c.Measured {
		return atPace(c, f.ratio/f.least)
	}
	return atPace(c, r.missed(f)/cmp.Or(f.gain, 1))
}

// rank fills in the candidates, the winner first, the others corrected by what
// the confirmation showed.
func (r *run) rank(f *finalist) {
	all := slices.Clone(r.outcome.Feasible)
	all = slices.DeleteFunc(all, func(c Candidate) bool { return c.Point == f.Point })
	for i := range all {
		all[i] = r.corrected(all[i], f)
	}
	search.Order(all, r.Wishes.Prefer)
	f.Chosen, f.Fits = true, f.peak+f.jitter <= r.usable()
	all = append([]Candidate{f.Candidate}, all...)
	r.report.Pareto = search.Pareto(all)
	r.report.Candidates = all[:min(len(all), topCandidates)]
}

func (r *run) dataSummary(f *finalist, c trainer.Config) DataSummary {
	limit := c.Data.MaxSeqLength
	d := DataSummary{Rows: len(r.Lengths), Batches: f.plan.Batches, Shapes: len(f.plan.shapes()), PaddingShare: f.PaddingShare}
	for i, n := range r.Lengths {
		d.Tokens += int64(min(int(n), limit))
		d.Supervised += data.Supervised(n, r.Prompts[i], limit)
		if over := int(n) - limit; over > 0 {
			d.RowsCut++
			d.TokensCut += int64(over)
		}
	}
	sorted := slices.Sorted(slices.Values(r.Lengths))
	d.P99, d.Max = int(sorted[(len(sorted)*99+99)/100-1]), int(sorted[len(sorted)-1])
	d.Epochs = float64(c.Schedule.Steps) / float64(f.plan.Batches)
	return d
}

func (r *run) verdict() {
	r.report.Verdict = Confirmed
	if len(r.lacks) > 0 {
		r.report.Verdict, r.report.Problem, r.report.Hint = Unconfirmed, strings.Join(r.lacks, "; "), r.moreTime()
		return
	}
	failed := r.report.Failed()
	if len(failed) == 0 {
		return
	}
	g := failed[0]
	r.report.Verdict = Unconfirmed
	r.report.Problem = fmt.Sprintf("the chosen configuration did not pass %q: %s", g.Name, g.Text)
	r.report.Hint = "run mlxdyno doctor with the same model and data; it looks for the cause"
	switch g.Name {
	case gateProcess:
		r.report.Hint = fmt.Sprintf("allow it %s with --max-memory", trainer.FormatBytes(int64(g.Observed.Or(0))))
	case gatePeak:
		r.report.Hint = fmt.Sprintf("allow the process %s with --max-memory", trainer.FormatBytes(int64(g.Observed.Or(0))+r.beside()))
	}
}

// finishReport fills in what does not depend on there being a winner.
func (r *run) finishReport() {
	out := &r.report.Space
	out.Enumerated, out.Feasible = r.outcome.Enumerated, len(r.outcome.Feasible)
	var reasons []string
	for why := range r.outcome.Infeasible {
		reasons = append(reasons, why)
	}
	slices.Sort(reasons)
	for _, why := range reasons {
		out.Infeasible = append(out.Infeasible, Infeasible{Why: why, Count: r.outcome.Infeasible[why]})
	}
	for _, h := range r.heldBack {
		if h.why != "" {
			r.report.NotTried = append(r.report.NotTried, NotTried{What: "calibration " + describe(h.Point), Why: h.why})
		}
	}
	if r.model == nil {
		return
	}
	for _, c := range r.model.Constants() {
		r.report.Constants = append(r.report.Constants, Constant{Name: c.Name, Value: c.Value, Unit: c.Unit, Doc: c.Doc, Fitted: c.Fitted})
	}
}
