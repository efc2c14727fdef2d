"""Token files as mlx-lm's train() can take them, and the order of batches.

The layout of a token file is described in trainer/data/tokens.go.
"""

import numpy as np

from mlx_lm.tuner.datasets import CacheDataset

from mlxdyno.failures import Failure

HEADER = 64
ONE_TOKEN = np.zeros(1, np.int32)


class Rows:
    """Rows of a token file, mapped. mlx-lm sorts such a dataset by length."""

    def __init__(self, path):
        try:
            with open(path, "rb") as f:
                head = f.read(HEADER)
            if len(head) < HEADER or head[:8] != b"MLXDTOKS" or int.from_bytes(head[8:12], "little") != 1:
                raise ValueError("it is no token file of version 1")
            rows, tokens, _ = (int(n) for n in np.frombuffer(head, "<u8", 3, 16))
            data = np.memmap(path, np.uint8, "r")
            starts = HEADER + 4 * tokens + (-4 * tokens & 7)
            prompts = starts + 8 * (rows + 1)
            if len(data) < prompts + 4 * rows:
                raise ValueError("it is shorter than its header says")
        except (OSError, ValueError) as e:
            raise Failure("data", "data.tokens", f"cannot read token file {path}: {e}", "start again: it will be made anew")
        view = np.asarray(data)  # slices of a memmap cost more
        self.tokens = view[HEADER : HEADER + 4 * tokens].view("<i4")
        self.starts = view[starts:prompts].view("<i8").tolist()
        self.prompts = view[prompts : prompts + 4 * rows].view("<i4").tolist()
        self.checksum = int.from_bytes(head[12:16], "little")
        self.hollow = False  # rows are only counted: one token will do

    def __len__(self):
        return len(self.prompts)

    def __getitem__(self, i):
        if self.hollow:
            return ONE_TOKEN, 0
        return self.tokens[self.starts[i] : self.starts[i + 1]], self.prompts[i]


class RowsInFileOrder(CacheDataset):
    """Rows as mlx-lm orders them when it ships: its sort of a CacheDataset goes
    by the number of keys of each row, which is the same for all, and is stable."""

    def __init__(self, rows):
        self.rows = rows

    def itemlen(self, i):
        return 0

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return self.rows[i]


class Epochs:
    """mlx-lm's endless batches, with a position to which one can return.

    The order is drawn from numpy's global generator once an epoch, so the state
    before that draw and the batches used since are the position.
    """

    def __init__(self, iterate_batches, rows, grouped, **arguments):
        self.rows = rows
        self.per_epoch = len(rows) // arguments["batch_size"]
        arguments["dataset"] = rows if grouped else RowsInFileOrder(rows)
        self.batches = iterate_batches(**arguments)
        self.generator = np.random.get_state()
        self.used = 0

    def __next__(self):
        if self.used == self.per_epoch:
            self.generator = np.random.get_state()
            self.used = 0
        batch = next(self.batches)
        self.used += 1
        return batch

    def go_to(self, generator, used):
        """Returns to a position; only before the first batch."""
        np.random.set_state(generator)
        self.generator = generator
        for _ in range(used):
            next(self)
            self.rows.hollow = True  # not before the first: mlx-lm sorts by real lengths then
        self.rows.hollow = False


def exact(rows, shapes):
    """Batches of exactly the given shapes, without padding: rows of the split,
    each cut or repeated to the full width."""
    at = 0
    for shape in shapes:
        batch, width = shape["batch"], shape["width"]
        for n in range(max(shape.get("steps", 0), 1)):
            tokens = np.stack([np.resize(rows[(at + i) % len(rows)][0], width) for i in range(batch)])
            at += batch
            yield n == 0, tokens.astype(np.int32), [(0, width)] * batch
