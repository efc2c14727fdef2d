# Says where an environment's MLX is and what is installed, and imports
# nothing of it: mlx is a namespace, and mlx.core is only looked for.
import importlib.metadata
import importlib.util
import json
import os

packages = {}
for d in importlib.metadata.distributions():
    name = d.metadata["Name"]
    if name:  # a half-removed package has none
        packages.setdefault(name.lower().replace("_", "-"), d.version)
try:
    spec = importlib.util.find_spec("mlx.core")
except ImportError:
    spec = None
print(json.dumps({"mlx": os.path.dirname(spec.origin) if spec and spec.origin else "", "packages": packages}))
