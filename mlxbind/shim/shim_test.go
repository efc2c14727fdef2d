package shim

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

func TestEmbeddedSources(t *testing.T) {
	units, err := Units(Sources())
	if err != nil || len(units) == 0 {
		t.Fatalf("units: %q, %v", units, err)
	}
	all := ""
	for _, name := range units {
		text, err := fs.ReadFile(Sources(), name)
		if err != nil {
			t.Fatal(err)
		}
		all += string(text)
	}
	for _, symbol := range []string{VersionFunction, MLXVersionFunction} {
		if !regexp.MustCompile(`\b` + symbol + `\(\)`).MatchString(all) {
			t.Errorf("no source defines %s()", symbol)
		}
	}
}

func TestSupported(t *testing.T) {
	for version, want := range map[string][2]bool{
		"0.31.1": {false, true}, "0.31.2": {true, true}, "0.32.4": {true, true}, "0.32.5": {true, false}, "0.32.10": {true, false},
		"0.9.9": {false, true}, "1.0.0": {true, false}, "0.32": {true, true}, "0.32.4.dev20261101+abc": {true, true}, "": {false, true},
	} {
		if supported, tested := Supported(version); supported != want[0] || tested != want[1] {
			t.Errorf("%s: supported %t, tested %t; want %v", version, supported, tested, want)
		}
	}
}

// Whatever changes the library changes its hash, and nothing else.
func TestHash(t *testing.T) {
	files := func(pairs ...string) fs.FS {
		made := fstest.MapFS{}
		for i := 0; i < len(pairs); i += 2 {
			made[pairs[i]] = &fstest.MapFile{Data: []byte(pairs[i+1])}
		}
		return made
	}
	of := func(f fs.FS) string {
		sum, err := hash(f)
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	base := of(files("a.cpp", "x", "b.h", "y"))
	if again := of(files("b.h", "y", "a.cpp", "x")); again != base {
		t.Error("the order of files changes the hash")
	}
	for name, other := range map[string]fs.FS{
		"text":         files("a.cpp", "x2", "b.h", "y"),
		"name":         files("a2.cpp", "x", "b.h", "y"),
		"one less":     files("a.cpp", "x"),
		"moved border": files("a.cpp", "xb.h", "b.h", ""),
	} {
		if of(other) == base {
			t.Errorf("%s: the hash stays", name)
		}
	}
	if Hash() != of(Sources()) {
		t.Error("Hash is not that of the sources")
	}
}

func TestKey(t *testing.T) {
	keys := map[string]bool{
		Key("0.32.4", "h", "c"): true, Key("0.32.3", "h", "c"): true, Key("0.32.4", "h2", "c"): true,
		Key("0.32.4", "h", "c2"): true, Key("0.32.4h", "", "c"): true,
	}
	if len(keys) != 5 {
		t.Errorf("keys are not distinct: %v", slices.Collect(maps.Keys(keys)))
	}
	for key := range keys {
		if !regexp.MustCompile(`^[0-9a-f]{20}$`).MatchString(key) {
			t.Errorf("%q is no name for a directory", key)
		}
	}
}

func TestArguments(t *testing.T) {
	compile := Compile("/my mlx", "a.cpp", "a.o")
	linux := Link("linux", "/my,mlx", []string{"a.o", "b.o"}, "l.so")
	darwin := Link("darwin", "/my,mlx", []string{"a.o", "b.o"}, "l.dylib")
	for name, c := range map[string]struct{ argv, want []string }{
		"compile":          {compile, []string{"-std=c++20", "-isystem", "/my mlx/include", "-c", "a.cpp", "-o", "a.o"}},
		"link on Linux":    {linux, []string{"-shared", "-o", "l.so", "a.o", "b.o", "-L/my,mlx/lib", "-lmlx", "-rpath", "/my,mlx/lib", "-Wl,-z,defs"}},
		"link on a Mac":    {darwin, []string{"-shared", "-o", "l.dylib", "a.o", "b.o", "-L/my,mlx/lib", "-lmlx", "-rpath", "/my,mlx/lib", "-Wl,-undefined,error"}},
		"headers' warning": {compile, []string{"-Wall", "-Wextra", "-Werror=return-type"}},
	} {
		rest := c.argv
		for _, word := range c.want {
			i := slices.Index(rest, word)
			if i < 0 {
				t.Fatalf("%s: %q is missing, or too early, in %q", name, word, c.argv)
			}
			rest = rest[i+1:]
		}
	}
	for _, argv := range [][]string{compile, linux, darwin} {
		if strings.Contains(strings.Join(argv, " "), "-march") {
			t.Errorf("%q would change MLX's types", argv)
		}
	}
	if slices.Contains(darwin, "-Wl,-z,defs") {
		t.Errorf("Apple's linker does not know %q", darwin)
	}
}

// The matrix proves nothing if it compiles otherwise than setup does.
func TestMatrixUsesTheSameFlags(t *testing.T) {
	script, err := os.ReadFile("matrix.sh")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{compileFlags, "oldest=" + Oldest + "\n", VersionFunction, MLXVersionFunction} {
		if !strings.Contains(string(script), want) {
			t.Errorf("matrix.sh lacks %q", want)
		}
	}
}

const versionText = "#pragma once\n\n#define MLX_VERSION_MAJOR 0\n#define MLX_VERSION_MINOR 32\n#define MLX_VERSION_PATCH 4\n#define MLX_VERSION_NUMERIC \\\n  (100000 * MLX_VERSION_MAJOR)\n"

func TestParseVersion(t *testing.T) {
	cases := map[string]string{
		versionText: "0.32.4",
		"  # define\tMLX_VERSION_MAJOR 1\n#define MLX_VERSION_MINOR 0\n#define MLX_VERSION_PATCH 12 // x\n": "1.0.12",
		"": "",
		"#define MLX_VERSION_MAJOR 0\n#define MLX_VERSION_MINOR 32\n":                                         "",
		"#define MLX_VERSION_MAJOR X\n#define MLX_VERSION_MINOR 32\n#define MLX_VERSION_PATCH 4\n":            "",
		"// #define MLX_VERSION_MAJOR 0\n#define MLX_VERSION_MINOR 32\n#define MLX_VERSION_PATCH 4\n":         "",
		"#define MLX_VERSION_MAJOR 0x1\n#define MLX_VERSION_MINOR 3\n#define MLX_VERSION_PATCH 4\n":           "",
		"#define OTHER_MLX_VERSION_MAJOR 0\n#define MLX_VERSION_MINOR 3\n#define MLX_VERSION_PATCH 4\nint i;": "",
	}
	for text, want := range cases {
		if got, err := parseVersion(text); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
}

func FuzzParseVersion(f *testing.F) {
	f.Add(versionText)
	form := regexp.MustCompile(`^\d+\.\d+\.\d+$`)
	f.Fuzz(func(t *testing.T, text string) {
		if got, err := parseVersion(text); (err == nil) != form.MatchString(got) {
			t.Fatalf("%q, %v", got, err)
		}
	})
}

// fakeMLX makes MLX's directory as a wheel has it.
func fakeMLX(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "mlx")
	for path, text := range map[string]string{
		"include/mlx/version.h": versionText, "include/mlx/mlx.h": "int f();", "include/mlx/io/load.h": "", "include/mlx/notes.txt": "",
		"lib/" + LibMLX("linux"): "elf", "lib/" + LibMLX("darwin"): "macho",
	} {
		put(t, filepath.Join(dir, path), text)
	}
	return dir
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestHeaders(t *testing.T) {
	mlx := fakeMLX(t)
	base, err := HeaderKey(mlx)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := HeaderVersion(mlx); got != "0.32.4" || err != nil {
		t.Errorf("version: %q, %v", got, err)
	}
	cases := []struct {
		name    string
		spoil   func(mlx string) error
		changes bool
		fails   bool
	}{
		{name: "nothing", spoil: func(string) error { return nil }},
		{name: "no header", spoil: func(mlx string) error {
			return os.WriteFile(filepath.Join(mlx, "include/mlx/notes.txt"), []byte("x"), 0o644)
		}},
		{name: "a header's text", changes: true, spoil: func(mlx string) error {
			return os.WriteFile(filepath.Join(mlx, "include/mlx/mlx.h"), []byte("int g();"), 0o644)
		}},
		{name: "a header's name", changes: true, spoil: func(mlx string) error {
			return os.Rename(filepath.Join(mlx, "include/mlx/io/load.h"), filepath.Join(mlx, "include/mlx/io/store.h"))
		}},
		{name: "a header more", changes: true, spoil: func(mlx string) error {
			return os.WriteFile(filepath.Join(mlx, "include/mlx/zero.h"), nil, 0o644)
		}},
		{name: "another library", changes: true, spoil: func(mlx string) error {
			return os.WriteFile(filepath.Join(mlx, "lib", LibMLX(runtime.GOOS)), []byte("longer"), 0o644)
		}},
		{name: "no library", fails: true, spoil: func(mlx string) error { return os.RemoveAll(filepath.Join(mlx, "lib")) }},
		{name: "no headers", fails: true, spoil: func(mlx string) error { return os.RemoveAll(filepath.Join(mlx, "include/mlx")) }},
		{name: "no directory", fails: true, spoil: func(mlx string) error { return os.RemoveAll(filepath.Join(mlx, "include")) }},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			copied := filepath.Join(t.TempDir(), "mlx")
			if err := os.CopyFS(copied, os.DirFS(mlx)); err != nil {
				t.Fatal(err)
			}
			before, err := HeaderKey(copied)
			if err != nil || before == base {
				t.Fatalf("a copy elsewhere: %v, equal %v", err, before == base)
			}
			if err := c.spoil(copied); err != nil {
				t.Fatal(err)
			}
			after, err := HeaderKey(copied)
			if (err != nil) != c.fails || (err == nil && (after != before) != c.changes) {
				t.Errorf("changed %v, %v", after != before, err)
			}
		})
	}
}

// Installers that keep packages once link to them.
func TestHeadersBehindLinks(t *testing.T) {
	mlx := fakeMLX(t)
	before, err := HeaderKey(mlx)
	if err != nil {
		t.Fatal(err)
	}
	header := filepath.Join(mlx, "include/mlx/mlx.h")
	elsewhere := filepath.Join(t.TempDir(), "mlx.h")
	if err := os.Rename(header, elsewhere); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(elsewhere, header); err != nil {
		t.Fatal(err)
	}
	if after, err := HeaderKey(mlx); after != before || err != nil {
		t.Errorf("%q, then %q, %v", before, after, err)
	}
}

func BenchmarkHash(b *testing.B) {
	for b.Loop() {
		Hash()
	}
}
