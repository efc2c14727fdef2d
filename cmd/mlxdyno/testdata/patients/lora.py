# A trainer on mlx-lm's model and adapters, with a loop of its own that prints a
# JSON object a step. Its first argument says what is wrong with it.
import json
import sys

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
from mlx.utils import tree_flatten
from mlx_lm import load
from mlx_lm.tuner.utils import linear_to_lora_layers

how, path, steps = sys.argv[1], sys.argv[2], int(sys.argv[3])
mx.random.seed(0)
model, _ = load(path)
if how in ("gradient", "gradients", "optimizer"):
    mx.set_cache_limit(0)  # a reused buffer may be larger than what is in it
if how == "cache":
    mx.set_cache_limit(8 << 30)  # as much as where the limit follows the memory


def loss(model, x):
    logits = model(x[:, :-1]).astype(mx.float32)
    return nn.losses.cross_entropy(logits, x[:, 1:], reduction="mean")


def step(x):
    value, grads = value_and_grad(model, x)
    optimizer.update(model, grads)
    return value, grads


def train(x):
    value, grads = step(x)
    mx.eval(value, grads, model.parameters(), optimizer.state)
    return value.item(), grads


# The model knows nothing: it learns a text by heart first, all of it.
text = mx.random.randint(0, model.args.vocab_size, (2, 513))
mx.eval(text)
value_and_grad, optimizer = nn.value_and_grad(model, loss), optim.Adam(learning_rate=3e-3)
for _ in range(60):
    train(text[:, :129])

model.freeze()
linear_to_lora_layers(model, len(model.layers), {"rank": 8, "dropout": 0.0, "scale": 20.0})
value_and_grad, optimizer = nn.value_and_grad(model, loss), optim.Adam(learning_rate=1e-5)
if how == "traces":  # compiled anew for every width, and kept
    state = [model.state, optimizer.state]
    step = mx.compile(step, inputs=state, outputs=state)
kept = []
for i in range(1, steps + 1):
    width = 65 + i if how in ("shapes", "traces") else 65
    value, grads = train(text[:, :width])
    if how == "gradient":
        kept.append(tree_flatten(grads)[0][1])
    if how == "gradients":
        kept.append(grads)
    if how == "optimizer":  # a copy for a checkpoint, never dropped
        kept.append([mx.array(a) for _, a in tree_flatten(optimizer.state) if a.size > 1])
        mx.eval(kept[-1])
    if how == "host":  # the program's own, beside MLX
        kept.append(bytearray(4_000_000))
    if how == "cache":  # of a size that no freed buffer has
        mx.eval(mx.zeros(4_000_000 + 40_000 * i, dtype=mx.uint8))
    del grads
    record = {"step": i, "loss": value, "batch": 2, "width": width}
    record["active_bytes"], record["cache_bytes"] = mx.get_active_memory(), mx.get_cache_memory()
    print(json.dumps(record), flush=True)
