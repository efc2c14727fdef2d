package report

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/run"
)

// Train writes a training for a person: finished, running or dead. python is an
// interpreter that has mlx-lm, for the command that uses the adapter.
func Train(w io.Writer, r run.Report, s Style, python string) error {
	p := &page{Style: s}
	p.outcome(r)
	p.failure(r.Failure)
	p.losses(r)
	p.compared(r)
	p.waiting(r.Totals)
	p.profile(r)
	p.segments(r)
	p.backOffs(r.BackOffs)
	p.remarks(r)
	p.adapter(r, python)
	if r.ResumeCommand != "" {
		p.heading("Go on")
		p.verbatim("  $ ", strong, r.ResumeCommand)
		if n := len(r.Checkpoints); n > 0 {
			p.text(4, faint, fmt.Sprintf("from the checkpoint at step %d", r.Checkpoints[n-1].Step))
		}
	}
	return p.flush(w)
}

var states = map[run.State]struct {
	text string
	tone tone
}{
	run.StateFinished:    {"finished", fine},
	run.StateRunning:     {"running", note},
	run.StateInterrupted: {"interrupted, state saved", caution},
	run.StateFailed:      {"failed", bad},
	run.StateDied:        {"died: the process that supervised it is gone", bad},
}

func (p *page) outcome(r run.Report) {
	state, ok := states[r.State]
	if !ok {
		state.text, state.tone = joined(" ", "state", string(r.State)), note
	}
	parts := []string{state.text}
	if r.Steps > 0 {
		parts = append(parts, fmt.Sprintf("%s of %s steps", grouped(int64(r.StepsDone)), grouped(int64(r.Steps))))
	}
	if t := r.Totals.Seconds.Or(0); t > 0 { // the table of processes says which was not seen to end
		parts = append(parts, seconds(t))
	}
	if r.Totals.Tokens > 0 {
		parts = append(parts, grouped(r.Totals.Tokens)+" tokens")
	}
	p.marked("mlxdyno train: ", strong, state.tone, strings.Join(parts, " · "))
	p.text(2, faint, joined(" · ", r.Dir, deviceOf(r.Identity), trainedBy(r)))
}

func deviceOf(id run.Identity) string { return joined(" ", id.Device.Kind, id.Device.Name) }

// trainedBy names the engine, and the versions of what it computes with.
func trainedBy(r run.Report) string {
	mlx := "mlx " + r.Identity.Versions["mlx"]
	if r.Identity.Versions["mlx"] == "" {
		mlx = ""
	}
	if r.Config.Engine == trainer.EngineMLXLM {
		return joined(", ", joined(" ", trainer.EngineMLXLM, r.Identity.Versions["mlx-lm"]), mlx)
	}
	return joined(", ", r.Config.Engine+" engine", mlx)
}

func (p *page) failure(f *run.Failure) {
	if f == nil {
		return
	}
	p.gap()
	p.marked("✗ ", bad, strong, f.Text)
	p.text(2, faint, joined(" · ", string(f.Outcome), f.Code))
	p.workerEvidence(f.Evidence)
	for _, fix := range f.Fix {
		p.hanging("  → ", plain, fix)
	}
	if f.LogTail != "" {
		p.text(2, faint, "the worker's last words:")
		p.verbatim("  │ ", faint, f.LogTail)
	}
}

func (p *page) workerEvidence(list []trainer.Evidence) {
	rows := make([][]cell, len(list))
	for i, e := range list {
		rows[i] = []cell{{text: e.Name}, {text: e.Observed}, {e.Source, faint}}
	}
	p.table([]column{{title: "evidence"}, {title: "observed"}, {title: "from"}}, rows)
}

func (p *page) losses(r run.Report) {
	var rows [][]cell
	if n := len(r.Losses); n > 0 {
		rows = append(rows, cells("training loss", loss(float64(r.Losses[0].Loss)), loss(float64(r.Losses[n-1].Loss)), fall(float64(r.Losses[0].Loss), float64(r.Losses[n-1].Loss)), ""))
	}
	if r.FirstEval != nil && r.LastEval != nil {
		first, last := float64(r.FirstEval.Loss), float64(r.LastEval.Loss)
		best := ""
		if r.BestEval != nil {
			best = fmt.Sprintf("%s after step %s", loss(float64(r.BestEval.Loss)), grouped(int64(r.BestEval.AfterStep)))
		}
		rows = append(rows, cells("validation loss", loss(first), loss(last), fall(first, last), best))
	}
	if len(rows) == 0 {
		return
	}
	p.gap()
	p.table([]column{{}, {title: "first", right: true}, {title: "last", right: true}, {title: "change", right: true}, {title: "best"}}, rows)
}

func fall(first, last float64) string {
	if first == 0 {
		return dash
	}
	return change(last/first - 1)
}

// figureNames are what people call the fields of trainer.Figures.
var figureNames = map[string]string{
	"peak_bytes":        "peak memory",
	"footprint_bytes":   "process",
	"tokens_per_second": "speed",
	"step_seconds":      "a step",
	"total_seconds":     "whole training",
	"val_loss":          "validation loss",
	"leak_bytes_a_step": "leak a step",
}

// measure renders a figure of that name.
func measure(name, unit string, v float64) string {
	switch {
	case strings.Contains(name, "bytes"):
		return finite(v, func() string { return trainer.FormatBytes(int64(v)) })
	case strings.HasSuffix(name, "_seconds"):
		return seconds(v)
	case strings.HasSuffix(name, "loss"):
		return loss(v)
	case name == "tokens_per_second":
		return number(v) + " tok/s"
	}
	return joined(" ", number(v), unit)
}

func (p *page) compared(r run.Report) {
	if len(r.Compared) == 0 {
		rows := figures(trainer.Expected{Figures: r.Figures})
		if len(rows) > 0 {
			p.heading("Measured")
			p.table([]column{{}, {right: true}, {}}, rows)
		}
		return
	}
	p.heading("Expected against actual")
	rows := make([][]cell, len(r.Compared))
	for i, c := range r.Compared {
		name := c.Name
		if known := figureNames[name]; known != "" {
			name = known
		}
		verdict := cell{"", plain}
		if ok, judged := c.Within.Get(); judged {
			verdict = cell{"✓ as promised", fine}
			if !ok {
				verdict = cell{"✗ outside", bad}
			}
		}
		rows[i] = []cell{{text: name}, {text: measure(c.Name, c.Unit, c.Expected)}, {text: measure(c.Name, c.Unit, c.Actual)},
			{text: change(c.RelativeError)}, {text: known(c.Promise, within)}, verdict}
	}
	p.table([]column{{title: "figure"}, {title: "expected", right: true}, {title: "actual", right: true}, {title: "error", right: true},
		{title: "promised", right: true}, {title: "verdict"}}, rows)
	if r.Expected != nil && r.Expected.Basis != "" {
		p.text(tableIndent, faint, "basis: "+r.Expected.Basis)
	}
}

// segments lists worker processes when there was more than one, or one that
// did not end well.
func (p *page) segments(r run.Report) {
	if len(r.Segments) == 0 || len(r.Segments) == 1 && r.Segments[0].Outcome.Good() && !p.Verbose {
		return
	}
	p.heading("%s, %s", plural(len(r.Segments), "worker process", "worker processes"), plural(r.Reloads, "reload", "reloads"))
	rows := make([][]cell, len(r.Segments))
	for i, s := range r.Segments {
		outcome, t := string(s.Outcome), plain
		switch {
		case s.Outcome == "" && r.State == run.StateRunning:
			outcome = "running"
		case s.Outcome == "":
			outcome = "not seen to end"
		case !s.Outcome.Good():
			t = bad
		}
		if s.SuspectOOM {
			outcome += ", memory suspected"
		}
		why := s.Reason
		if s.Profile {
			why = joined("; ", "profile", why)
		}
		if s.Failure != nil {
			why = joined("; ", why, s.Failure.Text)
		}
		if s.Signal != "" {
			why = joined("; ", why, "signal "+s.Signal)
		}
		rows[i] = []cell{{text: fmt.Sprint(s.Number)}, {text: fmt.Sprintf("%d–%d", s.FromStep, s.LastStep)}, {outcome, t}, {text: optSeconds(s.Seconds)},
			{text: optSeconds(s.Load)}, {text: optNumber(s.Rate)}, {text: optBytes(s.PeakBytes)}, {text: why}}
	}
	p.table([]column{{title: "no.", right: true}, {title: "steps", right: true}, {title: "outcome"}, {title: "took", right: true}, {title: "loading", right: true},
		{title: "tok/s", right: true}, {title: "peak", right: true}, {title: "why"}}, rows)
	if n := r.Totals.ReplayedSteps; n > 0 {
		p.text(tableIndent, plain, count(n, "step")+" were lost and trained again")
	}
}

func (p *page) backOffs(list []run.BackOff) {
	if len(list) == 0 {
		return
	}
	p.heading("Changed to get past a failure")
	rows := make([][]cell, len(list))
	for i, b := range list {
		why := b.Why
		if b.Reorders {
			why = joined("; ", why, "the data comes in another order from here on")
		}
		rows[i] = cells(b.Knob, b.From+" → "+b.To, why)
	}
	p.table([]column{{title: "knob"}, {title: "change"}, {title: "why"}}, rows)
}

func (p *page) remarks(r run.Report) {
	if len(r.Warnings)+len(r.Notes) == 0 {
		return
	}
	p.gap()
	for _, w := range r.Warnings {
		text := w.Text
		if w.Count > 1 {
			text += fmt.Sprintf(" (%d times)", w.Count)
		}
		p.marked("! ", caution, plain, joined(" ", text, "["+w.Code+"]"))
	}
	for _, n := range r.Notes {
		p.marked("i ", note, plain, fmt.Sprintf("step %s: %s", grouped(int64(n.Step)), n.Text))
	}
}

func (p *page) adapter(r run.Report, python string) {
	if r.AdapterPath == "" {
		return
	}
	p.heading("Adapter")
	p.text(2, plain, r.AdapterPath)
	p.text(2, faint, "mlx-lm uses it as it is:")
	p.verbatim("  $ ", strong, trainer.CommandLine(python, "-m", "mlx_lm", "generate", "--model", r.Config.Model.Path, "--adapter-path", r.AdapterPath)+" --prompt '…'")
}

// Runs writes a list of trainings for a person.
func Runs(w io.Writer, list []run.Info, s Style) error {
	p := &page{Style: s}
	if len(list) == 0 {
		p.text(0, plain, "no runs yet; mlxdyno train makes one")
		return p.flush(w)
	}
	var total int64
	rows := make([][]cell, len(list))
	for i, r := range list {
		total += r.Bytes
		state := states[r.State]
		if r.Problem != "" {
			state.text, state.tone = r.Problem, bad
		}
		steps := dash
		if r.Steps > 0 {
			steps = fmt.Sprintf("%s/%s", grouped(int64(r.Done)), grouped(int64(r.Steps)))
		}
		rows[i] = []cell{{text: r.Dir}, {text: moment(r.Created)}, {state.text, state.tone}, {text: steps}, {text: trainer.FormatBytes(r.Bytes)}, {text: r.Model}}
	}
	p.table([]column{{title: "run"}, {title: "made"}, {title: "state"}, {title: "steps", right: true}, {title: "size", right: true}, {title: "model"}}, rows)
	p.text(tableIndent, faint, fmt.Sprintf("%s, %s", count(len(list), "run"), trainer.FormatBytes(total)))
	return p.flush(w)
}

// span renders a duration.
func span(d time.Duration) string { return seconds(d.Seconds()) }
