package report

import (
	"fmt"
	"math"
	"strings"

	"github.com/mlxdyno/mlxdyno/probe/leak"
	"github.com/mlxdyno/mlxdyno/probe/pace"
	"github.com/mlxdyno/mlxdyno/probe/patient"
	"github.com/mlxdyno/mlxdyno/trainer"
)

// foreign writes what was seen of a training that is not ours.
func (p *page) foreign(r patient.Report) {
	p.heading("The training")
	var rows [][]cell
	add := func(name string, t tone, parts ...string) {
		if text := joined(" · ", parts...); text != "" {
			rows = append(rows, []cell{{name, faint}, {text, t}})
		}
	}
	add(string(r.Source), plain, r.Name)
	if r.Source != patient.Process {
		add("read as", plain, joined(", ", r.Adapter.Name, r.Adapter.Sure), r.Adapter.Why)
		add("steps", plain, p.steps(r)...)
		add("speed", plain, p.speed(r.Speed)...)
	}
	if r.Source == patient.Command {
		t := fine
		if !r.Outcome.Good() {
			t = bad
		}
		how := ""
		switch {
		case r.Signal != "":
			how = "by " + r.Signal
		case r.ExitCode.Known():
			how = fmt.Sprintf("exit status %d", r.ExitCode.Or(0))
		}
		ended := ""
		if r.EndedFor != "" {
			ended = "ended by us: " + r.EndedFor
		}
		add("outcome", t, string(r.Outcome), how, ended)
	}
	if u := r.Usage; u != nil {
		add("processes", plain, p.usage(*u)...)
	}
	p.table([]column{{}, {}}, rows)
	p.growths(r.Memory)
	for _, n := range r.Notices {
		if n.Level == "info" && !p.Verbose {
			continue
		}
		times := ""
		if n.Times > 1 {
			times = fmt.Sprintf(" (%d times)", n.Times)
		}
		p.hanging("  it said: ", plain, n.Text+times)
	}
	for _, text := range r.Adapter.Caveats {
		p.hanging("  note: ", faint, text)
	}
	for _, text := range r.Notes {
		p.hanging("  note: ", faint, text)
	}
	if r.LastLines != "" {
		p.text(tableIndent, strong, "Its last lines:")
		lines := strings.Split(strings.TrimRight(r.LastLines, "\n"), "\n")
		if shown := 12; len(lines) > shown && !p.Verbose {
			lines = lines[len(lines)-shown:]
		}
		for _, line := range lines {
			p.text(2*tableIndent, faint, line)
		}
	}
}

func (p *page) steps(r patient.Report) []string {
	if r.Reports == 0 {
		return []string{"none that was understood"}
	}
	out := []string{fmt.Sprintf("%d to %d", r.FirstStep.Or(0), r.LastStep.Or(0)), count(r.Reports, "report")}
	if n, ok := r.Planned.Get(); ok {
		out[0] += " of " + grouped(int64(n))
	}
	if r.Restarts > 0 {
		out = append(out, count(r.Restarts, "restart"))
	}
	if r.Shapes > 0 {
		out = append(out, count(r.Shapes, "distinct shape"))
	}
	return out
}

func (p *page) speed(s patient.Speed) []string {
	var out []string
	if v, ok := s.StepSeconds.Get(); ok {
		out = append(out, number(v)+" s a step", number(1/v)+" steps/s")
	}
	if v, ok := s.TokensPerSecond.Get(); ok {
		out = append(out, number(v)+" tok/s as it counts them")
	}
	if v, ok := s.PrintedTokens.Get(); ok && v != s.TokensPerSecond.Or(v) {
		out = append(out, "prints "+number(v)+" tok/s")
	}
	if s.Pace != nil && s.Pace.Drift.State != pace.Unclear {
		out = append(out, string(s.Pace.Drift.State))
	}
	return append(out, s.Basis)
}

func (p *page) usage(u patient.Usage) []string {
	out := []string{count(u.Samples, "sample") + " in " + number(u.Seconds) + " s"}
	if u.Processes > 1 {
		out = append(out, fmt.Sprintf("up to %d processes", u.Processes))
	}
	if b, ok := u.Highest.Get(); ok {
		out = append(out, trainer.FormatBytes(b)+" at most")
	}
	if n, ok := u.Threads.Get(); ok {
		out = append(out, count(n, "thread"))
	}
	if v, ok := u.CPUs.Get(); ok {
		out = append(out, number(v)+" cores busy")
	}
	if v, ok := u.GPUBusy.Get(); ok {
		out = append(out, fmt.Sprintf("GPU %.0f %% busy", v))
	}
	if b, ok := u.SwapOut.Get(); ok {
		out = append(out, trainer.FormatBytes(b)+" swapped out")
	}
	if u.Pressure != "" {
		out = append(out, "pressure "+u.Pressure)
	}
	return out
}

func (p *page) growths(all []patient.Growth) {
	var rows [][]cell
	for _, g := range all {
		verdict, t := "level", fine
		switch g.State {
		case leak.Leaking:
			by := " a step"
			if g.PerSteps == 0 {
				by = " a second"
			}
			verdict, t = "grows "+bytesOf(g.Rate.BytesAStep)+by, bad
		case leak.Inconclusive:
			verdict, t = "cannot be told", caution
		}
		rows = append(rows, []cell{{text: g.Kind}, {text: grouped(int64(g.Readings))}, {text: trainer.FormatBytes(g.First)},
			{text: trainer.FormatBytes(g.Last)}, {text: trainer.FormatBytes(g.Highest)}, {verdict, t}, {g.Reason, faint}})
	}
	p.table([]column{{title: "memory"}, {title: "readings", right: true}, {title: "first", right: true}, {title: "last", right: true},
		{title: "highest", right: true}, {title: "verdict"}, {title: "why"}}, rows)
}

// bytesOf renders a rate, which any document may hold as any number.
func bytesOf(v float64) string {
	if math.IsNaN(v) || math.Abs(v) > math.MaxInt64/2 {
		return dash
	}
	return trainer.FormatBytes(int64(math.Round(v)))
}
