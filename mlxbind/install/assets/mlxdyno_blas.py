"""Loads a fast BLAS just before MLX, made by `mlxdyno setup`.

Every start of this interpreter imports this module, so it does next to
nothing: a finder waits for the first import of mlx, and only then loads the
library. It never raises; what went wrong is kept in `error`.
"""

import sys

library = __file__.rpartition("/")[0] + "/libmlxdyno_blas.so"
loaded = False
error = None


def load():
    """Makes the library's cblas functions the first that libmlx finds."""
    global loaded, error
    if loaded or error:
        return
    try:
        import ctypes
        import os

        ctypes.CDLL(library, mode=os.RTLD_NOW | os.RTLD_GLOBAL)
        loaded = True
    except Exception as e:
        error = f"{type(e).__name__}: {e}"


class _BeforeMLX:
    # It stays in the list once it has fired: taking it out while the import
    # machinery walks the list would make that skip the next finder.
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "mlx":
            load()
        return None


sys.meta_path.insert(0, _BeforeMLX)
