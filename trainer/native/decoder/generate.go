package decoder

import (
	"fmt"
	"slices"

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

// clone is a keyValues that can be extended while c stays as it is.
func (c *keyValues) clone() *keyValues {
	return &keyValues{c.positions, slices.Clone(c.keys), slices.Clone(c.values)}
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
	var key mlxbind.Array
	if o.Temperature > 0 {
		key = s.RandomKey(o.Seed)
	}
	held := func() []mlxbind.Array { // from one token to the next
		return slices.DeleteFunc(slices.Concat(cache.keys, cache.values, []mlxbind.Array{key}), mlxbind.Array.IsNone)
	}
	defer func() { s.Free(held()...) }()
	var out []int32
	for next := prompt; len(out) < n; {
		var token int32
		err := s.Child(func(c *mlxbind.Scope) error {
			longer, following := cache.clone(), key
			logits := m.Logits(c, c.Int32s(next, 1, len(next)), adapters, Pass{cache: longer})
			last := c.Slice(logits, 1, len(next)-1, len(next))
			var choice mlxbind.Array
			if o.Temperature > 0 {
				var use mlxbind.Array
				following, use = c.SplitKey(key)
				choice = c.Categorical(use, c.DivN(c.AsType(last, mlxbind.Float32), o.Temperature), -1)
			} else {
				choice = c.ArgMax(last, -1, false)
			}
			got, err := c.ReadInt32s(choice)
			if err != nil {
				return err
			}
			old := held()
			longer.positions += len(next)
			cache, key, token = longer, following, got[0]
			if err := c.Keep(held()...); err != nil {
				return err
			}
			c.Free(old...)
			return c.Err()
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
