package report

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/tuner"
	"github.com/mlxdyno/mlxdyno/tuner/compare"
)

// unsteady is the error of a promised speed from which on the machine is to blame.
const unsteady = 0.25

// inShort answers what whoever asked for a configuration wants to know of it.
func (p *page) inShort(r tuner.Report) {
	if r.Verdict == tuner.Impossible || len(r.Choices) == 0 {
		return
	}
	p.heading("In short")
	p.table([]column{{}, {}}, [][]cell{
		{{"speed", strong}, {text: shortSpeed(r)}},
		{{"memory", strong}, {text: shortMemory(r)}},
		{{"quality", strong}, {text: shortQuality(r)}},
		{{"how sure", strong}, {text: shortDoubt(r)}},
		{{"more memory", strong}, {text: shortMore(r)}},
		{{"less memory", strong}, {text: shortLess(r)}},
	})
}

func shortSpeed(r tuner.Report) string {
	if b := r.Baseline; b != nil {
		text := known(r.Expected.TokensPerSecond, func(v float64) string { return number(v) + " tok/s; " }) + currentText(*b)
		if b.Verdict == compare.OnlyA || b.Verdict == compare.Neither {
			text = fmt.Sprintf("%s; not known against %s: %s", known(r.Expected.TokensPerSecond, func(v float64) string { return number(v) + " tok/s" }), b.B.Name, b.B.Problem)
		}
		return text
	}
	text := known(r.Expected.TokensPerSecond, func(v float64) string { return number(v) + " tok/s" })
	if r.Start == nil {
		return text
	}
	v, ok := r.Start.Speedup.Get()
	how := "predicted"
	if r.Start.Measured {
		how = "measured"
	}
	alike, differs := r.Start.SpeedupAlike.Get()
	switch {
	case !ok:
		return text + "; of the defaults nothing is known: " + r.Start.Note
	case !r.Start.Fits:
		return text + "; the defaults do not fit"
	case v >= 1+tuner.Tie:
		return fmt.Sprintf("%s, %s × as fast as the defaults (%s)", text, number(v), how)
	case v > 1/(1+tuner.Tie):
		return fmt.Sprintf("%s, as fast as the defaults to within what can be told (%s ×, %s)", text, number(v), how)
	case r.Wishes.Prefer == tuner.Memory || r.Wishes.Prefer == tuner.Quality:
		return fmt.Sprintf("%s, %s × the speed of the defaults (%s), as %s comes first (--prefer)", text, number(v), how, r.Wishes.Prefer)
	}
	if differs && alike > 1/(1+tuner.Tie) {
		return fmt.Sprintf("%s, %s × as fast as the defaults at the same bits, rank and length; as they are, with %s, they are faster: this is %s × their speed (%s)", text, number(alike), others(r), number(v), how)
	}
	return fmt.Sprintf("%s; the defaults are %s to be faster (%s ×): mlxdyno tune --compare tells", text, how, number(v))
}

// others are bits, rank and length of the defaults where they are not the chosen ones.
func others(r tuner.Report) string {
	c, start := r.Config, r.Start.Config
	var parts []string
	switch bits := start.Model.Quantize; bits {
	case c.Model.Quantize:
	case 0:
		parts = append(parts, "the base as stored")
	default:
		parts = append(parts, fmt.Sprintf("the base with %d bits", bits))
	}
	if start.Quality.Rank != c.Quality.Rank {
		parts = append(parts, fmt.Sprintf("rank %d", start.Quality.Rank))
	}
	if start.Data.MaxSeqLength != c.Data.MaxSeqLength {
		parts = append(parts, "length "+grouped(int64(start.Data.MaxSeqLength)))
	}
	return strings.Join(parts, " and ")
}

func shortMemory(r tuner.Report) string {
	text := known(r.Expected.PeakBytes, trainer.FormatBytes) + " peak"
	if r.Limit.Bytes > 0 {
		text += fmt.Sprintf(", of %s that may be used", trainer.FormatBytes(r.Limit.Bytes))
	}
	if r.Baseline == nil && r.Start != nil {
		if v, ok := r.Start.MemoryRatio.Get(); ok {
			text += fmt.Sprintf("; over an epoch %s × that of the defaults", number(v))
		}
	}
	return text
}

// shortQuality says what of it was given up.
func shortQuality(r tuner.Report) string {
	c, start := r.Config, trainer.DefaultConfig()
	if r.Start != nil {
		start = r.Start.Config
	}
	var parts []string
	if bits := c.Model.Quantize; bits == start.Model.Quantize {
		parts = append(parts, "the base as it was")
	} else {
		parts = append(parts, fmt.Sprintf("the base with %d bits: %s", bits, bitsCost(r, bits)))
	}
	rank := fmt.Sprintf("rank %d", c.Quality.Rank)
	switch was := start.Quality.Rank; {
	case r.Baseline != nil:
		rank += currentRank(r)
	case was != c.Quality.Rank:
		rank += fmt.Sprintf(" (%d by default), at the same alpha", was)
	}
	parts = append(parts, rank)
	if d := r.Data; d.RowsCut > 0 {
		parts = append(parts, fmt.Sprintf("%s of %s cut, %s of the tokens", grouped(int64(d.RowsCut)), count(d.Rows, "row"), percent(float64(d.TokensCut)/float64(max(d.Tokens+d.TokensCut, 1)))))
	} else {
		parts = append(parts, "no row is cut")
	}
	return strings.Join(parts, "; ")
}

// currentRank says how rank and scale differ from those of the configuration in use.
func currentRank(r tuner.Report) string {
	text, theirs := "", r.Baseline.B
	if was, differs := theirs.Knobs["rank"]; differs {
		text += fmt.Sprintf(" (%s in %s)", was, theirs.Name)
	}
	if was, differs := theirs.Knobs["scale"]; differs {
		text += fmt.Sprintf(", scale %g (%s there)", r.Config.Quality.Scale, was)
	}
	return text
}

// bitsCost is what so many bits cost, or why that is not known.
func bitsCost(r tuner.Report, bits int) string {
	for _, l := range r.Quality {
		if l.Bits != bits {
			continue
		}
		if v, ok := l.Cost.Get(); ok {
			return plusMinus(v) + " in the loss before training"
		}
		if l.Why != "" {
			return "what that costs is not known: " + l.Why
		}
	}
	for _, n := range r.NotTried {
		if n.What == tuner.WhatBitsCost {
			return "what that costs was not measured: " + n.Why
		}
	}
	return "what that costs was not measured"
}

func shortDoubt(r tuner.Report) string {
	e := r.Expected
	text := "measured"
	if r.Verdict != tuner.Confirmed {
		text = "not confirmed"
	}
	var failed []string
	for _, g := range r.Failed() {
		failed = append(failed, strconv.Quote(g.Name))
	}
	if len(failed) > 0 {
		text += " (it did not pass " + strings.Join(failed, " and ") + ")"
	}
	if e.PeakError > 0 {
		text += ", the peak to " + within(e.PeakError)
	}
	if e.TokensError > 0 {
		text += ", the speed to " + within(e.TokensError)
	}
	if e.TokensError >= unsteady {
		text += ": steps took different times, as they do when other programs use the machine; close them and search again with --fresh"
	}
	return text
}

func shortMore(r tuner.Report) string {
	if m := r.More; m != nil {
		return fmt.Sprintf("with %s, %s would fit and be %s × as fast (predicted)", trainer.FormatBytes(m.LimitBytes), m.Candidate.Point, number(m.Speedup))
	}
	for _, i := range r.Space.Infeasible {
		if i.Why == tuner.WhyMemory && i.Count > 0 {
			return "would not make it faster, by what is predicted of the " + grouped(int64(i.Count)) + " that do not fit"
		}
	}
	return "would change nothing: all that could be faster fits"
}

// lighter is the share of the memory at most that counts as less.
const lighter = 0.8

// shortLess says what training would come to in less memory: the fastest that takes a
// fifth less, and the one that takes least.
func shortLess(r tuner.Report) string {
	if len(r.Pareto) == 0 || len(r.Candidates) == 0 {
		return "nothing is known of what takes less"
	}
	chosen := r.Candidates[0]
	var less []tuner.Candidate
	for _, c := range r.Pareto {
		if c.Fits && float64(c.PeakBytes) <= lighter*float64(chosen.PeakBytes) {
			less = append(less, c)
		}
	}
	if len(less) == 0 {
		return "nothing that was considered takes a fifth less"
	}
	text := "takes " + lightly(less[0], chosen)
	if last := less[len(less)-1]; last.Point != less[0].Point {
		text += "; at the least " + lightly(last, chosen)
	}
	return text
}

func lightly(c, chosen tuner.Candidate) string {
	how := "predicted"
	if c.Measured {
		how = "measured"
	}
	return fmt.Sprintf("%s with %s, at %s × the speed (%s)", trainer.FormatBytes(c.PeakBytes), c.Point, number(c.TokensPerSecond/chosen.TokensPerSecond), how)
}
