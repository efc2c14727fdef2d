package shim

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestSupported(t *testing.T) {
	for version, want := range map[string][2]bool{
		"0.31.1": {false, true}, "0.31.2": {true, true}, "0.32.4": {true, true}, "0.32.5": {true, false}, "0.32.10": {true, false},
		"0.9.9": {false, true}, "1.0.0": {true, false}, "0.32": {true, true},
	} {
		if s, tested := Supported(version); s != want[0] || tested != want[1] {
			t.Errorf("%s: supported %t, tested %t; want %v", version, s, tested, want)
		}
	}
}

func TestHeaderVersion(t *testing.T) {
	mlx := t.TempDir()
	if _, err := HeaderVersion(mlx); err == nil {
		t.Error("there are no headers")
	}
	file := filepath.Join(mlx, "include", "mlx", "version.h")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("#define MLX_VERSION_MAJOR 0\n#define MLX_VERSION_MINOR 32\n")
	if _, err := HeaderVersion(mlx); err == nil {
		t.Error("there is no patch level")
	}
	before, err := HeaderKey(mlx)
	if err != nil {
		t.Fatal(err)
	}
	write("#define MLX_VERSION_MAJOR 0\n#define MLX_VERSION_MINOR 32\n#define MLX_VERSION_PATCH 4\n#define MLX_VERSION_NUMERIC (1)\n")
	if got, err := HeaderVersion(mlx); got != "0.32.4" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if after, err := HeaderKey(mlx); after == before || err != nil {
		t.Errorf("other headers have the same key (%v)", err)
	}
}

func TestWriteGivesAllUnits(t *testing.T) {
	dir := t.TempDir()
	units, err := Write(dir)
	if err != nil || !slices.Equal(units, []string{"arrays.cpp", "runtime.cpp"}) {
		t.Fatalf("%v, %v", units, err)
	}
	for _, name := range append(units, "shim.h") {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}
