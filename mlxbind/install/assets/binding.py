# Loads our own library with MLX as our workers do, into a process that has no
# MLX yet, and says what it answers.
import ctypes
import json
import os
import sys

shim, blas, abi_name, version_name = sys.argv[1:]
try:
    if blas:
        ctypes.CDLL(blas, mode=os.RTLD_NOW | os.RTLD_GLOBAL)
    library = ctypes.CDLL(shim, mode=os.RTLD_NOW)
    abi, version = getattr(library, abi_name), getattr(library, version_name)
    abi.restype, version.restype = ctypes.c_int64, ctypes.c_char_p
    answer = {"abi": abi(), "mlx": version().decode()}
except Exception as e:
    answer = {"error": f"{type(e).__name__}: {e}"}
print(json.dumps(answer))
