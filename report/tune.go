package report

import (
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/tuner"
)

// shownCandidates is how many candidates are listed unless all are asked for.
const shownCandidates = 6

// Onward is how to go on from a study.
type Onward struct {
	File     string   // that has the configuration; empty when there is none
	Commands []string // lines
	Note     string   // what to know of them
}

// Tune writes a study for a person.
func Tune(w io.Writer, r tuner.Report, s Style, on Onward) error {
	p := &page{Style: s}
	switch r.Verdict {
	case tuner.Confirmed:
		p.marked("mlxdyno tune: ", strong, fine, confirmed(r.Gates, r.Expected.TokensError))
	case tuner.Impossible:
		p.marked("mlxdyno tune: ", strong, bad, "no configuration fits")
	default:
		p.marked("mlxdyno tune: ", strong, caution, joined(": ", string(r.Verdict), "not every requirement was confirmed by measurement"))
	}
	if r.Problem != "" {
		p.text(2, plain, r.Problem)
	}
	if r.Hint != "" {
		p.hanging("  → ", strong, r.Hint)
	}
	p.inShort(r)
	p.heading("Study")
	p.study(r)
	p.choices(r.Choices)
	if r.Verdict != tuner.Impossible {
		p.expected(r.Expected)
	}
	if r.Baseline != nil {
		p.baseline(r.Baseline)
	} else {
		p.start(r)
	}
	p.gates(r.Gates)
	p.predictions(r.Checks)
	p.quality(r.Quality)
	p.candidates("Best candidates", r.Candidates)
	if s.Verbose {
		p.candidates("Pareto front: nothing else is both faster and smaller", r.Pareto)
	}
	p.space(r)
	p.notTried(r.NotTried)
	if s.Verbose {
		p.constants(r.Constants)
		p.burstRecords(r.Bursts)
	}
	p.goOn(on.Commands)
	if on.Note != "" {
		p.text(tableIndent, faint, on.Note)
	}
	if on.File != "" {
		p.text(tableIndent, plain, on.File+" has the configuration, with the reason behind every value")
	}
	return p.flush(w)
}

// confirmed says so when little is known of the speed, and names the advisory gates that did not pass, or of
// which nothing is known: they fail nothing, and widen the stated errors.
func confirmed(gates []tuner.Gate, speedError float64) string {
	text := "confirmed: measured, and every required gate passed"
	if speedError >= unsteady {
		text += "; but its speed is known to " + within(speedError) + " only"
	}
	var not, unknown []string
	for _, g := range gates {
		switch {
		case g.Passed || !g.Advisory:
		case g.Observed.Known():
			not = append(not, g.Name)
		default:
			unknown = append(unknown, g.Name)
		}
	}
	if len(not) > 0 {
		text += "; not passed, and only advice: " + strings.Join(not, ", ")
	}
	if len(unknown) > 0 {
		text += "; not known, and only advice: " + strings.Join(unknown, ", ")
	}
	return text
}

func (p *page) study(r tuner.Report) {
	d := r.Data
	var parts []string
	if d.Rows > 0 {
		parts = append(parts, fmt.Sprintf("%s, %s tokens in %s an epoch (%s, padding %s)",
			count(d.Rows, "row"), grouped(d.Tokens), plural(d.Batches, "batch", "batches"), count(d.Shapes, "shape"), percent(d.PaddingShare)))
	}
	if d.RowsCut > 0 {
		parts = append(parts, fmt.Sprintf("%s longer than the cap, %s tokens cut", count(d.RowsCut, "row"), grouped(d.TokensCut)))
	}
	if r.Limit.Bytes > 0 {
		parts = append(parts, fmt.Sprintf("%s that may be used (%s)", trainer.FormatBytes(r.Limit.Bytes), r.Limit.Source))
	}
	parts = append(parts, fmt.Sprintf("%s in %s", plural(r.Processes, "process", "processes"), seconds(r.Seconds)))
	if len(r.Changed) > 0 {
		parts = append(parts, "bursts were run again, for since those of before changed: "+strings.Join(r.Changed, ", "))
	}
	for _, part := range parts {
		p.text(2, faint, part)
	}
}

func (p *page) choices(list []tuner.Choice) {
	if len(list) == 0 {
		return
	}
	p.heading("Configuration")
	var rows [][]cell
	var folded []string
	for _, c := range list {
		if c.Origin == trainer.FromDefault && !p.Verbose {
			folded = append(folded, c.Knob)
			continue
		}
		value := c.Value
		if c.Unit != "" && value != "default" {
			value += " " + unitOf(c)
		}
		if c.Unit == "bytes" {
			if n, err := trainer.ParseBytes(c.Value); err == nil && n >= 1000 {
				value = trainer.FormatBytes(n)
			}
		}
		from := cell{string(c.Origin), faint}
		if c.Origin == trainer.FromTuned {
			from.tone = fine
		}
		rows = append(rows, []cell{{c.Knob, strong}, {text: value}, from, {text: c.Reason}})
	}
	p.table([]column{{title: "knob"}, {title: "value"}, {title: "from"}, {title: "why"}}, rows)
	if len(folded) > 0 {
		p.text(tableIndent, faint, "as by default (--verbose says why): "+strings.Join(folded, ", "))
	}
}

// unitOf is a choice's unit: one step, two steps.
func unitOf(c tuner.Choice) string {
	if c.Value == "1" {
		return strings.TrimSuffix(c.Unit, "s")
	}
	return c.Unit
}

// quality lists what the base loses at fewer bits.
func (p *page) quality(list []tuner.BaseLoss) {
	if len(list) == 0 {
		return
	}
	p.heading("Quality: the untrained base's loss on your validation rows")
	interval := func(low, high trainer.Opt[float64]) string {
		if !low.Known() || !high.Known() {
			return dash
		}
		return fmt.Sprintf("%s to %s", loss(low.Or(0)), loss(high.Or(0)))
	}
	var rows [][]cell
	for _, l := range list {
		name := fmt.Sprintf("%d bits", l.Bits)
		if l.Bits == 0 {
			name = "as stored"
		}
		cost := dash
		if v, ok := l.Cost.Get(); ok {
			cost = plusMinus(v)
			if low, known := l.CostLow.Get(); known {
				cost += fmt.Sprintf(" (%s to %s)", plusMinus(low), plusMinus(l.CostHigh.Or(0)))
			}
		}
		rows = append(rows, []cell{{name, strong}, {text: optLoss(l.Loss)}, {text: interval(l.Low, l.High)}, {text: cost}, {l.Why, faint}})
	}
	p.table([]column{{title: "base"}, {title: "loss", right: true}, {title: "95 %"}, {title: "costs (95 %)"}, {}}, rows)
}

func (p *page) expected(e trainer.Expected) {
	rows := figures(e)
	if len(rows) == 0 {
		return
	}
	p.heading("Expected of the training")
	p.table([]column{{}, {right: true}, {}}, rows)
	if e.Basis != "" {
		p.text(tableIndent, faint, "basis: "+e.Basis)
	}
}

func figures(e trainer.Expected) [][]cell {
	var rows [][]cell
	add := func(name, value, error string) {
		if value != dash {
			rows = append(rows, cells(name, value, error))
		}
	}
	add("speed", known(e.TokensPerSecond, func(v float64) string { return number(v) + " tok/s" }), within(e.TokensError))
	add("a step", optSeconds(e.StepSeconds), "")
	add("peak memory", optBytes(e.PeakBytes), within(e.PeakError))
	add("process", optBytes(e.FootprintBytes), "")
	add("whole training", optSeconds(e.TotalSeconds), "")
	add("validation loss", optLoss(e.ValLoss), "")
	add("leak", known(e.LeakBytesAStep, func(v float64) string { return trainer.FormatBytes(int64(v)) + " a step" }), "")
	return rows
}

func (p *page) start(r tuner.Report) {
	if r.Start == nil {
		return
	}
	s := r.Start
	how := "predicted"
	if s.Measured {
		how = "measured"
	}
	p.heading("Against the defaults, with what you set (%s)", how)
	p.table([]column{{}, {title: "defaults", right: true}, {title: "chosen", right: true}, {title: "ratio", right: true}}, [][]cell{
		cells("tok/s of an epoch", optNumber(s.TokensPerSecond), optNumber(product(s.TokensPerSecond, s.Speedup)), times(s.Speedup)),
		cells("peak memory of an epoch", optBytes(s.PeakBytes), optBytes(epochPeak(s)), times(s.MemoryRatio)),
		cells("fits", yes(s.Fits), yes(r.Verdict != tuner.Impossible), ""),
	})
	if s.Note != "" {
		p.text(tableIndent, plain, s.Note)
	}
}

// epochPeak is the peak of the chosen configuration that s holds against that of the start.
func epochPeak(s *tuner.Comparison) trainer.Opt[int64] {
	bytes, known := s.PeakBytes.Get()
	ratio, also := s.MemoryRatio.Get()
	if !known || !also {
		return trainer.Opt[int64]{}
	}
	return trainer.Some(int64(math.Round(float64(bytes) * ratio)))
}

// plusMinus renders a difference.
func plusMinus(v float64) string { return strings.Replace(fmt.Sprintf("%+.3g", v), "-", "−", 1) }

func product(a, b trainer.Opt[float64]) (c trainer.Opt[float64]) {
	if v, ok := a.Get(); ok {
		if w, ok := b.Get(); ok {
			c = trainer.Some(v * w)
		}
	}
	return c
}

func times(v trainer.Opt[float64]) string {
	return known(v, func(v float64) string { return number(v) + " ×" })
}

// gates gives every gate that was passed a line with its number, and says more of
// the others.
func (p *page) gates(list []tuner.Gate) {
	if len(list) == 0 {
		return
	}
	p.heading("Gates")
	var rows [][]cell
	for _, g := range list {
		if g.Passed {
			rows = append(rows, []cell{{"✓", fine}, {text: g.Name}, {text: amount(g.Observed.Or(0), g.Unit)}, {"at most " + amount(g.Required, g.Unit), faint}})
		}
	}
	if len(rows) > 0 {
		p.table([]column{{}, {}, {right: true}, {}}, rows)
	}
	for _, g := range list {
		if g.Passed {
			if p.Verbose && g.Text != "" {
				p.text(tableIndent, faint, g.Name+": "+g.Text)
			}
			continue
		}
		mark, t := "✗ ", bad
		if g.Advisory {
			mark, t = "! ", caution
		}
		text := g.Text
		if text == "" {
			text = fmt.Sprintf("%s, at most %s", amount(g.Observed.Or(0), g.Unit), amount(g.Required, g.Unit))
		}
		p.marked("  "+mark, t, plain, g.Name+": "+text)
	}
}

// amount renders a gate's number in its unit; a share has none.
func amount(v float64, unit string) string {
	switch unit {
	case "":
		return percent(v)
	case "B":
		return trainer.FormatBytes(int64(v))
	}
	return number(v) + " " + unit
}

func (p *page) predictions(list []tuner.Check) {
	if len(list) == 0 {
		return
	}
	p.heading("Prediction against measurement")
	rows := make([][]cell, len(list))
	for i, c := range list {
		at := "epoch"
		if c.Shape != nil {
			at = shape(*c.Shape)
		}
		part := "fitted"
		if c.HeldOut {
			part = "held out"
		}
		rows[i] = []cell{{text: c.What}, {text: point(c.Candidate)}, {text: at}, {part, faint},
			{text: optBytes(c.PredictedPeakBytes)}, {text: optBytes(c.MeasuredPeakBytes)}, {text: known(c.PeakError, change)},
			{text: optNumber(c.PredictedTokensPerSecond)}, {text: optNumber(c.MeasuredTokensPerSecond)}, {text: known(c.TokensError, change)}}
	}
	p.table([]column{{title: "burst"}, {title: "candidate"}, {title: "at"}, {title: "data"},
		{title: "peak", right: true}, {title: "measured", right: true}, {title: "error", right: true},
		{title: "tok/s", right: true}, {title: "measured", right: true}, {title: "error", right: true}}, rows)
}

// point names a candidate in few letters: 4-bit r16 b4×2 ckpt ≤2048.
func point(c tuner.Point) string {
	parts := []string{fmt.Sprintf("r%d", c.Rank), fmt.Sprintf("b%d", c.Batch)}
	if c.Accumulation > 1 {
		parts[1] += fmt.Sprintf("×%d", c.Accumulation)
	}
	if c.Bits > 0 {
		parts = append([]string{fmt.Sprintf("%d-bit", c.Bits)}, parts...)
	}
	if c.Checkpointing {
		parts = append(parts, "ckpt")
	}
	if c.MaxSeqLength > 0 {
		parts = append(parts, fmt.Sprintf("≤%d", c.MaxSeqLength))
	}
	return strings.Join(parts, " ")
}

func (p *page) candidates(title string, list []tuner.Candidate) {
	if len(list) == 0 {
		return
	}
	shown := list
	if !p.Verbose {
		shown = list[:min(len(list), shownCandidates)]
	}
	p.heading("%s", title)
	rows := make([][]cell, len(shown))
	for i, c := range shown {
		mark, t := "", plain
		if c.Chosen {
			mark, t = "✓", fine
		}
		peak := trainer.FormatBytes(c.PeakBytes)
		if c.PeakErrorBytes > 0 {
			peak += " ± " + trainer.FormatBytes(c.PeakErrorBytes)
		}
		how := "predicted"
		switch {
		case c.Measured:
			how = "measured"
		case c.Extrapolated:
			how = "extrapolated"
		}
		rows[i] = []cell{{mark, t}, {point(c.Point), t}, {text: number(c.TokensPerSecond)}, {text: seconds(c.SecondsPerUsefulToken)},
			{text: seconds(c.EpochSeconds)}, {text: peak}, {text: percent(c.PaddingShare)}, {text: yes(c.Fits)}, {how, faint}}
	}
	p.table([]column{{}, {title: "candidate"}, {title: "tok/s", right: true}, {title: "useful token", right: true}, {title: "epoch", right: true},
		{title: "peak", right: true}, {title: "padding", right: true}, {title: "fits"}, {title: "how"}}, rows)
	if n := len(list) - len(shown); n > 0 {
		p.text(tableIndent, faint, fmt.Sprintf("and %d more (--verbose lists them)", n))
	}
}

func (p *page) space(r tuner.Report) {
	s := r.Space
	if s.Enumerated == 0 {
		return
	}
	p.heading("Considered")
	p.text(tableIndent, plain, fmt.Sprintf("%s, of which %s may be trained within the limits", count(s.Enumerated, "candidate"), grouped(int64(s.Feasible))))
	for _, i := range s.Infeasible {
		p.hanging("  • ", plain, fmt.Sprintf("%s left out: %s", grouped(int64(i.Count)), i.Why))
	}
	if !p.Verbose {
		return
	}
	rows := make([][]cell, len(s.Axes))
	for i, a := range s.Axes {
		rows[i] = cells(a.Knob, strings.Join(a.Values, " "), a.Why)
	}
	p.table([]column{{title: "knob"}, {title: "values"}, {title: "why"}}, rows)
}

func (p *page) notTried(list []tuner.NotTried) {
	if len(list) == 0 {
		return
	}
	p.heading("Not tried")
	for _, n := range list {
		p.hanging("  • ", plain, joined(": ", n.What, n.Why))
	}
}

func (p *page) constants(list []tuner.Constant) {
	if len(list) == 0 {
		return
	}
	p.heading("Constants of the model of time and memory")
	rows := make([][]cell, len(list))
	for i, c := range list {
		how := "known"
		if c.Fitted {
			how = "fitted"
		}
		rows[i] = []cell{{text: c.Name}, {text: number(c.Value)}, {text: c.Unit}, {how, faint}, {c.Doc, faint}}
	}
	p.table([]column{{title: "constant"}, {title: "value", right: true}, {title: "unit"}, {title: "how"}, {title: "what"}}, rows)
}

func (p *page) burstRecords(list []tuner.BurstRecord) {
	if len(list) == 0 {
		return
	}
	p.heading("Bursts")
	rows := make([][]cell, len(list))
	for i, b := range list {
		t := plain
		if !b.Outcome.Good() {
			t = bad
		}
		took := seconds(b.Seconds)
		if b.Replayed {
			took = "from the journal"
		}
		rows[i] = []cell{{text: b.Purpose}, {text: points(b)}, {text: grouped(int64(b.Steps))}, {string(b.Outcome), t}, {text: took}, {text: b.Problem}}
	}
	p.table([]column{{title: "burst"}, {title: "candidate"}, {title: "steps", right: true}, {title: "outcome"}, {title: "took", right: true}, {title: "problem"}}, rows)
}

// points are the candidates that a burst ran in turns, batch by batch.
func points(b tuner.BurstRecord) string {
	text := point(b.Point)
	for _, p := range b.Companions {
		text += fmt.Sprintf(", b%d", p.Batch)
		if p.Accumulation > 1 {
			text += fmt.Sprintf("×%d", p.Accumulation)
		}
	}
	return text
}

// goOn ends a page with command lines.
func (p *page) goOn(next []string) {
	if len(next) == 0 {
		return
	}
	p.heading("Next")
	for _, line := range next {
		p.verbatim("  $ ", strong, line)
	}
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return grouped(int64(n)) + " " + many
}
