package report

import (
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/tuner/fits"
)

// Fits writes what fits for a person. next are the command lines that go on.
func Fits(w io.Writer, r fits.Report, s Style, next ...string) error {
	p := &page{Style: s}
	tone := caution
	if r.Basis.Kind == fits.Calibrated {
		tone = fine
	}
	p.marked("mlxdyno tune --what-fits: ", strong, strong, fmt.Sprintf("%s, %s", r.Machine, trainer.FormatBytes(r.Limit.Bytes)))
	p.text(2, faint, "memory: "+r.Limit.Source)
	p.marked("  basis: ", tone, plain, joined(": ", string(r.Basis.Kind), r.Basis.Text))
	if r.Basis.TimeSource != "" {
		p.marked("  seconds: ", tone, plain, r.Basis.TimeSource)
	}
	var ranks []int
	for _, c := range r.Conditions {
		if !slices.Contains(ranks, c.Rank) {
			ranks = append(ranks, c.Rank)
		}
	}
	shown := ranks
	if !s.Verbose {
		shown = ranks[:min(1, len(ranks))]
	}
	for _, rank := range shown {
		p.heading("Longest rows by rows a batch, in tokens (rank %d)", rank)
		p.border(r, rank, "batch", func(c fits.Condition) []fits.Place { return c.Longest },
			func(pl fits.Place) (int, int) { return pl.Batch, pl.Length })
		p.heading("Most rows a batch by length (rank %d)", rank)
		p.border(r, rank, "length", func(c fits.Condition) []fits.Place { return c.Largest },
			func(pl fits.Place) (int, int) { return pl.Length, pl.Batch })
	}
	p.text(tableIndent, faint, fmt.Sprintf("as stored is %d bits; gc is with --grad-checkpoint; + is where looking ended: %s tokens (%s), %d rows",
		r.Stored, grouped(int64(r.Most.Length)), r.Most.Why, r.Most.Batch))
	p.otherRanks(r, ranks)
	p.costs(r, ranks)
	p.trainings(r)
	if len(r.Notes)+len(r.NotKnown) > 0 {
		p.gap()
	}
	for _, n := range r.Notes {
		p.hanging("  · ", faint, n)
	}
	for _, n := range r.NotKnown {
		p.marked("  not known: ", caution, plain, n)
	}
	p.goOn(next)
	return p.flush(w)
}

// conditionName is short, for many stand side by side.
func conditionName(bits int, checkpointing bool) string {
	name := fmt.Sprintf("%d bits", bits)
	if bits == 0 {
		name = "as stored"
	}
	if checkpointing {
		name += ", gc"
	}
	return name
}

// aligned fills rows up to one length, and cuts what is beyond.
func aligned(rows [][]cell, n int) [][]cell {
	for i := range rows {
		for len(rows[i]) < n {
			rows[i] = append(rows[i], cell{text: dash})
		}
		rows[i] = rows[i][:n]
	}
	return rows
}

// border is a table with a row for each value of one thing, a column for each
// condition, and the most of the other thing inside.
func (p *page) border(r fits.Report, rank int, title string, of func(fits.Condition) []fits.Place, values func(fits.Place) (key, most int)) {
	columns := []column{{title: title, right: true}}
	var rows [][]cell
	for _, c := range r.Conditions {
		if c.Rank != rank {
			continue
		}
		columns = append(columns, column{title: conditionName(c.Bits, c.Checkpointing), right: true})
		for i, place := range of(c) {
			key, most := values(place)
			if i == len(rows) {
				rows = append(rows, []cell{{strconv.Itoa(key), strong}})
			}
			text := cell{text: grouped(int64(most))}
			switch {
			case !place.Fits():
				text = cell{"none", bad}
			case place.AtMost:
				text.text += "+"
			}
			rows[i] = append(rows[i], text)
		}
	}
	p.table(columns, aligned(rows, len(columns)))
}

// otherRanks says what a higher rank costs: the longest row of the middle batch.
func (p *page) otherRanks(r fits.Report, ranks []int) {
	if len(ranks) < 2 || p.Verbose {
		return
	}
	columns := []column{{title: "rank", right: true}}
	var rows [][]cell
	batch := 0
	for _, rank := range ranks {
		row := []cell{{strconv.Itoa(rank), strong}}
		for _, c := range r.Conditions {
			if c.Rank != rank || len(c.Longest) == 0 {
				continue
			}
			place := c.Longest[len(c.Longest)/2]
			batch = place.Batch
			if rank == ranks[0] {
				columns = append(columns, column{title: conditionName(c.Bits, c.Checkpointing), right: true})
			}
			text := "none"
			if place.Fits() {
				text = grouped(int64(place.Length))
			}
			row = append(row, cell{text: text})
		}
		rows = append(rows, row)
	}
	p.heading("Longest rows of a batch of %d by rank (--verbose shows all)", batch)
	p.table(columns, aligned(rows, len(columns)))
}

// costs lists what the borders take, for the first rank.
func (p *page) costs(r fits.Report, ranks []int) {
	if len(ranks) == 0 {
		return
	}
	p.heading("What the longest rows take (rank %d)", ranks[0])
	var rows [][]cell
	for _, c := range r.Conditions {
		if c.Rank != ranks[0] {
			continue
		}
		for i, place := range c.Longest {
			if !p.Verbose && i != 0 && i != len(c.Longest)/2 || !place.Fits() {
				continue
			}
			took := known(place.SecondsA1000Tokens, seconds)
			if e, ok := place.SecondsError.Get(); ok {
				took += " " + within(e)
			}
			rows = append(rows, []cell{{conditionName(c.Bits, c.Checkpointing), strong}, {text: fmt.Sprintf("%d × %d", place.Batch, place.Length)},
				{text: trainer.FormatBytes(place.PeakBytes)}, {text: trainer.FormatBytes(place.BoundBytes)}, {text: took}, {text: string(c.Basis), tone: faint}})
		}
	}
	p.table([]column{{title: "base"}, {title: "batch × length", right: true}, {title: "peak", right: true}, {title: "at most", right: true},
		{title: "1,000 tokens", right: true}, {title: "basis"}}, rows)
}

// fastest takes for each condition of the first rank the batch that takes least
// time of those that fit; where times are unknown the largest that fits, and where
// none does the first.
func fastest(list []fits.Training) []fits.Training {
	var out []fits.Training
	for _, t := range list {
		if t.Rank != list[0].Rank {
			continue
		}
		i := slices.IndexFunc(out, func(o fits.Training) bool { return o.Bits == t.Bits && o.Checkpointing == t.Checkpointing })
		if i < 0 {
			out = append(out, t)
			continue
		}
		known, ok := out[i].TrainingSeconds.Get()
		took, timed := t.TrainingSeconds.Get()
		switch {
		case !t.Fits, ok && !timed && out[i].Fits:
		case !out[i].Fits, timed && !ok, timed && took < known, !timed && !ok:
			out[i] = t
		}
	}
	return out
}

// trainings lists the planned training on the user's rows.
func (p *page) trainings(r fits.Report) {
	if r.Rows == nil || len(r.Training) == 0 {
		return
	}
	p.heading("The planned training: %s, %s tokens (p99 %d, at most %d)", count(r.Rows.Rows, "row"), grouped(r.Rows.Tokens), r.Rows.P99, r.Rows.Max)
	var rows [][]cell
	list := r.Training
	if !p.Verbose {
		list = fastest(list)
	}
	for _, t := range list {
		fit := cell{"fits", fine}
		if !t.Fits {
			fit = cell{"does not fit", bad}
		}
		name := conditionName(t.Bits, t.Checkpointing)
		if p.Verbose {
			name += fmt.Sprintf(", rank %d", t.Rank)
		}
		rows = append(rows, []cell{{name, strong}, {text: strconv.Itoa(t.Batch)}, {text: shape(t.Widest)}, fit,
			{text: trainer.FormatBytes(t.PeakBytes)}, {text: trainer.FormatBytes(t.BoundBytes)},
			{text: optSeconds(t.EpochSeconds)}, {text: optSeconds(t.TrainingSeconds)}, {text: known(t.SecondsError, within)}})
	}
	p.table([]column{{title: "base"}, {title: "batch", right: true}, {title: "widest", right: true}, {}, {title: "peak", right: true}, {title: "at most", right: true},
		{title: "epoch", right: true}, {title: "whole", right: true}, {}}, rows)
}
