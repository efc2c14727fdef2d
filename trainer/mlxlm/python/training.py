"""Drives mlx-lm's own train() from outside.

train() takes its batches from us and tells us of every step, so everything
between two steps (validation, checkpoints, leaving) happens where it asks for
the next batch. It never comes to its own end, where it would write an adapter:
we leave it by an exception.
"""

import functools
import math
import os
import time

import mlx.core as mx
import numpy as np
from mlx_lm.tuner import trainer as T

from mlxdyno import state as states
from mlxdyno.failures import Failure
from mlxdyno.machine import memory
from mlxdyno.protocol import number
from mlxdyno.tokens import Epochs, exact

LEAST_STEPS = 3  # of a shape that shape_seconds ends
NEVER = 2**62


class Ended(Exception):
    """The job did what it was asked to."""

    def __init__(self, reason, **done):
        super().__init__(reason)
        self.done = {"reason": reason, **done}


class GivenUp(Exception):
    """An evaluation was left in the middle."""


def replace(name, ours):
    """Puts ours in the place of a part of mlx-lm's trainer; returns that part."""
    theirs = getattr(T, name, None)
    if theirs is None:
        raise Failure(
            "internal",
            "install.mlx-lm",
            f"the trainer of this mlx-lm has no {name}: the version is not one that is supported",
            "run `mlxdyno setup`",
        )
    setattr(T, name, ours)
    return theirs


class Silent:
    """Stands in for mlx-lm's progress display."""

    def __init__(self, *_, **__):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return False

    def __getattr__(self, _):
        return lambda *_, **__: None


class Training:
    """One job's share of a training, from its first step to Ended."""

    def __init__(self, events, commands, job, model, optimizer, rows, valid, surroundings):
        self.events, self.commands, self.job = events, commands, job
        self.model, self.optimizer, self.rows, self.valid = model, optimizer, rows, valid
        self.surroundings = surroundings  # what decides the last bits of a result besides the configuration
        self.config = job["config"]
        self.plan, self.data, self.schedule = self.config["plan"], self.config["data"], self.config["schedule"]
        self.compiled = surroundings["compiled"]
        # mlx-lm frees what is cached at every step, unless a limit was asked for.
        self.clear_above = 0 if self.plan["cache_limit"] is None else NEVER
        self.shapes = job.get("shapes") or []
        self.directory = None if self.shapes else job.get("dir")
        origin = job.get("from")
        self.step = self.first = origin["step"] if origin else 0
        self.saved = self.first  # step of the newest checkpoint; step 0 needs none
        self.evaluated = None  # step after which it was last done
        self.budget = job.get("budget_ms", 0) / 1000
        endless = self.shapes or (self.budget and not self.directory)
        self.until = job.get("until_step") or (math.inf if endless else self.schedule["steps"])
        self.started = None  # when the first step ended: it may have compiled for minutes
        self.began = 0.0  # when this step began
        self.data_seconds = 0.0
        self.cached = 0  # bytes in MLX's cache before it was cleared
        self.traces = 0
        self.trained = 0  # supervised tokens so far, by mlx-lm's count
        self.batch = {}
        self.epochs = None

    def run(self):
        if self.directory and self.until < self.schedule["steps"] and not self.at_update(self.until):
            raise Failure(
                "config",
                "config.until-step",
                f"a stretch must end with a whole update, and from step {self.first} to {self.until} "
                f"is no multiple of {self.plan['accumulation']} steps",
                "choose a --reload-interval that is a multiple of --grad-accumulation-steps",
            )
        left = (self.until - self.first) % self.plan["accumulation"] if self.directory else 0
        if left:
            text = f"the last {left} steps do not complete an update, so they change nothing, as in mlx-lm"
            self.events.warn("schedule.unfinished-update", text)
        replace("TrainUI", Silent)
        replace("rprint", lambda *_, **__: None)  # says of every long row that it is cut
        self.mlx_lm_clear_cache = replace("_clear_cache", self.clear_cache)
        T.train(
            model=self.model,
            optimizer=self.optimizer,
            train_dataset=self.rows,
            val_dataset=None,
            args=T.TrainingArgs(
                batch_size=self.plan["batch"],
                iters=NEVER,
                steps_per_report=1,
                steps_per_eval=NEVER,
                steps_per_save=NEVER,
                max_seq_length=self.data["max_seq_length"],
                grad_checkpoint=self.plan["checkpointing"],
                grad_accumulation_steps=self.plan["accumulation"],
                clear_cache_threshold=self.clear_above,
            ),
            loss=self.counted_loss if self.compiled else T.default_loss,
            iterate_batches=self.batches,
            training_callback=self,
        )

    def counted_loss(self, model, batch, lengths):
        self.traces += 1  # the Python of a compiled step runs once a trace
        return T.default_loss(model, batch, lengths)

    def clear_cache(self, threshold):
        self.cached = mx.get_cache_memory()
        self.mlx_lm_clear_cache(threshold)

    # Batches.

    def batches(self, **arguments):
        """What train() takes its batches from. This runs between two steps."""
        source = self.exact_batches() if self.shapes else self.data_batches(arguments)
        while True:
            self.between_steps()
            began = time.perf_counter()
            try:
                batch, spans = next(source)
            except StopIteration:
                raise Ended("steps")
            rows, width = batch.shape
            ends = np.array(spans)[:, 1]
            self.batch = {
                "shape": {"batch": rows, "width": width},
                "tokens": int(np.minimum(ends, width - 1).sum()),
            }
            mx.reset_peak_memory()
            self.began = time.perf_counter()
            self.data_seconds = self.began - began
            yield batch, spans

    def exact_batches(self):
        steps, warm, most = 0, 0.0, self.job.get("shape_seconds", 0)
        for is_new, tokens, spans in exact(self.rows, self.shapes):
            if is_new:
                mx.clear_cache()
                steps = 0
            elif most and steps >= LEAST_STEPS and time.perf_counter() - warm >= most:
                continue
            steps += 1
            if steps == 2:  # the first, which may have compiled, is over
                warm = time.perf_counter()
            yield mx.array(tokens), mx.array(spans)

    def data_batches(self, arguments):
        del arguments["dataset"]
        self.epochs = Epochs(T.iterate_batches, self.rows, self.data["group_by_length"], **arguments)
        if self.job.get("from"):
            self.restore()
        return self.epochs

    def order(self):
        """What decides which rows make which batch."""
        return {
            "rows": len(self.rows),
            "checksum": self.rows.checksum,
            "batch": self.plan["batch"],
            "grouped": self.data["group_by_length"],
        }

    # Steps.

    def on_train_loss_report(self, said):
        """train() calls this after every step."""
        seconds = time.perf_counter() - self.began
        supervised = round(said["trained_tokens"] - self.trained)
        self.trained = said["trained_tokens"]
        self.step += 1
        self.events.step = self.step
        self.commands.slowest = max(self.commands.slowest, seconds)
        if self.started is None:
            self.started = time.perf_counter()
        loss = said["train_loss"]
        step = {
            "loss": number(loss),
            "learning_rate": number(said["learning_rate"]),
            "supervised": supervised,
            "seconds": seconds,
            "data_seconds": self.data_seconds,
            "memory": memory(self.cached),
            "emit_wait": self.events.take_wait(),
            **self.batch,
        }
        if self.compiled:
            step["traces"] = self.traces
        self.events.emit("step", step)
        if math.isfinite(loss):
            return
        if not supervised:
            raise Failure(
                "nonfinite",
                "nonfinite.no-targets",
                f"no token of the batch of step {self.step} counts in the loss: its rows are cut before their completions begin",
                "raise --max-seq-length, or drop --mask-prompt",
            )
        raise Failure(
            "nonfinite",
            "nonfinite.loss",
            f"the loss of step {self.step} is {number(loss)}",
            "lower --learning-rate; weights stored in float16 overflow sooner than in bfloat16",
        )

    # Between steps.

    def between_steps(self):
        if not self.commands.gone and self.commands.stop is None:
            self.attend()
        # It may have been told just now, in mid-evaluation.
        if self.commands.gone:
            raise Ended("stop")
        if (save := self.commands.stop) is not None:
            if not (save and self.directory):
                raise Ended("stop")
            if self.at_update(self.step):
                self.save()
                raise Ended("stop")
            if self.step >= self.until:
                raise Ended("stop")
        if self.budget and self.started is not None and time.perf_counter() - self.started >= self.budget:
            raise Ended("budget")
        self.change_limits()

    def change_limits(self):
        """Sets the limits of MLX that the job has from this step on."""
        for limits in self.job.get("limits") or []:
            if limits["after"] != self.step:
                continue
            if "memory_bytes" in limits:
                mx.set_memory_limit(limits["memory_bytes"])
            if "cache_bytes" in limits:
                mx.set_cache_limit(limits["cache_bytes"])

    def attend(self):
        """What is due after this step."""
        over, complete = self.step >= self.until, self.step >= self.schedule["steps"]
        if self.evaluation_is_due(complete) and not self.evaluate():
            return
        if self.directory and self.at_update(self.step) and (over or self.save_is_due()):
            self.save()
        if over and complete and self.directory:
            adapter = os.path.join(self.directory, "adapter")
            states.save_adapter(adapter, self.model, self.config)
            raise Ended("steps", adapter=adapter)
        if over:
            raise Ended("steps")

    def at_update(self, step):
        """Whether no gradient waits for further steps to complete its update."""
        return (step - self.first) % self.plan["accumulation"] == 0

    def evaluation_is_due(self, complete):
        if self.shapes or not self.job.get("evaluate") or not len(self.valid) or not self.schedule["val_batches"]:
            return False
        due = self.step == 0 or complete or self.step % self.schedule["eval_every"] == 0
        return due and self.evaluated != self.step

    def evaluate(self):
        """mlx-lm's evaluate(), on the same batches every time and without a
        trace in the order of the training's. Given up when told to leave."""
        began, batches = time.perf_counter(), 0

        def count():
            nonlocal batches
            batches += 1
            if self.commands.gone or self.commands.stop is not None:
                raise GivenUp

        generator = np.random.get_state()
        try:
            loss = T.evaluate(
                model=self.model,
                dataset=self.valid,
                batch_size=min(self.plan["batch"], len(self.valid)),
                num_batches=self.schedule["val_batches"],
                max_seq_length=self.data["max_seq_length"],
                iterate_batches=functools.partial(T.iterate_batches, seed=self.config["seed"]),
                clear_cache_threshold=self.clear_above,
                progress_callback=count,
            )
        except GivenUp:
            return False
        finally:
            np.random.set_state(generator)
            self.model.train()
        self.evaluated = self.step
        self.events.emit("eval", {"loss": number(loss), "batches": batches, "seconds": time.perf_counter() - began})
        return True

    # States.

    def save_is_due(self):
        every = self.schedule["save_every"]
        return self.step // every > self.saved // every

    def save(self):
        if self.saved == self.step:
            return
        began = time.perf_counter()
        path, size = states.save_checkpoint(
            self.directory,
            self.step,
            self.surroundings["versions"],
            self.model,
            self.config,
            self.optimizer,
            {
                "evaluated": self.evaluated,
                "surroundings": self.surroundings,
                "order": self.order(),
                "numpy_random": states.numpy_random(self.epochs.generator),
                "used": self.epochs.used,
                "mlx_random": states.mlx_random(),
            },
        )
        self.saved = self.step
        ref = {"step": self.step, "dir": str(path)}
        self.events.emit("checkpoint", {"ref": ref, "bytes": size, "seconds": time.perf_counter() - began})

    def restore(self):
        """Puts the training back to where its checkpoint was made."""
        saved = states.restore(self.job["from"]["dir"], self.model, self.optimizer)
        self.evaluated = saved["evaluated"]
        changed = [k for k, v in self.surroundings.items() if saved["surroundings"].get(k) != v]
        if changed:
            text = f"not bit for bit what an uninterrupted training would do: {', '.join(changed)} changed"
            self.events.warn("resume.not-exact", text)
        generator = states.numpy_state(saved["numpy_random"])
        if saved["order"] == self.order():
            self.epochs.go_to(generator, saved["used"])
            return
        np.random.set_state(generator)
        text = "rows or batches are not those of the checkpoint: a new pass over the data begins"
        self.events.warn("resume.data-order", text)
