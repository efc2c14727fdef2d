package model

import (
	"fmt"
	"strings"
)

// markPacked finds the weights that MLX packed into U32 words, and sets how.
//
// config.json says it for the whole model and for single modules, but mlx-lm
// trusts the shapes where the two disagree, and so does this: a row of P words
// and S scales has 32·P/bits elements and group·S elements, which must agree.
func markPacked(tensors map[string]Tensor, q *quantConfig) error {
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
		p, ok := q.packingOf(base, words, groups)
		if !ok {
			return &Error{Code: CodeQuantization, Text: fmt.Sprintf("packs %s in rows of %d words with %d scales, which fits no bits and group size of MLX", base, words, groups),
				Hint: "convert the model again with mlx_lm.convert"}
		}
		t.Bits, t.GroupSize = p.bits, p.group
		tensors[name] = t
	}
	return nil
}

func (q *quantConfig) packingOf(module string, words, groups int) (packing, bool) {
	fits := func(p packing) bool {
		elements := int64(words) * 32
		return p.bits > 0 && p.group > 0 && words > 0 && elements%int64(p.bits) == 0 && elements/int64(p.bits) == int64(p.group)*int64(groups)
	}
	var preferred packing
	if q != nil {
		if p, ok := q.modules[module]; ok && fits(p) {
			return p, true
		}
		preferred = q.packing
	}
	if validPacking(preferred) && fits(preferred) {
		return preferred, true
	}
	var found packing
	for _, group := range []int{64, 32, 128, 16} {
		for _, bits := range []int{4, 8, 6, 5, 3, 2} {
			p := packing{bits, group}
			if !fits(p) {
				continue
			}
			if group == preferred.group || bits == preferred.bits {
				return p, true
			}
			if found == (packing{}) {
				found = p
			}
		}
	}
	return found, found != (packing{})
}

func validPacking(p packing) bool {
	return p.bits >= 1 && p.bits <= 8 && p.group >= 1 && p.group <= 1024
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
