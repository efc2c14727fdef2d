package decoder

import (
	"fmt"

	"github.com/mlxdyno/mlxdyno/mlxbind"
)

// keyValues are the keys and values of positions that are done, by layer. A nil
// one remembers nothing.
type keyValues struct {
	positions    int
	keys, values []mlxbind.Array
}

func (c *keyValues) length() int {
	if c == nil {
		return 0
	}
	return c.positions
}

// extend adds those of new positions of a layer and returns all.
func (c *keyValues) extend(s *mlxbind.Scope, layer int, k, v mlxbind.Array) (keys, values mlxbind.Array) {
	if c == nil {
		return k, v
	}
	if c.positions > 0 {
		k, v = s.Concatenate(2, c.keys[layer], k), s.Concatenate(2, c.values[layer], v)
	}
	c.keys[layer], c.values[layer] = k, v
	return k, v
}

// Sampling chooses the next token from scores.
type Sampling struct {
	Temperature float64 // 0 takes the most likely
	Seed        uint64
}

// Generate continues a prompt by up to n tokens and stops after any of stop.
func (m *Model) Generate(s *mlxbind.Scope, prompt []int32, adapters []mlxbind.Array, n int, o Sampling, stop ...int32) ([]int32, error) {
	if len(prompt) == 0 {
		return nil, fmt.Errorf("generate: the prompt is empty")
	}
	stops := map[int32]bool{}
	for _, t := range stop {
		stops[t] = true
	}
	cache := &keyValues{keys: make([]mlxbind.Array, m.Spec.Layers), values: make([]mlxbind.Array, m.Spec.Layers)}
	defer func() { s.Free(append(cache.keys, cache.values...)...) }()
	key := s.RandomKey(o.Seed)
	var out []int32
	for next := prompt; len(out) < n; {
		var token int32
		err := s.Child(func(c *mlxbind.Scope) error {
			old := append(append([]mlxbind.Array{}, cache.keys...), cache.values...)
			logits := m.Logits(c, c.Int32s(next, 1, len(next)), adapters, Pass{cache: cache})
			last := c.Slice(logits, 1, len(next)-1, len(next))
			var use mlxbind.Array
			choice := c.ArgMax(last, -1, false)
			if o.Temperature > 0 {
				key, use = c.SplitKey(key)
				choice = c.Categorical(use, c.DivN(c.AsType(last, mlxbind.Float32), o.Temperature), -1)
				if err := c.Keep(key); err != nil {
					return err
				}
			}
			if err := c.Keep(append(append([]mlxbind.Array{}, cache.keys...), cache.values...)...); err != nil {
				return err
			}
			got, err := c.ReadInt32s(choice)
			if err != nil {
				return err
			}
			if cache.positions > 0 {
				c.Free(old...)
			}
			cache.positions += len(next)
			token = got[0]
			return nil
		})
		if err != nil {
			return out, fmt.Errorf("generate token %d: %w", len(out)+1, err)
		}
		if stops[token] {
			break
		}
		out = append(out, token)
		next = []int32{token}
	}
	return out, nil
}
