"""Loads models as mlx-lm does and says what they are, one JSON list."""

import json
import sys

import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_lm import load


def look(directory):
    model, tokenizer = load(directory)
    question = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
    ids = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_dict=False)
    logits = model(mx.array([ids]))
    weights = dict(tree_flatten(model.parameters()))
    wide = [w for n, w in weights.items() if n.endswith(".weight") and w.ndim == 2]
    return {
        "type": model.model_type if hasattr(model, "model_type") else model.args.model_type,
        "dtypes": sorted({str(w.dtype).removeprefix("mlx.core.") for w in weights.values()}),
        "matrices": len(wide),
        "quantized": sum(w.dtype == mx.uint32 for w in wide),
        "head": any("lm_head" in n for n in weights),
        "finite": bool(mx.isfinite(logits).all().item()),
        "logits": logits.shape[-1],
        "chat": tokenizer.decode(ids),
        "eos": tokenizer.decode([tokenizer.eos_token_id]),
        "round_trip": tokenizer.decode(tokenizer.encode("def f(x):\n\treturn x  # é 漢 🙂", add_special_tokens=False)),
    }


print(json.dumps([look(d) for d in sys.argv[1:]]))
