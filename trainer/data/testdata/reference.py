"""mlx-lm's own answers, as JSON on the last line of standard output.

Cases come on standard input, a line each, and are answered in a list.

tokens: {"model", "data", "mask"} -> [[tokens, offset], …] of train.jsonl
batches: {"lengths", "batch", "cap", "grouped"} -> the batches of one pass,
each [[batch, width], [rows…], real tokens]
"""

import json
import sys
import types

import numpy as np


def tokens(case):
    from pathlib import Path

    from mlx_lm.tuner.datasets import CacheDataset, load_dataset
    from mlx_lm.utils import load_config, load_tokenizer

    path = Path(case["model"])
    tokenizer = load_tokenizer(path, {"trust_remote_code": False}, eos_token_ids=load_config(path).get("eos_token_id"))
    args = types.SimpleNamespace(data=case["data"], train=True, test=False, mask_prompt=case["mask"])
    train = CacheDataset(load_dataset(args, tokenizer)[0])
    return [[list(t), o] for t, o in (train[i] for i in range(len(train)))]


class AsShipped:
    """Raw rows of one key, behind mlx-lm's CacheDataset."""

    def __init__(self, rows):
        self.rows = [{"text": r} for r in rows]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return self.rows[i]

    def process(self, d):
        return (d["text"], 0)


def batches(case):
    from mlx_lm.tuner import trainer
    from mlx_lm.tuner.datasets import CacheDataset

    rows = [[i + 1] * n for i, n in enumerate(case["lengths"])]
    dataset = [(r, 0) for r in rows] if case["grouped"] else CacheDataset(AsShipped(rows))
    np.random.permutation = np.arange  # the order before mlx-lm shuffles it
    trainer.rprint = lambda *a, **k: None
    out = []
    for batch, lengths in trainer.iterate_batches(dataset, case["batch"], case["cap"]):
        a = np.array(batch)
        real = sum(min(int(n), a.shape[1] - 1) for _, n in np.array(lengths))
        out.append([list(a.shape), [int(r[0]) - 1 for r in a], real])
    return out


answers = {"tokens": tokens, "batches": batches}[sys.argv[1]]
print("\n" + json.dumps([answers(json.loads(line)) for line in sys.stdin]))
