"""mlx-lm by itself: reads an mlxdyno.yaml and an adapter directory, trains as
`mlx_lm.lora -c` does, and answers with its losses, learning rates and adapters,
and whether mlx-lm loads the adapter directory with the same values."""

import hashlib
import json
import sys
import tempfile
import types
from pathlib import Path

import mlx.core as mx
import numpy as np
import yaml
from mlx.utils import tree_flatten
from mlx_lm import lora
from mlx_lm.tuner.datasets import load_dataset
from mlx_lm.utils import load

asked = json.load(sys.stdin)
with open(asked["yaml"]) as f:
    given = {k: v for k, v in yaml.load(f, lora.yaml_loader).items() if v is not None}
args = types.SimpleNamespace(**lora.CONFIG_DEFAULTS | given | {"steps_per_report": 1, "save_every": 10**9})
mx.disable_compile()


class Losses:
    found = []
    supervised = []
    rates = []

    def on_train_loss_report(self, said):
        self.found.append(said["train_loss"])
        self.supervised.append(said["trained_tokens"])
        self.rates.append(said["learning_rate"])


def digest(weights):
    h = hashlib.sha256()
    for name, array in sorted(weights.items()):
        h.update(name.encode())
        h.update(np.array(array).tobytes())
    return h.hexdigest()


np.random.seed(args.seed)
model, tokenizer = load(args.model)
train_set, _, _ = load_dataset(args, tokenizer)
with tempfile.TemporaryDirectory() as directory:
    args.adapter_path = directory
    lora.train_model(args, model, train_set, [], Losses())
    theirs = mx.load(str(Path(directory) / "adapters.safetensors"))

loaded, _ = load(args.model, adapter_path=asked["adapter"])
ours = {k: v for k, v in tree_flatten(loaded.parameters()) if k.rpartition(".")[2].startswith("lora_")}
answer = {"losses": Losses.found, "rates": Losses.rates, "supervised": Losses.supervised, "theirs": digest(theirs), "ours": digest(ours)}
print(json.dumps(answer))
