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
func (m *Model) Block(i int) Block {
	l := m.layers[i]
	b := Block{m: m, l: l}
	var form strings.Builder
	fmt.Fprintf(&form, "sliding %t rope %d", m.Spec.Sliding[i], m.Spec.ropeOf[i])
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

// copyOf makes l a copy of from with other arrays in the place of its frozen ones.
func (l *layer) copyOf(from *layer, replace func(name string, a mlxbind.Array) mlxbind.Array) {
	*l = *from
	swap := func(name string, a *mlxbind.Array) {
		if !a.IsNone() {
			*a = replace(name, *a)
		}
	}
	for _, place := range []struct {
		name string
		at   **linear
	}{{"self_attn.qkv_proj", &l.qkv}, {"self_attn.q_proj", &l.q}, {"self_attn.k_proj", &l.k}, {"self_attn.v_proj", &l.v}, {"self_attn.o_proj", &l.o},
		{"mlp.gate_up_proj", &l.gateUp}, {"mlp.gate_proj", &l.gate}, {"mlp.up_proj", &l.up}, {"mlp.down_proj", &l.down}} {
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
	c.taped = true
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
// products are computed so: made once for several calls.
func (h Head) Unpacked(s *mlxbind.Scope) Head {
	if !h.out.isPacked() || !h.m.Forms.Dequantize {
		return h
	}
	dense := &linear{name: h.out.name, weight: s.AsType(s.Dequantize(h.out.packed), s.DTypeOf(h.m.norm)), bias: h.out.bias, in: h.out.in, out: h.out.out}
	unpacked := Head{m: h.m, out: dense}
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
