package report

import (
	"fmt"
	"io"
	"strings"
	"unicode"

	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/probe/budget"
	"github.com/mlxdyno/mlxdyno/probe/diagnose"
	"github.com/mlxdyno/mlxdyno/probe/leak"
	"github.com/mlxdyno/mlxdyno/trainer"
)

// Doctor writes a diagnosis for a person, worst findings first.
func Doctor(w io.Writer, r diagnose.Report, s Style) error {
	p := &page{Style: s}
	p.verdict(r)
	p.patient(r)
	for _, f := range r.Findings {
		p.finding(f)
	}
	p.passes(r)
	if r.Budget != nil {
		p.budget(*r.Budget)
	}
	if r.Patient != nil {
		p.foreign(*r.Patient)
	} else {
		p.bursts(r)
	}
	if r.Next != "" {
		p.heading("Next")
		p.verbatim("  $ ", strong, r.Next)
		if r.NextWhy != "" {
			p.text(4, plain, r.NextWhy)
		}
	}
	if s.Verbose {
		p.monitor(r.Snapshot)
	}
	return p.flush(w)
}

func (p *page) verdict(r diagnose.Report) {
	counts := map[probe.Severity]int{}
	for _, f := range r.Findings {
		counts[f.Severity]++
	}
	parts := []string{"healthy"}
	t := fine
	switch {
	case !r.Healthy:
		parts[0], t = "not healthy", bad
	case counts[probe.Warn] > 0:
		parts[0], t = "healthy, with warnings", caution
	}
	for _, c := range []struct {
		severity probe.Severity
		thing    string
	}{{probe.Fail, "problem"}, {probe.Warn, "warning"}, {probe.Unclear, "open question"}, {probe.Info, "note"}} {
		if n := counts[c.severity]; n > 0 {
			parts = append(parts, count(n, c.thing))
		}
	}
	if n := counts[probe.Skipped]; n > 0 {
		parts = append(parts, fmt.Sprintf("%d not checked", n))
	}
	if r.Passed > 0 {
		parts = append(parts, fmt.Sprintf("%d passed", r.Passed))
	}
	p.marked("mlxdyno doctor: ", strong, t, strings.Join(parts, " · "))
}

// patient says on what machine, with what software, about which model and data.
func (p *page) patient(r diagnose.Report) {
	s := r.Snapshot
	var rows [][]cell
	add := func(name string, parts ...string) {
		if text := joined(" · ", parts...); text != "" {
			rows = append(rows, []cell{{name, faint}, {text, plain}})
		}
	}
	bytesOf := func(v probe.Value[int64], what string) string {
		if n, ok := v.Get(); ok {
			return trainer.FormatBytes(n) + what
		}
		return ""
	}
	cores := ""
	if n, ok := s.Host.Cores.Get(); ok {
		cores = count(n, "core")
	}
	add("machine", s.Host.Chip.Or(""), cores, bytesOf(s.Memory.TotalBytes, " memory"), bytesOf(s.Memory.AvailableBytes, " available"),
		s.Host.OSVersion.Or(joined("/", s.Host.OS, s.Host.Arch)))
	if s.GPU.Kind != "" && s.GPU.Kind != "none" {
		add("gpu", s.GPU.Name.Or(s.GPU.Kind), bytesOf(s.GPU.MemoryBytes, ""), bytesOf(s.GPU.WorkingSetBytes, " working set"))
	}
	if i := s.Install; i.State == "ready" {
		mlx, lm := i.Versions["mlx"], i.Versions["mlx-lm"]
		if mlx != "" {
			mlx = "MLX " + mlx
		}
		if lm != "" {
			lm = "mlx-lm " + lm
		}
		blas := ""
		if i.BLAS != "" {
			blas = "BLAS " + i.BLAS
		}
		add("software", mlx, lm, i.Backend, blas)
	} else if i.State != "" {
		add("software", "MLX is "+i.State, i.Problem)
	}
	if m := s.Model; m != nil {
		if f := m.Facts; f != nil {
			quant := f.DType
			if f.Quant != nil {
				quant = fmt.Sprintf("%d-bit in groups of %d", f.Quant.Bits, f.Quant.GroupSize)
			}
			add("model", m.Path, f.Arch, count(f.Layers, "layer"), number(float64(f.Parameters)/1e6)+" M parameters", trainer.FormatBytes(f.WeightBytes), quant)
		} else {
			add("model", m.Path, m.Problem)
		}
	}
	if d := s.Data; d != nil {
		rowCount := ""
		if n, ok := d.Rows["train"]; ok {
			rowCount = count(n, "row") + " to train on"
		}
		lengths := ""
		if l := d.Lengths; l != nil {
			lengths = fmt.Sprintf("tokens a row %s median, %s at 99 %%, %s longest", grouped(int64(l.P50)), grouped(int64(l.P99)), grouped(int64(l.Max)))
		}
		add("data", d.Path, d.Format, rowCount, lengths, d.Problem)
	}
	if len(rows) > 0 {
		p.gap()
		p.table([]column{{}, {}}, rows)
	}
}

// marks are how severities look; the word follows, so that the mark alone
// never has to carry the meaning.
var marks = map[probe.Severity]struct {
	mark, word string
	tone       tone
}{
	probe.Fail:    {"✗", "problem", bad},
	probe.Warn:    {"!", "warning", caution},
	probe.Unclear: {"?", "unknown", note},
	probe.Info:    {"i", "note", note},
	probe.Skipped: {"-", "not checked", faint},
	probe.Pass:    {"✓", "passed", fine},
}

func (p *page) finding(f probe.Finding) {
	m, ok := marks[f.Severity]
	if !ok {
		m.mark, m.word, m.tone = "?", string(f.Severity), note
	}
	p.gap()
	p.marked(m.mark+" ", m.tone, strong, f.Title)
	p.text(2, faint, joined(" · ", m.word, string(f.Confidence), f.Code))
	if f.Why != "" {
		p.text(2, plain, f.Why)
	}
	if f.Severity == probe.Skipped && len(f.DependsOn) > 0 {
		p.text(2, faint, "needs "+strings.Join(f.DependsOn, ", ")+" first")
	}
	p.evidence(f.Evidence)
	if f.Proof != nil {
		p.proof(*f.Proof)
	}
	for _, fix := range f.Fix {
		p.fix(fix)
	}
}

func (p *page) evidence(list []probe.Evidence) {
	rows := make([][]cell, len(list))
	for i, e := range list {
		expected := e.Expected
		if expected != "" && unicode.IsDigit(rune(expected[len(expected)-1])) { // else it has a unit of its own
			expected = joined(" ", expected, e.Unit)
		}
		rows[i] = []cell{{text: e.Name}, {text: joined(" ", e.Observed, e.Unit)}, {text: expected}, {e.Source, faint}}
	}
	p.table([]column{{title: "evidence"}, {title: "observed"}, {title: "expected"}, {title: "from"}}, rows)
}

// verdicts of proofs in words; not every proof is one.
var verdicts = map[probe.ProofVerdict]struct {
	word string
	tone tone
}{
	probe.ProofHolds:   {"proven", fine},
	probe.ProofRefuted: {"not this, or not alone", caution},
	probe.ProofOpen:    {"could not be told", note},
}

// proof says what became of the symptom without its cause.
func (p *page) proof(f probe.Proof) {
	v, ok := verdicts[f.Verdict]
	if !ok {
		v.word, v.tone = string(f.Verdict), note
	}
	show := map[string]func(float64) string{
		"bytes": func(x float64) string { return trainer.FormatBytes(int64(x)) }, "s": seconds, "share": percent,
	}[f.Unit]
	if show == nil {
		show = number
	}
	text := v.word + ": with " + f.Changed
	if f.Verdict == probe.ProofOpen {
		text += "; " + f.Text
	} else {
		text += ", " + f.Symptom + " " + show(f.Before) + " → " + show(f.After)
	}
	if f.Bursts > 0 {
		text += " (" + count(f.Bursts, "burst") + ", " + seconds(f.Seconds) + ")"
	}
	p.hanging("  proof: ", v.tone, text)
}

func (p *page) fix(f probe.Fix) {
	p.hanging("  fix: ", plain, f.Text)
	if f.Command != "" {
		command := f.Command
		if f.NeedsSudo && !strings.HasPrefix(command, "sudo ") {
			command = "sudo " + command
		}
		p.verbatim("    $ ", strong, command)
	}
	if f.Undo != "" {
		p.hanging("    undo: ", faint, f.Undo)
	}
	if f.Risk != "" {
		p.hanging("    risk: ", caution, f.Risk)
	}
}

// passes folds what is in order into one line.
func (p *page) passes(r diagnose.Report) {
	if r.Passed == 0 && len(r.Passes) == 0 {
		return
	}
	p.gap()
	if !p.Verbose {
		p.marked("✓ ", fine, plain, count(r.Passed, "check")+" passed (--verbose lists them)")
		return
	}
	for _, f := range r.Passes {
		p.marked("✓ ", fine, plain, joined(" ", f.Title, "("+f.Code+")"))
	}
}

func (p *page) budget(b budget.Budget) {
	p.heading("Memory of one step, %s", shape(b.Shape))
	var rows [][]cell
	line := func(l budget.Line, t tone) {
		rows = append(rows, []cell{{l.Name, t}, {optBytes(l.Estimated), t}, {optBytes(l.Measured), t}, {joined("; ", l.Note, l.Source), faint}})
	}
	for _, l := range b.Lines {
		line(l, plain)
	}
	if b.Peak.Name == "" {
		b.Peak.Name = budget.PeakName
	}
	line(b.Peak, strong)
	limit := strong
	if n, ok := b.Limit.Bytes.Get(); ok {
		if peak, ok := b.Peak.Best().Get(); ok && peak > n {
			limit = bad
		}
	}
	name := "limit"
	if b.Limit.Name != "" {
		name += ": " + b.Limit.Name
	}
	rows = append(rows, []cell{{name, limit}, {}, {optBytes(b.Limit.Bytes), limit}, {joined("; ", b.Limit.Note, b.Limit.From), faint}})
	p.table([]column{{title: "part"}, {title: "estimated", right: true}, {title: "measured", right: true}, {title: "how"}}, rows)
	if b.Gap != "" {
		p.text(tableIndent, plain, b.Gap)
	}
}

func (p *page) bursts(r diagnose.Report) {
	if r.Skipped != "" {
		p.heading("Measured")
		p.text(tableIndent, plain, "nothing was run: "+r.Skipped)
		return
	}
	var rows [][]cell
	add := func(name string, f *diagnose.Figures) {
		if f == nil {
			return
		}
		t := plain
		if !f.Outcome.Good() {
			t = bad
		}
		if f.Shape != nil {
			name += " " + shape(*f.Shape)
		}
		step := optSeconds(f.StepSeconds)
		if v, ok := f.StepSpread.Get(); ok {
			step += " " + within(v/2)
		}
		losses := dash
		if f.FirstLoss.Known() && f.LastLoss.Known() {
			losses = optLoss(f.FirstLoss) + " → " + optLoss(f.LastLoss)
		}
		rows = append(rows, []cell{{text: name}, {string(f.Outcome), t}, {text: grouped(int64(f.Steps))}, {text: optNumber(f.TokensPerSecond)},
			{text: step}, {text: known(f.DataShare, percent)}, {text: losses}, {text: optBytes(f.PeakBytes)}, {text: optBytes(f.FootprintBytes)}})
	}
	add("probe", r.Probe)
	add("your data", r.Data)
	if len(rows) == 0 && r.Leak == nil {
		return
	}
	p.heading("Measured")
	p.table([]column{{title: "burst"}, {title: "outcome"}, {title: "steps", right: true}, {title: "tok/s", right: true}, {title: "step", right: true},
		{title: "data", right: true}, {title: "loss", right: true}, {title: "peak", right: true}, {title: "process", right: true}}, rows)
	if r.Probe != nil && r.Probe.ShapeWhy != "" {
		p.text(tableIndent, faint, "probe: "+r.Probe.ShapeWhy)
	}
	if r.Leak != nil {
		p.leak(*r.Leak)
	}
}

func (p *page) leak(v leak.Verdict) {
	switch v.State {
	case leak.None:
		p.marked("  leak: ", plain, fine, joined("; ", "none", v.Reason))
	case leak.Leaking:
		p.marked("  leak: ", plain, bad, joined("; ", trainer.FormatBytes(int64(v.BytesAStep))+" a step", v.Reason))
	default:
		p.marked("  leak: ", plain, caution, joined("; ", "cannot be told", v.Reason))
	}
}
