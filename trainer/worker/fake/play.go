package fake

import (
	"cmp"
	"fmt"
	"math"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/wire"
)

// player is the running worker.
type player struct {
	script Script
	job    trainer.Job
	out    *os.File
	wire   *wire.Writer
	seq    int64
	began  time.Time

	step     int      // of the training
	own      int      // of this process
	profiled profiled // in Profile mode
	saved    int      // step of the newest checkpoint; -1 for none
	slowest  atomic.Int64

	stop atomic.Pointer[wire.Command]
	gone atomic.Bool
}

func play(s Script) {
	p := &player{script: s, began: time.Now(), saved: -1, out: os.NewFile(3, "events")}
	syscall.CloseOnExec(3)
	p.wire = wire.NewWriter(p.out)
	time.AfterFunc(cmp.Or(s.Life, 2*time.Minute), func() { die(syscall.SIGKILL) })
	if s.Child {
		p.startChild()
	}
	p.hello()
	p.readJob()
	time.Sleep(s.LoadTime)
	if s.At == Loading {
		p.misbehave()
	}
	p.load()
	p.train()
}

// startChild starts a process that holds everything it can inherit.
func (p *player) startChild() {
	child := exec.Command("sleep", "120")
	child.Stdout, child.Stderr = os.Stdout, os.Stderr
	child.ExtraFiles = []*os.File{p.out, os.NewFile(4, "lock")}
	if err := child.Start(); err != nil {
		p.exit(2, "fake worker: start child: %v", err)
	}
}

func (p *player) hello() {
	h := trainer.Hello{
		Protocol: [2]int{trainer.ProtocolMajor, trainer.ProtocolMinor},
		Engine:   "fake", PID: os.Getpid(), Versions: map[string]string{"fake": "1"},
		Device: trainer.Device{Kind: "cpu", Name: "none"},
	}
	switch p.script.Behaviour {
	case Nameless:
		return
	case Foreign:
		h.Protocol[0]++
	}
	p.emit(h)
}

func (p *player) readJob() {
	lines := wire.NewLines(os.Stdin)
	line, err := lines.Next()
	if err != nil {
		os.Exit(0) // the parent is gone
	}
	c, err := wire.DecodeCommand(line)
	if err != nil || c.Name != wire.CommandJob {
		p.fail(trainer.FailConfig, "job.unreadable", fmt.Sprintf("read job: %q, %v", c.Name, err))
	}
	p.job = c.Job
	go p.heed(lines)
}

// heed takes commands until the input ends, and keeps the promise after that.
func (p *player) heed(lines *wire.Lines) {
	for {
		line, err := lines.Next()
		if err != nil {
			break
		}
		if c, err := wire.DecodeCommand(line); err == nil && c.Name == wire.CommandStop {
			p.stop.Store(&c)
		}
	}
	p.gone.Store(true)
	if p.script.Behaviour == Stubborn {
		return
	}
	time.Sleep(max(cmp.Or(p.script.Promise, 10*time.Second), 3*time.Duration(p.slowest.Load())))
	die(syscall.SIGKILL)
}

func (p *player) load() {
	if p.job.From != nil {
		p.restore()
	}
	p.emit(trainer.Ready{
		LoadSeconds: time.Since(p.began).Seconds(), Architecture: "fake", Layers: 1, Parameters: 1000, Trainable: 10,
		WeightBytes: p.script.Cost.Bytes, TrainRows: p.rows(), ValidRows: p.rows() / 10, Memory: p.memory(trainer.Shape{Width: 1}),
	})
}

func (p *player) train() {
	schedule := p.job.Config.Schedule
	var first time.Time // end of the first step
	plan := p.plan()
	if p.job.Evaluate && p.job.From == nil {
		p.evaluate()
	}
	for {
		if p.script.Behaviour != Normal && p.step >= p.script.At {
			p.misbehave()
		}
		shape, more := plan()
		switch {
		case !more:
			p.finish(trainer.DoneSteps)
		case p.job.Budget > 0 && !first.IsZero() && time.Since(first) >= p.job.Budget:
			p.finish(trainer.DoneBudget)
		case p.stop.Load() != nil && !p.is(Stubborn):
			p.finish(trainer.DoneStop)
		case p.gone.Load() && !p.is(Stubborn):
			os.Exit(0)
		}
		p.run(shape)
		if first.IsZero() {
			first = time.Now()
		}
		last := p.step == p.job.UntilStep
		if p.job.Mode == trainer.Profile && last {
			p.profile()
		}
		if p.job.Evaluate && (last || p.step%max(schedule.EvalEvery, 1) == 0) {
			p.evaluate()
		}
		if p.step%max(schedule.SaveEvery, 1) == 0 {
			p.save()
		}
	}
}

// plan returns what gives the shape of each step, until there is none.
func (p *player) plan() func() (trainer.Shape, bool) {
	if len(p.job.Shapes) > 0 {
		i, done := 0, 0
		return func() (trainer.Shape, bool) {
			for i < len(p.job.Shapes) && done >= p.job.Shapes[i].Steps {
				i, done = i+1, 0
			}
			if i == len(p.job.Shapes) {
				return trainer.Shape{}, false
			}
			done++
			return trainer.Shape{Batch: p.job.Shapes[i].Batch, Width: p.job.Shapes[i].Width}, true
		}
	}
	widths := p.script.Widths
	if len(widths) == 0 {
		widths = []int{33, 65}
	}
	return func() (trainer.Shape, bool) {
		if p.job.UntilStep > 0 && p.step >= p.job.UntilStep {
			return trainer.Shape{}, false
		}
		return trainer.Shape{Batch: max(p.job.Config.Plan.Batch, 1), Width: widths[p.step%len(widths)]}, true
	}
}

func (p *player) run(shape trainer.Shape) {
	start := time.Now()
	cost := p.script.Cost
	if peak := cost.peak(shape, p.job.Config); cost.CapacityBytes > 0 && peak > cost.CapacityBytes {
		p.fail(trainer.FailOOM, "memory.exhausted", fmt.Sprintf("%s are more than %s", trainer.FormatBytes(peak), trainer.FormatBytes(cost.CapacityBytes)))
	}
	time.Sleep(p.script.StepTime)
	p.step++
	p.own++
	spent := time.Since(start)
	p.slowest.Store(max(p.slowest.Load(), int64(spent)))
	time.Sleep(p.script.Pause)
	wobble := 1 + cost.ReportedSpread*math.Sin(float64(p.step))
	seconds := cost.seconds(shape, p.job.Config) * wobble
	if p.script.StepTime > 0 || seconds == 0 {
		seconds += spent.Seconds()
	}
	step := trainer.Step{
		Loss: p.loss(), LearningRate: trainer.Some(trainer.Float(p.job.Config.Quality.LearningRate)),
		Shape: shape, Tokens: shape.Positions(), Supervised: shape.Positions(),
		Seconds: seconds, Memory: p.memory(shape),
	}
	p.emit(step)
	if p.job.Mode == trainer.Profile {
		p.addStep(step)
	}
}

// loss falls, and depends on nothing but seed and step.
func (p *player) loss() trainer.Float {
	x := float64(p.step)
	return trainer.Float(1 + 3*math.Exp(-x/100) + 0.01*math.Sin(x+float64(p.job.Config.Seed)))
}

func (p *player) memory(shape trainer.Shape) trainer.Memory {
	leaked := p.script.LeakBytes * int64(p.own)
	active, peak := p.script.Cost.Bytes+leaked, p.script.Cost.peak(shape, p.job.Config)+leaked
	return trainer.Memory{Active: trainer.Some(active), Peak: trainer.Some(peak), Cache: trainer.Some(peak - active), Footprint: trainer.Some(peak + 1<<20)}
}

func (p *player) rows() int { return cmp.Or(p.script.Rows, 1000) }

func (p *player) evaluate() {
	start := time.Now()
	time.Sleep(p.script.EvalTime)
	p.emit(trainer.Eval{Loss: p.loss() + 0.1, Batches: max(p.job.Config.Schedule.ValBatches, 1), Seconds: time.Since(start).Seconds()})
}

func (p *player) finish(reason trainer.DoneReason) {
	if reason != trainer.DoneStop || p.stop.Load().Checkpoint {
		p.save()
	}
	done := trainer.Done{Reason: reason, Seconds: time.Since(p.began).Seconds()}
	if p.job.Dir != "" && reason == trainer.DoneSteps && p.step >= p.job.Config.Schedule.Steps {
		done.Adapter = p.writeAdapter()
	}
	p.emit(done)
	if p.script.misbehavesIn(p.job.Segment) {
		p.misbehaveAfterDone(done)
	}
	os.Exit(0)
}

func (p *player) is(b Behaviour) bool {
	return p.script.Behaviour == b && p.script.misbehavesIn(p.job.Segment)
}

func (p *player) emit(payload trainer.Payload) {
	e := trainer.Event{Segment: p.job.Segment, Seq: p.seq, Elapsed: time.Since(p.began), Step: p.step, Payload: payload}
	p.seq++
	if err := p.wire.Write(e); err != nil {
		p.exit(2, "fake worker: %v", err)
	}
}

func (p *player) fail(kind trainer.FailKind, code, text string) {
	p.emit(trainer.Failure{FailKind: kind, Code: code, Text: text})
	os.Exit(1)
}

func (p *player) exit(status int, format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
	os.Exit(status)
}

// misbehave does what the script says. It returns for behaviours that show
// elsewhere.
func (p *player) misbehave() {
	if !p.script.misbehavesIn(p.job.Segment) {
		return
	}
	switch p.script.Behaviour {
	case Crash:
		p.exit(3, "fake worker: panic: a crash as asked for\n\nstack of the fake")
	case Signal:
		die(syscall.Signal(p.script.Signal))
	case Killed:
		die(syscall.SIGKILL)
	case Silent:
		os.Exit(0)
	case Fail:
		p.emit(*p.script.Failure)
		os.Exit(1)
	case NaN:
		p.step++
		p.emit(trainer.Step{Loss: trainer.Float(math.NaN()), Shape: trainer.Shape{Batch: 1, Width: 33}, Seconds: 0.001})
		p.fail(trainer.FailNonFinite, "loss.nonfinite", "the loss is NaN")
	case Torn:
		fmt.Fprint(p.out, `{"kind":"step","segment":0,"se`)
		os.Exit(1)
	case Hang:
		select {}
	case Stubborn:
		signal.Ignore(syscall.SIGINT)
	case Flood:
		for p.stop.Load() == nil && !p.gone.Load() {
			p.emit(trainer.Warning{Code: "flood", Text: strings.Repeat("x", 1000)})
		}
	case Mute:
		p.out.Close()
		select {}
	case Garbage:
		fmt.Fprintln(p.out, "Traceback (most recent call last):")
		p.script.Behaviour = Normal
	case Oversized:
		fmt.Fprintln(p.out, strings.Repeat("x", 4*wire.MaxLine))
		p.script.Behaviour = Normal
	case Gap:
		p.seq++
		p.script.Behaviour = Normal
	}
}

func (p *player) misbehaveAfterDone(done trainer.Done) {
	switch p.script.Behaviour {
	case Linger:
		for !p.gone.Load() {
			time.Sleep(time.Millisecond)
		}
	case DieDone:
		die(syscall.Signal(p.script.Signal))
	case Twice:
		p.emit(done)
	case Late:
		p.emit(trainer.Warning{Code: "late", Text: "after the end"})
	}
}

// die ends this process by a signal. Go handles some itself, a shell none.
func die(s syscall.Signal) {
	if s == syscall.SIGKILL {
		syscall.Kill(os.Getpid(), s) //nolint:errcheck // nothing is left to be done about it
		select {}
	}
	err := syscall.Exec("/bin/sh", []string{"sh", "-c", fmt.Sprintf("ulimit -c 0; kill -%d $$; sleep 10", int(s))}, os.Environ())
	fmt.Fprintln(os.Stderr, "fake worker: start a shell to die in:", err)
	os.Exit(2)
}
