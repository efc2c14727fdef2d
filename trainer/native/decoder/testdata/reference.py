"""What mlx-lm's own model classes compute: makes a model of a given config with
seeded random weights, saves it, and answers with logits, adapters and tokens.

Reads one JSON job a line, answers one JSON line each.
"""

import importlib
import json
import math
import os
import sys

answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # mlx-lm prints

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten, tree_map_with_path
from mlx_lm.generate import generate_step
from mlx_lm.sample_utils import make_sampler
from mlx_lm.tuner.utils import linear_to_lora_layers, load_adapters
from mlx_lm.utils import MODEL_REMAPPING, load_model, quantize_model, save_config, save_model

mx.set_default_device(mx.cpu)
mx.disable_compile()


def make(job):
    """A model directory with random weights, norms and biases included."""
    config, to = job["config"], job["dir"]
    kind = config["model_type"]
    module = importlib.import_module("mlx_lm.models." + MODEL_REMAPPING.get(kind, kind))
    model = module.Model(module.ModelArgs.from_dict(config))
    if kind == "gemma3_text" and config.get("tie_word_embeddings", True):
        model.sanitize({})  # ties the head
    mx.random.seed(job["seed"])

    def start(path, w):
        if w.ndim < 2:
            return 0.3 * mx.random.normal(w.shape) + (1 if "norm" in path and "gemma" not in kind else 0)
        return mx.random.normal(w.shape) * (0.7 / math.sqrt(w.shape[1]) if "embed" not in path else 0.5)

    model.update(tree_map_with_path(start, model.parameters()))
    model.set_dtype(getattr(mx, job["dtype"]))
    config = dict(config)
    if job.get("bits"):
        predicate = None
        if job.get("mixed"):  # some modules with other bits, as mlx-lm writes it
            predicate = lambda p, m: {"group_size": 32, "bits": 8, "mode": "affine"} if "down_proj" in p or "v_proj" in p else True
        model, config = quantize_model(model, config, job["group"], job["bits"], quant_predicate=predicate)
    os.makedirs(to, exist_ok=True)
    save_model(to, model, donate_model=False)
    save_config(config, os.path.join(to, "config.json"))
    return {}


def load(job):
    from pathlib import Path

    model, config = load_model(Path(job["dir"]), lazy=False)
    if job.get("quantize"):
        model, config = quantize_model(model, config, job["group"], job["quantize"])
    return model


def logits(job):
    model = load(job)
    if job.get("adapter"):
        model = load_adapters(model, job["adapter"])
    model.eval()
    tokens = mx.array(np.array(job["tokens"], dtype=np.int32))
    out = model(tokens)
    mx.save_safetensors(job["out"], {"logits": out})
    return {}


def adapters(job):
    """First values of adapters, seeded as the worker for mlx-lm seeds them."""
    model = load(job)
    mx.random.seed(job["seed"])
    model.freeze()
    parameters = {"rank": job["rank"], "scale": 20.0, "dropout": 0.0}
    if job.get("keys"):
        parameters["keys"] = job["keys"]
    linear_to_lora_layers(model, job["layers"], parameters)
    names = [n for n, _ in tree_flatten(model.trainable_parameters())]
    mx.save_safetensors(job["out"], dict(tree_flatten(model.trainable_parameters())) | {"key": mx.random.state[0]})
    return {"names": names}


def write_adapter(job):
    """An adapter whose A and B are both random, saved as mlx-lm's trainer saves it."""
    model = load(job)
    model.freeze()
    parameters = {"rank": job["rank"], "scale": job["scale"], "dropout": 0.0}
    if job.get("keys"):
        parameters["keys"] = job["keys"]
    linear_to_lora_layers(model, job["layers"], parameters)
    mx.random.seed(3)
    values = {n: 0.1 * mx.random.normal(v.shape) for n, v in tree_flatten(model.trainable_parameters())}
    os.makedirs(job["to"], exist_ok=True)
    mx.save_safetensors(os.path.join(job["to"], "adapters.safetensors"), values)
    config = {"fine_tune_type": "lora", "num_layers": job["layers"], "lora_parameters": parameters}
    save_config(config, os.path.join(job["to"], "adapter_config.json"))
    return {"names": sorted(values)}


def fuse(job):
    """mlx_lm.fuse itself, on models that have no tokenizer."""
    from pathlib import Path

    class Tokenizer:
        def save_pretrained(self, to):
            pass

    def load(path, adapter_path, **_):
        model, config = load_model(Path(path), lazy=False)
        return load_adapters(model, adapter_path), Tokenizer(), config

    module = importlib.import_module("mlx_lm.fuse")
    module.load = load
    sys.argv = ["fuse", "--model", job["dir"], "--adapter-path", job["adapter"], "--save-path", job["to"]]
    if job.get("dequantize"):
        sys.argv.append("--dequantize")
    module.main()
    return {}


def generate(job):
    model = load(job)
    model.eval()
    tokens = []
    for token, _ in generate_step(mx.array(job["tokens"]), model, max_tokens=job["n"], sampler=make_sampler(0.0)):
        tokens.append(int(token))
    return {"tokens": tokens}


for line in sys.stdin:
    job = json.loads(line)
    print(json.dumps(globals()[job["do"]](job)), file=answers, flush=True)
