// Package diagnose orders the bursts that a diagnosis needs, runs the checks
// over what was read and measured, and says what to do next.
//
// A burst is a few steps in a process of its own. The first runs one exact
// shape, on which MLX's active memory must not change by a byte; the second
// runs the data's own batches, for the speed that a training will have. A
// burst that dies is a finding. An error means that the diagnosis itself
// failed or was cancelled.
package diagnose

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/probe/budget"
	"github.com/mlxdyno/mlxdyno/probe/check"
	"github.com/mlxdyno/mlxdyno/probe/leak"
	"github.com/mlxdyno/mlxdyno/probe/model"
	"github.com/mlxdyno/mlxdyno/trainer"
)

// Bursts runs a job in a process of its own and tells what became of it.
type Bursts interface {
	Burst(context.Context, trainer.Job) (trainer.Burst, error)
}

// Request says what to diagnose.
type Request struct {
	Snapshot probe.Snapshot // with Model and Data when they were named
	Settings trainer.Settings
	Tokens   trainer.TokenFiles // empty when there is no data

	// Batches are the shapes of one epoch's batches under Settings, as package
	// trainer/data plans them; PaddingGrouped is the share of padding that rows
	// grouped by length would have. Both may be unknown.
	Batches        []trainer.Shape
	PaddingGrouped trainer.Opt[float64]

	Bursts      Bursts        // nil runs nothing: a quick diagnosis
	BurstBudget time.Duration // for the steps of all bursts together; 0 is DefaultBurstBudget

	Prove    Prove                              // which findings are put to the proof
	Progress func(text string)                  // may be nil
	Vitals   func(context.Context) probe.Vitals // of the machine, now; nil reads none
}

// DefaultBurstBudget is how long trial steps run in all.
const DefaultBurstBudget = 20 * time.Second

const (
	// probeSteps are asked of the probe, times the steps of an update: a
	// verdict with some room.
	probeSteps   = leak.MinReadings + 3
	endless      = 1 << 20 // steps that only the budget ends
	probeShare   = 0.6     // of the budget, the rest is for the data's batches
	patience     = 2       // times the budget, for steps that turned out slow
	fallback     = 512     // positions of a probe when the data's widths are unknown
	narrowest    = 33      // width of a probe
	probeFilling = 0.9     // of the room that an estimated peak may take
)

// Run makes a diagnosis.
func Run(ctx context.Context, r Request) (Report, error) {
	began := time.Now()
	d := diagnosis{Request: r, in: check.Input{Snapshot: r.Snapshot, Settings: r.Settings, PaddingGrouped: r.PaddingGrouped}}
	if d.BurstBudget <= 0 {
		d.BurstBudget = DefaultBurstBudget
	}
	shape, why := d.shape()
	d.probed = shape
	d.estimate(shape)
	d.report = Report{Schema: Schema, At: r.Snapshot.At, Config: r.Settings.Config, Origins: r.Settings.Origins}
	if reason := d.obstacle(); reason != "" {
		d.report.Quick, d.report.Skipped = true, reason
	} else if err := d.measure(ctx, shape, why); err != nil {
		return Report{}, err
	}
	if err := d.conclude(ctx); err != nil {
		return Report{}, err
	}
	d.report.Seconds = time.Since(began).Seconds()
	return d.report, nil
}

type diagnosis struct {
	Request
	in     check.Input
	probed trainer.Shape // of the probe
	report Report
}

func (d *diagnosis) say(format string, args ...any) {
	if d.Progress != nil {
		d.Progress(fmt.Sprintf(format, args...))
	}
}

// obstacle says why no burst can run; empty when one can.
func (d *diagnosis) obstacle() string {
	switch {
	case d.Snapshot.Model == nil:
		return "no model was named, so that no trial steps could be run"
	case d.Snapshot.Data == nil:
		return "no data was named, so that no trial steps could be run"
	}
	for _, f := range check.Run(d.in) {
		if f.Severity == probe.Fail {
			return "no trial steps were run: " + f.Code + " failed"
		}
	}
	if d.Bursts == nil {
		return "no trial steps were asked for"
	}
	if need, room, ok := d.tooLarge(); ok {
		return fmt.Sprintf("no trial steps were run: weights, adapters and optimizer alone take %s, and the machine holds %s",
			trainer.FormatBytes(need), trainer.FormatBytes(room))
	}
	if d.Tokens.Train == "" {
		return "the data was not tokenized, so that no trial steps could be run"
	}
	return ""
}

// tooLarge reports whether what every step needs is more than the machine
// holds. A configured limit does not count: MLX goes beyond it.
func (d *diagnosis) tooLarge() (need, holds int64, is bool) {
	b := d.in.Budget
	if b == nil {
		return 0, 0, false
	}
	for _, name := range []string{budget.Weights, budget.Adapters, budget.Optimizer} {
		need += b.Line(name).Estimated.Or(0)
	}
	for _, l := range b.Limits {
		if n, ok := l.Bytes.Get(); ok && l.Name != budget.LimitConfigured && need > n {
			return need, n, true
		}
	}
	return 0, 0, false
}

func (d *diagnosis) facts() *model.Facts {
	if d.Snapshot.Model == nil {
		return nil
	}
	return d.Snapshot.Model.Facts
}

func (d *diagnosis) estimate(shape trainer.Shape) {
	if f := d.facts(); f != nil {
		b := budget.Estimate(*f, d.Settings.Config, shape).WithLimits(d.in.Snapshot, d.Settings.Config)
		d.in.Budget = &b
	}
}

// shape chooses the probe: as wide as 90 % of the data's batches, and narrower
// where the estimated peak comes too near the limit.
func (d *diagnosis) shape() (trainer.Shape, string) {
	c := d.Settings.Config
	s := trainer.Shape{Batch: c.Plan.Batch, Width: min(1+fallback, c.Data.MaxSeqLength)}
	why := "the data's lengths are unknown"
	if n := len(d.Batches); n > 0 {
		sorted := slices.SortedFunc(slices.Values(d.Batches), func(a, b trainer.Shape) int { return a.Width - b.Width })
		s.Width = sorted[(n*9+9)/10-1].Width
		d.in.Widest = sorted[n-1]
		why = "90 % of the data's batches are no wider"
	}
	f := d.facts()
	room, ok := budget.Room(d.Snapshot, c).Bytes.Get()
	for f != nil && ok && s.Width > narrowest {
		peak := budget.Estimate(*f, c, s).Peak.Estimated.Or(0)
		if float64(peak) <= probeFilling*float64(room) {
			break
		}
		s.Width = narrower(s.Width, 0.5)
		why = "wider steps would not fit by estimate"
	}
	return s, why
}

// narrower scales a width and keeps mlx-lm's form of 1 + a multiple of 32.
func narrower(width int, by float64) int { return 1 + 32*max(1, int(by*float64(width-1))/32) }

// measure runs the bursts, and looks at the machine before and after them.
func (d *diagnosis) measure(ctx context.Context, shape trainer.Shape, why string) error {
	if d.Vitals != nil {
		d.in.Strain = &check.Strain{Before: d.Vitals(ctx)}
		defer func() { d.in.Strain.After = d.Vitals(ctx) }()
	}
	share := time.Duration(probeShare * float64(d.BurstBudget))
	d.say("running steps of %d × %d tokens for %s%s", shape.Batch, shape.Width-1, share.Round(time.Second), d.compiles())
	b, err := d.burst(ctx, share, trainer.Shape{Batch: shape.Batch, Width: shape.Width, Steps: endless})
	if err != nil {
		return err
	}
	d.in.Burst = &b
	d.report.Probe = figures(b, &shape, why)
	d.learn(b)
	if !b.Result.Outcome.Good() {
		return nil
	}
	if err := d.judgeLeak(ctx, b, shape); err != nil {
		return err
	}
	d.say("running the data's own batches")
	data, err := d.burst(ctx, d.BurstBudget-share)
	if err != nil {
		return err
	}
	d.in.Data = &data
	d.report.Data = figures(data, nil, "")
	return nil
}

// compiles warns of how long nothing may seem to happen. On a GPU, MLX compiles
// each kernel when it is first used and keeps it for later processes.
func (d *diagnosis) compiles() string {
	if b := d.Snapshot.Install.Backend; b == "" || b == "cpu" {
		return ""
	}
	return "; the first steps compile kernels, which may take minutes the first time"
}

// burst runs steps of the given shapes, or of the data's own batches when there
// are none. What was cut short by a cancelled ctx is not judged.
func (d *diagnosis) burst(ctx context.Context, limit time.Duration, shapes ...trainer.Shape) (trainer.Burst, error) {
	return d.burstOf(ctx, d.Settings.Config, limit, shapes...)
}

func (d *diagnosis) burstOf(ctx context.Context, c trainer.Config, limit time.Duration, shapes ...trainer.Shape) (trainer.Burst, error) {
	job := trainer.Job{Config: c, Tokens: d.Tokens, Budget: limit, Shapes: shapes, Mode: trainer.Normal}
	b, err := d.Bursts.Burst(ctx, job)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return b, fmt.Errorf("run trial steps: %w", err)
	}
	return b, nil
}

// learn takes over what only a worker can say, and what was measured.
func (d *diagnosis) learn(b trainer.Burst) {
	if h := b.Summary.Hello; h != nil {
		if n, ok := h.Device.WorkingSetBytes.Get(); ok && !d.in.Snapshot.GPU.WorkingSetBytes.Known() {
			d.in.Snapshot.GPU.WorkingSetBytes = probe.Known(n, "MLX's device info")
		}
		if n, ok := h.Device.ResourceLimit.Get(); ok && !d.in.Snapshot.GPU.ResourceLimit.Known() {
			d.in.Snapshot.GPU.ResourceLimit = probe.Known(n, "MLX's device info")
		}
	}
	if d.in.Budget != nil {
		m := d.in.Budget.WithLimits(d.in.Snapshot, d.Settings.Config).WithMeasured(b.Summary)
		d.in.Budget = &m
	}
}

// judgeLeak looks at the probe's active memory. What stays from step to step may
// lie in a cached buffer of up to twice its size, by chance, so that readings
// waver on some backends: unless they say all the same, MLX runs the steps again
// without its cache, where they are exact. When steps were too slow for a
// verdict, smaller ones get the time for enough of them: what leaks with every
// step leaks at any size.
func (d *diagnosis) judgeLeak(ctx context.Context, b trainer.Burst, shape trainer.Shape) error {
	period := max(d.Settings.Config.Plan.Accumulation, 1)
	v := verdict(b, period)
	d.in.Leak, d.report.Leak = &v, &v
	if v.State == leak.None || v.IsExact || !reportsActive(b) {
		return nil
	}
	wanted := probeSteps * period
	again := trainer.Shape{Batch: shape.Batch, Width: shape.Width, Steps: wanted}
	if n := len(b.Summary.Steps); n < wanted {
		if shape.Positions() <= narrowest {
			return nil
		}
		again = trainer.Shape{Batch: 1, Width: max(narrowest, narrower(shape.Width, float64(n)/float64(wanted))), Steps: wanted}
		d.say("too few steps (%d) to judge a leak; running smaller ones", n)
	} else {
		d.say("active memory wavers; running %d steps without MLX's cache", wanted)
	}
	config := d.Settings.Config
	config.Plan.CacheLimit = trainer.LimitOf(0)
	exact, err := d.burstOf(ctx, config, patience*d.BurstBudget, again)
	if err != nil {
		return err
	}
	if w := verdict(exact, period); exact.Result.Outcome.Good() && (w.State != leak.Inconclusive || v.State == leak.Inconclusive) {
		v = w
		v.Reason += fmt.Sprintf(" (steps of %d × %d tokens, without MLX's cache)", again.Batch, again.Width-1)
	}
	return nil
}

func reportsActive(b trainer.Burst) bool {
	return len(b.Summary.Steps) == 0 || b.Summary.Steps[0].Memory.Active.Known()
}

// verdict judges active memory after each step; a gap in the readings would
// shift the phase, so that none is judged.
func verdict(b trainer.Burst, period int) leak.Verdict {
	active := make([]int64, 0, len(b.Summary.Steps))
	for _, s := range b.Summary.Steps {
		n, ok := s.Memory.Active.Get()
		if !ok {
			return leak.Verdict{State: leak.Inconclusive, Reason: "the trainer does not report MLX's active memory"}
		}
		active = append(active, n)
	}
	return leak.Exact(active, period)
}

// conclude runs the checks, proves what they found, and says what to do next.
func (d *diagnosis) conclude(ctx context.Context) error {
	all := check.Run(d.in)
	if err := d.prove(ctx, all); err != nil {
		return err
	}
	d.file(all)
	d.report.Next, d.report.NextWhy = d.next()
	return nil
}

// file puts findings into the report, the worst first and what passed apart.
func (d *diagnosis) file(all []probe.Finding) {
	r := &d.report
	r.Snapshot, r.Budget = d.in.Snapshot, d.in.Budget
	r.Healthy = true
	r.Findings, r.Passes = []probe.Finding{}, []probe.Finding{}
	for _, f := range all {
		if f.Severity == probe.Pass {
			r.Passes = append(r.Passes, f)
			continue
		}
		r.Findings = append(r.Findings, f)
		r.Healthy = r.Healthy && f.Severity != probe.Fail
	}
	check.Sort(r.Findings)
	r.Passed = len(r.Passes)
}

// next is the command that goes on: the cure of what failed, or what is still
// missing, or the training itself.
func (d *diagnosis) next() (command, why string) {
	for _, f := range d.report.Findings {
		if f.Severity != probe.Fail {
			continue
		}
		for _, fix := range f.Fix {
			if fix.Command != "" && !fix.NeedsSudo {
				return fix.Command, "cures: " + lowerFirst(f.Title)
			}
		}
		return check.Command("doctor", d.Settings), "looks again, once this is cured: " + lowerFirst(f.Title)
	}
	if d.Snapshot.Model == nil || d.Snapshot.Data == nil {
		command := check.Command("doctor", d.Settings)
		if d.Snapshot.Model == nil {
			command += " --model DIR"
		}
		if d.Snapshot.Data == nil {
			command += " --data DIR"
		}
		return command, "looks at what is to be trained, and runs trial steps"
	}
	if _, _, ok := d.tooLarge(); ok {
		return check.Command("tune", d.Settings), "searches for a configuration that fits this machine"
	}
	return check.Command("train --auto", d.Settings), "finds the best settings for this machine and trains with them"
}

func lowerFirst(s string) string {
	if len(s) > 1 && s[1] >= 'A' && s[1] <= 'Z' { // MLX
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}
