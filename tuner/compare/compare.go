package compare

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// Bursts runs a job in a process of its own, for its measurements.
type Bursts interface {
	Burst(context.Context, trainer.Job) (trainer.Burst, error)
}

// Side is a configuration with all that it takes to run it.
type Side struct {
	Name         string
	Config       trainer.Config
	Bursts       Bursts
	Tokens       trainer.TokenFiles
	Lengths      []int32 // tokens of each training row
	Prompts      []int32 // leading tokens of each that are not supervised
	ValidLengths []int32
	Device       string // cpu, metal or cuda
	Problem      string // why it must not be run; empty when it may
}

// Question asks which of two sides is faster.
type Question struct {
	A, B   Side
	Budget time.Duration

	// Progress, when not nil, is told before every process.
	Progress func(Stage)
}

// Stage is what a comparison is about to do.
type Stage struct {
	Text          string
	Process       int // from 1
	Spent, Budget time.Duration
}

const (
	precise     = 0.025 // the ratio's interval is narrow enough when it is known to within this
	fewestEach  = 4     // samples of a side before the interval can end a comparison
	mostEach    = 24    // samples of a side
	mostBlocks  = 4     // A B B A inside one process
	fewestParts = 1
)

// contest is a comparison under way.
type contest struct {
	Question
	report *Report
	sides  [2]Side
	passes [2]pass
	got    [2][]sample
	steps  int // at a shape
	blocks int // of a process that both share
	spent  time.Duration
	load   time.Duration // the last process's, without its steps
}

// Run compares. An error means that the comparison itself could not go on; that a
// side does not run is in the report.
func (q Question) Run(ctx context.Context) (*Report, error) {
	c := &contest{Question: q, sides: [2]Side{q.A, q.B}, steps: fewestSteps, blocks: 1}
	for i := range c.sides {
		s := &c.sides[i]
		if len(s.Lengths) == 0 {
			return nil, errors.New("compare: there are no rows to train on")
		}
		s.Config.Output = trainer.DefaultConfig().Output
		s.Config.Schedule = trainer.DefaultConfig().Schedule
	}
	a, b := c.sides[0], c.sides[1]
	c.report = &Report{Schema: Schema, BudgetNS: int64(q.Budget), OneProcess: together(a, b),
		A: Result{Name: a.Name, Engine: a.Config.Engine, Knobs: different(a.Config, b.Config), Problem: a.Problem},
		B: Result{Name: b.Name, Engine: b.Config.Engine, Knobs: different(b.Config, a.Config), Problem: b.Problem}}
	if a.Config.Data.Path != b.Config.Data.Path || a.Config.Model.Path != b.Config.Model.Path {
		c.report.Notes = append(c.report.Notes, "the sides train other models or on other text: their tokens may not be alike")
	}
	c.plan(parts)
	var err error
	if c.report.OneProcess && a.Problem == "" && b.Problem == "" {
		err = c.shared(ctx)
	} else {
		c.report.OneProcess = false
		err = c.alternating(ctx)
	}
	if err != nil {
		return nil, err
	}
	for i, r := range []*Result{&c.report.A, &c.report.B} {
		var speeds, peaks []float64
		for _, s := range c.got[i] {
			speeds = append(speeds, s.tokensPerSecond)
			if s.peak > 0 {
				peaks = append(peaks, float64(s.peak))
			}
		}
		r.TokensPerSecond, r.PeakBytes = summarize(speeds), summarize(peaks)
		if len(speeds) == 0 && r.Problem == "" {
			r.Problem = fmt.Sprintf("the budget of %s was spent before it was measured", trainer.FormatDuration(q.Budget))
		}
	}
	c.report.Seconds = c.spent.Seconds()
	c.report.conclude(q.Budget)
	return c.report, nil
}

// together reports whether one process can run both: they differ in nothing that a
// process is loaded with.
func together(a, b Side) bool {
	x, y := a.Config, b.Config
	x.Plan.Batch, x.Data.MaxSeqLength = y.Plan.Batch, y.Data.MaxSeqLength
	return x.Key() == y.Key() && a.Tokens == b.Tokens
}

// plan plans the passes of both sides.
func (c *contest) plan(parts int) {
	for i, s := range c.sides {
		c.passes[i] = passOf(s, parts, c.steps)
	}
}

// enough reports whether the comparison is over: the interval is narrow, the samples
// are many, or the time is spent.
func (c *contest) enough() bool {
	if c.spent >= c.Budget {
		return true
	}
	n := min(len(c.got[0]), len(c.got[1]))
	if n < fewestEach {
		return false
	}
	return n >= mostEach || ratioOf(c.speeds(0), c.speeds(1)).narrow()
}

func (c *contest) speeds(i int) []float64 {
	var out []float64
	for _, s := range c.got[i] {
		out = append(out, s.tokensPerSecond)
	}
	return out
}

// alternating gives every pass a process of its own, forth and back.
func (c *contest) alternating(ctx context.Context) error {
	results := [2]*Result{&c.report.A, &c.report.B}
	order := []int{0, 1, 1, 0}
	for n := 0; ; n++ {
		i := order[n%len(order)]
		if n%len(order) == 0 && n > 0 && c.enough() || c.spent >= c.Budget || results[0].Problem != "" && results[1].Problem != "" {
			return nil
		}
		if results[i].Problem != "" {
			if len(c.got[1-i]) >= fewestEach {
				return nil // there is nothing to compare with
			}
			continue
		}
		steps, problem, err := c.burst(ctx, c.sides[i], c.passes[i].shapes, "measure "+c.sides[i].Name)
		if err != nil {
			return err
		}
		s, ok := c.passes[i].read(steps)
		switch {
		case problem != "":
			results[i].Problem = problem
		case ok:
			c.got[i] = append(c.got[i], s)
			c.adjust(n)
		case len(c.got[i]) > 0:
			return nil // the end of the budget cut it
		case !c.shrink():
			results[i].Problem = "its steps are too slow to be timed within the budget"
		}
	}
}

// adjust makes passes about as long as what a process takes to load, once both sides
// have had one. Samples of before are of fewer steps, and stay.
func (c *contest) adjust(n int) {
	if n != 1 {
		return
	}
	longest := 0.0
	for i := range c.got {
		for _, s := range c.got[i] {
			longest = max(longest, s.seconds)
		}
	}
	if longest > 0 {
		c.steps = min(max(int(float64(c.steps)*c.load.Seconds()/longest), c.steps), mostSteps)
		c.plan(parts)
	}
}

// shrink plans shorter passes, and forgets what the longer ones showed. It returns
// false when they are as short as can be.
func (c *contest) shrink() bool {
	if len(c.passes[0].shapes) <= fewestParts+1 && len(c.passes[1].shapes) <= fewestParts+1 {
		return false
	}
	c.steps = fewestSteps
	c.plan(fewestParts)
	c.got = [2][]sample{}
	return true
}

// shared runs both sides inside one process after the other, A B B A in each.
func (c *contest) shared(ctx context.Context) error {
	order := []int{0, 1, 1, 0}
	for !c.enough() {
		var shapes []trainer.Shape
		for range c.blocks {
			for _, i := range order {
				shapes = append(shapes, c.passes[i].shapes...)
			}
		}
		steps, problem, err := c.burst(ctx, c.sides[0], shapes, fmt.Sprintf("measure %s and %s in turns", c.sides[0].Name, c.sides[1].Name))
		if err != nil {
			return err
		}
		took := 0.0
		read := 0
		for n := 0; ; n++ {
			i := order[n%len(order)]
			s, ok := c.passes[i].read(steps)
			if !ok || n == len(order)*c.blocks {
				break
			}
			steps = steps[c.passes[i].steps():]
			c.got[i] = append(c.got[i], s)
			took += s.seconds
			read++
		}
		switch {
		case problem != "" && (len(c.got[0]) == 0 || len(c.got[1]) == 0):
			// One of them is too much: each by itself tells which.
			c.report.OneProcess = false
			return c.alternating(ctx)
		case problem != "":
			c.report.Notes = append(c.report.Notes, "a process of both ended early: "+problem)
			return nil
		case read < 2 && len(c.got[0])+len(c.got[1]) > read:
			// The budget has cut this process short; what others measured stands.
		case read < 2 && !c.shrink():
			return nil
		}
		if took > 0 {
			c.blocks = min(max(int((c.Budget/3-c.load).Seconds()/took*float64(c.blocks)), 1), mostBlocks)
		}
	}
	return nil
}

// burst runs shapes in one process. A process that somebody killed is started once
// more; the time of both counts.
func (c *contest) burst(ctx context.Context, s Side, shapes []trainer.Shape, text string) (steps []trainer.StepRecord, problem string, err error) {
	for try := 0; ; try++ {
		if err := ctx.Err(); err != nil {
			return nil, "", err
		}
		c.report.Processes++
		if c.Progress != nil {
			c.Progress(Stage{Text: text, Process: c.report.Processes, Spent: c.spent, Budget: c.Budget})
		}
		left := max(c.Budget-c.spent, time.Second)
		b, err := s.Bursts.Burst(ctx, trainer.Job{Config: s.Config, Tokens: s.Tokens, Shapes: shapes, Mode: trainer.Normal, Budget: max(left/2, min(left, 2*time.Second)).Round(time.Millisecond)})
		if err != nil {
			return nil, "", fmt.Errorf("compare: %s: %w", text, err)
		}
		if err := ctx.Err(); err != nil {
			return nil, "", err
		}
		c.spent += b.Result.Elapsed
		c.load = b.Result.Elapsed
		for _, step := range b.Summary.Steps {
			c.load -= time.Duration(step.Seconds * float64(time.Second))
		}
		c.load = max(c.load, 0)
		switch {
		case b.Result.Outcome == trainer.Killed && try == 0 && c.spent < c.Budget:
			continue
		case !b.Result.Outcome.Good():
			return b.Summary.Steps, b.Problem(), nil
		}
		for _, step := range b.Summary.Steps {
			if !step.Loss.Finite() {
				return nil, fmt.Sprintf("the loss of step %d is no number", step.Number), nil
			}
		}
		return b.Summary.Steps, "", nil
	}
}
