package report

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/tuner/compare"
)

// Compare writes a comparison of two configurations for a person.
func Compare(w io.Writer, r compare.Report, s Style) error {
	p := &page{Style: s}
	p.marked("mlxdyno tune --compare: ", strong, compareTone(r.Verdict), r.Says)
	if r.Hint != "" {
		p.hanging("  → ", strong, r.Hint)
	}
	p.sides(r)
	return p.flush(w)
}

func compareTone(v compare.Verdict) tone {
	switch v {
	case compare.Faster, compare.Slower, compare.Even:
		return fine
	case compare.OnlyA, compare.OnlyB, compare.Neither:
		return bad
	}
	return caution
}

// sides are the figures of both, and how they were measured.
func (p *page) sides(r compare.Report) {
	p.gap()
	row := func(name string, a, b compare.Summary, ratio compare.Ratio, render func(float64) string) []cell {
		return cells(name, summary(a, render), summary(b, render), ratioText(ratio))
	}
	p.table([]column{{}, {title: "A: " + r.A.Name, right: true}, {title: "B: " + r.B.Name, right: true}, {title: "A / B (95 %)", right: true}}, [][]cell{
		row("useful tok/s", r.A.TokensPerSecond, r.B.TokensPerSecond, r.Speed, number),
		row("peak memory", r.A.PeakBytes, r.B.PeakBytes, r.Memory, func(v float64) string { return trainer.FormatBytes(int64(v)) }),
	})
	for _, side := range []struct {
		name string
		compare.Result
	}{{"A", r.A}, {"B", r.B}} {
		var knobs []string
		for _, k := range slices.Sorted(maps.Keys(side.Knobs)) {
			knobs = append(knobs, k+" "+side.Knobs[k])
		}
		if len(knobs) > 0 {
			p.text(tableIndent, faint, side.name+" has "+strings.Join(knobs, ", "))
		}
		if side.Problem != "" {
			p.marked("  "+side.name+": ", caution, plain, side.Problem)
		}
	}
	how := "in a process each, in turns"
	if r.OneProcess {
		how = "in turns inside the same processes"
	}
	p.text(tableIndent, faint, fmt.Sprintf("%s in %s, %s; medians with their 95 %% intervals, ratios over all pairs; p is that of Mann and Whitney's U test",
		plural(r.Processes, "process", "processes"), seconds(r.Seconds), how))
	for _, n := range r.Notes {
		p.hanging("  · ", faint, n)
	}
}

func summary(s compare.Summary, render func(float64) string) string {
	v, ok := s.Median.Get()
	if !ok {
		return dash
	}
	text := render(v)
	if low, known := s.Low.Get(); known {
		text += fmt.Sprintf(" (%s to %s)", render(low), render(s.High.Or(0)))
	}
	return text
}

func ratioText(r compare.Ratio) string {
	v, ok := r.Value.Get()
	if !ok {
		return dash
	}
	text := number(v) + " ×"
	if low, known := r.Low.Get(); known {
		text += fmt.Sprintf(" (%s to %s)", number(low), number(r.High.Or(0)))
	}
	return text
}

// baseline is the result against the configuration that is used now.
func (p *page) baseline(r *compare.Report) {
	if r == nil {
		return
	}
	p.heading("Against your current configuration (%s)", r.B.Name)
	p.marked("  ", plain, compareTone(r.Verdict), currentText(*r))
	p.sides(*r)
}

// currentText is the same in the words of whoever has that configuration.
func currentText(r compare.Report) string {
	switch r.Verdict {
	case compare.Faster:
		text := ratioText(r.Speed)
		return fmt.Sprintf("%s as fast as the current configuration, peak %s against %s", text, peakText(r.A), peakText(r.B))
	}
	return r.Says
}

func peakText(r compare.Result) string {
	return known(r.PeakBytes.Median, func(v float64) string { return trainer.FormatBytes(int64(v)) })
}
