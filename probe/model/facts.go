// Package model reads what a model is from its config.json and the headers of
// its safetensors files, without loading a weight.
package model

import "slices"

// Facts describes a model on disk.
type Facts struct {
	Path         string   `json:"path"`
	Arch         string   `json:"arch"` // model_type of config.json
	Layers       int      `json:"layers"`
	Hidden       int      `json:"hidden"`
	Intermediate int      `json:"intermediate"`
	Heads        int      `json:"heads"`
	KVHeads      int      `json:"kv_heads"`
	HeadDim      int      `json:"head_dim"`
	Vocab        int      `json:"vocab"`
	TiedHead     bool     `json:"tied_head"`
	MaxPositions int      `json:"max_positions"`
	Parameters   int64    `json:"parameters"`   // of the language model, quantized weights counted unpacked
	WeightBytes  int64    `json:"weight_bytes"` // of all tensors, as stored
	DType        string   `json:"dtype"`        // of the largest share of unquantized weights: F32, BF16, F16
	Quant        *Quant   `json:"quant,omitempty"`
	Tensors      []Tensor `json:"tensors,omitempty"`
	HasTokenizer bool     `json:"has_tokenizer"`
	Files        []File   `json:"files"`
	Key          string   `json:"key"` // hash over config.json and the headers: equal for models that differ in nothing but their weights' values
}

// Quant is how stored weights are quantized.
type Quant struct {
	Bits      int    `json:"bits"`
	GroupSize int    `json:"group_size"`
	Mode      string `json:"mode"`
	Mixed     bool   `json:"mixed"` // some layers differ
}

// Tensor is one stored tensor.
type Tensor struct {
	Name  string `json:"name"`
	DType string `json:"dtype"`
	Shape []int  `json:"shape"`
	Bytes int64  `json:"bytes"`

	// Of a weight that MLX packed into U32, else 0.
	Bits      int `json:"bits,omitempty"`
	GroupSize int `json:"group_size,omitempty"`
}

// Dims returns the tensor's shape before it was packed.
func (t Tensor) Dims() []int {
	if t.Bits == 0 || len(t.Shape) == 0 {
		return t.Shape
	}
	dims := slices.Clone(t.Shape)
	last := &dims[len(dims)-1]
	*last = *last * 32 / t.Bits
	return dims
}

// Elements is the number of parameters that the tensor holds.
func (t Tensor) Elements() int64 {
	n := int64(1)
	for _, d := range t.Dims() {
		n *= int64(d)
	}
	return n
}

// File is one safetensors file.
type File struct {
	Name  string `json:"name"`
	Bytes int64  `json:"bytes"`
}
