package native

import (
	"fmt"
	"slices"

	"github.com/mlxdyno/mlxdyno/mlxbind"
	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/native/decoder"
	"github.com/mlxdyno/mlxdyno/trainer/native/profile"
	"github.com/mlxdyno/mlxdyno/trainer/native/tape"
)

// blockwise computes a step one block at a time: forward through all, the loss,
// backward through all. What a block keeps for its backward pass is chosen
// (package tape), and what it needs for a moment is gone before the next begins,
// where a scheduler over the whole step has several blocks' at once.
type blockwise struct {
	l      *learner
	blocks []decoder.Block
	head   decoder.Head
	first  int // block that has adapters

	tapes  map[string]*tape.Tape
	joints map[string]*tape.Joint
	ends   map[variant]*mlxbind.Function // of steps
	layout string                        // for which they are, when they are kept for one alone
	graphs map[string]bool               // layouts with numbers of targets so far, when compiled

	begun mlxbind.Array // of the piece that the device computes; none at the beginning of a step

	watched *watched // nil in an ordinary training
}

func newBlockwise(l *learner) *blockwise {
	b := &blockwise{l: l, head: l.model.Head(), first: l.model.FirstAdapted(),
		tapes: map[string]*tape.Tape{}, joints: map[string]*tape.Joint{}, ends: map[variant]*mlxbind.Function{}, graphs: map[string]bool{}}
	for i := range l.model.Blocks() {
		b.blocks = append(b.blocks, l.model.Block(i))
	}
	return b
}

// positions are a batch as the blocks and the head take it.
type positions struct {
	inputs      []int32 // tokens
	rows, width int     // of inputs
	lengths     []int   // of rows that lie end to end; none when they are padded
	targets     []int32
	places      []int32 // of targets among all positions; nil for all, one after another
	counts      []int32 // of targets: 1 if it counts in the loss, 0 if not
	count       int     // how many
}

// positions lays out a batch.
func (b batch) positions(supervised, rounded bool) positions {
	var p positions
	var all []int32 // targets of all positions
	var counts []int32
	add := func(row []int32, from, to int32) {
		p.inputs = append(p.inputs, row[:len(row)-1]...)
		all = append(all, row[1:]...)
		for i := 1; i < len(row); i++ {
			counted := int32(0)
			if int32(i) >= from && int32(i) < to {
				counted = 1
			}
			counts = append(counts, counted)
			p.count += int(counted)
		}
	}
	if b.shape.Packed > 0 {
		at := 0
		for r := range b.shape.Batch {
			from, to := b.spans[2*r], b.spans[2*r+1]
			if to > 1 {
				add(b.tokens[at:at+int(to)], from, to)
				p.lengths = append(p.lengths, int(to)-1)
			}
			at += int(to)
		}
		p.rows, p.width = 1, len(p.inputs)
	} else {
		width := b.shape.Width
		for r := range b.shape.Batch {
			add(b.tokens[r*width:(r+1)*width], b.spans[2*r], b.spans[2*r+1])
		}
		p.rows, p.width = b.shape.Batch, width-1
	}
	if !supervised || p.count == len(all) {
		p.targets, p.counts = all, counts
		return p
	}
	for i, c := range counts {
		if c == 1 {
			p.places = append(p.places, int32(i))
		}
	}
	// Since a compiled function is traced for every number of them, they are
	// filled up to a multiple of an eighth of all positions.
	unit := 1
	if rounded {
		unit = max(1, len(all)/8)
	}
	for len(p.places) == 0 || len(p.places)%unit != 0 && len(p.places) < len(all) {
		p.places = append(p.places, 0)
	}
	for i, place := range p.places {
		p.targets = append(p.targets, all[place])
		p.counts = append(p.counts, min(1, int32(max(0, p.count-i))))
	}
	return p
}

func (p positions) layout() string { return fmt.Sprint(p.rows, p.width, p.lengths) }

// settle has arrays computed. A device that works beside this one computes them
// while the next are put together, and those before them are waited for: further
// ahead, all pieces that are begun would have their memory at once, which for the
// parts of a loss is more than all else.
func (b *blockwise) settle(s *mlxbind.Scope, arrays ...mlxbind.Array) {
	if !b.ahead() {
		s.Fail(s.Eval(arrays...))
		return
	}
	s.AsyncEval(arrays...)
	if !b.begun.IsNone() {
		s.Fail(s.Eval(b.begun))
	}
	if len(arrays) > 0 {
		b.begun = arrays[0]
	}
}

// ahead reports whether a device computes while this one puts the next piece together.
func (b *blockwise) ahead() bool { return b.l.options.async && b.watched == nil }

// turnTo forgets functions of other layouts where they cost nothing to make
// again. Compiled ones stay: they are few, since layouts are.
func (b *blockwise) turnTo(p positions) {
	layout := p.layout()
	if b.l.options.compile {
		b.graphs[fmt.Sprint(layout, len(p.targets))] = true
	} else if layout != b.layout {
		b.forget()
	}
	b.layout = layout
}

// done is called after a step. Rows of several lengths never come together
// again, and constants of their functions would sway what is counted as active.
func (b *blockwise) done(p positions) {
	if !b.l.options.compile && len(p.lengths) > 0 && slices.Min(p.lengths) != slices.Max(p.lengths) {
		b.forget()
		b.layout = ""
	}
}

func (b *blockwise) forget() {
	for _, t := range b.tapes {
		t.Free(b.l.s)
	}
	for _, j := range b.joints {
		j.Free(b.l.s)
	}
	clear(b.tapes)
	clear(b.joints)
	b.watched.forget()
}

// passed is a block after its forward pass.
type passed struct {
	block    decoder.Block
	t        *tape.Tape
	in, kept []mlxbind.Array
}

// keep is what a block keeps.
func (b *blockwise) keep(block int) tape.Keep {
	o := b.l.options
	if o.checkpoint && block%max(o.checkpointNth, 1) == 0 {
		return tape.Nothing
	}
	return o.keep
}

// run is one step up to the gradients of all adapters with respect to the mean
// loss, or the sum of losses; or with no gradients wanted, up to the loss alone.
func (b *blockwise) run(c *mlxbind.Scope, p positions, keys []mlxbind.Array, learns bool) (sum mlxbind.Array, gradients []mlxbind.Array) {
	b.turnTo(p)
	b.begun = mlxbind.Array{}
	m, s := b.l.model, b.l.s
	tokens := c.Int32s(p.inputs, p.rows, p.width)
	b.watched.embedding(c, tokens)
	h := m.Embed(c, tokens)
	b.settle(c, h)
	b.watched.embedded()
	done := make([]passed, len(b.blocks))
	for i := range b.blocks {
		block, dense := b.unpack(c, i, p.rows*p.width, profile.Forward)
		first, end := m.AdaptersOf(i)
		in := slices.Concat([]mlxbind.Array{h}, block.Frozen, b.l.adapters[first:end])
		if len(keys) > 0 {
			in = append(in, keys[first/2:end/2]...)
		}
		var wrt []int
		if learns && i >= b.first {
			if i > b.first {
				wrt = append(wrt, 0)
			}
			for k := range end - first {
				wrt = append(wrt, 1+len(block.Frozen)+k)
			}
		}
		o := tape.Options{Keep: b.keep(i), Compiled: b.l.options.compile, Open: b.watched != nil}
		for k := 1; k <= len(block.Frozen)+end-first; k++ {
			o.Parameters = append(o.Parameters, k)
		}
		name := fmt.Sprint(b.layout, block.Form, len(wrt), len(keys), o.Keep)
		t, ok := b.tapes[name]
		if !ok {
			var err error
			if t, err = tape.New(s, block.Func(p.lengths), in, wrt, []mlxbind.Array{h}, o); err != nil {
				c.Fail(fmt.Errorf("block %d: %w", i, err))
				return
			}
			b.tapes[name] = t
			b.watched.traced(i)
		}
		d := passed{block: block, t: t, in: in}
		b.watched.forward(c, i, d)
		out, kept := t.Run(c, in...)
		if len(out) != 1 {
			return
		}
		b.settle(c, append(out, kept...)...)
		c.Free(dense...)
		if !learns || !t.Reads(0) {
			c.Free(h)
		}
		h = out[0]
		b.watched.done()
		d.kept = kept
		done[i] = d
	}
	sum, hat := b.loss(c, p, h, learns)
	c.Free(h)
	if !learns {
		return sum, nil
	}
	gradients = make([]mlxbind.Array, len(b.l.adapters))
	for i := len(b.blocks) - 1; i >= b.first; i-- {
		d := done[i]
		block, dense := b.unpack(c, i, p.rows*p.width, profile.Backward)
		copy(d.in[1:], block.Frozen)
		b.watched.backward(c, i, d, hat)
		out := d.t.Back(c, d.in, d.kept, []mlxbind.Array{hat})
		b.settle(c, out...)
		c.Free(d.kept...)
		c.Free(dense...)
		c.Free(hat)
		if d.t.Reads(0) {
			c.Free(d.in[0])
		}
		b.watched.done()
		if i > b.first {
			if len(out) == 0 {
				return
			}
			hat, out = out[0], out[1:]
		}
		first, _ := m.AdaptersOf(i)
		copy(gradients[first:], out)
	}
	return sum, gradients
}

// unpack makes a block's packed matrices dense for one of its passes. Where that is
// waited for, what it takes to make one is gone before the next is made.
func (b *blockwise) unpack(c *mlxbind.Scope, i, positions int, phase string) (block decoder.Block, dense []mlxbind.Array) {
	block, dense = b.blocks[i].Unpacked(c, positions)
	if b.ahead() {
		return block, dense
	}
	for _, a := range dense {
		b.settle(c, a)
		b.watched.unpacked(phase, blockName(i), block.Names[slices.Index(block.Frozen, a)])
	}
	return block, dense
}

// loss is the sum of losses, and the gradient with respect to the last hidden
// states of their mean, or of their sum when it is divided later.
func (b *blockwise) loss(c *mlxbind.Scope, p positions, h mlxbind.Array, learns bool) (sum, hat mlxbind.Array) {
	s := b.l.s
	shape := c.Shape(h)
	if len(shape) != 3 {
		return
	}
	states := c.Reshape(h, -1, shape[2])
	var picked passed
	if p.places != nil {
		picked.in = []mlxbind.Array{h, c.Int32s(p.places, len(p.places))}
		if picked.t = b.picker(c, picked.in); picked.t == nil {
			return
		}
		b.watched.picking(c, picked)
		out, _ := picked.t.Run(c, picked.in...)
		if len(out) != 1 {
			return
		}
		states = out[0]
		b.watched.picked(c, states)
	}
	one := c.Scalar(1, mlxbind.Float32)
	weight := one
	if !b.l.bySum() {
		weight = c.Div(one, c.Scalar(float64(p.count), mlxbind.Float32))
	}
	targets, counts := c.Int32s(p.targets, len(p.targets)), c.AsType(c.Int32s(p.counts, len(p.counts)), mlxbind.Bool)
	var hats []mlxbind.Array
	sum = c.Scalar(0, mlxbind.Float32)
	parts, head := chunks(len(p.targets), b.l.options.chunk), b.head
	if head = head.Unpacked(c, parts[0][1]-parts[0][0]); head.Frozen[1] != b.head.Frozen[1] {
		b.settle(c, head.Frozen[1])
		b.watched.unpacked(profile.Loss, profile.Head, head.Names[1])
	}
	for _, part := range parts {
		in := slices.Concat([]mlxbind.Array{c.Slice(states, 0, part[0], part[1])}, head.Frozen,
			[]mlxbind.Array{c.Slice(targets, 0, part[0], part[1]), c.Slice(counts, 0, part[0], part[1])})
		var wrt []int
		var cotangents []mlxbind.Array
		if learns {
			wrt, cotangents = []int{0}, []mlxbind.Array{weight}
		}
		name := fmt.Sprint(b.layout, "head", part[1]-part[0], len(parts) > 1, learns)
		j, ok := b.joints[name]
		if !ok {
			var err error
			if j, err = tape.NewJoint(s, b.scored(head), in, wrt, cotangents,
				tape.Options{Compiled: b.l.options.compile, Open: b.watched != nil}); err != nil {
				c.Fail(fmt.Errorf("head: %w", err))
				return
			}
			b.joints[name] = j
			b.watched.tracedHead()
		}
		b.watched.scoring(c, j, head, in, cotangents)
		out := j.Call(c, in, cotangents)
		if len(out) == 0 {
			return
		}
		sum = c.Add(sum, out[0])
		hats = append(hats, out[1:]...)
		b.settle(c, append(slices.Clone(out[1:]), sum)...)
		b.watched.scored()
	}
	if !learns {
		return sum, hat
	}
	hat = hats[0]
	if len(parts) > 1 {
		hat = c.Concatenate(0, hats...)
	}
	if head.Frozen[1] != b.head.Frozen[1] {
		c.Free(head.Frozen[1])
	}
	if p.places == nil {
		hat = c.Reshape(hat, shape...)
	} else {
		b.watched.putting(c, picked, hat)
		if out := picked.t.Back(c, picked.in, nil, []mlxbind.Array{hat}); len(out) == 1 {
			hat = out[0]
		}
	}
	b.settle(c, hat)
	c.Free(hats...)
	b.watched.scored()
	return sum, hat
}

// picker takes the hidden states of some places out of all.
func (b *blockwise) picker(c *mlxbind.Scope, in []mlxbind.Array) *tape.Tape {
	shape := c.Shape(in[0])
	rows := c.Shape(in[1])
	if c.Err() != nil {
		return nil
	}
	name := fmt.Sprint(b.layout, "places", rows)
	t, ok := b.tapes[name]
	if !ok {
		var err error
		t, err = tape.New(b.l.s, func(s *mlxbind.Scope, in []mlxbind.Array) []mlxbind.Array {
			return []mlxbind.Array{s.Take(s.Reshape(in[0], -1, shape[2]), in[1], 0)}
		}, in, []int{0}, []mlxbind.Array{c.Zeros(c.DTypeOf(in[0]), rows[0], shape[2])}, tape.Options{Keep: tape.Nothing, Open: b.watched != nil})
		if err != nil {
			c.Fail(fmt.Errorf("places: %w", err))
			return nil
		}
		b.tapes[name] = t
	}
	return t
}

// scored is the sum of losses of positions: its inputs are their hidden states,
// the head's arrays, targets and which of them count.
func (b *blockwise) scored(head decoder.Head) mlxbind.Func {
	return func(s *mlxbind.Scope, in []mlxbind.Array) []mlxbind.Array {
		n := len(in)
		logits := head.Logits(s, in[:n-2])
		losses := s.Mul(b.l.crossEntropy(s, logits, in[n-2]), in[n-1])
		return []mlxbind.Array{s.SumAll(s.AsType(losses, mlxbind.Float32))}
	}
}

// chunks are the ends of parts of n positions, none larger than most and of at
// most two sizes.
func chunks(n, most int) [][2]int {
	if most <= 0 || n <= most {
		return [][2]int{{0, n}}
	}
	count := (n + most - 1) / most
	size := (n + count - 1) / count
	var out [][2]int
	for from := 0; from < n; from += size {
		out = append(out, [2]int{from, min(from+size, n)})
	}
	return out
}

// step is learner.step by blocks.
func (b *blockwise) step(in batch, update bool) (r stepResult, err error) {
	l := b.l
	p := in.positions(l.options.supervised, l.options.compile)
	defer b.done(p)
	err = l.s.Child(func(c *mlxbind.Scope) error {
		rate := l.schedule.At(c, l.updates)
		key := l.key
		var keys []mlxbind.Array
		if l.model.HasDropout() {
			keys, key = l.model.DropoutKeys(c, key)
		}
		sum, gradients := b.run(c, p, keys, true)
		if err := c.Err(); err != nil {
			return err
		}
		v := variant{len(l.waiting) > 0, update}
		args := slices.Concat(gradients, l.waiting, l.adapters, l.state, []mlxbind.Array{rate, c.Scalar(float64(p.count), mlxbind.Int32)})
		b.watched.updating(c, v, args)
		var rest []mlxbind.Array
		if b.l.options.compile {
			f, ok := b.ends[v]
			if !ok {
				f = l.s.Compile(b.end(v), false)
				b.ends[v] = f
			}
			rest = f.Call(c, args...)
		} else {
			rest = c.Build(b.end(v), args...)
		}
		if err := c.Err(); err != nil {
			return err
		}
		if err := c.Eval(append(slices.Clone(rest), sum, key, rate)...); err != nil {
			return err
		}
		b.watched.updated()
		if r.loss, err = c.Item(sum); err != nil {
			return err
		}
		r.loss /= float64(p.count)
		r.supervised = int64(p.count)
		return l.take(c, rate, key, rest, update)
	})
	return r, err
}

// end is what follows the gradients.
func (b *blockwise) end(v variant) mlxbind.Func {
	l := b.l
	n, slots := len(l.adapters), len(l.state)
	return func(s *mlxbind.Scope, in []mlxbind.Array) []mlxbind.Array {
		gradients, in := in[:n], in[n:]
		var waiting []mlxbind.Array
		if v.continues {
			waiting, in = in[:n+1], in[n+1:]
		}
		return l.conclude(s, v, in[n+slots], in[n+slots+1], gradients, waiting, in[:n], in[n:n+slots])
	}
}

// evaluateAll is learner.evaluate by blocks.
func (b *blockwise) evaluateAll(batches []batch, more func() bool) (e evaluation, ok bool, err error) {
	var total float64
	tokens := 0
	for _, in := range batches {
		if !more() {
			return evaluation{}, false, nil
		}
		p := in.positions(b.l.options.supervised, b.l.options.compile)
		err := b.l.s.Child(func(c *mlxbind.Scope) error {
			sum, _ := b.run(c, p, nil, false)
			if err := c.Err(); err != nil {
				return err
			}
			v, err := c.Item(sum)
			total += v
			if len(batches) <= trainer.MaxEvalBatches && p.count > 0 {
				e.losses, e.tokens = append(e.losses, trainer.Float(v/float64(p.count))), append(e.tokens, p.count)
			}
			return err
		})
		if err != nil {
			return evaluation{}, false, fmt.Errorf("evaluate: %w", err)
		}
		b.done(p)
		tokens += p.count
	}
	e.loss = total / float64(tokens)
	return e, true, nil
}

// traces is for how many batches of different form functions were compiled.
func (b *blockwise) traces() int { return len(b.graphs) }
