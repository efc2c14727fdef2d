"""Durable states: checkpoints from which a training goes on bit for bit, and
the finished adapter."""

import fcntl
import hashlib
import json
import os
import shutil
from pathlib import Path

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten, tree_map_with_path

from mlxdyno.failures import Failure, one_line
from mlxdyno.model import lora_parameters, lr_schedule, missing_bytes, optimizer_config

ADAPTERS, OPTIMIZER, STATE = "adapters.safetensors", "optimizer.safetensors", "state.json"


def sync(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        if hasattr(fcntl, "F_FULLFSYNC"):  # on macOS fsync leaves data in the drive's cache
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
        else:
            os.fsync(fd)
    finally:
        os.close(fd)


def publish(final, write):
    """Makes the directory final appear at once, complete and durable."""
    making, replaced = final.parent / ".writing", final.parent / ".replaced"
    try:
        for old in making, replaced:
            shutil.rmtree(old, ignore_errors=True)
        making.mkdir(parents=True)
        write(making)
        for file in making.iterdir():
            sync(file)
        sync(making)
        if final.exists():
            final.rename(replaced)
        making.rename(final)
        sync(final.parent)
        shutil.rmtree(replaced, ignore_errors=True)
    except (OSError, RuntimeError) as e:
        shutil.rmtree(making, ignore_errors=True)
        raise Failure("internal", "checkpoint.write", f"cannot write {final}: {one_line(e)}", "check free space and permissions there") from e


def save_arrays(path, arrays):
    mx.save_safetensors(str(path), arrays)
    if missing_bytes(path) != 0:  # MLX does not notice a full disk
        raise OSError(f"{path.name} was not written in full")


def save_json(path, value):
    path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def adapter_config(config):
    """What mlx-lm's load_adapters and a reader want to know, under mlx-lm's keys."""
    data, plan, schedule = config["data"], config["plan"], config["schedule"]
    out = {
        "fine_tune_type": "lora",
        "model": config["model"]["path"],
        "data": data["path"],
        "mask_prompt": data["mask_prompt"],
        "max_seq_length": data["max_seq_length"],
        "num_layers": config["quality"]["layers"],
        "lora_parameters": lora_parameters(config["quality"]),
        "learning_rate": config["quality"]["learning_rate"],
        "optimizer": config["quality"]["optimizer"],
        "batch_size": plan["batch"],
        "grad_accumulation_steps": plan["accumulation"],
        "grad_checkpoint": plan["checkpointing"],
        "iters": schedule["steps"],
        "seed": config["seed"],
    }
    if schedule := lr_schedule(config):
        out["lr_schedule"] = schedule
    if own := optimizer_config(config["quality"]):
        out["optimizer_config"] = {config["quality"]["optimizer"]: own}
    if bits := config["model"]["quantize"]:
        out["quantized_at_load"] = {"bits": bits, "group_size": config["model"]["group_size"]}
    return out


def save_adapter(directory, model, config):
    """The adapter in mlx-lm's layout."""

    def write(to):
        save_arrays(to / ADAPTERS, dict(tree_flatten(model.trainable_parameters())))
        save_json(to / "adapter_config.json", adapter_config(config))

    publish(Path(directory), write)


def save_checkpoint(root, step, versions, model, config, optimizer, state):
    """Writes checkpoints/NNNNNNN below root; returns its path and bytes."""
    final = Path(root) / "checkpoints" / f"{step:07d}"
    size = 0

    def write(to):
        nonlocal size
        save_arrays(to / ADAPTERS, dict(tree_flatten(model.trainable_parameters())))
        save_json(to / "adapter_config.json", adapter_config(config))
        save_arrays(to / OPTIMIZER, dict(tree_flatten(optimizer.state)))
        save_json(to / STATE, state)
        files = []
        for file in sorted(to.iterdir()):
            with open(file, "rb") as f:
                sha = hashlib.file_digest(f, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else hashlib.sha256(f.read()).hexdigest()
            files.append({"name": file.name, "bytes": file.stat().st_size, "sha256": sha})
        size = sum(f["bytes"] for f in files)
        manifest = {
            "schema": "mlxdyno/checkpoint/1",
            "step": step,
            "config_key": os.environ.get("MLXDYNO_CONFIG_KEY", ""),
            "engine": "mlx-lm",
            "versions": versions,
            "files": files,
        }
        save_json(to / "manifest.json", manifest)

    publish(final, write)
    return final, size


def restore(directory, model, optimizer):
    """Puts adapters, optimizer and MLX's random state back; returns state.json."""
    directory = Path(directory)
    try:
        adapters = mx.load(str(directory / ADAPTERS))
        moments = mx.load(str(directory / OPTIMIZER))
        state = json.loads((directory / STATE).read_text(encoding="utf-8"))
    except (OSError, RuntimeError, ValueError) as e:
        raise Failure("internal", "checkpoint.damaged", f"cannot read checkpoint {directory}: {one_line(e)}", "continue from an earlier one") from e
    have = dict(tree_flatten(model.trainable_parameters()))
    if {k: v.shape for k, v in have.items()} != {k: v.shape for k, v in adapters.items()}:
        raise mismatch(directory, "its adapters have other shapes than this configuration's")
    if {k for k, _ in tree_flatten(optimizer.state)} != moments.keys():
        raise mismatch(directory, "its optimizer is another one than this configuration's")
    model.load_weights(list(adapters.items()), strict=False)
    optimizer.state = tree_map_with_path(lambda path, _: moments[path], optimizer.state)
    optimizer.init(model.trainable_parameters())
    mx.eval(model.trainable_parameters(), optimizer.state)
    high, low = state["mlx_random"]
    mx.random.seed(high << 32 | low)
    return state


def mismatch(directory, why):
    return Failure("config", "checkpoint.mismatch", f"checkpoint {directory} does not fit: {why}", "start a new training, or use the configuration it was made with")


def mlx_random():
    """The state of MLX's generator. A seed of 64 bits is exactly such a state,
    which is how restore puts it back."""
    return [int(n) for n in np.array(mx.random.state[0])]


def numpy_random(state):
    kind, keys, at, has_gauss, gauss = state
    return [kind, [int(k) for k in keys], int(at), int(has_gauss), float(gauss)]


def numpy_state(saved):
    kind, keys, at, has_gauss, gauss = saved
    return kind, np.array(keys, np.uint32), at, has_gauss, gauss
