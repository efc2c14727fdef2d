package model

import (
	"slices"
	"strconv"
	"strings"
)

// Module is a linear map inside a block: y = W·x with W of Out × In.
type Module struct {
	Name    string // as in the files, without ".weight"
	Block   int
	In, Out int
	Experts int // copies that one tensor holds; 1 unless it is a mixture's
	Bits    int // of the stored weight; 0 when it is not quantized
}

// AdapterParameters is the number of trainable parameters of LoRA at rank on
// this module.
func (m Module) AdapterParameters(rank int) int64 {
	return int64(rank) * int64(m.Experts) * (int64(m.In) + int64(m.Out))
}

// LinearModules returns the linear modules of the last n blocks, in the order
// of blocks and then names; of all blocks when n is less than 1, as mlx-lm has
// it, or more than there are.
// These are the modules that get adapters by default: every weight of two
// dimensions inside a block, and of three in a mixture of experts.
func (f *Facts) LinearModules(n int) []Module {
	first := 0
	if n > 0 && n < f.Layers {
		first = f.Layers - n
	}
	var out []Module
	for _, t := range f.Tensors {
		m, ok := linearModule(t)
		if ok && m.Block >= first && m.Block < f.Layers {
			out = append(out, m)
		}
	}
	slices.SortStableFunc(out, func(a, b Module) int { return a.Block - b.Block })
	return out
}

// AdapterParameters is the number of trainable parameters of LoRA at rank on
// the last n blocks, as mlx-lm counts them by default.
func (f *Facts) AdapterParameters(rank, n int) int64 {
	var sum int64
	for _, m := range f.LinearModules(n) {
		sum += m.AdapterParameters(rank)
	}
	return sum
}

// LoadedBytes is what a training of the language model holds of WeightBytes:
// towers for images and sound, stored rotary tables, blocks beyond the model's
// own and the second copy of a tied head are dropped when it is loaded.
func (f *Facts) LoadedBytes() int64 {
	var sum int64
	for _, t := range f.Tensors {
		if f.loaded(t.Name) {
			sum += t.Bytes
		}
	}
	return sum
}

// HeadParameters is the number of parameters of the output head, also when it
// is the embedding.
func (f *Facts) HeadParameters() int64 { return int64(f.Vocab) * int64(f.Hidden) }

// EmbeddingParameters is the number of parameters of the token embedding.
func (f *Facts) EmbeddingParameters() int64 {
	if t, ok := f.find(isEmbedding); ok {
		return t.Elements()
	}
	return int64(f.Vocab) * int64(f.Hidden)
}

// QueryDim is the width of all query heads of a block together.
func (f *Facts) QueryDim() int { return f.Heads * f.HeadDim }

// KVDim is the width of all key heads of a block together, and of its values.
func (f *Facts) KVDim() int { return f.KVHeads * f.HeadDim }

// Checked says whether AdapterParameters has been compared with mlx-lm's own
// count for the architecture, in the layout that mlx-lm writes. Others are read
// the same way, and are likely right when their blocks consist of linear
// modules.
func Checked(arch string) bool { return slices.Contains(checked, arch) }

var checked = []string{
	"cohere", "cohere2", "ernie4_5", "gemma", "gemma2", "gemma3", "gemma3_text", "glm4", "gpt2", "gpt_oss", "granite",
	"granitemoe", "helium", "hunyuan_v1_dense", "internlm2", "internlm3", "llama", "mimo", "mistral", "mixtral", "nemotron",
	"olmo2", "olmo3", "olmoe", "phi", "phi3", "qwen2", "qwen2_moe", "qwen3", "qwen3_5", "qwen3_moe", "seed_oss", "smollm3",
	"stablelm", "starcoder2",
}

func (f *Facts) loaded(name string) bool {
	if block, ok := blockOf(name); ok && block >= f.Layers {
		return false
	}
	if f.TiedHead && isHead(name) {
		return false
	}
	return !isTower(name) && !strings.HasSuffix(name, "rotary_emb.inv_freq")
}

func (f *Facts) find(is func(name string) bool) (Tensor, bool) {
	for _, t := range f.Tensors {
		if is(t.Name) && strings.HasSuffix(t.Name, ".weight") && !isTower(t.Name) {
			return t, true
		}
	}
	return Tensor{}, false
}

func linearModule(t Tensor) (Module, bool) {
	base, ok := strings.CutSuffix(t.Name, ".weight")
	block, inBlock := blockOf(t.Name)
	dims := t.Dims()
	if !ok || !inBlock || isTower(t.Name) || len(dims) < 2 || len(dims) > 3 {
		return Module{}, false
	}
	m := Module{Name: base, Block: block, In: dims[len(dims)-1], Out: dims[len(dims)-2], Experts: 1, Bits: t.Bits}
	if len(dims) == 3 {
		if !strings.Contains(base, "switch") && !strings.Contains(base, "expert") { // a short convolution
			return Module{}, false
		}
		m.Experts = dims[0]
	}
	return m, true
}

// blockOf returns the number of the block that a tensor belongs to, as in
// "model.layers.7.mlp.up_proj.weight".
func blockOf(name string) (int, bool) {
	parts := strings.Split(name, ".")
	for i := 1; i < len(parts)-1; i++ {
		switch parts[i-1] {
		case "layers", "h", "blocks":
			if n, err := strconv.ParseUint(parts[i], 10, 30); err == nil {
				return int(n), true
			}
		}
	}
	return 0, false
}

func isTower(name string) bool {
	for part := range strings.SplitSeq(name, ".") {
		if strings.HasPrefix(part, "vision") || strings.HasPrefix(part, "visual") || strings.HasPrefix(part, "audio") ||
			part == "multi_modal_projector" || part == "embed_vision" || part == "embed_audio" {
			return true
		}
	}
	return false
}

func isHead(name string) bool {
	if _, inBlock := blockOf(name); inBlock {
		return false
	}
	return hasPart(name, "lm_head", "embed_out") || strings.HasSuffix(name, "model.output.weight") || name == "output.weight"
}

func isEmbedding(name string) bool {
	if _, inBlock := blockOf(name); inBlock {
		return false
	}
	return hasPart(name, "embed_tokens", "wte", "tok_embeddings", "word_embeddings", "embed_in", "embeddings", "embedding")
}

func hasPart(name string, wanted ...string) bool {
	for part := range strings.SplitSeq(name, ".") {
		if slices.Contains(wanted, part) {
			return true
		}
	}
	return false
}
