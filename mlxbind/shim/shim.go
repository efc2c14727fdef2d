// Package shim is the C++ between mlxbind and MLX, and how it is compiled.
//
// MLX has no stable C interface on PyPI, and its C++ one changes with every
// version. So the shim is compiled on the user's machine, against the headers of
// the MLX that is installed there (mlxbind/install does it), and where versions
// differ its source says so in one place.
package shim

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

//go:embed src
var source embed.FS

// Oldest is the oldest version of MLX that the shim compiles against, and Newest
// the newest that it was tested with.
const (
	Oldest = "0.31.2"
	Newest = "0.32.4"
)

// Functions that tell what a compiled shim is; any thread may call them.
const (
	VersionFunction    = "mlxd_abi"
	MLXVersionFunction = "mlxd_mlx_version"
)

// Library is the file name of the compiled shim on this system.
func Library() string {
	if runtime.GOOS == "darwin" {
		return "libmlxdyno.dylib"
	}
	return "libmlxdyno.so"
}

// Write puts the sources into dir and returns the names of those to compile.
func Write(dir string) (units []string, err error) {
	err = fs.WalkDir(source, "src", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := source.ReadFile(path)
		if err != nil {
			return err
		}
		if name := d.Name(); filepath.Ext(name) == ".cpp" {
			units = append(units, name)
		}
		return os.WriteFile(filepath.Join(dir, d.Name()), text, 0o644)
	})
	return units, err
}

// CompileArguments turn one unit into an object. Not -march=native: it can
// change half-precision types, and so what crosses the boundary.
func CompileArguments(mlx, unit, object string) []string {
	return []string{"-std=c++20", "-O2", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra",
		"-isystem", filepath.Join(mlx, "include"), "-c", unit, "-o", object}
}

// LinkArguments turn objects into the library.
func LinkArguments(mlx, library string, objects []string) []string {
	lib := filepath.Join(mlx, "lib")
	args := slices.Concat([]string{"-shared", "-o", library}, objects, []string{"-L" + lib, "-lmlx", "-Wl,-rpath," + lib})
	if runtime.GOOS != "darwin" { // where it is the default
		args = append(args, "-Wl,--no-undefined")
	}
	return args
}

// Key identifies sources and arguments: a library of another key is another
// library.
func Key() string {
	h := sha256.New()
	fs.WalkDir(source, "src", func(path string, d fs.DirEntry, _ error) error { //nolint:errcheck // embedded files can be read
		if !d.IsDir() {
			text, _ := source.ReadFile(path)
			fmt.Fprintf(h, "%s:%d:%s", path, len(text), text)
		}
		return nil
	})
	fmt.Fprint(h, CompileArguments("", "", ""), LinkArguments("", "", nil))
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// HeaderKey identifies the headers of an MLX.
func HeaderKey(mlx string) (string, error) {
	h := sha256.New()
	root := filepath.Join(mlx, "include", "mlx")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		name, _ := filepath.Rel(root, path)
		fmt.Fprintf(h, "%s\n", name)
		_, err = io.Copy(h, f)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("read MLX's headers: %w", err)
	}
	return hex.EncodeToString(h.Sum(nil)[:8]), nil
}

var versionLine = regexp.MustCompile(`(?m)^#define MLX_VERSION_(MAJOR|MINOR|PATCH) (\d+)`)

// HeaderVersion returns the version that the headers of an MLX are of.
func HeaderVersion(mlx string) (string, error) {
	text, err := os.ReadFile(filepath.Join(mlx, "include", "mlx", "version.h"))
	if err != nil {
		return "", fmt.Errorf("read MLX's headers: %w", err)
	}
	parts := map[string]string{}
	for _, m := range versionLine.FindAllStringSubmatch(string(text), -1) {
		parts[m[1]] = m[2]
	}
	if len(parts) != 3 {
		return "", fmt.Errorf("read MLX's headers: %s names no version", filepath.Join(mlx, "include", "mlx", "version.h"))
	}
	return parts["MAJOR"] + "." + parts["MINOR"] + "." + parts["PATCH"], nil
}

// Supported reports whether the shim compiles against a version of MLX, and
// whether it was tested with one as new.
func Supported(version string) (supported, tested bool) {
	return compare(version, Oldest) >= 0, compare(version, Newest) <= 0
}

// compare compares versions number by number; what is no number counts as 0.
func compare(a, b string) int {
	x, y := strings.Split(a, "."), strings.Split(b, ".")
	for i := range max(len(x), len(y)) {
		at := func(parts []string) int {
			if i >= len(parts) {
				return 0
			}
			n, _ := strconv.Atoi(parts[i])
			return n
		}
		if d := at(x) - at(y); d != 0 {
			return d
		}
	}
	return 0
}
