package profile

import (
	"slices"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// book keeps account of what is in memory between pieces, by what growth of
// MLX's count of live bytes each piece left behind.
type book struct {
	base  []trainer.Held // weights, adapters, optimizer
	based int64

	kept      []keep
	loss      int64
	gradients int64
}

// keep is what the forward pass of a block left for its backward pass.
type keep struct {
	block  string
	bytes  int64
	layers []Share // of it, by shape
}

// Share is what a layer has of something.
type Share struct {
	Layer string
	Bytes int64
}

// split is what was kept, by layers, adding up to it.
func (k keep) split() []trainer.Held {
	var sum int64
	for _, s := range k.layers {
		sum += s.Bytes
	}
	var out []trainer.Held
	left := k.bytes
	for _, s := range k.layers {
		bytes := s.Bytes
		if sum > k.bytes {
			bytes = int64(float64(k.bytes) * (float64(bytes) / float64(sum)))
		}
		if bytes > 0 && s.Layer != "" {
			left -= bytes
			out = append(out, trainer.Held{Path: []string{"activations", k.block, s.Layer}, Bytes: bytes, Modelled: true})
		}
	}
	if left > 0 {
		out = append(out, trainer.Held{Path: []string{"activations", k.block}, Bytes: left})
	}
	return out
}

// begin starts a step.
func (b *book) begin() { b.kept, b.loss, b.gradients = nil, 0, 0 }

// turn takes in how much a piece left behind, or took away.
func (b *book) turn(p Place, growth, gradients int64, ops *Operations) {
	switch p[0] {
	case Forward:
		if at := len(b.kept) - 1; at >= 0 && b.kept[at].block == p[1] { // after what was measured before it
			growth += b.kept[at].bytes
			b.kept = b.kept[:at]
		}
		k := keep{block: p[1], bytes: growth}
		if ops != nil {
			k.layers = ops.Kept
		}
		b.kept = append(b.kept, k)
	case Loss:
		b.loss += growth
	case Backward:
		// It frees what its block kept; the hidden states that the embedding
		// made and every block handed on are gone since the loss.
		b.kept = slices.DeleteFunc(b.kept, func(k keep) bool { return k.block == p[1] || k.block == Embedding })
		b.gradients += gradients
	}
}

// at is everything when a piece was at its peak, adding up to it: what is in no
// account is temporary too.
func (b *book) at(p Place, peak, active int64) []trainer.Held {
	out := slices.Clone(b.base)
	left := peak - b.based
	add := func(bytes int64, modelled bool, path ...string) {
		if bytes > 0 {
			out = append(out, trainer.Held{Path: path, Bytes: bytes, Modelled: modelled})
			left -= bytes
		}
	}
	for _, k := range b.kept {
		for _, h := range k.split() {
			add(h.Bytes, h.Modelled, h.Path...)
		}
	}
	add(b.gradients, false, "gradients")
	moment := peak - active
	if p[0] == Loss {
		add(b.loss+moment, false, "loss")
	} else {
		add(b.loss, false, "loss")
		block := ""
		if len(p) > 1 {
			block = p[1]
		}
		if block != "" && moment <= left {
			add(moment, false, "temporary", block)
		}
	}
	if left != 0 {
		out = append(out, trainer.Held{Path: []string{"temporary"}, Bytes: left})
	}
	return balance(out)
}

// balance takes what is less than nothing off the largest other parts.
func balance(all []trainer.Held) []trainer.Held {
	var owed int64
	all = slices.DeleteFunc(all, func(h trainer.Held) bool {
		owed -= min(h.Bytes, 0)
		return h.Bytes < 0
	})
	for owed > 0 && len(all) > 0 {
		most := 0
		for i, h := range all {
			if h.Bytes > all[most].Bytes {
				most = i
			}
		}
		take := min(owed, all[most].Bytes)
		if take == 0 {
			break
		}
		all[most].Bytes -= take
		all[most].Modelled = true
		owed -= take
	}
	return all
}
