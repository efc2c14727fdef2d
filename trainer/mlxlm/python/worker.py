"""Runs one job: says hello, loads, and trains until it is over."""

import os
import signal
import sys
import time

from mlxdyno.failures import Failure, describe, one_line
from mlxdyno.protocol import Commands, Events

PROTOCOL = [1, 0]
EVENTS_FD, LOCK_FD = 3, 4


def import_libraries():
    try:
        import mlx.core  # noqa: F401
        import mlx_lm.tuner.trainer  # noqa: F401
    except Exception as e:
        text = f"Python cannot load MLX and mlx-lm: {type(e).__name__}: {one_line(e)}"
        raise Failure("internal", "install.mlx", text, "run `mlxdyno setup`") from e


def hello(events, job):
    """Settles whether steps are compiled; returns what decides the last bits of
    results besides the configuration."""
    import mlx.core as mx

    from mlxdyno import machine

    device = machine.device()
    # On a CPU each shape costs seconds of a C++ compiler and gains nothing.
    compiled = {"on": True, "off": False}.get(job["config"]["plan"]["compile"], device["kind"] != "cpu")
    if not compiled:
        mx.disable_compile()
    versions = machine.versions()
    blas, problem = machine.blas(device["kind"])
    said = {"versions": versions, "device": device, "compiled": compiled, **blas}
    events.emit("hello", {"protocol": PROTOCOL, "engine": "mlx-lm", "pid": os.getpid(), "mode": job["mode"], **said})
    if problem:
        events.warn("install.blas", f"the fast BLAS could not be loaded: {problem}")
    return said


def set_limits(plan):
    """Sets what was asked for; returns what is in force and known."""
    import mlx.core as mx

    if plan["memory_limit"] is not None:
        mx.set_memory_limit(plan["memory_limit"])
    limits = {"memory_limit": mx.get_memory_limit()}
    if plan["cache_limit"] is not None:
        mx.set_cache_limit(plan["cache_limit"])
        limits["cache_limit"] = plan["cache_limit"]
    return limits


def set_wired_limit(wired):
    """train() wires all that is recommended when it begins. The same is done
    here, so that it is known before; a limit that was asked for comes instead."""
    import mlx.core as mx
    from mlx_lm.tuner import trainer

    from mlxdyno.training import replace

    recommended = mx.device_info().get("max_recommended_working_set_size")
    if wired is None:
        trainer.maybe_set_recommended_wired_limit()
        wired = recommended
    else:
        try:
            mx.set_wired_limit(wired)
        except (RuntimeError, ValueError) as e:
            text = f"MLX refuses a wired limit of {wired} bytes: {one_line(e)}"
            raise Failure("config", "config.wired-limit", text, f"use at most {recommended}") from e
        replace("maybe_set_recommended_wired_limit", lambda: None)
    return {} if recommended is None else {"wired_limit": wired}  # elsewhere it has no effect


def load(events, job, limits):
    """Loads model, adapters and rows, and says ready."""
    import mlx.core as mx
    import numpy as np

    from mlxdyno import model as models
    from mlxdyno.machine import memory
    from mlxdyno.tokens import Rows

    config, began = job["config"], time.perf_counter()
    bits, group_size = config["model"]["quantize"], config["model"]["group_size"]
    np.random.seed(config["seed"])
    model, base = models.load(config["model"]["path"], bits, group_size)
    linear, quantized = models.linear_modules(model)
    parameters = models.get_total_parameters(model)
    _, weight_bytes = models.size_of(model.parameters())
    adapted = models.add_adapters(model, config["quality"], config["seed"])
    optimizer = models.make_optimizer(model, config)
    trainable, trainable_bytes = models.size_of(model.trainable_parameters())

    rows = Rows(job["tokens"]["train"])
    valid = Rows(job["tokens"]["valid"]) if job["tokens"].get("valid") else []
    least = 1 if job.get("shapes") else config["plan"]["batch"]
    if len(rows) < least:
        text = f"a batch of {least} rows cannot be made of {len(rows)} training rows"
        raise Failure("data", "data.too-few-rows", text, "lower --batch-size, or add rows")
    limits |= set_wired_limit(config["plan"]["wired_limit"])
    events.emit(
        "ready",
        {
            "load_seconds": time.perf_counter() - began,
            "architecture": base["model_type"],
            "layers": len(model.layers),
            "parameters": parameters,
            "trainable": trainable,
            "weight_bytes": weight_bytes,
            "trainable_bytes": trainable_bytes,
            "adapted_modules": adapted,
            "quantized_modules": len(quantized),
            "linear_modules": len(linear),
            "train_rows": len(rows),
            "valid_rows": len(valid),
            "memory": memory(mx.get_cache_memory()),
            **limits,
        },
    )
    if bits and (plain := sorted(linear - quantized)):
        events.warn(
            "model.not-quantized",
            f"{len(plain)} of {len(linear)} modules keep their precision, first {plain[0]}: "
            f"groups of {group_size} do not divide their width, or the architecture exempts them",
        )
    if config["quality"]["optimizer"] == "adafactor":
        text = "adafactor as mlx-lm sets it up chooses its step size itself: the learning rate has no effect"
        events.warn("optimizer.learning-rate", text)
    return model, optimizer, rows, valid


def work(events, commands, job):
    """Ends by an exception: Ended, or what went wrong."""
    import_libraries()
    surroundings = hello(events, job)
    from mlxdyno.training import Training

    limits = set_limits(job["config"]["plan"])
    loaded = load(events, job, limits)
    Training(events, commands, job, *loaded, surroundings).run()


def main():
    events, commands = Events(EVENTS_FD), Commands(0)
    job = commands.job()
    if job is None:
        return 0
    events.segment = job["segment"]
    events.step = job["from"]["step"] if job.get("from") else 0
    commands.listen()
    try:
        work(events, commands, job)
    except BaseException as e:
        if done := getattr(e, "done", None):  # Ended; its module may not even be loadable
            events.emit("done", {"seconds": events.elapsed(), **done})
            return 0
        failure = describe(e, job["config"])
        print(failure["detail"], file=sys.stderr)
        events.emit("error", failure)
    return 1


def run():
    for fd in EVENTS_FD, LOCK_FD:  # a compiler that MLX starts must not hold them
        try:
            os.set_inheritable(fd, False)
        except OSError:
            pass
    sys.stdout = sys.stderr
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # at once, even while Python is held up
    try:
        status = main()
    except BrokenPipeError:  # nobody listens any more
        status = 1
    sys.stderr.flush()
    os._exit(status)  # nothing can go wrong after the last word
