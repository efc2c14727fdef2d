package decoder

import "fmt"

// linearMap is a linear map of every block, as config.json has it.
type linearMap struct {
	name    string // inside the block
	in, out int
	bias    bool
}

// linearMaps are those of a block in the order in which mlx-lm's classes define
// them.
func (p *Spec) linearMaps() []linearMap {
	query, kv := p.Heads*p.HeadDim, p.KVHeads*p.HeadDim
	var all []linearMap
	if p.FusedQKV {
		all = append(all, linearMap{"self_attn.qkv_proj", p.Hidden, query + 2*kv, p.QKVBias})
	} else {
		all = append(all, linearMap{"self_attn.q_proj", p.Hidden, query, p.QKVBias},
			linearMap{"self_attn.k_proj", p.Hidden, kv, p.QKVBias}, linearMap{"self_attn.v_proj", p.Hidden, kv, p.QKVBias})
	}
	all = append(all, linearMap{"self_attn.o_proj", query, p.Hidden, p.OBias})
	down := linearMap{"mlp.down_proj", p.Intermediate, p.Hidden, p.MLPBias}
	if p.FusedGateUp {
		return append(all, linearMap{"mlp.gate_up_proj", p.Hidden, 2 * p.Intermediate, p.MLPBias}, down)
	}
	return append(all, linearMap{"mlp.gate_proj", p.Hidden, p.Intermediate, p.MLPBias}, down,
		linearMap{"mlp.up_proj", p.Hidden, p.Intermediate, p.MLPBias})
}

// place is where a layer keeps a linear map.
type place struct {
	name string
	at   **linear
}

// places are those of all linear maps that a family may have.
func (l *layer) places() []place {
	return []place{{"self_attn.qkv_proj", &l.qkv}, {"self_attn.q_proj", &l.q}, {"self_attn.k_proj", &l.k}, {"self_attn.v_proj", &l.v}, {"self_attn.o_proj", &l.o},
		{"mlp.gate_up_proj", &l.gateUp}, {"mlp.gate_proj", &l.gate}, {"mlp.up_proj", &l.up}, {"mlp.down_proj", &l.down}}
}

// place is where a layer keeps the linear map of that name.
func (l *layer) place(name string) **linear {
	for _, p := range l.places() {
		if p.name == name {
			return p.at
		}
	}
	return nil
}

func blockName(i int) string { return fmt.Sprintf("model.layers.%d.", i) }
