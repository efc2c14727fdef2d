package main

import (
	"fmt"

	"github.com/mlxdyno/mlxdyno/trainer/demo"
)

// benchCase is one model with one shape of batch.
type benchCase struct {
	shape  demo.Shape
	batch  int
	length int
	rank   int
}

func (c benchCase) String() string {
	s := fmt.Sprintf("%s %s %d×%d, %d × %d, rank %d", c.shape.Arch, c.shape.DType, c.shape.Hidden, c.shape.Layers, c.batch, c.length, c.rank)
	if c.shape.Bits > 0 {
		s += fmt.Sprintf(", %d bits", c.shape.Bits)
	}
	return s
}

var (
	smallLlama = demo.Shape{Arch: "llama", Hidden: 512, Intermediate: 1408, Layers: 8, Heads: 8, KVHeads: 4, Vocab: 8192, DType: "float32"}
	llama1B    = demo.Shape{Arch: "llama", Hidden: 2048, Intermediate: 8192, Layers: 16, Heads: 32, KVHeads: 8, Vocab: 128256, DType: "bfloat16", Tied: true}
	llama8B    = demo.Shape{Arch: "llama", Hidden: 4096, Intermediate: 14336, Layers: 32, Heads: 32, KVHeads: 8, Vocab: 128256, DType: "bfloat16"}
)

func of(s demo.Shape, dtype string, bits int) demo.Shape {
	s.DType, s.Bits = dtype, bits
	return s
}

// benchSuites are the cases of docs/benchmarks.md. Those that share a model are
// neighbours.
var benchSuites = map[string][]benchCase{
	"fixed": {
		{of(smallLlama, "float32", 0), 2, 64, 8},
		{of(smallLlama, "bfloat16", 0), 2, 64, 8},
		{of(smallLlama, "float32", 8), 2, 64, 8},
		{of(smallLlama, "float32", 4), 2, 64, 8},
	},
	"growth": {
		{smallLlama, 1, 64, 8}, {smallLlama, 4, 64, 8}, {smallLlama, 1, 256, 8}, {smallLlama, 4, 256, 8}, {smallLlama, 2, 64, 64},
	},
	"1b": {
		{llama1B, 4, 512, 16}, {llama1B, 4, 2048, 16}, {of(llama1B, "bfloat16", 4), 4, 512, 16},
	},
	"8b": {
		{of(llama8B, "bfloat16", 4), 4, 512, 16}, {of(llama8B, "bfloat16", 4), 1, 512, 64},
		{llama8B, 4, 512, 16}, {llama8B, 16, 512, 16},
	},
}
