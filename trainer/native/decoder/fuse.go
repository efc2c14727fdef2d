package decoder

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mlxdyno/mlxdyno/mlxbind"
	"github.com/mlxdyno/mlxdyno/probe/model"
)

// Fusion asks for a model with an adapter merged into its weights.
type Fusion struct {
	Adapter    string // directory of the adapter
	To         string // directory of the new model: not there yet, or empty
	Dequantize bool   // leave nothing quantized
	ShardBytes int64  // at which another file of weights begins; 0 is 5 GiB, mlx-lm's
}

// Fused is a model that Fuse wrote.
type Fused struct {
	Path    string   `json:"path"`
	Modules int      `json:"modules"` // that the adapter changed
	Files   []string `json:"files"`   // of weights
	Bytes   int64    `json:"bytes"`   // of weights
	DType   string   `json:"dtype"`   // of changed weights before they are quantized again
	Bits    int      `json:"bits,omitempty"`
	Notes   []string `json:"notes,omitempty"`
}

const shardBytes = 5 << 30

// Fuse merges an adapter into a model and writes the result as a model of its
// own: W + (scale·Bᵀ)·Aᵀ in the type of W, as mlx-lm does it. A quantized matrix
// is unpacked, merged, and packed again as it was, which rounds; with Dequantize
// it stays unpacked. Weights pass through memory one file of the result at a time.
//
// The directory appears complete and durable, or not at all: what is written
// until then lies beside it, under Making.
func Fuse(s *mlxbind.Scope, f *model.Facts, spec *Spec, o Fusion) (out Fused, err error) {
	c, err := ReadAdapterConfig(o.Adapter)
	if err != nil {
		return Fused{}, err
	}
	x := &fusing{Fusion: o, facts: f, spec: spec, adapter: c}
	var shards [][]string
	err = s.Child(func(c *mlxbind.Scope) error {
		shards, err = x.plan(c)
		return err
	})
	if err != nil {
		return Fused{}, fmt.Errorf("fuse: %w", err)
	}
	err = publishModel(o.To, func(dir string) error {
		for i, names := range shards {
			file := "model.safetensors"
			if len(shards) > 1 {
				file = fmt.Sprintf("model-%05d-of-%05d.safetensors", i+1, len(shards))
			}
			if err := s.Child(func(c *mlxbind.Scope) error { return x.write(c, filepath.Join(dir, file), names) }); err != nil {
				return err
			}
			s.ClearCache()
			x.done.Files = append(x.done.Files, file)
			for _, name := range names {
				x.index.Weights[name] = file
			}
		}
		return x.writeRest(dir)
	})
	if err != nil {
		return Fused{}, fmt.Errorf("fuse: %w", err)
	}
	x.done.Path = o.To
	return x.done, s.Err()
}

// fusing is a Fusion under way.
type fusing struct {
	Fusion
	facts   *model.Facts
	spec    *Spec
	adapter AdapterConfig
	index   index
	done    Fused
}

// plan says which tensors go into which file, in the order of the model's own
// files, and fills in what is known beforehand.
func (x *fusing) plan(s *mlxbind.Scope) (shards [][]string, err error) {
	all, order, err := x.tensors(s)
	if err != nil {
		return nil, err
	}
	limit, size := x.ShardBytes, int64(0)
	if limit <= 0 {
		limit = shardBytes
	}
	for _, name := range order {
		n := int64(s.Info(all[name]).Bytes)
		if len(shards) == 0 || size+n > limit {
			shards, size = append(shards, nil), 0
		}
		last := &shards[len(shards)-1]
		*last, size = append(*last, name), size+n
		x.done.Bytes += n
	}
	x.index.Weights = map[string]string{}
	x.index.Metadata.Size = x.done.Bytes
	if q := x.adapter.QuantizedAtLoad; q.Bits > 0 && x.facts.Quant == nil {
		x.done.Notes = append(x.done.Notes, fmt.Sprintf("the adapter was trained on the model quantized to %d bits; it is merged into the weights as they are stored", q.Bits))
	}
	if q := x.facts.Quant; q != nil && !x.Dequantize {
		x.done.Bits = q.Bits
		x.done.Notes = append(x.done.Notes, fmt.Sprintf("merged weights are rounded to %d bits again, which loses some of what the adapter learned; --dequantize keeps it", q.Bits))
	}
	return shards, s.Err()
}

// write computes one file of weights. The graph is made in a Scope that is gone
// when it is computed, so that of a tensor only the result stays.
func (x *fusing) write(s *mlxbind.Scope, path string, names []string) error {
	arrays := s.Build(func(s *mlxbind.Scope, _ []mlxbind.Array) []mlxbind.Array {
		all, _, err := x.tensors(s)
		s.Fail(err)
		out := make([]mlxbind.Array, len(names))
		for i, name := range names {
			out[i] = all[name]
		}
		return out
	})
	if err := s.Err(); err != nil {
		return err
	}
	shard := make(map[string]mlxbind.Array, len(names))
	for i, name := range names {
		shard[name] = arrays[i]
	}
	return saveArrays(s, path, shard)
}

// tensors are all tensors of the new model, none of them computed, and their
// names in order.
func (x *fusing) tensors(s *mlxbind.Scope) (all map[string]mlxbind.Array, order []string, err error) {
	all = map[string]mlxbind.Array{}
	for _, file := range x.facts.Files {
		tensors, err := s.LoadSafetensors(filepath.Join(x.facts.Path, file.Name))
		if err != nil {
			return nil, nil, err
		}
		for _, name := range slices.Sorted(maps.Keys(tensors)) {
			if _, twice := all[name]; !twice && !x.spec.ignores(name) {
				order = append(order, name)
				all[name] = tensors[name]
			}
		}
	}
	m := &Model{Spec: x.spec, Facts: x.facts, lora: map[string]int{}}
	if err := m.assemble(s, maps.Clone(all)); err != nil {
		return nil, nil, err
	}
	pairs, err := x.spec.readPairs(s, x.adapter, x.Adapter)
	if err != nil {
		return nil, nil, err
	}
	changed := map[string]bool{}
	for _, p := range pairs {
		_, inside, _ := strings.Cut(p.Module, blockName(p.block))
		l := *m.layers[p.block].place(inside)
		w := merge(s, l.plain(s), p, x.adapter.Scale)
		x.done.DType = s.DTypeOf(w).String()
		changed[l.name] = true
		x.replace(s, all, l, w)
	}
	if x.Dequantize {
		for _, l := range m.matrices() {
			if l.isPacked() && !changed[l.name] {
				x.replace(s, all, l, l.plain(s))
			}
		}
	}
	x.done.Modules = len(pairs)
	x.index.Metadata.Parameters = m.Parameters(s)
	order = slices.DeleteFunc(order, func(name string) bool { _, ok := all[name]; return !ok })
	return all, order, s.Err()
}

// replace puts a matrix in the place of another one, packed like that.
func (x *fusing) replace(s *mlxbind.Scope, all map[string]mlxbind.Array, l *linear, w mlxbind.Array) {
	switch {
	case !l.isPacked():
		all[l.name+".weight"] = w
	case x.Dequantize:
		all[l.name+".weight"] = w
		delete(all, l.name+".scales")
		delete(all, l.name+".biases")
	default:
		p := s.Quantize(w, l.packed.Group, l.packed.Bits)
		all[l.name+".weight"], all[l.name+".scales"], all[l.name+".biases"] = p.Weight, p.Scales, p.Biases
	}
}

// merge is the matrix with its adapter, in the order of operations of mlx-lm.
func merge(s *mlxbind.Scope, w mlxbind.Array, p pair, scale float64) mlxbind.Array {
	delta := s.MatMul(s.MulN(s.Transpose(p.b), scale), s.Transpose(p.a))
	return s.Add(w, s.AsType(delta, s.DTypeOf(w)))
}

// plain is the matrix, unpacked.
func (l *linear) plain(s *mlxbind.Scope) mlxbind.Array {
	if l.isPacked() {
		return s.Dequantize(l.packed)
	}
	return l.weight
}

// matrices are all linear maps, embedding and head included.
func (m *Model) matrices() []*linear {
	all := []*linear{&m.embed}
	if m.head != nil {
		all = append(all, m.head)
	}
	for _, l := range m.layers {
		all = append(all, l.linears()...)
	}
	return all
}

// checkFree refuses a directory that holds something.
func checkFree(dir string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case os.IsNotExist(err):
		return nil
	case err != nil:
		return err
	case len(entries) > 0:
		return &TakenError{dir}
	}
	return nil
}
