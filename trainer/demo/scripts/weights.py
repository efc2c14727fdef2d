"""Models: one trained here from scratch, and random ones of any shape."""

import importlib
import math
import time

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
from mlx.utils import tree_flatten, tree_map_with_path
from mlx_lm.utils import quantize_model, save_config, save_model

MODULES = {"mistral": "llama"}  # mlx-lm runs Mistral's models with Llama's code
DTYPES = {"float32": mx.float32, "bfloat16": mx.bfloat16, "float16": mx.float16}


def build(config, seed, dtype=mx.float32):
    """Make the model that config describes, with seeded random weights of dtype.

    Matrices start at 1/(2√inputs), those that write to the residual stream
    smaller the deeper the model is, embeddings at 0.02; the rest keeps what
    the layer itself starts with.
    """
    module = importlib.import_module("mlx_lm.models." + MODULES.get(config["model_type"], config["model_type"]))
    model = module.Model(module.ModelArgs.from_dict(config))
    mx.random.seed(seed)
    depth = math.sqrt(2 * config["num_hidden_layers"])

    def start(path, weight):
        if weight.ndim < 2:
            return weight.astype(dtype)
        scale = 0.5 / math.sqrt(weight.shape[1])
        if "embed" in path:
            scale = 0.02
        elif "o_proj" in path or "down_proj" in path:
            scale /= depth
        made = (mx.random.normal(weight.shape) * scale).astype(dtype)
        mx.eval(made)  # one after another: all of them in float32 may be more than there is room for
        return made

    model.update(tree_map_with_path(start, model.parameters()))
    mx.eval(model.parameters())
    return model


def parameters(model):
    return sum(w.size for _, w in tree_flatten(model.parameters()))


def save(model, config, directory):
    directory.mkdir(parents=True, exist_ok=True)
    save_model(directory, model, donate_model=False)
    save_config(dict(config), directory / "config.json")


def save_quantized(model, config, bits, group_size, directory):
    """Quantize every layer whose width the group divides, and save."""
    model, config = quantize_model(model, dict(config), group_size, bits)
    save(model, config, directory)


def pack(tokenizer, texts, end, width):
    """Return texts one after another, each closed by end, cut into rows of
    width + 1 tokens that overlap by one, so that every token is predicted."""
    stream = []
    for encoding in tokenizer.encode_batch(texts):
        stream += encoding.ids + [end]
    rows = (len(stream) - 1) // width
    stream = np.array(stream, dtype=np.int32)
    return np.stack([stream[i * width:(i + 1) * width + 1] for i in range(rows)])


def unigram_loss(train, valid, vocabulary):
    """Loss on valid of the best model that ignores context."""
    counts = np.bincount(train[:, 1:].ravel(), minlength=vocabulary) + 1
    return float(-np.log(counts / counts.sum())[valid[:, 1:]].mean())


def loss_of(model, rows):
    return nn.losses.cross_entropy(model(rows[:, :-1]), rows[:, 1:], reduction="mean")


def validate(model, valid, batch=16):
    """Mean loss over the rows of valid."""
    total = 0.0
    for i in range(0, len(valid), batch):
        rows = mx.array(valid[i:i + batch])
        total += loss_of(model, rows).item() * len(rows)
    return total / len(valid)


def train(model, rows, *, steps, batch, budget, seed, report):
    """Train for steps steps, or fewer if that takes more than budget seconds;
    a budget of 0 is none.

    Matrices are updated by Muon, which learns about twice as much from a token
    as AdamW does at this size, all else by AdamW. The rate rises over the first
    twentieth and falls as a cosine; steps and time both drive it, so that it
    has come down when training ends for either reason.
    """
    matrices = optim.Muon(learning_rate=0.0, weight_decay=0.0)
    others = optim.AdamW(learning_rate=0.0, betas=[0.9, 0.95], weight_decay=0.01)
    optimizer = optim.MultiOptimizer(
        [matrices, others], [lambda path, weight: weight.ndim == 2 and "embed" not in path])
    gradient = nn.value_and_grad(model, loss_of)
    shuffle = np.random.default_rng(seed)
    order, start = [], time.monotonic()
    for step in range(steps):
        spent = (time.monotonic() - start) / budget if budget else 0
        progress = max(step / steps, spent)
        if progress >= 1:
            return step
        rate = min(1, 0.02 + progress / 0.05) * (0.05 + 0.475 * (1 + math.cos(math.pi * progress)))
        matrices.learning_rate, others.learning_rate = 0.02 * rate, 0.005 * rate
        if len(order) < batch:
            order = shuffle.permutation(len(rows))
        chosen, order = order[:batch], order[batch:]
        loss, grads = gradient(model, mx.array(rows[chosen]))
        grads, _ = optim.clip_grad_norm(grads, 1.0)
        optimizer.update(model, grads)
        mx.eval(model.state, optimizer.state, loss)
        report(step + 1, loss.item())
    return steps
