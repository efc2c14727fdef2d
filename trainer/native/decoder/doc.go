// Package decoder computes decoder-only language models with LoRA adapters, on
// mlxbind.
//
// One decoder, described by a Spec that config.json decides, serves the
// families of llama, mistral, qwen2, qwen3, gemma2, gemma3 (text) and phi3. It
// does what mlx-lm's model classes do, operation by operation, so that results
// agree to the last bit where MLX computes the same kernels, and adapters mean
// the same in both. What it cannot compute is an *Unsupported.
//
// A Model holds the frozen base. The trainable arrays stand apart, in one flat
// list in the order of Model.Adapters, because a gradient is taken with respect
// to arguments and a checkpointed layer must get all it differentiates as such.
package decoder
