"""mlx-lm by itself: reads a job's configuration and an adapter directory, trains
as mlx_lm.lora does, and answers with its losses and adapters, and whether
mlx-lm loads the adapter directory with the same values."""

import hashlib
import json
import sys
import tempfile
import types
from pathlib import Path

import mlx.core as mx
import mlx.optimizers as optim
import numpy as np
from mlx.utils import tree_flatten
from mlx_lm.tuner import trainer
from mlx_lm.tuner.datasets import CacheDataset, load_dataset
from mlx_lm.tuner.utils import linear_to_lora_layers
from mlx_lm.utils import load

asked = json.load(sys.stdin)
config = asked["config"]
quality, plan = config["quality"], config["plan"]
mx.disable_compile()

np.random.seed(config["seed"])
model, tokenizer = load(config["model"]["path"])
args = types.SimpleNamespace(data=config["data"]["path"], train=True, test=False, mask_prompt=config["data"]["mask_prompt"])
train_set, _, _ = load_dataset(args, tokenizer)
mx.random.seed(config["seed"])
model.freeze()
linear_to_lora_layers(model, quality["layers"], {k: quality[k] for k in ("rank", "scale", "dropout")})


class Losses:
    found = []
    supervised = []

    def on_train_loss_report(self, said):
        self.found.append(said["train_loss"])
        self.supervised.append(said["trained_tokens"])


def digest(weights):
    h = hashlib.sha256()
    for name, array in sorted(weights.items()):
        h.update(name.encode())
        h.update(np.array(array).tobytes())
    return h.hexdigest()


with tempfile.TemporaryDirectory() as directory:
    training_args = trainer.TrainingArgs(
        batch_size=plan["batch"],
        iters=config["schedule"]["steps"],
        steps_per_report=1,
        steps_per_save=10**9,
        max_seq_length=config["data"]["max_seq_length"],
        adapter_file=Path(directory) / "adapters.safetensors",
        grad_checkpoint=plan["checkpointing"],
        grad_accumulation_steps=plan["accumulation"],
    )
    optimizer = optim.AdamW(learning_rate=quality["learning_rate"])
    trainer.train(model, optimizer, CacheDataset(train_set), args=training_args, training_callback=Losses())
    theirs = mx.load(str(Path(directory) / "adapters.safetensors"))

loaded, _ = load(config["model"]["path"], adapter_path=asked["adapter"])
ours = {k: v for k, v in tree_flatten(loaded.parameters()) if k.rpartition(".")[2].startswith("lora_")}
print(json.dumps({"losses": Losses.found, "supervised": Losses.supervised, "theirs": digest(theirs), "ours": digest(ours)}))
