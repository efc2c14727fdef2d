"""Makes what the specification on standard input asks for.

Progress and the result are lines on standard output: {"stage", "detail"} as
often as there is something to say, then one {"result"}.
"""

import json
import sys
import time
from pathlib import Path

started = time.monotonic()

import corpus
import vocab


def say(stage, detail):
    print(json.dumps({"stage": stage, "detail": detail}), flush=True)


def text_and_tokenizer(spec):
    examples = corpus.collect(spec["examples"])
    splits = corpus.split(examples)
    say("text", f"{len(examples)} docstrings of the standard library")
    tokenizer = vocab.train((e.source for e in splits["train"]), spec["vocab"])
    say("tokenizer", f"{tokenizer.get_vocab_size()} tokens")
    return splits, tokenizer


def with_tokens(config, tokenizer):
    return dict(
        config,
        bos_token_id=tokenizer.token_to_id(vocab.BOS),
        eos_token_id=tokenizer.token_to_id(vocab.EOS),
        pad_token_id=tokenizer.token_to_id(vocab.PAD),
    )


def make_demo(spec, directory):
    import weights

    splits, tokenizer = text_and_tokenizer(spec)
    corpus.write(splits, directory)
    config = dict(with_tokens(spec["config"], tokenizer), vocab_size=tokenizer.get_vocab_size())
    end, width = config["eos_token_id"], spec["width"]
    rows = weights.pack(tokenizer, [e.source for e in splits["train"]], end, width)
    valid = weights.pack(tokenizer, [e.source for e in splits["valid"]], end, width)[:spec["valid_rows"]]

    model = weights.build(config, spec["seed"])
    steps, begun = spec["steps"], time.monotonic()

    def report(step, loss):
        if step % max(1, steps // 20) == 0 or step == steps:
            say("training", f"step {step} of {steps}, loss {loss:.2f}")

    done = weights.train(model, rows, steps=steps, batch=spec["batch"], budget=spec["budget"],
                         seed=spec["seed"], report=report)
    seconds = time.monotonic() - begun
    base = {
        "parameters": weights.parameters(model),
        "vocab": config["vocab_size"],
        "steps": done,
        "tokens": done * spec["batch"] * width,
        "train_seconds": seconds,
        "loss": weights.validate(model, valid),
        "unigram_loss": weights.unigram_loss(rows, valid, config["vocab_size"]),
    }
    weights.save(model, config, directory / "model")
    vocab.save(tokenizer, directory / "model")
    weights.save_quantized(model, config, 4, 64, directory / "model-4bit")
    vocab.save(tokenizer, directory / "model-4bit")
    say("base", "loss {loss:.2f} on unseen text, {unigram_loss:.2f} without context".format(**base))
    return {
        "base": base,
        "rows": {part: len(examples) for part, examples in splits.items()},
        "question": splits["test"][0].prompt(),
    }


def make_model(spec, directory):
    import weights

    _, tokenizer = text_and_tokenizer(spec)
    config = with_tokens(spec["config"], tokenizer)
    model = weights.build(config, spec["seed"], weights.DTYPES[config["torch_dtype"]])
    if config["tie_word_embeddings"]:
        model.pop("lm_head", None)  # some architectures make one all the same
    if spec["bits"]:
        weights.save_quantized(model, config, spec["bits"], spec["group_size"], directory)
    else:
        weights.save(model, config, directory)
    vocab.save(tokenizer, directory)
    return {"parameters": weights.parameters(model)}


spec = json.load(sys.stdin)
make = {"demo": make_demo, "model": make_model}[spec["make"]]
result = make(spec, Path(spec["directory"]))
result["seconds"] = time.monotonic() - started
print(json.dumps({"result": result}), flush=True)
