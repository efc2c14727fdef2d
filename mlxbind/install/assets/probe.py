# Says what an interpreter is, as JSON, in the fewest imports that do. It must
# run on every Python 3: too old a version is an answer too.
import json, platform, struct, sys, sysconfig

try:
    import ensurepip, venv
    can_make_venv = ""
except ImportError as e:
    can_make_venv = str(e)
print(json.dumps({
    "executable": sys.executable,
    "version": list(sys.version_info[:3]),
    "implementation": platform.python_implementation(),
    "bits": struct.calcsize("P") * 8,
    "machine": platform.machine(),
    "libc": list(platform.libc_ver()),
    "free_threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    "no_venv": can_make_venv,
}))
