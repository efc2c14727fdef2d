# Proves that an environment computes. Writes one JSON object a line to
# descriptor 3, each completing the ones before, so that something is known
# even of a process that MLX takes down.
import importlib.metadata
import json
import os
import platform
import sys
import time
import traceback

os.set_inheritable(3, False)
out = os.fdopen(3, "w")
blas_library, backend, shim, binding_script, *symbols = sys.argv[2:]  # the first three may be empty: not known
checks = []


def say(**facts):
    out.write(json.dumps({**facts, "checks": checks}) + "\n")
    out.flush()


def check(name, body):
    """Runs body; its return value is the detail. Whether it raised is the result."""
    began = time.perf_counter()
    try:
        detail, ok = body(), True
    except Exception as e:
        detail, ok = f"{type(e).__name__}: {e}", False
        traceback.print_exc()
    checks.append({"name": name, "ok": ok, "detail": str(detail or ""), "seconds": round(time.perf_counter() - began, 3)})
    say()
    return ok


def require(condition, text):
    if not condition:
        raise AssertionError(text)


packages = {}
for d in importlib.metadata.distributions():
    name = d.metadata["Name"]
    if name:  # a half-removed package has none
        packages.setdefault(name.lower().replace("_", "-"), d.version)
say(packages=packages, python_version=platform.python_version())


def import_mlx():
    global mx, nn
    import mlx.core as mx
    import mlx.nn as nn

    say(mlx=os.path.dirname(mx.__file__), device=str(mx.default_device()))
    return mx.__version__


def versions_agree():
    front = packages.get("mlx")
    backends = {n: v for n, v in packages.items() if n in ("mlx-cpu", "mlx-metal", "mlx-cuda-12", "mlx-cuda-13")}
    require(front == mx.__version__, f"mlx {front} is installed, {mx.__version__} is loaded")
    for name, version in backends.items():
        require(version == front, f"mlx is {front}, {name} is {version}")
    return front


def device():
    name = str(mx.default_device())
    require(backend in ("", "cpu") or "gpu" in name, f"MLX for {backend} finds no GPU and would use {name}")
    return name


def matmul():
    n = 512
    rows = mx.arange(n).reshape(n, 1)
    columns = mx.arange(n).reshape(1, n)
    a = ((3 * rows + columns) % 5).astype(mx.float32)
    b = ((rows + 2 * columns) % 3).astype(mx.float32)
    # Small integers: every product and every sum of a row is exact.
    got = [int(x) for x in (a @ b).sum(axis=1).tolist()]
    b_rows = [sum((k + 2 * j) % 3 for j in range(n)) for k in range(n)]
    want = [sum((3 * i + k) % 5 * b_rows[k] for k in range(n)) for i in range(n)]
    require(got == want, "a product of two 512 x 512 matrices is wrong")


def gradient():
    x = mx.array([1.0, 2.0, 3.0])
    value, grad = mx.value_and_grad(lambda x: (x * x * x).sum())(x)
    require(value.item() == 36.0 and grad.tolist() == [3.0, 12.0, 27.0], f"x^3 gives {value.item()}, {grad.tolist()}")


def quantization():
    w = (mx.arange(64 * 64) % 16).astype(mx.float32).reshape(64, 64)
    back = mx.dequantize(*mx.quantize(w, group_size=64, bits=4), group_size=64, bits=4)
    worst = mx.abs(back - w).max().item()
    require(worst <= 0.51, f"4 bits are off by {worst}")
    return f"largest error {worst:.2g}"


def import_mlx_lm():
    import mlx_lm
    import mlx_lm.tuner.datasets
    import mlx_lm.tuner.trainer
    import mlx_lm.tuner.utils

    return mlx_lm.__version__


def blas():
    """Which library libmlx's calls reach: the first global one, as for any symbol."""
    import ctypes

    class Info(ctypes.Structure):
        _fields_ = [("file", ctypes.c_char_p), ("base", ctypes.c_void_p), ("name", ctypes.c_char_p), ("address", ctypes.c_void_p)]

    everything = ctypes.CDLL(None)
    try:
        symbol = everything.cblas_sgemm
    except AttributeError:
        say(blas="reference BLAS, bundled with MLX")
        if blas_library:
            import mlxdyno_blas

            require(False, f"the library was not loaded ({mlxdyno_blas.error})")
        return "bundled with MLX"
    info = Info()
    everything.dladdr.argtypes = [ctypes.c_void_p, ctypes.POINTER(Info)]
    require(everything.dladdr(ctypes.cast(symbol, ctypes.c_void_p), ctypes.byref(info)), "nobody owns cblas_sgemm")
    path = os.path.realpath(os.fsdecode(info.file))
    name = os.path.basename(path)
    try:
        config = everything.scipy_openblas_get_config
        config.restype = ctypes.c_char_p
        name = " ".join(config().decode().split()[:2])
    except AttributeError:
        pass
    say(blas=name)
    require(not blas_library or path == os.path.realpath(blas_library), f"{path} comes first")
    return path


def binding():
    """Our own library must find MLX by itself, as it does in a process without Python."""
    import subprocess

    try:
        done = subprocess.run([sys.executable, "-c", binding_script, shim, blas_library, *symbols], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120)
    except subprocess.TimeoutExpired:
        require(False, "its process did not end")
    sys.stderr.write(done.stderr)
    require(done.returncode >= 0, f"its process was ended by signal {-done.returncode}")
    require(done.returncode == 0, f"its process ended with {done.returncode}: {done.stderr[-200:]}")
    said = json.loads(done.stdout.splitlines()[-1])
    if error := said.get("error"):
        lacks = error.startswith("OSError") and ("undefined symbol" in error or "ymbol not found" in error)
        require(False, ("MLX lacks what it was compiled for, " if lacks else "") + error)
    require(said["mlx"] == mx.__version__, f"it loads MLX {said['mlx']}, and Python loads {mx.__version__}")
    return f"version {said['abi']} of the boundary, MLX {said['mlx']}"


def speed():
    n = 1024
    a = mx.random.normal((n, n))
    mx.eval(a, a @ a)
    best = float("inf")
    for _ in range(3):
        began = time.perf_counter()
        mx.eval(a @ a)
        best = min(best, time.perf_counter() - began)
    say(gflops=round(2 * n**3 / best / 1e9, 1))


if check("import mlx", import_mlx):
    check("versions agree", versions_agree)
    check("device", device)
    check("matrix product", matmul)
    check("gradient", gradient)
    check("quantization", quantization)
    if sys.platform == "linux" and "mlx-cpu" in packages:
        check("blas", blas)
    if shim:
        check("binding", binding)
    check("speed", speed)
    check("import mlx_lm", import_mlx_lm)
say(finished=True)
