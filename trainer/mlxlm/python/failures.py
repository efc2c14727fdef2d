"""What a person is told when a job cannot go on."""

import re
import traceback


class Failure(Exception):
    """Ends the job with words for a person. kind is one of the protocol's."""

    def __init__(self, kind, code, text, hint=""):
        super().__init__(text)
        self.kind, self.code, self.text, self.hint = kind, code, text, hint


def less_memory(config):
    """Advice on steps that need too much. Under dropout MLX computes wrong
    gradients when it computes activations again."""
    unwise = config["plan"]["checkpointing"] or config["quality"]["dropout"]
    again = "" if unwise else "turn on --grad-checkpoint, "
    return f"lower --batch-size or --max-seq-length, {again}or quantize the base"


# What MLX says when memory runs out, and what helps if that is not less memory.
# The order matters: the first that fits.
MEMORY = (
    (
        r"Resource limit \(\d+\) exceeded",
        "oom.resource-limit",
        "MLX holds more buffers than the system allows",
        "use fewer distinct batch shapes (--group-by-length), or --reload-interval to restart the worker now and then",
    ),
    (
        r"greater than the maximum allowed buffer size",
        "oom.buffer-size",
        "one array is larger than the GPU allows",
        None,
    ),
    (
        r"kIOGPUCommandBufferCallbackErrorOutOfMemory|Insufficient Memory|cudaErrorMemoryAllocation"
        r"|CUDA_ERROR_OUT_OF_MEMORY|out of memory|Unable to allocate|Failed to allocate|std::bad_alloc",
        "oom",
        "the device ran out of memory",
        None,
    ),
)


def memory(e, less):
    """The failure behind e if it is one of memory, else None. less is advice."""
    if isinstance(e, MemoryError):
        return Failure("oom", "oom.host", "the system gave Python no more memory", less)
    if isinstance(e, (RuntimeError, ValueError)):
        for pattern, code, text, hint in MEMORY:
            if re.search(pattern, str(e), re.IGNORECASE):
                return Failure("oom", code, f"{text}: {one_line(e)}", hint or less)
    return None


def one_line(e):
    return " ".join(str(e).split())[:300] or type(e).__name__


def describe(e, config):
    """The payload of an error event."""
    f = e if isinstance(e, Failure) else memory(e, less_memory(config))
    if f is None:
        f = Failure(
            "internal",
            "internal",
            f"unexpected {type(e).__name__}: {one_line(e)}",
            "the worker's log has the details",
        )
    trace = "".join(traceback.format_exception(type(e), e, e.__traceback__))
    return {"kind": f.kind, "code": f.code, "text": f.text, "hint": f.hint, "detail": trace[-16384:]}
