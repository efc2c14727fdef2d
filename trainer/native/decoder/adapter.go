package decoder

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/mlxdyno/mlxdyno/mlxbind"
)

// Adapter is the low-rank path of one linear map: y + scale · (x·A)·B with A of
// shape (in, rank) and B of shape (rank, out).
type Adapter struct {
	Module  string // as in the files, without ".weight"
	In, Out int
}

// LoRA says which linear maps get adapters.
type LoRA struct {
	Rank    int
	Scale   float64
	Dropout float64
	Layers  int      // the last so many; less than 1 means all
	Modules []string // suffixes inside a block, such as self_attn.q_proj; none means all
	Seed    uint64
}

// MisfitError is a LoRA for which a model has no place.
type MisfitError struct {
	What string // layers or modules
	Text string
}

func (e *MisfitError) Error() string { return e.Text }

// AddAdapters puts adapters on the model and returns their first values, A and B
// of each in the order of m.Adapters, and the key of random numbers that follows.
//
// As in mlx-lm, A is uniform in ±1/√in and B zero, both float32, and everything
// is drawn from one seed in the order in which mlx-lm walks over a model: blocks
// upward, and within one from the last linear map to the first. There each
// adapter also draws weights for a linear map that it throws away, which uses up
// one key.
func (m *Model) AddAdapters(s *mlxbind.Scope, o LoRA) (values []mlxbind.Array, key mlxbind.Array, err error) {
	if o.Layers > m.Spec.Layers {
		return nil, key, &MisfitError{"layers", fmt.Sprintf("adapters on %d blocks are asked for, but the model has %d", o.Layers, m.Spec.Layers)}
	}
	if err := m.knows(o.Modules); err != nil {
		return nil, key, err
	}
	m.scale, m.dropout = o.Scale, o.Dropout
	first := 0
	if o.Layers > 0 {
		first = m.Spec.Layers - o.Layers
	}
	key = s.RandomKey(o.Seed)
	for _, l := range m.layers[first:] {
		l.firstAdapter = len(m.Adapters)
		for _, lin := range slices.Backward(l.linears()) {
			if len(o.Modules) > 0 && !slices.Contains(o.Modules, Within(lin.name)) {
				continue
			}
			var use mlxbind.Array
			key, _ = s.SplitKey(key)
			key, use = s.SplitKey(key)
			bound := 1 / math.Sqrt(float64(lin.in))
			values = append(values, s.Uniform(use, -bound, bound, mlxbind.Float32, lin.in, o.Rank), s.Zeros(mlxbind.Float32, o.Rank, lin.out))
			m.adapt(Adapter{lin.name, lin.in, lin.out})
		}
		l.adapters = len(m.Adapters) - l.firstAdapter
	}
	return values, key, s.Eval(append(slices.Clone(values), key)...)
}

// adapt gives a linear map the next adapter.
func (m *Model) adapt(a Adapter) {
	m.lora[a.Module] = len(m.Adapters)
	m.Adapters = append(m.Adapters, a)
}

// Within is a module's name inside its block.
func Within(name string) string {
	parts := strings.SplitN(name, ".", 4) // model.layers.N.rest
	return parts[len(parts)-1]
}

// knows checks that every block has the named modules.
func (m *Model) knows(modules []string) error {
	var have []string
	for _, lin := range m.layers[0].linears() {
		have = append(have, Within(lin.name))
	}
	for _, name := range modules {
		if !slices.Contains(have, name) {
			slices.Sort(have)
			return &MisfitError{"modules", fmt.Sprintf("blocks have no module %s; they have %s", name, strings.Join(have, ", "))}
		}
	}
	return nil
}

// AdapterNames are the names of adapter arrays as mlx-lm's files have them, in
// the order of their arrays.
func (m *Model) AdapterNames() []string {
	var names []string
	for _, a := range m.Adapters {
		names = append(names, a.Module+".lora_a", a.Module+".lora_b")
	}
	return names
}

// params are the adapter arrays of one stretch of layers: those of m.Adapters
// from first on.
type params struct {
	first  int // index of the first adapter
	arrays []mlxbind.Array
	keys   []mlxbind.Array // of dropout, one an adapter; none when there is none
}

// all is every adapter's arrays.
func all(arrays, keys []mlxbind.Array) params { return params{0, arrays, keys} }

// of returns the arrays of adapter i.
func (p params) of(i int) (a, b, key mlxbind.Array) {
	a, b = p.arrays[2*(i-p.first)], p.arrays[2*(i-p.first)+1]
	if len(p.keys) > 0 {
		key = p.keys[i-p.first]
	}
	return a, b, key
}

// part is the arrays of one layer's adapters.
func (p params) part(l *layer) params {
	from := l.firstAdapter - p.first
	out := params{first: l.firstAdapter, arrays: p.arrays[2*from : 2*(from+l.adapters)]}
	if len(p.keys) > 0 {
		out.keys = p.keys[from : from+l.adapters]
	}
	return out
}

// HasDropout reports whether training needs random numbers.
func (m *Model) HasDropout() bool { return m.dropout > 0 }

// DropoutKeys derives the keys of one step, one an adapter, in the order in
// which the forward pass draws them, and the key that follows: the order of
// MLX's own generator, which draws as it goes.
func (m *Model) DropoutKeys(s *mlxbind.Scope, key mlxbind.Array) (keys []mlxbind.Array, next mlxbind.Array) {
	keys = make([]mlxbind.Array, len(m.Adapters))
	for _, l := range m.layers {
		for _, lin := range l.inOrderOfUse() {
			if i, ok := m.lora[lin.name]; ok {
				key, keys[i] = s.SplitKey(key)
			}
		}
	}
	return keys, key
}

func (l *layer) inOrderOfUse() []*linear {
	return slices.DeleteFunc([]*linear{l.qkv, l.q, l.k, l.v, l.o, l.gateUp, l.gate, l.up, l.down}, func(m *linear) bool { return m == nil })
}
