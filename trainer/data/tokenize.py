"""Turns rows into tokens exactly as mlx-lm does: one process of data.Prepare.

Lines on standard input: the first is {"model", "mask_prompt"}; each further one
is a letter for the row's format and the row's JSON. For each row, in order,
standard output gets two little-endian int32, the number of tokens n and the
length of the prompt, then n int32 tokens. A row that cannot be tokenized is
n = -1, the number of bytes that follow, and the reason; n = -2 likewise ends it
all.
"""

import array
import json
import os
import struct
import sys

out = os.fdopen(os.dup(1), "wb", 1 << 20)
os.dup2(2, 1)  # what libraries print is no token


def reason(e):
    text = " ".join(str(e).split())[:300]
    plain = isinstance(e, (ValueError, RuntimeError)) or type(e).__module__.startswith("jinja2")
    return text if plain and text else f"{type(e).__name__}: {text}"


def complain(n, e):
    text = reason(e).encode("utf-8", "replace")
    out.write(struct.pack("<ii", n, len(text)) + text)


def datasets(model, mask_prompt):
    from pathlib import Path

    from mlx_lm.tuner.datasets import ChatDataset, CompletionsDataset, TextDataset
    from mlx_lm.utils import load_config, load_tokenizer

    path = Path(model)
    tokenizer = load_tokenizer(
        path,
        {"trust_remote_code": False},
        eos_token_ids=load_config(path).get("eos_token_id"),
    )
    return {
        "p": CompletionsDataset([], tokenizer, "prompt", "completion", mask_prompt),
        "m": ChatDataset([], tokenizer, mask_prompt=mask_prompt),
        "t": TextDataset([], tokenizer),
    }


def main():
    rows = iter(sys.stdin.buffer.readline, b"")
    try:
        by_format = datasets(**json.loads(next(rows)))
    except Exception as e:
        complain(-2, e)
        out.flush()
        return
    for done, line in enumerate(rows, 1):
        try:
            tokens, prompt = by_format[chr(line[0])].process(json.loads(line[1:]))
            tokens = array.array("i", tokens)
            if sys.byteorder == "big":
                tokens.byteswap()
            out.write(struct.pack("<ii", len(tokens), prompt))
            out.write(tokens.tobytes())
        except Exception as e:
            complain(-1, e)
        if done % 256 == 0:  # the parent waits for whole blocks of rows
            out.flush()
    out.flush()


main()
