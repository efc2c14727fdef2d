# Loads the library between Go and MLX as Go does: BLAS first, MLX with it.
import ctypes
import os
import sys

shim, blas, version, abi, mlx_version = sys.argv[2:7]
if blas:
    ctypes.CDLL(blas, mode=os.RTLD_NOW | os.RTLD_GLOBAL)
library = ctypes.CDLL(shim, mode=os.RTLD_NOW)
if getattr(library, abi)() < 1:
    sys.exit("the binding has no version")
get = getattr(library, mlx_version)
get.restype = ctypes.c_char_p
loaded = get().decode()
if version and loaded != version and not loaded.startswith(version + "."):
    sys.exit(f"mlx {version} is installed, and the binding loads {loaded}")
