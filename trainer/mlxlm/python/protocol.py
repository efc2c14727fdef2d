"""The worker's side of the protocol: events out, commands in."""

import faulthandler
import json
import math
import os
import threading
import time


def number(x):
    """x as JSON can carry it."""
    if math.isfinite(x):
        return x
    return "NaN" if x != x else "Infinity" if x > 0 else "-Infinity"


class Events:
    """Numbered JSON lines on a descriptor.

    They are written at once: the pipe is the bounded queue. When it is full the
    writer waits, and says with the next step for how long.
    """

    def __init__(self, fd):
        self.fd = fd
        self.began = time.perf_counter()
        self.seq = 0
        self.step = 0
        self.segment = 0
        self.waited = 0.0

    def elapsed(self):
        return time.perf_counter() - self.began

    def emit(self, kind, payload):
        event = {
            "kind": kind,
            "segment": self.segment,
            "seq": self.seq,
            "elapsed": round(self.elapsed(), 9),
            "step": self.step,
            "payload": payload,
        }
        line = json.dumps(event, separators=(",", ":"), allow_nan=False).encode() + b"\n"
        self.seq += 1
        began = time.perf_counter()
        while line:
            line = line[os.write(self.fd, line) :]
        self.waited += time.perf_counter() - began

    def warn(self, code, text):
        self.emit("warning", {"code": code, "text": text})

    def take_wait(self):
        waited, self.waited = self.waited, 0.0
        return waited


class Commands:
    """The job, then whatever the parent says while it runs."""

    MAX_LINE = 1 << 20
    LEAST_GRACE = 10.0  # seconds to reach a step boundary once the parent is gone

    def __init__(self, fd):
        self.fd = fd
        self.rest = b""
        self.stop = None  # None, or whether to save before leaving
        self.gone = False  # input has ended: there is no parent any more
        self.slowest = 0.0  # seconds of the slowest step so far

    def line(self):
        """The next line, or b"" at the end of the input."""
        # os.read and not sys.stdin: a thread that waits inside a buffered
        # reader makes the interpreter abort when it ends.
        while b"\n" not in self.rest:
            more = os.read(self.fd, 65536)
            if not more or len(self.rest) > self.MAX_LINE:
                return b""
            self.rest += more
        line, _, self.rest = self.rest.partition(b"\n")
        return line

    def job(self):
        """The job, or None if the parent went away first."""
        while line := self.line():
            command = json.loads(line)
            if command.get("command") == "job":
                return command["job"]
        return None

    def listen(self):
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        while line := self.line():
            try:
                command = json.loads(line)
            except ValueError:
                continue
            if command.get("command") == "stop":
                self.stop = bool(command.get("checkpoint"))
        self.gone = True
        # Ends the process from outside Python, whatever holds the interpreter.
        faulthandler.dump_traceback_later(max(self.LEAST_GRACE, 3 * self.slowest), exit=True)
