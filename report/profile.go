package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/run"
)

// waiting says how much of the steps' time went by waiting for data.
func (p *page) waiting(t run.Totals) {
	if v, ok := t.DataShare.Get(); ok {
		p.gap()
		p.text(2, faint, fmt.Sprintf("the steps waited %s of %s for data (%s)", seconds(t.DataSeconds), seconds(t.StepSeconds), percent(v)))
	}
}

// profile shows where the time and the memory of the profiled steps went.
func (p *page) profile(r run.Report) {
	f := r.Profile
	if f == nil {
		return
	}
	p.heading("Profile of %s, from step %s", count(f.Steps, "step"), grouped(int64(f.FromStep)))
	p.table([]column{{}, {right: true}, {}}, profileFigures(f))
	p.gap()
	p.parts("phase", f.Phases)
	p.gap()
	p.parts("block", chosenBlocks(f.Blocks))
	p.gap()
	p.parts("layer", f.Layers)
	p.gap()
	p.parts("operation", f.Ops)
	p.gap()
	p.heldAtPeak(f)
	p.gap()
	p.text(2, faint, "These steps were trained like any other, but slower, and perhaps with more memory: the figures above leave them out. "+howSure(f))
	p.text(2, faint, "To draw it:")
	p.verbatim("  $ ", strong, trainer.CommandLine("mlxdyno", "report", r.Dir, "--pprof", "profile.pb.gz")+" && go tool pprof -http localhost: profile.pb.gz")
}

func profileFigures(f *run.Profile) [][]cell {
	rows := [][]cell{cells("time", seconds(f.Seconds), fmt.Sprintf("%s a step", seconds(f.Seconds/float64(max(f.Steps, 1)))))}
	add := func(known bool, texts ...string) {
		if known {
			rows = append(rows, cells(texts...))
		}
	}
	add(f.TFLOPAStep.Known(), "work a step", optNumber(f.TFLOPAStep)+" TFLOP", "counted from shapes")
	add(f.GFLOPS.Known(), "rate", optNumber(f.GFLOPS)+" GFLOP/s", "")
	ceiling := number(float64(f.CeilingGFLOPS.Or(0))) + " GFLOP/s"
	add(f.CeilingShare.Known(), "of the ceiling", known(f.CeilingShare, percent), "of "+ceiling+", a large float matrix product in the same process")
	add(f.UsefulShare.Known(), "useful tokens", known(f.UsefulShare, percent), fmt.Sprintf("%s of %s positions; the rest is padding", grouped(f.Tokens), grouped(f.Positions)))
	add(f.SupervisedShare.Known(), "in the loss", known(f.SupervisedShare, percent), fmt.Sprintf("%s tokens", grouped(f.Supervised)))
	return rows
}

// parts lists parts under a title, with how much of each is modelled.
func (p *page) parts(title string, parts []run.Part) {
	rows := make([][]cell, len(parts))
	for i, part := range parts {
		how := "measured"
		switch {
		case part.ModelledSeconds >= 0.9995*part.Seconds && part.ModelledSeconds > 0:
			how = "modelled"
		case part.ModelledSeconds > 0:
			how = percent(part.ModelledSeconds/part.Seconds) + " modelled"
		}
		if clock, ok := part.ClockSeconds.Get(); ok && part.ModelledSeconds > 0 {
			how = joined(", ", how, "by the clock "+seconds(clock))
		}
		rows[i] = []cell{{text: part.Name}, {text: seconds(part.Seconds)}, {text: percent(part.Share)}, {text: known(part.GFLOP, func(v float64) string { return number(v / 1000) })},
			{text: known(part.CeilingShare, percent)}, {text: optBytes(part.Bytes)}, {text: how, tone: faint}}
	}
	p.table([]column{{title: title}, {title: "time", right: true}, {title: "share", right: true}, {title: "TFLOP", right: true},
		{title: "of ceiling", right: true}, {title: "writes", right: true}, {title: "seconds are"}}, rows)
}

// chosenBlocks are those that tell how the others are: the ends of the model,
// and of its blocks the first, the last, the slowest and the one in the middle
// of all by time.
func chosenBlocks(blocks []run.Part) []run.Part {
	var numbered []int
	for i, b := range blocks {
		if strings.HasPrefix(b.Name, "block ") {
			numbered = append(numbered, i)
		}
	}
	if len(numbered) < 4 {
		return blocks
	}
	byTime := slices.Clone(numbered)
	slices.SortStableFunc(byTime, func(a, b int) int { return cmp.Compare(blocks[a].Seconds, blocks[b].Seconds) })
	names := map[int][]string{}
	for _, c := range []struct {
		at   int
		what string
	}{{numbered[0], "first"}, {byTime[(len(byTime)-1)/2], "median"}, {numbered[len(numbered)-1], "last"}, {byTime[len(byTime)-1], "slowest"}} {
		names[c.at] = append(names[c.at], c.what)
	}
	var out []run.Part
	for i, b := range blocks {
		what, chosen := names[i]
		switch {
		case chosen:
			b.Name += " (" + strings.Join(what, ", ") + ")"
		case strings.HasPrefix(b.Name, "block "):
			continue
		}
		out = append(out, b)
	}
	return out
}

func (p *page) heldAtPeak(f *run.Profile) {
	if len(f.Held) == 0 {
		return
	}
	rows := make([][]cell, len(f.Held))
	for i, h := range f.Held {
		how := "measured"
		switch {
		case h.ModelledBytes == h.Bytes && h.Bytes > 0:
			how = "modelled"
		case h.ModelledBytes > 0:
			how = trainer.FormatBytes(h.ModelledBytes) + " modelled"
		}
		rows[i] = []cell{{text: h.Name}, {text: trainer.FormatBytes(h.Bytes)}, {text: percent(h.Share)}, {text: how, tone: faint}}
	}
	p.table([]column{{title: "held at the peak of " + trainer.FormatBytes(f.PeakBytes)}, {title: "bytes", right: true}, {title: "share", right: true}, {title: "bytes are"}}, rows)
}

// howSure says what of a profile is not measured.
func howSure(f *run.Profile) string {
	if !(f.ModelledSeconds > 0) && f.ModelledPeakBytes <= 0 {
		return "All seconds and bytes are measured; TFLOP are counted from shapes."
	}
	var parts []string
	if f.ModelledSeconds > 0 && f.Seconds > 0 {
		parts = append(parts, percent(f.ModelledSeconds/f.Seconds)+" of the time is modelled: measured as a whole, and shared out within it by what each operation takes alone, or by a model of cost")
	}
	if f.ModelledPeakBytes > 0 {
		parts = append(parts, trainer.FormatBytes(f.ModelledPeakBytes)+" of the memory are computed from shapes")
	}
	return strings.Join(parts, "; ") + "; TFLOP are counted from shapes."
}
