package native

import (
	"fmt"
	"math"
	"testing"

	"github.com/mlxdyno/mlxdyno/mlxbind"
	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/demo"
	"github.com/mlxdyno/mlxdyno/trainer/native/profile"
	"github.com/mlxdyno/mlxdyno/trainer/native/tape"
)

// packed lays the rows of a batch end to end.
func packed(b batch) batch {
	out := batch{spans: b.spans, shape: b.shape}
	for r := range b.shape.Batch {
		n := int(b.spans[2*r+1])
		out.tokens = append(out.tokens, b.tokens[r*b.shape.Width:][:n]...)
		out.shape.Packed += max(n-1, 0)
	}
	return out
}

// Steps by blocks have the loss and the gradients of steps as a whole, whatever
// they keep, in parts or not, padded or packed, on every family.
func TestBlocksComputeTheSame(t *testing.T) {
	for name, shape := range shapes {
		for _, bits := range []int{0, 4} {
			t.Run(fmt.Sprintf("%s/%d bits", name, bits), func(t *testing.T) {
				shape := shape
				shape.Bits = bits
				dir := modelOf(t, shape)
				b := rowsOf(65, 3, 65, 41, 41, 9, 1)
				learn(t, func(s *mlxbind.Scope) error {
					for _, layers := range []int{-1, 2} {
						q := plainQuality()
						q.Layers = layers
						want, told := learnerOf(t, s, dir, q, learnerOptions{accumulation: 1}).change(t, b)
						for form, o := range map[string]learnerOptions{
							"results":     {keep: tape.Results},
							"every third": {checkpoint: true, checkpointNth: 3},
							"async":       {async: true, chunk: 50, keep: tape.Products},
							"fast":        {supervised: true, chunk: chunkRowsLow, keep: tape.Costly},
						} {
							if layers != -1 && form != "fast" || bits != 0 && form == "async" {
								continue
							}
							o.accumulation, o.blocks = 1, true
							for _, in := range []batch{b, packed(b)} {
								l := learnerOf(t, s, dir, q, o)
								if form == "fast" { // all that a CPU does by default
									l.model.Forms = forms(trainer.Plan{}, "cpu", false)
								}
								got, now := l.change(t, in)
								if d := apart(got, want); !(d < 1e-5) {
									t.Errorf("%s, %d blocks, %+v: gradients differ by %.2g of their length", form, layers, in.shape, d)
								}
								if now[0].supervised != told[0].supervised || !(math.Abs(now[0].loss/told[0].loss-1) < 1e-6) {
									t.Errorf("%s, %d blocks, %+v: loss %v instead of %v", form, layers, in.shape, now[0], told[0])
								}
							}
						}
					}
					return nil
				})
			})
		}
	}
}

// A burst stands for a packed batch with rows of one length. It must need as much
// memory as rows of different lengths do, which are attended to one by one.
func TestEvenRowsNeedTheMemoryOfOthers(t *testing.T) {
	dir := modelOf(t, plain)
	learn(t, func(s *mlxbind.Scope) error {
		peak := func(lengths ...int) float64 {
			o := learnerOptions{accumulation: 1, blocks: true, keep: tape.Costly, supervised: true}
			l := learnerOf(t, s, dir, plainQuality(), o)
			l.model.Forms = forms(trainer.Plan{}, "cpu", false)
			b := packed(rowsOf(702, 1, lengths...))
			s.ResetPeak()
			if _, err := l.step(b, true); err != nil {
				t.Fatal(err)
			}
			return float64(s.Memory().Peak)
		}
		even, others := peak(700, 700, 700, 700), peak(698, 701, 699, 702)
		if d := even/others - 1; !(math.Abs(d) < 0.03) {
			t.Errorf("peak %.0f, and %.0f of rows that differ: %.1f %%", even, others, 100*d)
		}
		return nil
	})
}

// wordy is a model whose memory goes into its vocabulary.
var wordy = demo.Shape{Hidden: 128, Intermediate: 192, Layers: 2, Heads: 4, KVHeads: 2, Vocab: 16384}

// The dense matrices of packed ones are there while they are used, and no longer: that
// of the head while the loss is computed, those of a block in one of its passes.
func TestDenseMatricesGo(t *testing.T) {
	shape := wordy
	shape.Bits = 4
	dir := modelOf(t, shape)
	learn(t, func(s *mlxbind.Scope) error {
		l := learnerOf(t, s, dir, plainQuality(), learnerOptions{accumulation: 1, blocks: true, keep: tape.Products})
		l.model.Forms = forms(trainer.Plan{}, "cpu", false)
		b := newBlockwise(l)
		p := rowsOf(25, 1, 25).positions(false, false)
		return s.Child(func(c *mlxbind.Scope) error {
			h := c.Zeros(mlxbind.Float32, 1, 24, shape.Hidden)
			if err := c.Eval(h); err != nil {
				return err
			}
			before := c.Memory().Active
			b.loss(c, p, h, true)
			if more := c.Memory().Active - before; more > int64(shape.Vocab*shape.Hidden) { // a quarter of it
				t.Errorf("a loss leaves %.1f MB behind", float64(more)/1e6)
			}
			for i := range b.blocks {
				before := c.Memory().Active
				_, dense := b.unpack(c, i, 24, profile.Forward)
				if made := c.Memory().Active - before; len(dense) != 7 || made < int64(3*4*shape.Hidden*shape.Intermediate) {
					t.Errorf("block %d: %d matrices, %d bytes", i, len(dense), made)
				}
				c.Free(dense...)
				if left := c.Memory().Active - before; left > 0 {
					t.Errorf("block %d leaves %d bytes behind", i, left)
				}
			}
			return c.Err()
		})
	})
}

// On a device that works beside this one, a piece is waited for when the next one is
// begun. (That it is not waited for before would be a question of time.)
func TestNoMoreThanTwoPiecesAreInFlight(t *testing.T) {
	learn(t, func(s *mlxbind.Scope) error {
		b := &blockwise{l: &learner{options: learnerOptions{async: true}}}
		return s.Child(func(c *mlxbind.Scope) error {
			piece := func(from mlxbind.Array) mlxbind.Array {
				for range 20 { // far longer than the calls around it
					from = c.MatMul(from, from)
				}
				return from
			}
			before := piece(c.Full(1e-4, mlxbind.Float32, 1000, 1000))
			b.settle(c, before)
			for range 3 {
				next := piece(before)
				b.settle(c, next)
				if !c.IsComputed(before) {
					t.Error("a piece was not waited for when the next one was begun")
				}
				before = next
			}
			return c.Eval(before)
		})
	})
}
