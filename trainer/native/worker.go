package native

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"syscall"
	"time"

	"github.com/mlxdyno/mlxdyno/mlxbind"
	"github.com/mlxdyno/mlxdyno/probe/model"
	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/data"
	"github.com/mlxdyno/mlxdyno/trainer/native/decoder"
)

// Descriptors that a worker inherits.
const (
	eventsFD = 3
	lockFD   = 4
)

// Work does the job that stands on standard input and returns the exit status:
// it is the whole life of a worker process.
func Work() int {
	for _, fd := range []int{eventsFD, lockFD} { // a compiler that MLX starts must not hold them
		syscall.CloseOnExec(fd)
	}
	return new(process).work(os.Stdin, os.NewFile(eventsFD, "events"))
}

func (w *process) work(in io.Reader, out io.Writer) int {
	w.events, w.commands = newEvents(out), newCommands(in)
	job, err := w.commands.job()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if job == nil {
		return 0
	}
	w.job, w.events.segment = *job, job.Segment
	if job.From != nil {
		w.events.step = job.From.Step
	}
	go w.commands.listen()
	err = w.do()
	var done *ended
	if errors.As(err, &done) {
		done.Seconds = time.Since(w.events.began).Seconds()
		if w.events.emit(done.Done) != nil {
			return 1
		}
		return 0
	}
	f := describe(err, w.job.Config)
	fmt.Fprintln(os.Stderr, f.Detail)
	w.events.emit(f) //nolint:errcheck // there is nothing left to say it to
	return 1
}

// ended is a job that did what it was asked to.
type ended struct{ trainer.Done }

func (e *ended) Error() string { return "the job has ended: " + string(e.Reason) }

func end(reason trainer.DoneReason) error { return &ended{trainer.Done{Reason: reason}} }

// process is a worker process, which has one job.
type process struct {
	events   *events
	commands *commands
	job      trainer.Job
	rt       *mlxbind.Runtime
	said     surroundings

	afterStep func(*mlxbind.Scope, *learner) // of tests, which leak on purpose
}

// surroundings decide the last bits of results besides the configuration.
type surroundings struct {
	Versions map[string]string `json:"versions"`
	Device   trainer.Device    `json:"device"`
	BLAS     string            `json:"blas,omitempty"`
	Threads  trainer.Opt[int]  `json:"threads,omitzero"`
	Compiled bool              `json:"compiled"`
}

// do ends by an error: ended, or what went wrong.
func (w *process) do() error {
	rt, err := mlxbind.Open(mlxbind.Options{Shim: os.Getenv(shimVariable), BLAS: os.Getenv(blasVariable)})
	if err != nil {
		return fail(trainer.FailInternal, "install.mlx", "run `mlxdyno setup`", "cannot load MLX: %v", err)
	}
	w.rt = rt
	return rt.Do(context.Background(), func(s *mlxbind.Scope) error {
		if err := w.hello(s); err != nil {
			return err
		}
		limits, err := w.setLimits(s)
		if err != nil {
			return err
		}
		t, err := w.load(s, limits)
		if err != nil {
			return err
		}
		defer t.close()
		return t.run()
	})
}

// hello settles whether steps are compiled.
func (w *process) hello(s *mlxbind.Scope) error {
	d, err := s.Device()
	if err != nil {
		return err
	}
	compiled := w.job.Config.Compiles(d.Kind)
	s.EnableCompile(compiled)
	w.said = surroundings{Device: device(d), Compiled: compiled,
		Versions: map[string]string{"mlx": w.rt.MLXVersion(), "mlxdyno": os.Getenv(versionVariable), "go": runtime.Version()}}
	w.said.BLAS, w.said.Threads = blas(d.Kind)
	return w.events.emit(trainer.Hello{
		Protocol: [2]int{trainer.ProtocolMajor, trainer.ProtocolMinor}, Engine: Name, PID: os.Getpid(), Mode: w.job.Mode,
		Versions: w.said.Versions, Device: w.said.Device, BLAS: w.said.BLAS, Threads: w.said.Threads, Compiled: compiled,
	})
}

// setLimits sets what was asked for, and returns what is in force and known.
func (w *process) setLimits(s *mlxbind.Scope) (r trainer.Ready, err error) {
	plan := w.job.Config.Plan
	if l := plan.MemoryLimit; l.IsSet {
		s.SetMemoryLimit(l.Bytes)
	}
	r.MemoryLimit = trainer.Some(s.Memory().Limit)
	if bytes, ok := cacheLimit(w.job.Config, w.said.Device).Get(); ok {
		s.SetCacheLimit(bytes)
		r.CacheLimit = trainer.Some(bytes)
	}
	// mlx-lm's train() wires all that is recommended when it begins.
	recommended, known := w.said.Device.WorkingSetBytes.Get()
	switch l := plan.WiredLimit; {
	case l.IsSet:
		c := s.Child(func(c *mlxbind.Scope) error { c.SetWiredLimit(l.Bytes); return c.Err() })
		if c != nil {
			return r, fail(trainer.FailConfig, "config.wired-limit", fmt.Sprintf("use at most %d", recommended), "MLX refuses a wired limit of %d bytes: %v", l.Bytes, c)
		}
		if known {
			r.WiredLimit = trainer.Some(l.Bytes)
		}
	case known && w.said.Device.Kind == "metal":
		s.SetWiredLimit(recommended)
		r.WiredLimit = trainer.Some(recommended)
	}
	return r, s.Err()
}

// load loads model, adapters and rows, and says ready.
func (w *process) load(s *mlxbind.Scope, ready trainer.Ready) (*training, error) {
	began, c := time.Now(), w.job.Config
	if p := Refuses(c, nil); len(p) > 0 {
		return nil, fail(trainer.FailConfig, "config.unsupported", otherEngine, "%s", p[0])
	}
	facts, err := model.Read(c.Model.Path)
	if err != nil {
		return nil, err
	}
	spec, err := decoder.ReadSpec(facts)
	if err != nil {
		return nil, err
	}
	m, err := decoder.Load(s, facts, spec, decoder.Quantize{Bits: c.Model.Quantize, Group: c.Model.GroupSize})
	if err != nil {
		return nil, err
	}
	m.Forms = forms(c.Plan, w.said.Device.Kind, c.Parity)
	o := learnerOptions{
		parity: c.Parity, supervised: supervisedOnly(c, w.said.Compiled), fusedLoss: w.said.Device.Kind != "cpu" && w.rt.HasCrossEntropy(), accumulation: c.Plan.Accumulation,
		checkpoint: c.Plan.Checkpointing, clip: c.Quality.GradClip, compile: w.said.Compiled,
	}
	o.scheme(c, w.said.Device.Kind, m.Quantized > 0)
	l, err := newLearner(s, m, c, o)
	if err != nil {
		return nil, err
	}
	t := &training{process: w, s: s, learner: l}
	if err := t.open(); err != nil {
		t.close()
		return nil, err
	}
	var trainableBytes, trainable int64
	for _, a := range l.adapters {
		info := s.Info(a)
		trainable, trainableBytes = trainable+int64(info.Size), trainableBytes+int64(info.Bytes)
	}
	ready.LoadSeconds = time.Since(began).Seconds()
	ready.Architecture, ready.Layers = spec.Arch, spec.Layers
	ready.Parameters, ready.WeightBytes = m.Parameters(s), m.WeightBytes
	ready.Trainable, ready.TrainableBytes, ready.AdaptedModules = trainable, trainableBytes, len(m.Adapters)
	ready.LinearModules, ready.QuantizedModules = m.Linear, m.Quantized
	ready.TrainRows = t.rows.Len()
	if t.valid != nil {
		ready.ValidRows = t.valid.Len()
	}
	ready.Memory = memory(s, s.Memory().Cache)
	if err := w.events.emit(ready); err != nil {
		t.close()
		return nil, err
	}
	if n := len(m.Plain); n > 0 {
		slices.Sort(m.Plain)
		err = w.events.warn("model.not-quantized", "%d of %d modules keep their precision, first %s: groups of %d do not divide their width", n, m.Linear, m.Plain[0], c.Model.GroupSize)
	}
	return t, err
}

// open opens the token files.
func (t *training) open() (err error) {
	broken := func(err error) error {
		return fail(trainer.FailData, "data.tokens", "start again: it will be made anew", "cannot %v", err)
	}
	if t.rows, err = data.OpenRows(t.job.Tokens.Train); err != nil {
		return broken(err)
	}
	if path := t.job.Tokens.Valid; path != "" {
		if t.valid, err = data.OpenRows(path); err != nil {
			return broken(err)
		}
	}
	least := t.job.Config.Plan.Batch
	if len(t.job.Shapes) > 0 {
		least = 1
	}
	if t.rows.Len() < least {
		return fail(trainer.FailData, "data.too-few-rows", "lower --batch-size, or add rows", "a batch of %d rows cannot be made of %d training rows", least, t.rows.Len())
	}
	return nil
}
