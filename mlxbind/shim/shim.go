// Package shim is the C++ between Go and MLX, and the way it becomes a library.
//
// It is compiled on the user's machine against the headers of the MLX that is
// installed there, since MLX promises no stable binary interface. The package
// only says how: it starts no process and writes nothing. Package install does
// that, and package mlxbind calls what comes out.
package shim

import (
	"cmp"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
)

//go:embed src/*.cpp src/*.h
var embedded embed.FS

// The versions of MLX that it is known to compile against. Older ones lack
// what it calls; newer ones may do, and nobody has tried.
const (
	Oldest = "0.31.2"
	Newest = "0.32.4"
)

// Functions of the library that prove that it was loaded: any thread may call
// them, at any time.
const (
	VersionFunction    = "mlxd_abi"         // int64_t(): version of the boundary
	MLXVersionFunction = "mlxd_mlx_version" // const char *(): of the libmlx that was loaded
)

// What every compiler gets. No -march=native: on ARM it changes MLX's
// half-precision types, and with them the names of its functions.
const compileFlags = "-std=c++20 -O2 -fPIC -fvisibility=hidden -Wall -Wextra -Werror=return-type"

// Supported reports whether the shim can be compiled against a version of MLX,
// and whether it was tested with one as new.
func Supported(version string) (supported, tested bool) {
	return compare(version, Oldest) >= 0, compare(version, Newest) <= 0
}

// compare compares versions number by number; what is no number counts as 0.
func compare(a, b string) int {
	x, y := strings.Split(a, "."), strings.Split(b, ".")
	number := func(parts []string, i int) int {
		if i >= len(parts) {
			return 0
		}
		n, err := strconv.Atoi(parts[i])
		if err != nil {
			return 0
		}
		return n
	}
	for i := range max(len(x), len(y)) {
		if d := cmp.Compare(number(x, i), number(y, i)); d != 0 {
			return d
		}
	}
	return 0
}

// Sources returns the files of the shim: each .cpp is one translation unit.
func Sources() fs.FS {
	files, err := fs.Sub(embedded, "src")
	if err != nil {
		panic(err) // "src" is a valid path
	}
	return files
}

// Units lists the translation units among files.
func Units(files fs.FS) ([]string, error) { return fs.Glob(files, "*.cpp") }

// Library is the name of the shared library on a system.
func Library(goos string) string {
	if goos == "darwin" {
		return "libmlxdyno.dylib"
	}
	return "libmlxdyno.so"
}

// LibMLX is the name of MLX's library on a system.
func LibMLX(goos string) string {
	if goos == "darwin" {
		return "libmlx.dylib"
	}
	return "libmlx.so"
}

// Compile returns the arguments with which a compiler makes an object of a
// translation unit, for the MLX whose directory is named: the one that holds
// include and lib.
func Compile(mlx, unit, object string) []string {
	return append(strings.Fields(compileFlags), "-isystem", mlx+"/include", "-c", unit, "-o", object)
}

// Link returns the arguments with which a compiler makes the library of the
// objects. It fails when MLX's library lacks something that they call, and the
// result loads that very library, whatever LD_LIBRARY_PATH says: the headers
// are of no other.
func Link(goos, mlx string, objects []string, library string) []string {
	strict := []string{"-Wl,-z,defs", "-Wl,--disable-new-dtags"}
	if goos == "darwin" {
		strict = []string{"-Wl,-undefined,error"}
	}
	return slices.Concat([]string{"-shared", "-o", library}, objects, []string{
		"-L" + mlx + "/lib", "-lmlx",
		"-Xlinker", "-rpath", "-Xlinker", mlx + "/lib", // -Wl would split at a comma
	}, strict)
}

// Hash is a hash over everything that this program puts into the library:
// sources and flags. A library with another one is of another mlxdyno.
func Hash() string {
	sum, err := hash(Sources())
	if err != nil {
		panic(err) // the files are part of this program
	}
	return sum
}

func hash(files fs.FS) (string, error) {
	names, err := fs.Glob(files, "*")
	if err != nil {
		return "", err
	}
	slices.Sort(names)
	parts := append(Compile("M", "U", "O"), Link("linux", "M", nil, "L")...)
	parts = append(parts, Link("darwin", "M", nil, "L")...)
	for _, name := range names {
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return "", err
		}
		parts = append(parts, name, string(text))
	}
	return digest(parts...), nil
}

// Key names a library by everything that decides what is in it: sources and
// flags, MLX's version, the hash of its headers (see HeaderKey), and which
// compiler it was.
func Key(mlxVersion, headerHash, compilerIdentity string) string {
	return digest(Hash(), mlxVersion, headerHash, compilerIdentity)[:20]
}

func digest(parts ...string) string {
	h := sha256.New()
	for _, part := range parts {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	return hex.EncodeToString(h.Sum(nil))
}
