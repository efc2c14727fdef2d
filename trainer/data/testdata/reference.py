"""mlx-lm's own answers, as JSON on the last line of standard output.

Cases come on standard input, a line each, and are answered in a list.

tokens: {"model", "data", "mask"} -> [[tokens, offset], …] of train.jsonl
batches: {"lengths", "batch", "cap", "grouped"} -> the batches of one pass,
each [[batch, width], [rows…], real tokens]
permutations: {"seed", "lengths"} -> for each length a permutation and the
generator's state after it
worker: {"tokens", "batch", "cap", "grouped", "seed", "steps", "at", "shapes",
"val_batch", "val_batches", "vocabulary"} -> the batches that our worker for
mlx-lm makes of a token file
"""

import base64
import functools
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


def encode(state):
    words = np.append(state[1].astype("<u4").view("<u2"), np.uint16(state[2]))
    return base64.b64encode(words.astype("<u2").tobytes()).decode()


def decode(text):
    words = np.frombuffer(base64.b64decode(text), "<u2")
    return "MT19937", words[:-1].view("<u4").astype(np.uint32), int(words[-1])


def permutations(case):
    np.random.seed(case["seed"])
    return [[np.random.permutation(n).tolist(), encode(np.random.get_state())] for n in case["lengths"]]


def plain(batch, spans):
    a, b = np.array(batch), np.array(spans)
    return {"shape": list(a.shape), "tokens": a.ravel().tolist(), "spans": b.ravel().tolist()}


def worker(case):
    import mlx.core as mx
    from mlx_lm.tuner import trainer

    sys.dont_write_bytecode = True
    package = sys.modules["mlxdyno"] = types.ModuleType("mlxdyno")
    package.__path__ = ["../mlxlm/python"]
    from mlxdyno.tokens import Epochs, Rows, exact
    from mlxdyno.training import Training

    trainer.rprint = lambda *a, **k: None
    iterate = trainer.iterate_batches
    rows = Rows(case["tokens"])

    def epochs():
        return Epochs(iterate, rows, case["grouped"], batch_size=case["batch"], max_seq_length=case["cap"], loop=True)

    def take(batches, n):
        for _ in range(n):
            yield {**plain(*next(batches)), "position": {"generator": encode(batches.generator), "used": batches.used}}

    np.random.seed(case["seed"])
    answer = {"checksum": rows.checksum, "epochs": list(take(epochs(), case["steps"]))}

    np.random.seed(case["seed"] ^ 1)
    resumed = epochs()
    resumed.go_to(decode(case["at"]["generator"]), case["at"]["used"])
    answer["resumed"] = list(take(resumed, case["steps"]))

    answer["exact"] = [{"new": new, **plain(t, spans)} for new, t, spans in exact(rows, case["shapes"])]

    answer["validation"] = seen = []

    @functools.wraps(iterate)
    def seeing(**arguments):
        for batch in iterate(**arguments):
            seen.append(plain(*batch))
            yield batch

    class Model:
        eval = train = lambda _: None

        def __call__(self, inputs):
            return mx.zeros((*inputs.shape, case["vocabulary"]))

    trainer.iterate_batches = seeing
    Training.evaluate(
        types.SimpleNamespace(
            model=Model(),
            valid=rows,
            plan={"batch": case["val_batch"]},
            schedule={"val_batches": case["val_batches"]},
            data={"max_seq_length": case["cap"]},
            config={"seed": case["seed"]},
            clear_above=0,
            commands=types.SimpleNamespace(gone=False, stop=None),
            step=0,
            events=types.SimpleNamespace(emit=lambda *_: None),
        )
    )
    trainer.iterate_batches = iterate
    return answer


answers = {"tokens": tokens, "batches": batches, "permutations": permutations, "worker": worker}[sys.argv[1]]
print("\n" + json.dumps([answers(json.loads(line)) for line in sys.stdin]))
