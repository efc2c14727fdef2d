package native

import (
	"fmt"
	"slices"

	"github.com/mlxdyno/mlxdyno/mlxbind"
	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/native/decoder"
	"github.com/mlxdyno/mlxdyno/trainer/native/optim"
	"github.com/mlxdyno/mlxdyno/trainer/native/tape"
)

// learner is a model in training: what changes from step to step, and how. Its
// arrays belong to the Scope s, which outlives it.
type learner struct {
	s         *mlxbind.Scope
	model     *decoder.Model
	optimizer *optim.Optimizer
	schedule  optim.Schedule
	options   learnerOptions

	adapters []mlxbind.Array // trainable, in the order of model.Adapters
	state    []mlxbind.Array // of the optimizer
	key      mlxbind.Array   // of random numbers
	waiting  []mlxbind.Array // gradients of steps whose update is not complete, and the tokens behind them
	updates  int             // done
	rate     float64         // of the latest update, or the first to come

	compiled map[variant]*mlxbind.Function
	blocks   *blockwise // nil computes steps as a whole, as mlx-lm does
}

type learnerOptions struct {
	parity       bool // mlx-lm's loss and accumulation
	supervised   bool // scores of supervised positions only
	fusedLoss    bool // in one kernel, as mlx-lm does on a GPU
	accumulation int
	checkpoint   bool
	clip         float64
	compile      bool

	blocks        bool // compute block by block, which the rest is about
	async         bool // on a device that works beside this one
	keep          tape.Keep
	checkpointNth int // of blocks, with checkpoint, which one is computed again; 0 is each
	chunk         int // positions whose scores are computed at once; 0 is all
}

// variant tells steps apart that compute different things.
type variant struct{ continues, updates bool }

func newLearner(s *mlxbind.Scope, m *decoder.Model, c trainer.Config, o learnerOptions) (*learner, error) {
	q := c.Quality
	l := &learner{s: s, model: m, options: o, compiled: map[variant]*mlxbind.Function{}}
	var err error
	if l.optimizer, err = optim.New(q.Optimizer, float64(q.WeightDecay)); err != nil {
		return nil, err
	}
	l.schedule = optim.Schedule{Shape: optim.Shape(q.LRSchedule), Rate: q.LearningRate, End: q.LREnd, Warmup: q.Warmup, Updates: c.DecayUpdates()}
	if l.adapters, l.key, err = m.AddAdapters(s, decoder.LoRA{Rank: q.Rank, Scale: q.Scale, Dropout: q.Dropout,
		Layers: q.Layers, Modules: q.ModuleNames(), Seed: c.Seed}); err != nil {
		return nil, err
	}
	l.state = l.optimizer.Init(s, l.adapters)
	if err := m.Rehearse(s); err != nil {
		return nil, err
	}
	if o.blocks {
		l.blocks = newBlockwise(l)
	}
	return l, s.Eval(l.state...)
}

// batch is one batch: tokens of shape (rows, width), and for each row where its
// supervised part begins and where it ends, of shape (rows, 2).
type batch struct {
	tokens, spans []int32
	shape         trainer.Shape
}

// arrays are the batch as loss takes it: tokens and spans, or with supervised
// tokens, the places of supervised targets, and which of these count.
func (l *learner) arrays(s *mlxbind.Scope, b batch) []mlxbind.Array {
	tokens := s.Int32s(b.tokens, b.shape.Batch, b.shape.Width)
	if !l.options.supervised {
		return []mlxbind.Array{tokens, s.Int32s(b.spans, b.shape.Batch, 2)}
	}
	places, count := b.supervised(l.options.compile)
	counts := s.Less(s.Arange(0, float64(len(places)), 1, mlxbind.Int32), s.Scalar(float64(count), mlxbind.Int32))
	return []mlxbind.Array{tokens, s.Int32s(places, len(places)), counts}
}

// supervised are the places of targets that count, row after row, and their
// number. Since a compiled step is traced for every number, they are then filled
// up to a multiple of an eighth of all positions.
func (b batch) supervised(rounded bool) (places []int32, count int) {
	n := b.shape.Width - 1
	for row := range b.shape.Batch {
		// Target i is token i + 1; those of the prompt come first.
		from, to := int(b.spans[2*row]), int(b.spans[2*row+1])
		for i := max(from-1, 0); i < min(to-1, n); i++ {
			places = append(places, int32(row*n+i))
		}
	}
	count = len(places)
	unit := 1
	if rounded {
		unit = max(1, b.shape.Batch*n/8)
	}
	for len(places) == 0 || len(places)%unit != 0 && len(places) < b.shape.Batch*n {
		places = append(places, 0)
	}
	return places, count
}

// loss returns the sum of the losses of supervised tokens and their number.
//
// mlx-lm's mask also counts the first pad of every row: its bound is the length,
// and position i of the targets is token i + 1. Parity keeps that.
func (l *learner) loss(s *mlxbind.Scope, adapters, batch, keys []mlxbind.Array) (sum, count mlxbind.Array) {
	tokens := batch[0]
	shape := s.Shape(tokens)
	if len(shape) != 2 {
		return
	}
	width := shape[1]
	inputs, targets := s.Slice(tokens, 1, 0, width-1), s.Slice(tokens, 1, 1, width)
	pass := decoder.Pass{Checkpoint: l.options.checkpoint && adapters != nil, Keys: keys}
	var mask mlxbind.Array
	if l.options.supervised {
		pass.Only, mask = batch[1], batch[2]
		targets = s.Take(s.Reshape(targets, -1), pass.Only, 0)
	} else {
		positions := s.Arange(1, float64(width), 1, mlxbind.Int32)
		from, to := s.Slice(batch[1], 1, 0, 1), s.Slice(batch[1], 1, 1, 2)
		end := s.LessEqual(positions, to)
		if !l.options.parity {
			end = s.Less(positions, to)
		}
		mask = s.And(s.GreaterEqual(positions, from), end)
	}
	logits := l.model.Logits(s, inputs, adapters, pass)
	losses := s.Mul(l.crossEntropy(s, logits, targets), mask)
	return s.SumAll(s.AsType(losses, mlxbind.Float32)), s.SumAll(mask)
}

// crossEntropy is log Σ e^logits - logits[target] at every position.
func (l *learner) crossEntropy(s *mlxbind.Scope, logits, targets mlxbind.Array) mlxbind.Array {
	if l.options.fusedLoss {
		return s.AsType(s.CrossEntropy(logits, targets), s.DTypeOf(logits))
	}
	logits = s.Sub(logits, s.StopGradient(s.Max(logits, -1, true)))
	score := s.Squeeze(s.TakeAlongAxis(logits, s.ExpandDims(targets, -1), -1), -1)
	return s.Sub(s.Squeeze(l.model.Forms.LogSumExp(s, logits), -1), score)
}

// bySum reports whether the gradient is that of the sum of the losses, to be
// divided by all supervised tokens of an update when that is complete. mlx-lm
// averages the means of the steps, which weighs tokens of short batches more.
func (l *learner) bySum() bool { return !l.options.parity && l.options.accumulation > 1 }

// compute is one step: in are adapters, optimizer state, waiting gradients,
// rate, key and batch; out are loss, tokens and key, then either adapters and
// optimizer state after the update, or what waits.
func (l *learner) compute(v variant) mlxbind.Func {
	n, slots := len(l.adapters), len(l.state)
	return func(s *mlxbind.Scope, in []mlxbind.Array) []mlxbind.Array {
		cut := func(n int) []mlxbind.Array {
			head := in[:n:n]
			in = in[n:]
			return head
		}
		adapters, state := cut(n), cut(slots)
		var waiting []mlxbind.Array
		if v.continues {
			waiting = cut(n + 1)
		}
		rate, key, batch := cut(1)[0], cut(1)[0], in

		var keys []mlxbind.Array
		if l.model.HasDropout() {
			keys, key = l.model.DropoutKeys(s, key)
		}
		gradient := s.ValueAndGrad(func(s *mlxbind.Scope, in []mlxbind.Array) []mlxbind.Array {
			sum, count := l.loss(s, in[:n], in[n:n+len(batch)], in[n+len(batch):])
			if l.bySum() {
				return []mlxbind.Array{sum, count}
			}
			return []mlxbind.Array{s.Div(sum, count), count}
		}, upTo(n)...)
		out := gradient.Call(s, slices.Concat(adapters, batch, keys)...)
		if len(out) != n+2 {
			return nil
		}
		loss, count, gradients := out[0], out[1], out[2:]
		if l.bySum() {
			loss = s.Div(loss, count)
		}
		return append([]mlxbind.Array{loss, count, key}, l.conclude(s, v, rate, count, gradients, waiting, adapters, state)...)
	}
}

// conclude ends a step that has its gradients: it returns either adapters and
// optimizer state after the update, or what waits for it.
func (l *learner) conclude(s *mlxbind.Scope, v variant, rate, count mlxbind.Array, gradients, waiting, adapters, state []mlxbind.Array) []mlxbind.Array {
	gradients = slices.Clone(gradients)
	tokens := s.AsType(count, mlxbind.Float32)
	if v.continues {
		for i := range gradients {
			gradients[i] = s.Add(gradients[i], waiting[i])
		}
		tokens = s.Add(tokens, waiting[len(gradients)])
	}
	if !v.updates {
		return append(gradients, tokens)
	}
	switch {
	case l.bySum():
		for i := range gradients {
			gradients[i] = s.Div(gradients[i], tokens)
		}
	case l.options.accumulation > 1:
		for i := range gradients {
			gradients[i] = s.DivN(gradients[i], float64(l.options.accumulation))
		}
	}
	if l.options.clip > 0 {
		gradients = optim.Clip(s, gradients, l.options.clip)
	}
	adapters, state = l.optimizer.Update(s, rate, gradients, adapters, state)
	return slices.Concat(adapters, state)
}

func upTo(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

// stepResult is what a step tells.
type stepResult struct {
	loss       float64
	supervised int64
}

// step trains on one batch; update says whether it completes an update.
func (l *learner) step(b batch, update bool) (r stepResult, err error) {
	if l.blocks != nil {
		return l.blocks.step(b, update)
	}
	err = l.s.Child(func(c *mlxbind.Scope) error {
		v := variant{len(l.waiting) > 0, update}
		rate := l.schedule.At(c, l.updates)
		in := slices.Concat(l.adapters, l.state, l.waiting, []mlxbind.Array{rate, l.key}, l.arrays(c, b))
		var out []mlxbind.Array
		if l.options.compile {
			out = l.function(v).Call(c, in...)
		} else {
			out = c.Build(l.compute(v), in...)
		}
		if err := c.Err(); err != nil {
			return err
		}
		loss, count, key, rest := out[0], out[1], out[2], out[3:]
		// Everything is computed at once, as in mlx-lm.
		if err := c.Eval(out...); err != nil {
			return err
		}
		if r.loss, err = c.Item(loss); err != nil {
			return err
		}
		supervised, err := c.Item(count)
		if err != nil {
			return err
		}
		r.supervised = int64(supervised)
		return l.take(c, rate, key, rest, update)
	})
	return r, err
}

// take makes what a step has computed the learner's own: rest is what conclude
// returned.
func (l *learner) take(c *mlxbind.Scope, rate, key mlxbind.Array, rest []mlxbind.Array, update bool) (err error) {
	if l.rate, err = c.Item(rate); err != nil {
		return err
	}
	if key != l.key {
		l.replace(c, []mlxbind.Array{l.key}, []mlxbind.Array{key})
		l.key = key
	}
	l.replace(c, l.waiting, nil)
	l.waiting = nil
	if !update {
		l.replace(c, nil, rest)
		l.waiting = rest
		return c.Err()
	}
	l.replace(c, slices.Concat(l.adapters, l.state), rest)
	l.adapters, l.state = rest[:len(l.adapters):len(l.adapters)], rest[len(l.adapters):]
	l.updates++
	return c.Err()
}

// replace frees old arrays and has s keep the new ones.
func (l *learner) replace(c *mlxbind.Scope, old, next []mlxbind.Array) {
	if len(next) > 0 {
		if err := c.Keep(next...); err != nil {
			return
		}
	}
	c.Free(old...)
}

// function is the compiled step.
func (l *learner) function(v variant) *mlxbind.Function {
	f, ok := l.compiled[v]
	if !ok {
		f = l.s.Compile(l.compute(v), false)
		l.compiled[v] = f
	}
	return f
}

// traces is how many times a step was traced to be compiled.
func (l *learner) traces() int {
	if l.blocks != nil {
		return l.blocks.traces()
	}
	n := 0
	for _, f := range l.compiled {
		n += f.Traces()
	}
	return n
}

// evaluation is the mean loss of supervised tokens over batches, and where steps
// are by blocks that of each batch, with its number of tokens.
type evaluation struct {
	loss   float64
	losses []trainer.Float
	tokens []int
}

// evaluate computes the loss of batches. more is asked before each; when it says
// no, the evaluation is given up.
func (l *learner) evaluate(batches []batch, more func() bool) (e evaluation, ok bool, err error) {
	if l.blocks != nil {
		return l.blocks.evaluateAll(batches, more)
	}
	err = l.s.Child(func(c *mlxbind.Scope) error {
		total, tokens := c.Scalar(0, mlxbind.Float32), c.Scalar(0, mlxbind.Int32)
		for _, b := range batches {
			if !more() {
				return nil
			}
			err := c.Child(func(d *mlxbind.Scope) error {
				out := d.Build(func(s *mlxbind.Scope, in []mlxbind.Array) []mlxbind.Array {
					sum, count := l.loss(s, l.adapters, in, nil)
					mean := s.Div(sum, count) // and back: mlx-lm's order of operations
					return []mlxbind.Array{s.Add(total, s.Mul(mean, count)), s.Add(tokens, count)}
				}, l.arrays(d, b)...)
				if err := d.Err(); err != nil {
					return err
				}
				if err := d.Keep(out...); err != nil {
					return err
				}
				total, tokens = out[0], out[1]
				return nil
			})
			if err != nil {
				return err
			}
		}
		ok = true
		e.loss, err = c.Item(c.Div(total, tokens))
		return err
	})
	if err != nil {
		return evaluation{}, false, fmt.Errorf("evaluate: %w", err)
	}
	return e, ok, nil
}
