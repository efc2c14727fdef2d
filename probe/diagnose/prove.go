package diagnose

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/probe/check"
	"github.com/mlxdyno/mlxdyno/trainer"
)

// Prove says which findings are put to the proof, by bursts in which their
// cause is taken away.
type Prove string

const (
	ProveCheap Prove = ""       // warnings and failures whose bursts are cheap
	ProveAll   Prove = "always" // every finding whose cause a burst can take away
	ProveNone  Prove = "never"
)

const (
	proofSteps = 6 // of one side of an experiment, in one burst
	// A cheap experiment takes no longer than the bursts of the diagnosis
	// itself, times this.
	cheapFactor = 1.5
)

// turns are the sides of an experiment on time: A with the cause, B without.
// The machine drifts; a straight drift hits both alike.
const turns = "ABBA"

// prove puts findings to the proof. A finding is proven when its symptom went
// with its cause, and only likely when it did not.
func (d *diagnosis) prove(ctx context.Context, findings []probe.Finding) error {
	if d.Bursts == nil || d.Prove == ProveNone || d.report.Quick {
		return nil
	}
	for i := range findings {
		f := &findings[i]
		serious := f.Severity == probe.Warn || f.Severity == probe.Fail
		e, ok := check.ExperimentFor(*f, d.in)
		if !ok || d.Prove == ProveCheap && (!serious || d.dear(e)) {
			continue
		}
		p, err := d.experiment(ctx, e)
		if err != nil {
			return err
		}
		f.Proof = &p
		switch p.Verdict {
		case probe.ProofHolds:
			f.Confidence = probe.Proven
		case probe.ProofRefuted:
			f.Confidence = probe.Likely
		}
	}
	return nil
}

// dear reports whether an experiment takes longer than it is worth unasked.
func (d *diagnosis) dear(e check.Experiment) bool {
	n := bursts(e)
	load, step := 0.0, 0.0
	if b := d.in.Burst; b != nil {
		if r := b.Summary.Ready; r != nil {
			load = r.LoadSeconds
		}
		step = b.Summary.Figures.StepSeconds.Or(0)
	}
	steps := float64(n * proofSteps)
	if e.Steps[0] > 0 {
		steps = float64(e.Steps[0] + e.Steps[1])
	}
	return float64(n)*load+steps*step > cheapFactor*d.BurstBudget.Seconds()
}

// bursts is how many an experiment takes.
func bursts(e check.Experiment) int {
	switch {
	case e.After != nil:
		return 0
	case e.Timed:
		return len(turns)
	case e.Before != nil:
		return 1
	}
	return 2
}

// experiment takes the cause away and looks at the symptom.
func (d *diagnosis) experiment(ctx context.Context, e check.Experiment) (probe.Proof, error) {
	began := time.Now()
	p := probe.Proof{Verdict: probe.ProofOpen, Changed: e.Changed(d.Settings.Config), Symptom: e.Symptom, Unit: e.Unit, Bursts: bursts(e)}
	without, err := e.Apply(d.Settings.Config)
	if err != nil {
		return p, fmt.Errorf("take a cause away: %w", err)
	}
	if p.Bursts > 0 {
		d.say("proving: %s with %s", e.Symptom, p.Changed)
	}
	values := map[rune][]float64{}
	look := func(side rune, b trainer.Burst) bool {
		v, ok := e.Measure(b)
		ok = ok && (e.Deadly || b.Result.Outcome.Good())
		if !ok {
			p.Text = fmt.Sprintf("a burst %s the cause shows no such figure; it ended as %s", map[rune]string{'A': "with", 'B': "without"}[side], b.Result.Outcome)
		}
		values[side] = append(values[side], v)
		return ok
	}
	var seen []trainer.Burst
	sides := turns
	if !e.Timed {
		sides = "AB"
	}
	for _, side := range sides {
		known := e.Before
		config := d.Settings.Config
		if side == 'B' {
			known, config = e.After, without
		}
		if known == nil || e.Timed {
			b, err := d.side(ctx, e, config, cmp.Or(e.Steps[strings.IndexRune("AB", side)], proofSteps))
			if err != nil {
				return p, err
			}
			known = &b
		}
		seen = append(seen, *known)
	}
	if e.Data && !e.Timed {
		seen = level(seen)
	}
	for i, side := range sides {
		if !look(side, seen[i]) {
			p.Seconds = time.Since(began).Seconds()
			return p, nil
		}
	}
	before, after := values['A'], values['B']
	p.Before, p.After, p.Seconds = mean(before), mean(after), time.Since(began).Seconds()
	apart := slices.Max(after) < slices.Min(before)
	switch {
	case !e.Gone(p.Before, p.After):
		p.Verdict, p.Text = probe.ProofRefuted, "the symptom stayed: the cause is another one, or not the only one"
	case !apart:
		p.Text = "the bursts differ more among themselves than with the cause"
	default:
		p.Verdict, p.Text = probe.ProofHolds, "the symptom went with the cause"
	}
	return p, nil
}

// level cuts bursts to the steps of the shortest: what grows with the steps, such
// as the shapes that were met, is compared after as many.
func level(bursts []trainer.Burst) []trainer.Burst {
	least := len(bursts[0].Summary.Steps)
	for _, b := range bursts {
		least = min(least, len(b.Summary.Steps))
	}
	out := slices.Clone(bursts)
	for i := range out {
		out[i].Summary.Steps = out[i].Summary.Steps[:least]
	}
	return out
}

// side runs one side of an experiment.
func (d *diagnosis) side(ctx context.Context, e check.Experiment, c trainer.Config, steps int) (trainer.Burst, error) {
	limit := d.BurstBudget / 2
	if e.Steps[0] > 0 {
		limit = patience * d.BurstBudget // its steps are counted
	}
	if e.Data {
		if b := d.in.Data; b != nil && !e.Timed {
			limit = max(limit, b.Job.Budget)
		}
		return d.burstOf(ctx, c, limit)
	}
	shape := d.shapeOf(c)
	shape.Steps = steps
	return d.burstOf(ctx, c, limit, shape)
}

// shapeOf is the probe's shape in the batches of a configuration.
func (d *diagnosis) shapeOf(c trainer.Config) trainer.Shape {
	s := d.probed
	s.Batch = c.Plan.Batch
	s.Width = min(s.Width, c.Data.MaxSeqLength)
	return s
}

func mean(v []float64) float64 {
	var sum float64
	for _, x := range v {
		sum += x
	}
	return sum / float64(len(v))
}
