"""Loading a model, and giving it adapters as mlx-lm does."""

import json
import re
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
from mlx.utils import tree_flatten
from mlx_lm.models.switch_layers import QuantizedSwitchLinear, SwitchLinear
from mlx_lm.tuner.utils import build_schedule, linear_to_lora_layers
from mlx_lm.utils import get_total_parameters, load_model, quantize_model  # noqa: F401

from mlxdyno.failures import Failure, memory, one_line

QUANTIZED = (nn.QuantizedLinear, nn.QuantizedEmbedding, QuantizedSwitchLinear)
LINEAR = (nn.Linear, nn.Embedding, SwitchLinear, *QUANTIZED)
OPTIMIZERS = {"adam": "Adam", "adamw": "AdamW", "sgd": "SGD", "adafactor": "Adafactor", "muon": "Muon"}
LESS_TO_LOAD = "quantize the base, choose a smaller model, or close other programs"
DOWNLOAD = "download it again, for instance with `hf download NAME --local-dir DIR`"


def missing_bytes(path):
    """How many bytes a safetensors file lacks of what its header promises."""
    size = path.stat().st_size
    with open(path, "rb") as f:
        n = int.from_bytes(f.read(8), "little")
        if size < 8 + n:
            return 8 + n - size
        header = json.loads(f.read(n))
    ends = [t["data_offsets"][1] for name, t in header.items() if name != "__metadata__"]
    return 8 + n + max(ends, default=0) - size


def check_files(path):
    """The model's config.json, after finding every weight file whole. Without
    this, a path that does not exist is looked up on the hub."""
    if not path.is_dir():
        raise Failure("config", "model.missing", f"there is no model directory {path}", "give --model a directory, or " + DOWNLOAD)
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise Failure("config", "model.config", f"cannot read config.json of the model: {one_line(e)}", DOWNLOAD)
    weights = {f.name: f for f in path.glob("model*.safetensors")}
    index = path / "model.safetensors.index.json"
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()) if index.exists() else set()
    except (OSError, ValueError, KeyError) as e:
        raise Failure("config", "model.weights", f"cannot read {index.name}: {one_line(e)}", DOWNLOAD)
    absent = sorted(names - weights.keys()) or ([] if weights else ["model.safetensors"])
    if absent:
        raise Failure("config", "model.weights", f"the model lacks {len(absent)} of its weight files, first {absent[0]}", DOWNLOAD)
    for name, file in sorted(weights.items()):
        try:
            lacking = missing_bytes(file)
        except (OSError, ValueError, LookupError, TypeError) as e:
            raise Failure("config", "model.weights", f"{name} is not a safetensors file: {one_line(e)}", DOWNLOAD)
        if lacking > 0:
            raise Failure("config", "model.truncated", f"{name} is cut off: {lacking} bytes are missing", DOWNLOAD)
    return config


def load(path, bits, group_size):
    """The base model, evaluated, and quantized if bits are asked for."""
    path = Path(path)
    config = check_files(path)
    if bits and ("quantization" in config or "quantization_config" in config):
        raise Failure(
            "config",
            "config.already-quantized",
            f"the model is stored quantized already, it cannot be quantized to {bits} bits at load",
            "drop --quantize, or give --model the original weights",
        )
    try:
        model, config = load_model(path, lazy=bits > 0)
        if bits:
            model, config = quantize_model(model, config, group_size, bits)
            mx.eval(model.parameters())
            mx.clear_cache()
    except Exception as e:
        raise cannot_load(config, e) from e
    return model, config


def cannot_load(config, e):
    if failure := memory(e, LESS_TO_LOAD):
        return failure
    said = str(e)
    if re.search(r"Model type .* not supported", said):
        return Failure(
            "config",
            "model.unknown-architecture",
            f"mlx-lm does not know models of the type {config.get('model_type')!r}",
            "a newer mlx-lm may: `mlxdyno setup`; or choose another model",
        )
    if "custom module" in said:
        return Failure("config", "model.custom-code", "the model needs Python code of its own, which is not run", "choose another model")
    if re.search(r"Missing \d+ parameters|Received \d+ parameters|Expected shape", said):
        return Failure("config", "model.weights-mismatch", f"weights and config.json do not belong together: {one_line(e)}", DOWNLOAD)
    return Failure("config", "model.load", f"mlx-lm cannot load the model: {type(e).__name__}: {one_line(e)}", DOWNLOAD)


def linear_modules(model):
    """Names of the modules that hold matrices, and of those that are quantized."""
    linear = {name: m for name, m in model.named_modules() if isinstance(m, LINEAR)}
    return set(linear), {name for name, m in linear.items() if isinstance(m, QUANTIZED)}


def add_adapters(model, quality, seed):
    """LoRA layers, seeded and made in the order of mlx_lm.lora.train_model.
    Returns how many modules got one."""
    mx.random.seed(seed)
    model.freeze()
    if quality["layers"] > len(model.layers):
        raise Failure(
            "config",
            "config.layers",
            f"adapters on {quality['layers']} blocks are asked for, but the model has {len(model.layers)}",
            f"lower --num-layers to {len(model.layers)}, or use -1 for all",
        )
    if names := module_names(quality):
        check_modules(model, quality["layers"], names)
    linear_to_lora_layers(model, quality["layers"], lora_parameters(quality))
    mx.eval(model.trainable_parameters())
    return sum(name.endswith("lora_a") for name, _ in tree_flatten(model.trainable_parameters()))


def module_names(quality):
    """The modules of a block that get adapters; none means all linear ones."""
    return [name for name in quality.get("lora_modules", "").split(",") if name]


def check_modules(model, layers, names):
    """Refuses names that mlx-lm would pass over."""
    there = set()
    for block in model.layers[-max(layers, 0) :]:
        there |= {name for name, m in block.named_modules() if isinstance(m, LINEAR) or hasattr(m, "to_lora")}
    if unknown := sorted(set(names) - there):
        raise Failure(
            "config",
            "config.lora-modules",
            f"the blocks that get adapters have no module {', '.join(unknown)}; they have {', '.join(sorted(there))}",
            "name some of these with --lora-modules, or leave it out for all of them",
        )


def lora_parameters(quality):
    """Under mlx-lm's key of that name."""
    out = {"rank": quality["rank"], "scale": quality["scale"], "dropout": quality["dropout"]}
    if names := module_names(quality):
        out["keys"] = names
    return out


def lr_schedule(config):
    """What mlx-lm has under that key, None for a rate that stays. It counts
    optimizer updates; the rate moves through all that the warm-up leaves."""
    quality = config["quality"]
    kind, warmup = quality.get("lr_schedule", "constant"), quality.get("warmup", 0)
    if kind == "constant" and not warmup:
        return None
    rate, end = quality["learning_rate"], quality.get("lr_end", 0.0)
    updates = max(1, config["schedule"]["steps"] // config["plan"]["accumulation"] - warmup)
    calls = {
        "constant": ("exponential_decay", [rate, 1.0]),
        "cosine": ("cosine_decay", [rate, updates, end]),
        "linear": ("linear_schedule", [rate, end, updates]),
    }
    name, arguments = calls[kind]
    return {"name": name, "arguments": arguments} | ({"warmup": warmup} if warmup else {})


def optimizer_config(quality):
    """What is set beside the learning rate; MLX has defaults for the rest."""
    if quality["optimizer"] == "adamw" and "weight_decay" in quality:
        return {"weight_decay": quality["weight_decay"]}
    return {}


def make_optimizer(model, config):
    """mlx-lm's optimizer, with its state in place: a compiled step is traced
    twice when the state appears only during the first."""
    quality = config["quality"]
    name = OPTIMIZERS.get(quality["optimizer"])
    if name is None:
        raise Failure("config", "config.optimizer", f"there is no optimizer {quality['optimizer']!r}", "use one of " + ", ".join(OPTIMIZERS))
    schedule = lr_schedule(config)
    rate = build_schedule(schedule) if schedule else quality["learning_rate"]
    optimizer = getattr(optim, name)(learning_rate=rate, **optimizer_config(quality))
    optimizer.init(model.trainable_parameters())
    return optimizer


def size_of(tree):
    """Parameters and bytes in a tree of arrays."""
    arrays = [a for _, a in tree_flatten(tree)]
    return sum(a.size for a in arrays), sum(a.nbytes for a in arrays)
