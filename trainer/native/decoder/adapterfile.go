package decoder

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mlxdyno/mlxdyno/mlxbind"
)

// Files of an adapter, in mlx-lm's layout.
const (
	adapterConfigFile = "adapter_config.json"
	adaptersFile      = "adapters.safetensors"
)

// AdapterError is an adapter that does not belong to the model.
type AdapterError struct{ Reason string }

func (e *AdapterError) Error() string {
	return "adapter and model do not belong together: " + e.Reason
}

func mismatched(format string, args ...any) error {
	return &AdapterError{fmt.Sprintf(format, args...)}
}

// AdapterConfig is adapter_config.json. Without Modules all linear maps of the
// blocks may have adapters; a module may also be named in full.
type AdapterConfig struct {
	LoRA
	QuantizedAtLoad Quantize // the base while the adapter was trained
}

// ReadAdapterConfig reads the configuration of the adapter in dir, mlx-lm's or
// ours. An adapter of another kind is *Unsupported.
func ReadAdapterConfig(dir string) (AdapterConfig, error) {
	raw, err := os.ReadFile(filepath.Join(dir, adapterConfigFile))
	if err != nil {
		return AdapterConfig{}, fmt.Errorf("read adapter: %w", err)
	}
	c, err := parseAdapterConfig(raw)
	if err != nil {
		return AdapterConfig{}, fmt.Errorf("read adapter %s: %w", dir, err)
	}
	return c, nil
}

func parseAdapterConfig(raw []byte) (AdapterConfig, error) {
	var file struct {
		Type   *string `json:"fine_tune_type"`
		PEFT   *string `json:"peft_type"`
		Layers *int    `json:"num_layers"`
		LoRA   *struct {
			Rank    *int     `json:"rank"`
			Scale   *float64 `json:"scale"`
			Alpha   *float64 `json:"alpha"`
			Dropout float64  `json:"dropout"`
			Keys    []string `json:"keys"`
		} `json:"lora_parameters"`
		Quantized *struct {
			Bits  int `json:"bits"`
			Group int `json:"group_size"`
		} `json:"quantized_at_load"`
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		return AdapterConfig{}, mismatched("%s is not one: %v", adapterConfigFile, err)
	}
	switch kind := or(file.Type, "lora"); {
	case file.PEFT != nil:
		return AdapterConfig{}, unsupported("adapters in the layout of PEFT")
	case kind != "lora":
		return AdapterConfig{}, unsupported("adapters of the type %q", kind)
	case file.Layers == nil:
		return AdapterConfig{}, mismatched("%s has no num_layers", adapterConfigFile)
	case file.LoRA == nil:
		return AdapterConfig{}, mismatched("%s has no lora_parameters", adapterConfigFile)
	}
	p := file.LoRA
	switch {
	case p.Rank == nil || *p.Rank < 1:
		return AdapterConfig{}, mismatched("%s has no positive rank", adapterConfigFile)
	case p.Scale == nil && p.Alpha != nil:
		return AdapterConfig{}, mismatched("%s has alpha where mlx-lm has scale, which is alpha / rank", adapterConfigFile)
	case p.Scale == nil:
		return AdapterConfig{}, mismatched("%s has no scale", adapterConfigFile)
	case p.Dropout < 0 || p.Dropout >= 1:
		return AdapterConfig{}, mismatched("%s has a dropout of %v", adapterConfigFile, p.Dropout)
	}
	c := AdapterConfig{LoRA: LoRA{Rank: *p.Rank, Scale: *p.Scale, Dropout: p.Dropout, Layers: max(*file.Layers, 0), Modules: p.Keys}}
	if q := file.Quantized; q != nil {
		c.QuantizedAtLoad = Quantize{q.Bits, q.Group}
	}
	return c, nil
}

// takes reports whether a module of a block may have an adapter, as mlx-lm
// decides it: the last blocks by the name inside, every one by the full name.
func (c AdapterConfig) takes(p *Spec, block int, inside string) bool {
	if slices.Contains(c.Modules, blockName(block)+inside) {
		return true
	}
	last := c.Layers == 0 || block >= p.Layers-c.Layers
	return last && (len(c.Modules) == 0 || slices.Contains(c.Modules, inside))
}

// pair is one adapter of a file.
type pair struct {
	Adapter
	block int
	a, b  mlxbind.Array
}

// readPairs opens the adapters in dir, not yet computed, by block and within one
// from the last linear map to the first.
//
// A module without adapter in the file has none: mlx-lm gives it one whose B is
// zero, which computes the same. Older versions of it write such files, since
// adapters on queries and values were the default then.
func (p *Spec) readPairs(s *mlxbind.Scope, c AdapterConfig, dir string) ([]pair, error) {
	path := filepath.Join(dir, adaptersFile)
	if err := checkWhole(path); err != nil {
		return nil, fmt.Errorf("read adapter %s: %w", dir, err)
	}
	arrays, err := s.LoadSafetensors(path)
	if err != nil {
		return nil, fmt.Errorf("read adapter: %w", err)
	}
	var all []pair
	for block := range p.Layers {
		for _, l := range slices.Backward(p.linearMaps()) {
			name := blockName(block) + l.name
			a, hasA := arrays[name+".lora_a"]
			b, hasB := arrays[name+".lora_b"]
			if !hasA && !hasB || !c.takes(p, block, l.name) {
				continue
			}
			if !hasA || !hasB {
				return nil, mismatched("of the adapter of %s one half is missing", name)
			}
			delete(arrays, name+".lora_a")
			delete(arrays, name+".lora_b")
			for _, half := range []struct {
				name  string
				array mlxbind.Array
				want  []int
			}{{"lora_a", a, []int{l.in, c.Rank}}, {"lora_b", b, []int{c.Rank, l.out}}} {
				switch info := s.Info(half.array); {
				case !slices.Equal(info.Shape, half.want):
					return nil, mismatched("%s.%s has the shape %v instead of %v", name, half.name, info.Shape, half.want)
				case !info.DType.IsFloat():
					return nil, mismatched("%s.%s has the type %v", name, half.name, info.DType)
				}
			}
			all = append(all, pair{Adapter{name, l.in, l.out}, block, a, b})
		}
	}
	if len(arrays) > 0 {
		return nil, p.stranger(c, arrays)
	}
	if len(all) == 0 {
		return nil, mismatched("%s is empty", adaptersFile)
	}
	return all, s.Err()
}

// stranger says why the first of what is left of an adapter's file has no place.
func (p *Spec) stranger(c AdapterConfig, arrays map[string]mlxbind.Array) error {
	name := ""
	for n := range arrays {
		if name == "" || n < name {
			name = n
		}
	}
	module, part := name, ""
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		module, part = name[:i], name[i+1:]
	}
	switch {
	case part == "m":
		return unsupported("adapters of DoRA, as %s is", name)
	case part != "lora_a" && part != "lora_b":
		return mismatched("%s is no array of an adapter", name)
	case module == "lm_head" || module == "model.embed_tokens":
		return unsupported("adapters on %s", module)
	}
	for block := range p.Layers {
		for _, l := range p.linearMaps() {
			if blockName(block)+l.name == module {
				return mismatched("%s holds %s, which num_layers and keys of %s leave out", adaptersFile, module, adapterConfigFile)
			}
		}
	}
	return mismatched("the model has no linear module %s", module)
}

// LoadAdapter puts the adapter in dir on the model, whether mlx-lm or this
// program wrote it, and returns its arrays in the order of m.Adapters. They
// belong to s. What does not belong to the model is an *AdapterError, what
// nobody here computes *Unsupported.
func LoadAdapter(s *mlxbind.Scope, m *Model, dir string) ([]mlxbind.Array, error) {
	if len(m.Adapters) > 0 {
		return nil, fmt.Errorf("load adapter: the model has one already")
	}
	c, err := ReadAdapterConfig(dir)
	if err != nil {
		return nil, err
	}
	var pairs []pair
	var values []mlxbind.Array
	err = s.Child(func(child *mlxbind.Scope) error {
		if pairs, err = m.Spec.readPairs(child, c, dir); err != nil {
			return err
		}
		for _, p := range pairs {
			values = append(values, p.a, p.b)
		}
		return child.Keep(values...)
	})
	if err != nil {
		return nil, err
	}
	m.scale, m.dropout = c.Scale, c.Dropout
	for _, p := range pairs {
		l := m.layers[p.block]
		if l.adapters == 0 {
			l.firstAdapter = len(m.Adapters)
		}
		l.adapters++
		m.adapt(p.Adapter)
	}
	return values, nil
}
