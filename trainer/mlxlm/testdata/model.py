"""Makes a tiny llama with random weights and a byte-level tokenizer."""

import json
import sys
from pathlib import Path

import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_lm.models import llama
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

out = Path(sys.argv[1])
out.mkdir(parents=True, exist_ok=True)

special = ["<bos>", "<eos>", "<pad>"]
vocab = {t: i for i, t in enumerate(special + sorted(pre_tokenizers.ByteLevel.alphabet()))}
tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer.decoder = decoders.ByteLevel()
tokenizer.add_special_tokens(special)
tokenizer.save(str(out / "tokenizer.json"))
template = (
    "{{ bos_token }}{% for m in messages %}{{ m['role'] + ': ' + m['content'] + eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)
names = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"}
tokenizer_config = {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": template, **names}
(out / "tokenizer_config.json").write_text(json.dumps(tokenizer_config))

config = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "intermediate_size": 96,  # groups of 64 do not divide it
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 259,
    "tie_word_embeddings": True,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "max_position_embeddings": 2048,
}
(out / "config.json").write_text(json.dumps(config))
mx.random.seed(7)
model = llama.Model(llama.ModelArgs.from_dict(config))
mx.save_safetensors(str(out / "model.safetensors"), dict(tree_flatten(model.parameters())), {"format": "mlx"})
