package install

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
)

//go:embed assets/forward.c
var forwardSource string

//go:embed assets/mlxdyno_blas.py
var preloadModule string

const (
	preloadHook = "import mlxdyno_blas\n"
	blasLibrary = "libmlxdyno_blas.so"
)

// buildBLAS builds the library that forwards MLX's products to the OpenBLAS in
// sitePackages, and has every interpreter of that environment load it before
// MLX. All paths in it are relative to the library.
func buildBLAS(ctx context.Context, compiler []string, sitePackages string, log io.Writer) (library string, err error) {
	// numpy brings an OpenBLAS too, with integers of another width.
	dir := filepath.Join("scipy_openblas32", "lib")
	found, err := filepath.Glob(filepath.Join(sitePackages, dir, "libscipy_openblas*.so"))
	if err != nil || len(found) == 0 {
		return "", &Error{Code: CompileFailed, Text: "scipy-openblas32 came without its library in " + filepath.Join(sitePackages, dir), Err: err, Fix: "run mlxdyno setup again"}
	}
	source := filepath.Join(sitePackages, "mlxdyno_blas.c")
	library = filepath.Join(sitePackages, blasLibrary)
	for path, text := range map[string]string{
		source: forwardSource,
		filepath.Join(sitePackages, "mlxdyno_blas.py"):  preloadModule,
		filepath.Join(sitePackages, "mlxdyno_blas.pth"): preloadHook,
	} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return "", err
		}
	}
	argv := slices.Concat(compiler, []string{
		"-x", "c", "-O2", "-fPIC", "-shared", "-fvisibility=hidden", "-o", library, source,
		"-x", "none", found[0], "-Wl,-rpath,$ORIGIN/" + dir,
	})
	err = runCommand(ctx, command{argv: argv, env: append(Env{}.Environ(), "LC_ALL=C"), log: log})
	var failed *failure
	if errors.As(err, &failed) {
		if diskFull(failed.said) {
			return "", errDiskFull(fmt.Sprintf("the disk ran full while %s was written", blasLibrary))
		}
		return "", &Error{Code: CompileFailed, Text: "the compiler could not build " + blasLibrary, Err: err, Fix: otherCompiler(runtime.GOOS)}
	}
	return library, err
}
