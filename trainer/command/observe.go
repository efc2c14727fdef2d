package command

import (
	"math"
	"strings"
	"time"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// Point is what is known of one step of a patient, from all lines about it.
type Point struct {
	Step         int
	At           trainer.Opt[time.Duration] // when it was first heard of, by our clock
	Elapsed      trainer.Opt[Clock]
	Loss         trainer.Opt[trainer.Float]
	AverageLoss  trainer.Opt[trainer.Float]
	LearningRate trainer.Opt[trainer.Float]

	TokensPerSecond trainer.Opt[float64]
	StepsPerSecond  trainer.Opt[float64]
	TrainedTokens   trainer.Opt[int64]
	Positions       trainer.Opt[int64]
	Memory          map[MemoryKind]Memory // the last of each kind in the step, the highest of peaks
	Doubts          []Doubt
}

// Validation is one validation loss.
type Validation struct {
	AfterStep trainer.Opt[int]
	Loss      trainer.Float
	Seconds   trainer.Opt[float64]
}

// Said is a notice with the number of times that its like was said.
type Said struct {
	Notice
	Line  int64 // the first time
	Step  int   // known by then
	Times int

	kind string // what it has in common with its like
}

const (
	maxPoints      = 8192
	maxValidations = 1024
	maxNotices     = 100
	maxSettings    = 100
)

// Observations add up readings. What they hold does not grow with the log: past
// 8,192 points every second one is dropped, and so on.
type Observations struct {
	Points      []Point
	Every       int64 // points that one kept point stands for
	Validations []Validation
	Notices     []Said
	Unkept      int64 // notices of other kinds than those kept
	Settings    map[string]string
	Told        map[MemoryKind]Memory // limits and the like, that belong to no step; the finest of each kind
	Steps       trainer.Opt[int]      // that the patient is to do
	FirstStep   trainer.Opt[int]
	LastStep    trainer.Opt[int]
	Restarts    int // how often the step went back to the beginning

	points  int64 // so far, kept or not
	evals   int64
	current *Point // not yet decided whether kept
}

// Add takes a reading.
func (o *Observations) Add(r Reading) {
	if r.Notice != nil {
		o.notice(r)
	}
	for _, s := range r.Settings {
		if o.Settings == nil {
			o.Settings = map[string]string{}
		}
		if _, ok := o.Settings[s.Name]; (ok || len(o.Settings) < maxSettings) && len(s.Value) <= noticeText {
			o.Settings[s.Name] = s.Value
		}
	}
	for _, m := range r.Memory {
		o.told(m)
	}
	if r.Steps.Known() {
		o.Steps = r.Steps
	}
	if v, ok := r.ValLoss.Get(); ok {
		o.validation(Validation{AfterStep: r.Step, Loss: v, Seconds: r.ValSeconds})
		if !r.Loss.Known() && len(r.Memory) == 0 {
			return // its step is that of the point before, or of none
		}
	}
	if !r.measured() || r.Notice != nil && !r.Step.Known() {
		return
	}
	o.point(r)
}

// told keeps what a patient says once, and not of a step.
func (o *Observations) told(m Memory) {
	switch m.Kind {
	case MemoryLimit, AvailableMemory, LeakedMemory:
	default:
		return
	}
	if before, ok := o.Told[m.Kind]; ok && before.Resolution <= m.Resolution {
		return
	}
	if o.Told == nil {
		o.Told = map[MemoryKind]Memory{}
	}
	o.Told[m.Kind] = m
}

func (o *Observations) validation(v Validation) {
	if n := len(o.Validations); n > 0 && o.Validations[n-1] == v {
		return // drawn twice
	}
	if o.evals++; len(o.Validations) == maxValidations {
		copy(o.Validations[1:], o.Validations[2:]) // the first and the newest ones stay
		o.Validations = o.Validations[:maxValidations-1]
	}
	o.Validations = append(o.Validations, v)
}

// point merges a reading into the point of its step. A reading that names no
// step belongs to the step before it.
func (o *Observations) point(r Reading) {
	step, named := r.Step.Get()
	switch {
	case !named && o.current == nil:
		return
	case !named:
	case o.current == nil || step != o.current.Step:
		o.flush()
		if last, ok := o.LastStep.Get(); ok && step < last {
			o.Restarts++
		}
		if !o.FirstStep.Known() {
			o.FirstStep = r.Step
		}
		o.LastStep = r.Step
		o.current = &Point{Step: step, At: r.At}
	}
	o.current.merge(r)
}

func (p *Point) merge(r Reading) {
	keep(&p.Elapsed, r.Elapsed)
	keep(&p.Loss, r.Loss)
	keep(&p.AverageLoss, r.AverageLoss)
	keep(&p.LearningRate, r.LearningRate)
	keep(&p.TokensPerSecond, r.TokensPerSecond)
	keep(&p.StepsPerSecond, r.StepsPerSecond)
	keep(&p.TrainedTokens, r.TrainedTokens)
	keep(&p.Positions, r.Positions)
	for _, m := range r.Memory {
		if p.Memory == nil {
			p.Memory = map[MemoryKind]Memory{}
		}
		if before, ok := p.Memory[m.Kind]; ok && m.Kind == PeakMemory && before.Bytes.Or(0) > m.Bytes.Or(0) {
			continue
		}
		p.Memory[m.Kind] = m
	}
	for _, d := range r.Doubts {
		if (Reading{Doubts: p.Doubts}).Doubtful(d.Field) == "" {
			p.Doubts = append(p.Doubts, d)
		}
	}
}

// keep takes the newer value, if there is one.
func keep[T any](into *trainer.Opt[T], v trainer.Opt[T]) {
	if v.Known() {
		*into = v
	}
}

// flush decides about the current point.
func (o *Observations) flush() {
	if o.current == nil {
		return
	}
	o.Every = max(o.Every, 1)
	if o.points%o.Every == 0 {
		if len(o.Points) == maxPoints {
			half := o.Points[:0]
			for i := 0; i < maxPoints; i += 2 {
				half = append(half, o.Points[i])
			}
			clear(o.Points[len(half):])
			o.Points, o.Every = half, o.Every*2
		}
		if o.points%o.Every == 0 {
			o.Points = append(o.Points, *o.current)
		}
	}
	o.points++
	o.current = nil
}

// Close takes the last point in.
func (o *Observations) Close() {
	if o.current != nil && o.points%max(o.Every, 1) != 0 {
		o.points += max(o.Every, 1) - o.points%max(o.Every, 1) // the last one always counts
	}
	o.flush()
}

// kindOf makes notices alike that differ in numbers only.
func kindOf(n Notice) string {
	return n.Code + strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return -1
		}
		return r
	}, n.Text)
}

func (o *Observations) notice(r Reading) {
	kind := kindOf(*r.Notice)
	for i := range o.Notices {
		if s := &o.Notices[i]; s.kind == kind {
			s.Times++
			s.Fatal = s.Fatal || r.Notice.Fatal
			return
		}
	}
	if len(o.Notices) >= maxNotices && r.Notice.Level != ErrorNotice {
		o.Unkept++
		return
	}
	if len(o.Notices) >= 2*maxNotices {
		copy(o.Notices[maxNotices:], o.Notices[maxNotices+1:]) // the newest errors say why it ended
		o.Notices = o.Notices[:len(o.Notices)-1]
		o.Unkept++
	}
	o.Notices = append(o.Notices, Said{Notice: *r.Notice, Line: r.Line, Step: o.LastStep.Or(0), Times: 1, kind: kind})
}

// Summary is what diagnosis reads of a training: the steps whose loss is known,
// validations, warnings, and figures. A Step of trainer has numbers that cannot
// be absent; where the patient did not tell them they are 0 here, and the
// figures and shapes that would be made of them are left out.
func (o *Observations) Summary() trainer.Summary {
	events := o.Events()
	s := trainer.Summarize(events)
	s.Shapes = nil // no patient tells the shape of its batches
	s.Figures = o.figures(s.Figures)
	return s
}

// Events are the observations as a worker would have said them. Only Points
// have what belongs to steps without a loss.
func (o *Observations) Events() []trainer.Event {
	var out []trainer.Event
	add := func(step int, elapsed time.Duration, p trainer.Payload) {
		out = append(out, trainer.Event{Seq: int64(len(out)), Step: step, Elapsed: elapsed, Payload: p})
	}
	evals := o.Validations
	for i, p := range o.Points {
		for len(evals) > 0 && evals[0].AfterStep.Or(0) < p.Step {
			add(evals[0].event())
			evals = evals[1:]
		}
		if !p.Loss.Known() {
			continue
		}
		step := trainer.Step{Loss: p.Loss.Or(0), LearningRate: p.LearningRate, Memory: p.counters()}
		step.Seconds = o.stepSeconds(i).Or(0)
		add(p.Step, p.At.Or(p.Elapsed.Or(Clock{}).Time), step)
	}
	for _, v := range evals {
		add(v.event())
	}
	for _, n := range o.Notices {
		if n.Level == WarningNotice {
			add(n.Step, 0, trainer.Warning{Code: n.Code, Text: n.Text})
		}
	}
	return out
}

func (v Validation) event() (int, time.Duration, trainer.Payload) {
	return v.AfterStep.Or(0), 0, trainer.Eval{Loss: v.Loss, Seconds: v.Seconds.Or(0)}
}

// counters are the memory numbers that mean what trainer.Memory means. What the
// patient does not name is none of them.
func (p Point) counters() trainer.Memory {
	bytes := func(k MemoryKind) trainer.Opt[int64] { return p.Memory[k].Bytes }
	return trainer.Memory{Active: bytes(ActiveMemory), Peak: bytes(PeakMemory), Cache: bytes(CacheMemory), Footprint: bytes(FootprintMemory)}
}

// stepSeconds is the time of a step around the point i, data included, if the
// patient's own words or our clock tell it: first from how far it came in how
// long, then from its speed unless that is doubtful.
func (o *Observations) stepSeconds(i int) trainer.Opt[float64] {
	p := o.Points[i]
	if i > 0 && p.Step > o.Points[i-1].Step {
		before := o.Points[i-1]
		steps := float64(p.Step - before.Step)
		a, ok := before.At.Get()
		if b, ok2 := p.At.Get(); ok && ok2 && b > a {
			return trainer.Some((b - a).Seconds() / steps)
		}
		c, ok := before.Elapsed.Get()
		if d, ok2 := p.Elapsed.Get(); ok && ok2 && d.Time > c.Time && float64(d.Resolution) <= 0.05*float64(d.Time-c.Time) {
			return trainer.Some((d.Time - c.Time).Seconds() / steps)
		}
	}
	if v, ok := p.StepsPerSecond.Get(); ok && v > 0 && !math.IsInf(1/v, 0) && (Reading{Doubts: p.Doubts}).Doubtful(FieldStepsPerSecond) == "" {
		return trainer.Some(1 / v)
	}
	return trainer.Opt[float64]{}
}

// figures replaces those that rest on numbers which the patient did not tell.
func (o *Observations) figures(f trainer.Figures) trainer.Figures {
	f.TokensPerSecond, f.StepSeconds = trainer.Opt[float64]{}, o.meanSeconds()
	for _, p := range o.Points {
		if b, ok := p.counters().Peak.Get(); ok && b > f.PeakBytes.Or(0) {
			f.PeakBytes = trainer.Some(b)
		}
	}
	if t, ok := f.StepSeconds.Get(); ok {
		if n, ok := o.tokensAStep().Get(); ok && t > 0 {
			f.TokensPerSecond = trainer.Some(n / t)
		}
	}
	return f
}

// meanSeconds is the mean time of a step from the second point to the last,
// which leaves the start-up out.
func (o *Observations) meanSeconds() trainer.Opt[float64] {
	var sum, weight float64
	for i, p := range o.Points {
		if i == 0 || p.Step <= o.Points[i-1].Step {
			continue
		}
		if s, ok := o.stepSeconds(i).Get(); ok {
			n := float64(p.Step - o.Points[i-1].Step)
			sum, weight = sum+s*n, weight+n
		}
	}
	if weight == 0 {
		if len(o.Points) == 1 {
			return o.stepSeconds(0)
		}
		return trainer.Opt[float64]{}
	}
	return trainer.Some(sum / weight)
}

// coarseTokens is how many it takes until a rounding to hundreds is below 5 %.
const coarseTokens = 2000

// tokensAStep is the mean number of tokens that the patient says it trained on.
func (o *Observations) tokensAStep() trainer.Opt[float64] {
	var first, last *Point
	for i := range o.Points {
		if p := &o.Points[i]; p.TrainedTokens.Known() {
			if first == nil {
				first = p
			}
			last = p
		}
	}
	if first == nil || last.Step <= first.Step || last.TrainedTokens.Or(0) < first.TrainedTokens.Or(0) || o.Restarts > 0 {
		return trainer.Opt[float64]{}
	}
	tokens := last.TrainedTokens.Or(0) - first.TrainedTokens.Or(0)
	if tokens < coarseTokens && (Reading{Doubts: last.Doubts}).Doubtful(FieldTrainedTokens) != "" {
		return trainer.Opt[float64]{}
	}
	return trainer.Some(float64(tokens) / float64(last.Step-first.Step))
}
