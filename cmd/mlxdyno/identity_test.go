package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mlxdyno/mlxdyno/trainer/journal"
	"github.com/mlxdyno/mlxdyno/tuner"
)

// A version that does not say what was built is told apart by what was built.
func TestProgramOf(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	one, same, other := write("one", "a trainer"), write("same", "a trainer"), write("other", "another trainer")
	for _, version := range []string{"v1.2.3", "v1.2.3-4-g813a681", "813a681"} {
		if got := programOf(version, one); got != version {
			t.Errorf("%s became %s", version, got)
		}
	}
	for _, version := range []string{"dev", "v1.2.3-dirty", "813a681-dirty", "v1.2.3-4-g813a681-dirty"} {
		a := programOf(version, one)
		if a == version || !strings.HasPrefix(a, version+", build ") {
			t.Errorf("%s became %s", version, a)
		}
		if b := programOf(version, same); a != b {
			t.Errorf("%s: %s and %s are the same program", version, a, b)
		}
		if b := programOf(version, other); a == b {
			t.Errorf("%s: two programs are both %s", version, a)
		}
	}
}

func TestSteering(t *testing.T) {
	got := steering([]string{"PATH=/bin", "OPENBLAS_NUM_THREADS=1", "MLX_MAX_OPS_PER_BUFFER=8", "MLXDYNO_HOME=/x", "OMP_NUM_THREADS="})
	if want := []string{"MLX_MAX_OPS_PER_BUFFER=8", "OPENBLAS_NUM_THREADS=1"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestBurstsThatNoLongerHoldAreNamed(t *testing.T) {
	now := tuner.Keys{Program: "v2.0.0", Machine: "m", Model: "model", Data: "data", Versions: map[string]string{"mlx": "0.32.4"}}
	other := func(change func(*tuner.Keys)) tuner.Keys {
		k := now
		change(&k)
		return k
	}
	tests := []struct {
		name string
		then tuner.Keys
		want string // in what is told; empty for nothing
	}{
		{"another mlxdyno", other(func(k *tuner.Keys) { k.Program = "v1.0.0" }), "mlxdyno (v1.0.0, now v2.0.0); bursts are run again"},
		{"another MLX", other(func(k *tuner.Keys) { k.Versions = map[string]string{"mlx": "0.32.3"} }), "mlx (0.32.3, now 0.32.4)"},
		{"another machine", other(func(k *tuner.Keys) { k.Machine = "n" }), "the machine (n, now m)"},
		{"a model that was changed", other(func(k *tuner.Keys) { k.Model = "before" }), "changed: the model;"},
		{"text that was changed", other(func(k *tuner.Keys) { k.Data = "before" }), "changed: the data;"},
		{"the same", now, ""},
		{"something else", tuner.Keys{Program: "v1.0.0", Model: "x", Data: "y"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			home := t.TempDir()
			keepBurst(t, home, tt.then)
			var told bytes.Buffer
			a := &app{stderr: &told}
			study := &tuner.Study{Keys: now, Journal: filepath.Join(home, "tune", hashOf(now), "journal.jsonl")}
			changed := a.passedOver(home, study)
			if got := told.String(); !strings.Contains(got, tt.want) || (tt.want == "") != (got == "") || (tt.want == "") != (len(changed) == 0) {
				t.Errorf("told %q, want %q; changed %q", got, tt.want, changed)
			}
		})
	}
}

// keepBurst leaves a journal with one burst, run for these keys, an hour ago.
func keepBurst(t *testing.T, home string, keys tuner.Keys) {
	t.Helper()
	path := filepath.Join(home, "tune", hashOf(keys), "journal.jsonl")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	j, err := journal.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	for kind, v := range map[string]any{"keys": keys, "burst": struct{}{}} {
		if err := j.Append(kind, v); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	then := time.Now().Add(-time.Hour)
	if err := os.Chtimes(path, then, then); err != nil {
		t.Fatal(err)
	}
}
