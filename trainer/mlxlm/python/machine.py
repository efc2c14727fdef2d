"""What this process runs on, in the words of hello, and what it occupies."""

import ctypes
import os
import sys
from importlib.metadata import PackageNotFoundError, version

import mlx.core as mx


def versions():
    found = {"python": sys.version.split()[0]}
    for name in "mlx", "mlx-lm", "numpy":
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            pass
    return found


def device():
    info = mx.device_info()
    kind = "cpu"
    if mx.default_device() == mx.gpu:
        kind = "metal" if mx.metal.is_available() else "cuda"
    said = {
        "kind": kind,
        "name": info.get("device_name"),
        "architecture": info.get("architecture"),
        "memory_bytes": info.get("memory_size") or info.get("total_memory"),
        "working_set_bytes": info.get("max_recommended_working_set_size"),
        "max_buffer_bytes": info.get("max_buffer_length"),
        "resource_limit": info.get("resource_limit"),
    }
    return {k: v for k, v in said.items() if v is not None}


def blas(kind):
    """The library behind float32 products on a Linux CPU with its threads, and
    what went wrong if it should have been loaded and was not."""
    if kind != "cpu" or sys.platform != "linux":
        return {}, None
    module = sys.modules.get("mlxdyno_blas")  # set-up has Python load it before MLX
    if not getattr(module, "loaded", False):
        return {"blas": "bundled reference BLAS"}, getattr(module, "error", None)
    out = {"blas": os.path.basename(module.library)}
    threads = os.environ.get("OPENBLAS_NUM_THREADS", "")
    if threads.isdigit():
        out["threads"] = int(threads)
    return out, None


def footprint_reader():
    """A function that returns what the system charges this process with: the
    physical footprint on macOS, the resident set on Linux. It costs
    microseconds, which is why it is not the proportional set."""
    if sys.platform == "darwin":
        libc = ctypes.CDLL(None)
        usage = ctypes.create_string_buffer(1024)
        flavor, at = 4, 72  # RUSAGE_INFO_V4, ri_phys_footprint

        def footprint():
            if libc.proc_pid_rusage(os.getpid(), flavor, usage) != 0:
                return None
            return int.from_bytes(usage.raw[at : at + 8], sys.byteorder)

        return footprint
    if sys.platform == "linux":
        statm, page = os.open("/proc/self/statm", os.O_RDONLY), os.sysconf("SC_PAGE_SIZE")
        return lambda: int(os.pread(statm, 128, 0).split()[1]) * page
    return lambda: None


_footprint = footprint_reader()


def memory(cached):
    """A reading for an event. cached is MLX's cache, which may be gone by now."""
    reading = {
        "active": mx.get_active_memory(),
        "peak": mx.get_peak_memory(),
        "cache": cached,
        "footprint": _footprint(),
    }
    return {k: v for k, v in reading.items() if v is not None}
