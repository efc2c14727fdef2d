package model

import (
	"fmt"
	"slices"
	"strings"
)

// markPacked finds the weights that MLX packed into U32 words, and sets how.
//
// A row of P words and S scales has 32·P/bits elements and also group·S, so
// bits·group is known but not which of, say, 8·32 and 4·64 it is. config.json
// says it for single modules and for all others. mlx-lm distrusts the latter
// and takes what gives the module its width. So does this: what goes into a
// module has the width of the model or comes out of another module.
func markPacked(tensors map[string]Tensor, c *config) error {
	widths := map[int]bool{c.hidden: true, c.inter: true, c.heads * c.headDim: true}
	for name, t := range tensors {
		if strings.HasSuffix(name, ".weight") && len(t.Shape) >= 2 {
			widths[t.Shape[len(t.Shape)-2]] = true
		}
	}
	for name, t := range tensors {
		base, ok := strings.CutSuffix(name, ".weight")
		if !ok || t.DType != "U32" || len(t.Shape) < 2 {
			continue
		}
		scales, ok := tensors[base+".scales"]
		if !ok || len(scales.Shape) != len(t.Shape) {
			continue
		}
		words, groups := t.Shape[len(t.Shape)-1], scales.Shape[len(scales.Shape)-1]
		p, ok := c.packingOf(base, words, groups, widths)
		if !ok {
			return &Error{Code: CodeQuantization, Text: fmt.Sprintf("packs %s in rows of %d words with %d scales, which fits no bits and group size of MLX", base, words, groups),
				Hint: "convert the model again with mlx_lm.convert"}
		}
		t.Bits, t.GroupSize = p.bits, p.group
		tensors[name] = t
	}
	return nil
}

func (c *config) packingOf(module string, words, groups int, widths map[int]bool) (packing, bool) {
	var candidates []packing
	if c.quant != nil {
		stated := c.quant.packing
		if p, ok := c.quant.modules[module]; ok && p.fits(words, groups) {
			return p, true
		}
		candidates = append(candidates, stated)
		for _, bits := range packingBits {
			candidates = append(candidates, packing{bits, stated.group})
		}
		for _, group := range packingGroups {
			candidates = append(candidates, packing{stated.bits, group})
		}
	}
	for _, group := range packingGroups {
		for _, bits := range packingBits {
			candidates = append(candidates, packing{bits, group})
		}
	}
	candidates = slices.DeleteFunc(candidates, func(p packing) bool { return !p.fits(words, groups) })
	if len(candidates) == 0 {
		return packing{}, false
	}
	for _, p := range candidates {
		if widths[p.group*groups] {
			return p, true
		}
	}
	return candidates[0], true
}

// What MLX packs with, the usual first.
var (
	packingBits   = []int{4, 8, 6, 5, 3, 2}
	packingGroups = []int{64, 32, 128, 16}
)

// fits reports whether rows of so many words and scales can be packed like p.
func (p packing) fits(words, groups int) bool {
	return slices.Contains(packingBits, p.bits) && slices.Contains(packingGroups, p.group) &&
		words > 0 && int64(words)*32 == int64(p.bits)*int64(p.group)*int64(groups)
}

// quantOf sums up how the model is quantized, or returns nil.
func quantOf(c *config, tensors []Tensor, modules []Module, scalesDType string) *Quant {
	share := map[packing]int64{}
	var most packing
	for _, t := range tensors {
		if t.Bits > 0 {
			p := packing{t.Bits, t.GroupSize}
			share[p] += t.Bytes
			if share[p] > share[most] || most == (packing{}) {
				most = p
			}
		}
	}
	if len(share) == 0 {
		if c.nonMLX == "" {
			return nil
		}
		return &Quant{Bits: c.quant.bits, GroupSize: c.quant.group, Mode: c.nonMLX}
	}

	out := &Quant{Bits: most.bits, GroupSize: most.group, Mode: "affine", Mixed: len(share) > 1}
	switch {
	case c.quant != nil && c.quant.mode != "":
		out.Mode = c.quant.mode
	case scalesDType == "U8" && most == packing{4, 16}:
		out.Mode = "nvfp4"
	case scalesDType == "U8" && most == packing{4, 32}:
		out.Mode = "mxfp4"
	case scalesDType == "U8" && most == packing{8, 32}:
		out.Mode = "mxfp8"
	}
	for _, m := range modules {
		out.Mixed = out.Mixed || m.Bits == 0
	}
	return out
}
