package decoder

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mlxdyno/mlxdyno/mlxbind"
	"github.com/mlxdyno/mlxdyno/probe/model"
)

// linear is a frozen linear map: a matrix of shape (out, in), plain or packed.
type linear struct {
	name   string // as in the files, without ".weight"
	weight mlxbind.Array
	packed mlxbind.Packed // when Bits > 0
	bias   mlxbind.Array  // none if there is none
	in     int
	out    int
}

func (l *linear) isPacked() bool { return l.packed.Bits > 0 }

func (l *linear) arrays() []mlxbind.Array {
	return slices.DeleteFunc([]mlxbind.Array{l.weight, l.packed.Weight, l.packed.Scales, l.packed.Biases, l.bias}, mlxbind.Array.IsNone)
}

// layer is one block. Norms that its family lacks are none.
type layer struct {
	index                           int
	qkv, q, k, v, o                 *linear // qkv or q, k and v
	gateUp, gate, up, down          *linear // gateUp or gate and up
	inputNorm, postAttentionNorm    mlxbind.Array
	preFeedForward, postFeedForward mlxbind.Array
	queryNorm, keyNorm              mlxbind.Array
	firstAdapter, adapters          int // of this layer, in Model.Adapters
}

// linears are the layer's linear maps in the order in which mlx-lm's classes
// define them.
func (l *layer) linears() []*linear {
	return slices.DeleteFunc([]*linear{l.qkv, l.q, l.k, l.v, l.o, l.gateUp, l.gate, l.down, l.up}, func(m *linear) bool { return m == nil })
}

// Model is a base, loaded. Its arrays belong to the Scope that loaded it.
type Model struct {
	Spec  *Spec
	Facts *model.Facts
	Forms Forms

	embed  linear
	head   *linear // nil: the embedding
	norm   mlxbind.Array
	layers []*layer
	ropes  []mlxbind.RoPE

	Adapters []Adapter // in the order of their arrays, two each
	lora     map[string]int
	scale    float64
	dropout  float64

	WeightBytes int64
	Linear      int      // linear and embedding modules
	Quantized   int      // of those, packed
	Plain       []string // names of those that quantizing at load left as they were
}

// Quantize asks for packing at load; the zero value keeps weights as stored.
type Quantize struct{ Bits, Group int }

// ErrQuantized: a model that is packed already cannot be packed at load.
var ErrQuantized = errors.New("the model is stored quantized already")

// WeightsError is weights that do not belong to their config.json.
type WeightsError struct{ Reason string }

func (e *WeightsError) Error() string {
	return "weights and config.json do not belong together: " + e.Reason
}

// Load reads a model's weights into s, file by file, and packs those whose width
// the group divides if that is asked for. progress may be nil.
func Load(s *mlxbind.Scope, f *model.Facts, spec *Spec, quantize Quantize) (*Model, error) {
	if quantize.Bits > 0 && f.Quant != nil {
		return nil, ErrQuantized
	}
	m := &Model{Spec: spec, Facts: f, lora: map[string]int{}}
	weights, err := m.read(s, quantize)
	if err != nil {
		return nil, err
	}
	if err := m.assemble(s, weights); err != nil {
		return nil, err
	}
	var all []mlxbind.Array
	for i, form := range spec.ropes {
		r := form.build(s)
		m.ropes = append(m.ropes, r)
		if !r.Frequencies.IsNone() {
			all = append(all, r.Frequencies)
		}
		_ = i
	}
	if spec.NormPlusOne {
		all = append(all, m.raiseNorms(s)...)
	}
	if err := s.Eval(all...); err != nil {
		return nil, fmt.Errorf("load model: %w", err)
	}
	return m, nil
}

// read loads all tensors that the decoder has a place for, packed where asked.
func (m *Model) read(s *mlxbind.Scope, quantize Quantize) (map[string]mlxbind.Array, error) {
	all := map[string]mlxbind.Array{}
	for _, file := range m.Facts.Files {
		err := s.Child(func(c *mlxbind.Scope) error {
			tensors, err := c.LoadSafetensors(filepath.Join(m.Facts.Path, file.Name))
			if err != nil {
				return err
			}
			for name := range tensors {
				if m.Spec.ignores(name) {
					delete(tensors, name)
				}
			}
			for name, a := range tensors {
				if quantize.Bits == 0 {
					if err := c.Keep(a); err != nil {
						return err
					}
					all[name] = a
					continue
				}
				packed, err := m.pack(c, name, a, quantize)
				if err != nil {
					return err
				}
				for name, a := range packed {
					all[name] = a
				}
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("load %s: %w", file.Name, err)
		}
		if quantize.Bits > 0 {
			s.ClearCache()
		}
	}
	return all, s.Err()
}

// pack quantizes one tensor if it is the matrix of a linear map or an embedding.
func (m *Model) pack(c *mlxbind.Scope, name string, a mlxbind.Array, q Quantize) (map[string]mlxbind.Array, error) {
	module, isWeight := strings.CutSuffix(name, ".weight")
	shape := c.Shape(a)
	if !isWeight || len(shape) != 2 || shape[1]%q.Group != 0 {
		if isWeight && len(shape) == 2 {
			m.Plain = append(m.Plain, module)
		}
		return map[string]mlxbind.Array{name: a}, c.Keep(a)
	}
	p := c.Quantize(a, q.Group, q.Bits)
	if err := c.Keep(p.Weight, p.Scales, p.Biases); err != nil {
		return nil, err
	}
	return map[string]mlxbind.Array{name: p.Weight, module + ".scales": p.Scales, module + ".biases": p.Biases}, nil
}

// ignores tells tensors that mlx-lm drops too when it loads.
func (p *Spec) ignores(name string) bool {
	tied := p.Tied && p.Arch != "gemma3_text"
	return strings.Contains(name, "self_attn.rotary_emb.inv_freq") || tied && strings.HasPrefix(name, "lm_head.")
}

// assembly hands out tensors and notes which were missing.
type assembly struct {
	s       *mlxbind.Scope
	m       *Model
	weights map[string]mlxbind.Array
	packing map[string][2]int // bits and group of packed weights by module
	missing []string
	wrong   []string
}

func (m *Model) assemble(s *mlxbind.Scope, weights map[string]mlxbind.Array) error {
	a := &assembly{s: s, m: m, weights: weights, packing: map[string][2]int{}}
	for _, t := range m.Facts.Tensors {
		if t.Bits > 0 {
			a.packing[strings.TrimSuffix(t.Name, ".weight")] = [2]int{t.Bits, t.GroupSize}
		}
	}
	p := m.Spec
	if l := a.linear("model.embed_tokens", p.Hidden, p.Vocab, false); l != nil {
		m.embed = *l
	}
	_, hasHead := weights["lm_head.weight"]
	if p.Arch == "gemma3_text" {
		p.Tied = !hasHead
	}
	if !p.Tied {
		m.head = a.linear("lm_head", p.Hidden, p.Vocab, false)
	}
	m.norm = a.vector("model.norm", p.Hidden)
	for i := range p.Layers {
		m.layers = append(m.layers, a.layer(i))
	}
	for name := range weights {
		a.wrong = append(a.wrong, "there is no place for "+name)
	}
	if err := s.Err(); err != nil {
		return err
	}
	slices.Sort(a.wrong)
	if n := len(a.missing); n > 0 {
		return &WeightsError{fmt.Sprintf("%d tensors are missing, first %s", n, a.missing[0])}
	}
	if n := len(a.wrong); n > 0 {
		return &WeightsError{a.wrong[0]}
	}
	return nil
}

func (a *assembly) layer(i int) *layer {
	p := a.m.Spec
	name := blockName(i)
	l := &layer{index: i}
	for _, lm := range p.linearMaps() {
		*l.place(lm.name) = a.linear(name+lm.name, lm.in, lm.out, lm.bias)
	}
	l.inputNorm = a.vector(name+"input_layernorm", p.Hidden)
	l.postAttentionNorm = a.vector(name+"post_attention_layernorm", p.Hidden)
	if p.PostNorms {
		l.preFeedForward = a.vector(name+"pre_feedforward_layernorm", p.Hidden)
		l.postFeedForward = a.vector(name+"post_feedforward_layernorm", p.Hidden)
	}
	if p.QKNorm {
		l.queryNorm = a.vector(name+"self_attn.q_norm", p.HeadDim)
		l.keyNorm = a.vector(name+"self_attn.k_norm", p.HeadDim)
	}
	return l
}

func (a *assembly) take(name string) mlxbind.Array {
	w, ok := a.weights[name]
	if !ok {
		a.missing = append(a.missing, name)
		return mlxbind.Array{}
	}
	delete(a.weights, name)
	a.m.WeightBytes += int64(a.s.Info(w).Bytes)
	return w
}

// has checks shape and type of what was taken; name is for the words.
func (a *assembly) has(name string, w mlxbind.Array, packed bool, shape ...int) {
	if w.IsNone() {
		return
	}
	switch info := a.s.Info(w); {
	case !slices.Equal(info.Shape, shape):
		a.wrong = append(a.wrong, fmt.Sprintf("%s has the shape %v instead of %v", name, info.Shape, shape))
	case packed != (info.DType == mlxbind.Uint32) || !packed && !info.DType.IsFloat():
		a.wrong = append(a.wrong, fmt.Sprintf("%s has the type %v", name, info.DType))
	}
}

func (a *assembly) vector(name string, size int) mlxbind.Array {
	w := a.take(name + ".weight")
	a.has(name, w, false, size)
	return w
}

func (a *assembly) linear(name string, in, out int, bias bool) *linear {
	l := &linear{name: name, in: in, out: out}
	w := a.take(name + ".weight")
	if w.IsNone() {
		return nil
	}
	a.m.Linear++
	if _, packed := a.weights[name+".scales"]; packed {
		a.m.Quantized++
		l.packed.Weight = w
		l.packed.Scales, l.packed.Biases = a.take(name+".scales"), a.take(name+".biases")
		if p, stored := a.packing[name]; stored {
			l.packed.Bits, l.packed.Group = p[0], p[1]
		} else if shape := a.s.Shape(l.packed.Scales); len(shape) == 2 && shape[1] > 0 && in > 0 {
			l.packed.Group = in / shape[1]
			l.packed.Bits = a.s.Shape(w)[1] * 32 / in
		}
		a.has(name, w, true, out, in*l.packed.Bits/32)
		if l.packed.Group > 0 {
			a.has(name+".scales", l.packed.Scales, false, out, in/l.packed.Group)
			a.has(name+".biases", l.packed.Biases, false, out, in/l.packed.Group)
		}
	} else {
		l.weight = w
		a.has(name, w, false, out, in)
	}
	if bias {
		l.bias = a.take(name + ".bias")
		a.has(name+".bias", l.bias, false, out)
	}
	return l
}

// raiseNorms adds 1 to the weights of all norms, once instead of at every call.
func (m *Model) raiseNorms(s *mlxbind.Scope) []mlxbind.Array {
	var all []mlxbind.Array
	raise := func(w *mlxbind.Array) {
		if !w.IsNone() {
			*w = s.AddN(*w, 1)
			all = append(all, *w)
		}
	}
	raise(&m.norm)
	for _, l := range m.layers {
		for _, w := range []*mlxbind.Array{&l.inputNorm, &l.postAttentionNorm, &l.preFeedForward, &l.postFeedForward, &l.queryNorm, &l.keyNorm} {
			raise(w)
		}
	}
	return all
}

// Arrays are all frozen arrays.
func (m *Model) Arrays() []mlxbind.Array {
	all := slices.Clone(m.embed.arrays())
	if m.head != nil {
		all = append(all, m.head.arrays()...)
	}
	all = append(all, m.norm)
	for _, l := range m.layers {
		for _, lin := range l.linears() {
			all = append(all, lin.arrays()...)
		}
		all = append(all, l.inputNorm, l.postAttentionNorm, l.preFeedForward, l.postFeedForward, l.queryNorm, l.keyNorm)
	}
	return slices.DeleteFunc(all, mlxbind.Array.IsNone)
}

// Parameters is the number of the base's parameters, packed ones counted each.
func (m *Model) Parameters(s *mlxbind.Scope) int64 {
	var n int64
	count := func(l *linear) {
		n += int64(l.in) * int64(l.out)
		if !l.bias.IsNone() {
			n += int64(l.out)
		}
	}
	count(&m.embed)
	if m.head != nil {
		count(m.head)
	}
	n += int64(s.Info(m.norm).Size)
	for _, l := range m.layers {
		for _, lin := range l.linears() {
			count(lin)
		}
		for _, w := range []mlxbind.Array{l.inputNorm, l.postAttentionNorm, l.preFeedForward, l.postFeedForward, l.queryNorm, l.keyNorm} {
			if !w.IsNone() {
				n += int64(s.Info(w).Size)
			}
		}
	}
	return n
}
