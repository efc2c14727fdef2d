package mlxbind

import (
	"math"
	"slices"
	"testing"
)

func TestKeysArePythons(t *testing.T) {
	var want struct {
		Key, Next, Use         []uint32
		Uniform, Normal, Brain []float32
		Bernoulli, Categorical []uint32
	}
	python(t, `
k = mx.random.key(2**40 + 9)
a, b = mx.random.split(k)
logits = mx.array([[0.0, 1.0, 2.0]] * 50)
out = {
    "key": k.tolist(), "next": a.tolist(), "use": b.tolist(),
    "uniform": mx.random.uniform(-2, 3, (7,), key=b).tolist(),
    "normal": mx.random.normal((7,), loc=1, scale=2, key=b).tolist(),
    "brain": mx.random.normal((7,), dtype=mx.bfloat16, key=b).astype(mx.float32).tolist(),
    "bernoulli": mx.random.bernoulli(0.3, (50,), key=b).astype(mx.uint32).tolist(),
    "categorical": mx.random.categorical(logits, key=b).tolist(),
}`, &want)
	do(t, func(s *Scope) error {
		k := s.RandomKey(1<<40 + 9)
		a, b := s.SplitKey(k)
		logits := s.BroadcastTo(s.Float32s([]float32{0, 1, 2}, 3), 50, 3)
		for name, pair := range map[string]struct {
			a    Array
			want []uint32
		}{
			"key": {k, want.Key}, "next": {a, want.Next}, "use": {b, want.Use},
			"bernoulli": {s.Bernoulli(b, 0.3, 50), want.Bernoulli}, "categorical": {s.Categorical(b, logits, -1), want.Categorical},
		} {
			if got, err := s.ReadUint32s(pair.a); err != nil || len(got) == 0 || !slices.Equal(got, pair.want) {
				t.Errorf("%s: %v instead of %v, %v", name, got, pair.want, err)
			}
		}
		for name, pair := range map[string]struct {
			a    Array
			want []float32
		}{
			"uniform": {s.Uniform(b, -2, 3, Float32, 7), want.Uniform},
			"normal":  {s.Normal(b, 1, 2, Float32, 7), want.Normal},
			"brain":   {s.Normal(b, 0, 1, BFloat16, 7), want.Brain},
		} {
			if got, err := s.ReadFloat32s(pair.a); err != nil || len(got) == 0 || !slices.Equal(got, pair.want) {
				t.Errorf("%s: %v instead of %v, %v", name, got, pair.want, err)
			}
		}
		return s.Err()
	})
}

func TestRandomNumbersAreWhatTheyClaim(t *testing.T) {
	const n = 20_000
	do(t, func(s *Scope) error {
		k, _ := s.SplitKey(s.RandomKey(1))
		values := func(a Array) []float32 {
			v, err := s.ReadFloat32s(a)
			if err != nil || len(v) != n {
				t.Fatalf("%d values, %v", len(v), err)
			}
			return v
		}
		moments := func(v []float32) (mean, deviation float64) {
			for _, x := range v {
				mean += float64(x) / n
			}
			for _, x := range v {
				deviation += (float64(x) - mean) * (float64(x) - mean) / n
			}
			return mean, math.Sqrt(deviation)
		}
		near := func(name string, got, want float64) {
			if math.Abs(got-want) > 0.05 {
				t.Errorf("%s: %v instead of %v", name, got, want)
			}
		}
		u := values(s.Uniform(k, 2, 5, Float32, n))
		if lo, hi := slices.Min(u), slices.Max(u); lo < 2 || hi >= 5 || lo > 2.01 || hi < 4.99 {
			t.Errorf("uniform from %v to %v", lo, hi)
		}
		mean, _ := moments(u)
		near("mean of uniform", mean, 3.5)
		mean, deviation := moments(values(s.Normal(k, -1, 2, Float32, n)))
		near("mean of normal", mean, -1)
		near("deviation of normal", deviation, 2)
		mean, _ = moments(values(s.Bernoulli(k, 0.2, n)))
		near("bernoulli", mean, 0.2)
		drawn := values(s.Categorical(k, s.BroadcastTo(s.Log(s.Float32s([]float32{1, 3}, 2)), n, 2), 1))
		mean, _ = moments(drawn)
		near("categorical", mean, 0.75)

		if !slices.Equal(u, values(s.Uniform(k, 2, 5, Float32, n))) {
			t.Error("one key gives other numbers the second time")
		}
		_, other := s.SplitKey(k)
		if slices.Equal(u, values(s.Uniform(other, 2, 5, Float32, n))) {
			t.Error("another key gives the same numbers")
		}
		return nil
	})
}
