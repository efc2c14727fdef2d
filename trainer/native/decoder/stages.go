package decoder

import (
	"fmt"
	"slices"
	"strings"

	"github.com/mlxdyno/mlxdyno/mlxbind"
)

// A model is also a row of stages: the embedding, one block after the other, and
// the head. Their functions take all arrays as inputs, so that blocks of one form
// share one function, and a trainer decides what happens between them.

// Blocks is the number of blocks.
func (m *Model) Blocks() int { return len(m.layers) }

// FirstAdapted is the first block that has adapters, or Blocks.
func (m *Model) FirstAdapted() int {
	i := slices.IndexFunc(m.layers, func(l *layer) bool { return l.adapters > 0 })
	if i < 0 {
		return len(m.layers)
	}
	return i
}

// AdaptersOf says which arrays of m.Adapters are those of a block: those from
// first up to end.
func (m *Model) AdaptersOf(block int) (first, end int) {
	l := m.layers[block]
	return 2 * l.firstAdapter, 2 * (l.firstAdapter + l.adapters)
}

// Embed is the embedding of tokens: of shape (batch, positions, hidden).
func (m *Model) Embed(s *mlxbind.Scope, tokens mlxbind.Array) mlxbind.Array {
	return m.embedding(s, tokens)
}

// Block is one block as a function. Its inputs are hidden states, the block's
// frozen arrays, those of its adapters and their keys of dropout.
type Block struct {
	Form   string // equal for blocks whose functions are equal, up to shapes
	Frozen []mlxbind.Array
	Names  []string // of the frozen arrays inside the block

	m *Model
	l *layer
}

// Block returns block i.
func (m *Model) Block(i int) Block { return m.blockOf(m.layers[i]) }

func (m *Model) blockOf(l *layer) Block {
	b := Block{m: m, l: l}
	var form strings.Builder
	fmt.Fprintf(&form, "sliding %t rope %d", m.Spec.Sliding[l.index], m.Spec.ropeOf[l.index])
	(&layer{}).copyOf(l, func(name string, a mlxbind.Array) mlxbind.Array {
		b.Frozen, b.Names = append(b.Frozen, a), append(b.Names, name)
		form.WriteString(" " + name)
		return a
	})
	for _, lin := range l.linears() {
		fmt.Fprintf(&form, " %d/%d", lin.packed.Bits, lin.packed.Group)
		if _, adapted := m.lora[lin.name]; adapted {
			form.WriteString("+")
		}
	}
	b.Form = form.String()
	return b
}

// Func is the block as a function of its inputs. rows are the lengths of rows
// that lie end to end in hidden states of shape (1, positions, hidden); none are
// needed for hidden states of shape (rows, positions, hidden).
func (b Block) Func(rows []int) mlxbind.Func {
	return func(s *mlxbind.Scope, in []mlxbind.Array) []mlxbind.Array {
		h, rest := in[0], in[1:]
		var l layer
		l.copyOf(b.l, func(string, mlxbind.Array) mlxbind.Array {
			a := rest[0]
			rest = rest[1:]
			return a
		})
		arrays := 2 * b.l.adapters
		p := params{first: b.l.firstAdapter, arrays: rest[:arrays], keys: rest[arrays:]}
		if arrays == 0 {
			p.arrays = nil
		}
		full, sliding := b.m.seen(s, s.Shape(h), rows)
		if b.m.Spec.Sliding[l.index] {
			full = sliding
		}
		return []mlxbind.Array{b.m.block(s, &l, h, p, full, nil)}
	}
}

// Unpacked is a block with dense matrices in the place of packed ones, and those, where
// products with so many positions are computed so.
func (b Block) Unpacked(s *mlxbind.Scope, positions int) (dense Block, made []mlxbind.Array) {
	if !b.m.Forms.dense(positions) || !slices.ContainsFunc(b.l.linears(), (*linear).isPacked) {
		return b, nil
	}
	l := *b.l
	for _, at := range l.places() {
		if *at.at != nil && (*at.at).isPacked() {
			*at.at = (*at.at).dense(s, b.m)
			made = append(made, (*at.at).weight)
		}
	}
	return b.m.blockOf(&l), made
}

// dense is l with a dense matrix. No other handle keeps that in memory.
func (l *linear) dense(s *mlxbind.Scope, m *Model) *linear {
	as := s.Dequantize(l.packed)
	d := &linear{name: l.name, weight: s.AsType(as, s.DTypeOf(m.norm)), bias: l.bias, in: l.in, out: l.out}
	s.Free(as)
	return d
}

// copyOf makes l a copy of from with other arrays in the place of its frozen ones.
func (l *layer) copyOf(from *layer, replace func(name string, a mlxbind.Array) mlxbind.Array) {
	*l = *from
	swap := func(name string, a *mlxbind.Array) {
		if !a.IsNone() {
			*a = replace(name, *a)
		}
	}
	for _, place := range l.places() {
		if *place.at != nil {
			*place.at = (*place.at).copyOf(place.name, swap)
		}
	}
	swap("input_layernorm", &l.inputNorm)
	swap("post_attention_layernorm", &l.postAttentionNorm)
	swap("pre_feedforward_layernorm", &l.preFeedForward)
	swap("post_feedforward_layernorm", &l.postFeedForward)
	swap("self_attn.q_norm", &l.queryNorm)
	swap("self_attn.k_norm", &l.keyNorm)
}

func (l *linear) copyOf(name string, swap func(string, *mlxbind.Array)) *linear {
	c := *l
	swap(name+".weight", &c.weight)
	swap(name+".weight", &c.packed.Weight)
	swap(name+".scales", &c.packed.Scales)
	swap(name+".biases", &c.packed.Biases)
	swap(name+".bias", &c.bias)
	return &c
}

// Head is everything after the last block as a function: its inputs are hidden
// states of shape (positions, hidden) and the frozen arrays of the head, its
// result scores of shape (positions, vocabulary).
type Head struct {
	Frozen []mlxbind.Array
	Names  []string // of the frozen arrays

	m   *Model
	out *linear
}

// Head returns the model's head.
func (m *Model) Head() Head {
	out := m.output()
	h := Head{m: m, out: out}
	h.take()
	return h
}

// take lists the frozen arrays.
func (h *Head) take() {
	h.Frozen, h.Names = []mlxbind.Array{h.m.norm}, []string{"norm"}
	name := h.out.name
	if name == "" {
		name = "embed_tokens"
	}
	h.out.copyOf(name, func(name string, a *mlxbind.Array) {
		if !a.IsNone() {
			h.Frozen, h.Names = append(h.Frozen, *a), append(h.Names, name)
		}
	})
}

// Unpacked is a head with a dense matrix in the place of a packed one, where
// products with so many positions are computed so.
func (h Head) Unpacked(s *mlxbind.Scope, positions int) Head {
	if !h.out.isPacked() || !h.m.Forms.dense(positions) {
		return h
	}
	unpacked := Head{m: h.m, out: h.out.dense(s, h.m)}
	unpacked.take()
	return unpacked
}

// Logits are scores.
func (h Head) Logits(s *mlxbind.Scope, in []mlxbind.Array) mlxbind.Array {
	states, norm, rest := in[0], in[1], in[2:]
	out := h.out.copyOf("", func(_ string, a *mlxbind.Array) {
		if !a.IsNone() {
			*a, rest = rest[0], rest[1:]
		}
	})
	return h.m.scores(s, out, s.RMSNorm(states, norm, h.m.Spec.Eps))
}
