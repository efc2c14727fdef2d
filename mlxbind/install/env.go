package install

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// Backends of MLX.
const (
	CPU   = "cpu"
	Metal = "metal"
	CUDA  = "cuda"
)

// Env is a Python environment with MLX that passed its self-test.
type Env struct {
	Home          string            `json:"home"`    // of mlxdyno
	Python        string            `json:"python"`  // absolute path of the interpreter
	Backend       string            `json:"backend"` // cpu, metal or cuda
	Versions      map[string]string `json:"versions"`
	PythonVersion string            `json:"python_version"`
	BLAS          string            `json:"blas"`                   // serves float32 products on a CPU backend; else empty
	BLASLibrary   string            `json:"blas_library,omitempty"` // to be loaded globally before libmlx; empty if there is none to load
	MLX           string            `json:"mlx"`                    // MLX's directory, with include and lib
	Shim          string            `json:"shim"`                   // library that binds Go to MLX; it loads libmlx itself, after BLASLibrary
	Device        string            `json:"device"`                 // MLX's default device at the self-test
	Managed       bool              `json:"managed"`                // made by Ensure, not the user's own
}

// Inherited variables that would make an interpreter load other code than its
// environment's, or not end, or cache bytecode where nobody looks.
var unwanted = []string{
	"PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "PYTHONUSERBASE", "PYTHONPLATLIBDIR", "PYTHONSAFEPATH",
	"PYTHONEXECUTABLE", "__PYVENV_LAUNCHER__", "VIRTUAL_ENV",
	"PYTHONINSPECT", "PYTHONOPTIMIZE", "PYTHONPYCACHEPREFIX",
}

// Environ returns the environment for processes of e's Python: this process's
// own, less what would lead the interpreter astray, with a fixed number of
// BLAS threads (it decides the last bits of every product), no look-ups on the
// model hub, and a temporary directory that exists. What the user has set of
// the latter three stays.
func (e Env) Environ() []string { return e.environ(os.Environ()) }

func (e Env) environ(inherited []string) []string {
	vars := map[string]string{}
	for _, pair := range inherited {
		if name, value, ok := strings.Cut(pair, "="); ok && name != "" && !slices.Contains(unwanted, name) {
			vars[name] = value
		}
	}
	if e.Managed {
		// The environment is there to be run: bytecode belongs into it.
		delete(vars, "PYTHONDONTWRITEBYTECODE")
	}
	if e.BLASLibrary != "" && vars["LD_PRELOAD"] != "" {
		// A preloaded BLAS would come before ours and change results. Other
		// preloaded libraries may be what makes the user's system work.
		vars["LD_PRELOAD"] = withoutBLAS(vars["LD_PRELOAD"])
		if vars["LD_PRELOAD"] == "" {
			delete(vars, "LD_PRELOAD")
		}
	}
	vars["PYTHONNOUSERSITE"] = "1"
	vars["PYTHONUNBUFFERED"] = "1"
	vars["PYTHONUTF8"] = "1" // mlx-lm opens its JSON files with the default encoding
	threads := vars["OMP_NUM_THREADS"]
	if n, err := strconv.Atoi(threads); err != nil || n < 1 {
		threads = strconv.Itoa(runtime.GOMAXPROCS(0)) // knows about control groups
	}
	for name, value := range map[string]string{
		"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OPENBLAS_NUM_THREADS": threads,
	} {
		if vars[name] == "" {
			vars[name] = value
		}
	}
	// MLX writes what it compiles there, and fails where there is no such place.
	if !isDir(vars["TMPDIR"]) {
		vars["TMPDIR"] = "/tmp"
		if !isDir("/tmp") {
			vars["TMPDIR"] = filepath.Join(e.Home, "tmp") // made by Ensure
		}
	}
	list := make([]string, 0, len(vars))
	for name, value := range vars {
		list = append(list, name+"="+value)
	}
	slices.Sort(list)
	return list
}

// withoutBLAS drops the BLAS libraries from a value of LD_PRELOAD.
func withoutBLAS(preload string) string {
	var keep []string
	for _, library := range strings.FieldsFunc(preload, func(r rune) bool { return r == ':' || r == ' ' }) {
		name := strings.ToLower(filepath.Base(library))
		if !strings.Contains(name, "blas") && !strings.Contains(name, "mkl") && !strings.Contains(name, "blis") {
			keep = append(keep, library)
		}
	}
	return strings.Join(keep, ":")
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
