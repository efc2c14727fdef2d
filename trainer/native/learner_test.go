package native

import (
	"math"
	"slices"
	"sync"
	"testing"

	"github.com/mlxdyno/mlxdyno/mlxbind"
	"github.com/mlxdyno/mlxdyno/mlxbind/install"
	"github.com/mlxdyno/mlxdyno/probe/model"
	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/native/decoder"
)

// theRuntime is MLX in this process.
var theRuntime = sync.OnceValues(func() (*mlxbind.Runtime, error) {
	home, err := install.Home()
	if err != nil {
		return nil, err
	}
	e, err := install.Find(home)
	if err != nil {
		return nil, err
	}
	return mlxbind.Open(mlxbind.Options{Shim: e.Shim, BLAS: e.BLASLibrary, CPU: true})
})

func learn(t *testing.T, f func(s *mlxbind.Scope) error) {
	t.Helper()
	rt, err := theRuntime()
	if err != nil {
		t.Fatal(err)
	}
	if err := rt.Do(t.Context(), f); err != nil {
		t.Fatal(err)
	}
}

// learnerOf makes a learner for a model whose adapters do something already:
// B begins at zero, where A has no gradient.
func learnerOf(t *testing.T, s *mlxbind.Scope, dir string, q trainer.Quality, o learnerOptions) *learner {
	t.Helper()
	c := trainer.DefaultConfig()
	c.Quality = q
	facts, err := model.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	spec, err := decoder.ReadSpec(facts)
	if err != nil {
		t.Fatal(err)
	}
	m, err := decoder.Load(s, facts, spec, decoder.Quantize{})
	if err != nil {
		t.Fatal(err)
	}
	l, err := newLearner(s, m, c, o)
	if err != nil {
		t.Fatal(err)
	}
	key := s.RandomKey(3)
	for i, a := range l.adapters {
		var use mlxbind.Array
		key, use = s.SplitKey(key)
		l.adapters[i] = s.Uniform(use, -0.1, 0.1, mlxbind.Float32, s.Shape(a)...)
	}
	if err := s.Eval(l.adapters...); err != nil {
		t.Fatal(err)
	}
	return l
}

func plainQuality() trainer.Quality {
	q := trainer.DefaultConfig().Quality
	q.Rank, q.Scale, q.Optimizer, q.LearningRate = 4, 2, "sgd", 1 // so that an update is the gradient
	return q
}

// rowsOf is a batch of rows of the given lengths, padded to width with zeros,
// the first prompt tokens of each not supervised.
func rowsOf(width int, prompt int32, lengths ...int) batch {
	b := batch{shape: trainer.Shape{Batch: len(lengths), Width: width}}
	for _, n := range lengths {
		for i := range width {
			token := int32(0)
			if i < n {
				token = int32(1 + (17*n+7*i*i+i)%300)
			}
			b.tokens = append(b.tokens, token)
		}
		b.spans = append(b.spans, prompt, int32(n))
	}
	return b
}

// values are all adapters' values in a row.
func (l *learner) values(t *testing.T) []float64 {
	t.Helper()
	var out []float64
	for _, a := range l.adapters {
		v, err := l.s.ReadFloat32s(a)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range v {
			out = append(out, float64(x))
		}
	}
	return out
}

// change is what steps on batches, the last of which completes an update, take
// off the adapters, and the losses and tokens that they tell.
func (l *learner) change(t *testing.T, batches ...batch) (gradient []float64, told []stepResult) {
	t.Helper()
	before := l.values(t)
	for i, b := range batches {
		r, err := l.step(b, i == len(batches)-1)
		if err != nil {
			t.Fatal(err)
		}
		told = append(told, r)
	}
	for i, v := range l.values(t) {
		gradient = append(gradient, before[i]-v)
	}
	return gradient, told
}

func norm(v []float64) float64 {
	sum := 0.0
	for _, x := range v {
		sum += x * x
	}
	return math.Sqrt(sum)
}

// apart is the distance of two vectors, in lengths of the second.
func apart(a, b []float64) float64 {
	d := make([]float64, len(a))
	for i := range a {
		d[i] = a[i] - b[i]
	}
	return norm(d) / norm(b)
}

// Without parity, two steps of two rows are one of four: same loss by token,
// same gradient. mlx-lm's mean of means is not.
func TestAccumulationIsOneBigBatch(t *testing.T) {
	dir := modelOf(t, plain)
	big := rowsOf(33, 3, 33, 30, 9, 6)
	first, second := rowsOf(33, 3, 33, 30), rowsOf(33, 3, 9, 6)
	for _, compiled := range []bool{false, true} {
		learn(t, func(s *mlxbind.Scope) error {
			s.EnableCompile(compiled)
			defer s.EnableCompile(false)
			whole := learnerOf(t, s, dir, plainQuality(), learnerOptions{accumulation: 1, compile: compiled})
			want, one := whole.change(t, big)
			parts := learnerOf(t, s, dir, plainQuality(), learnerOptions{accumulation: 2, compile: compiled})
			got, two := parts.change(t, first, second)
			if d := apart(got, want); d > 1e-6 {
				t.Errorf("compiled %v: gradients differ by %.2g of their length", compiled, d)
			}
			if n := two[0].supervised + two[1].supervised; n != one[0].supervised {
				t.Errorf("%d supervised tokens in parts, %d in one", n, one[0].supervised)
			}
			loss := (two[0].loss*float64(two[0].supervised) + two[1].loss*float64(two[1].supervised)) / float64(one[0].supervised)
			if math.Abs(loss-one[0].loss) > 1e-6 {
				t.Errorf("loss %g in parts, %g in one", loss, one[0].loss)
			}
			// The next update goes on from there, with nothing left over.
			want, _ = whole.change(t, big)
			got, _ = parts.change(t, first, second)
			if d := apart(got, want); d > 1e-5 {
				t.Errorf("compiled %v: gradients of the second update differ by %.2g of their length", compiled, d)
			}
			if len(parts.waiting) != 0 || parts.updates != 2 {
				t.Errorf("%d arrays wait after %d updates", len(parts.waiting), parts.updates)
			}
			mean := learnerOf(t, s, dir, plainQuality(), learnerOptions{accumulation: 2, parity: true})
			got, _ = mean.change(t, first, second)
			want, _ = learnerOf(t, s, dir, plainQuality(), learnerOptions{accumulation: 1, parity: true}).change(t, big)
			if d := apart(got, want); d < 0.01 {
				t.Errorf("the mean of means is within %.2g of the mean: this test cannot fail", d)
			}
			return nil
		})
	}
}

// The loss is the mean of log Σ e^logits - logits[target] over the targets from
// the end of the prompt on, worked out here; what follows a row's last token
// counts with parity alone.
func TestLossByArithmetic(t *testing.T) {
	dir := modelOf(t, plain)
	b := rowsOf(33, 3, 33, 30, 9, 6)
	for _, form := range []struct{ parity, supervised, compile bool }{{}, {parity: true}, {supervised: true}, {supervised: true, compile: true}} {
		parity := form.parity
		learn(t, func(s *mlxbind.Scope) error {
			s.EnableCompile(form.compile)
			defer s.EnableCompile(false)
			l := learnerOf(t, s, dir, plainQuality(), learnerOptions{accumulation: 1, parity: parity, supervised: form.supervised, compile: form.compile})
			tokens := s.Int32s(b.tokens, b.shape.Batch, b.shape.Width)
			logits := l.model.Logits(s, s.Slice(tokens, 1, 0, b.shape.Width-1), l.adapters, decoder.Pass{})
			vocab := s.Shape(logits)[2]
			all, err := s.ReadFloat32s(logits)
			if err != nil {
				return err
			}
			sum, count := 0.0, int64(0)
			for row := range b.shape.Batch {
				prompt, length := int(b.spans[2*row]), int(b.spans[2*row+1])
				for target := max(prompt, 1); target < b.shape.Width; target++ {
					if target > length || target == length && !parity {
						break
					}
					at := all[(row*(b.shape.Width-1)+target-1)*vocab:][:vocab]
					top, total := float64(slices.Max(at)), 0.0
					for _, x := range at {
						total += math.Exp(float64(x) - top)
					}
					sum += top + math.Log(total) - float64(at[b.tokens[row*b.shape.Width+target]])
					count++
				}
			}
			_, told := l.change(t, b)
			if told[0].supervised != count || math.Abs(told[0].loss-sum/float64(count)) > 2e-6 {
				t.Errorf("%+v: loss %.8f over %d tokens, by arithmetic %.8f over %d", form, told[0].loss, told[0].supervised, sum/float64(count), count)
			}
			want := int64(30 + 27 + 6 + 3)
			if parity {
				want += 3 // one pad a row that has any
			}
			if count != want {
				t.Errorf("parity %v: %d tokens count, not %d", parity, count, want)
			}
			return nil
		})
	}
}

// Scores where they count give the gradients of scores everywhere.
func TestSupervisedPositionsGiveTheSameGradients(t *testing.T) {
	dir := modelOf(t, plain)
	for _, b := range []batch{rowsOf(33, 3, 33, 30, 9, 6), rowsOf(33, 0, 33, 33), rowsOf(17, 9, 17, 12, 10)} {
		learn(t, func(s *mlxbind.Scope) error {
			want, one := learnerOf(t, s, dir, plainQuality(), learnerOptions{accumulation: 1}).change(t, b)
			for _, rounded := range []bool{false, true} {
				s.EnableCompile(rounded)
				got, two := learnerOf(t, s, dir, plainQuality(), learnerOptions{accumulation: 1, supervised: true, compile: rounded}).change(t, b)
				s.EnableCompile(false)
				if d := apart(got, want); d > 1e-5 {
					t.Errorf("gradients differ by %.2g of their length", d)
				}
				if one[0].supervised != two[0].supervised || math.Abs(one[0].loss/two[0].loss-1) > 1e-6 {
					t.Errorf("loss %v and %v", one[0], two[0])
				}
			}
			return nil
		})
	}
}

// Clipping shortens a gradient that is too long to the limit, over all adapters
// together, and leaves a shorter one alone.
func TestClipping(t *testing.T) {
	dir := modelOf(t, plain)
	batches := []batch{rowsOf(33, 3, 33, 30), rowsOf(33, 3, 9, 6)}
	learn(t, func(s *mlxbind.Scope) error {
		free, _ := learnerOf(t, s, dir, plainQuality(), learnerOptions{accumulation: 2}).change(t, batches...)
		length := norm(free)
		for _, limit := range []float64{length / 10, length / 1.01, length * 1.01} {
			got, _ := learnerOf(t, s, dir, plainQuality(), learnerOptions{accumulation: 2, clip: limit}).change(t, batches...)
			want := slices.Clone(free)
			for i := range want {
				want[i] *= min(1, limit/length)
			}
			if n := norm(got); n > limit*(1+1e-6) || apart(got, want) > 1e-4 {
				t.Errorf("limit %g: a gradient of length %g became %g long, %.2g off", limit, length, n, apart(got, want))
			}
		}
		return nil
	})
}

// A gradient is the slope of the loss: along it, a small step of the adapters
// changes the loss by as much.
func TestGradientIsTheSlope(t *testing.T) {
	dir := modelOf(t, plain)
	b := rowsOf(33, 3, 33, 30, 9, 6)
	learn(t, func(s *mlxbind.Scope) error {
		q := plainQuality()
		gradient, _ := learnerOf(t, s, dir, q, learnerOptions{accumulation: 1}).change(t, b)
		loss := func(rate float64) float64 { // after one step against the gradient
			q.LearningRate = rate
			l := learnerOf(t, s, dir, q, learnerOptions{accumulation: 1})
			l.change(t, b)
			_, told := l.change(t, b)
			return told[0].loss
		}
		n := norm(gradient)
		step := 0.05 / n
		slope := (loss(1e-12) - loss(step/n)) / step
		if ratio := slope / n; ratio < 0.9 || ratio > 1.1 {
			t.Errorf("the loss falls by %g a unit, and the gradient is %g long", slope, n)
		}
		return nil
	})
}

// Computing blocks again in the backward pass changes nothing, under dropout
// neither: the same masks are drawn again.
func TestCheckpointingUnderDropout(t *testing.T) {
	j := job(t, plain, 8)
	j.Config.Quality.Dropout, j.Config.Quality.Optimizer = 0.2, "adamw"
	_, want := finish(t, ours(t), j)
	j.Config.Plan.Checkpointing = true
	_, got := finish(t, ours(t), j)
	if d := difference(t, losses(want), losses(got)); d != 0 {
		t.Errorf("losses differ by %.3g", d)
	}
	j.Config.Quality.Dropout = 0
	_, without := finish(t, ours(t), j)
	if difference(t, losses(want), losses(without)) == 0 {
		t.Error("dropout changes nothing")
	}
}
