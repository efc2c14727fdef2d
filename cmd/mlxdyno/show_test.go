package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/tuner"
)

func TestTheNewestStudyIsShown(t *testing.T) {
	home := t.TempDir()
	keep := func(name string, age time.Duration, r tuner.Report) {
		t.Helper()
		path := filepath.Join(home, "tune", name, "0.json")
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		b, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
		then := time.Now().Add(-age)
		if err := os.Chtimes(path, then, then); err != nil {
			t.Fatal(err)
		}
	}
	keep("b", time.Minute, tuner.Report{Schema: tuner.Schema, Keys: tuner.Keys{Model: "m"}, Problem: "newer"})
	keep("c", time.Hour, tuner.Report{Schema: tuner.Schema, Keys: tuner.Keys{Model: "m"}, Problem: "older"})
	keep("d", 0, tuner.Report{Schema: tuner.Schema, Keys: tuner.Keys{Model: "other"}})
	keep("e", 0, tuner.Report{Schema: "mlxdyno/tune/0", Keys: tuner.Keys{Model: "m"}})
	of := func(model string) func(*keptStudy) bool {
		return func(k *keptStudy) bool { return k.report.Keys.Model == model }
	}
	if got := newest(home, of("m")); got == nil || got.report.Problem != "newer" {
		t.Errorf("%+v", got)
	}
	if got := newest(home, of("none")); got != nil {
		t.Errorf("%+v", got)
	}
}

func TestTheFileOfASearch(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mlxdyno.yaml")
	found := tuner.Report{Schema: tuner.Schema, Verdict: tuner.Confirmed, Config: trainer.DefaultConfig()}
	found.Config.Model.Path, found.Config.Data.Path = "/models/m", "/texts/d"
	if holds(path, found.Config) {
		t.Error("a file that is not there")
	}
	if err := tuner.WriteConfig(path, &found); err != nil {
		t.Fatal(err)
	}
	if !holds(path, found.Config) {
		t.Error("what was written there is not found")
	}
	found.Config.Plan.Batch++
	if holds(path, found.Config) {
		t.Error("another search's configuration")
	}
}

func TestChangesAreNamed(t *testing.T) {
	then := tuner.Keys{Machine: "a", Model: "m", Data: "d", Versions: map[string]string{"mlx": "0.32.3", "gone": "1"}}
	now := tuner.Keys{Program: "v1.2.3", Machine: "a", Model: "m", Data: "e", Versions: map[string]string{"mlx": "0.32.4"}}
	want := []string{"the data", "mlxdyno (none, now v1.2.3)", "gone (1, now none)", "mlx (0.32.3, now 0.32.4)"}
	if got := changes(then, now); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := changes(now, now); len(got) > 0 {
		t.Errorf("nothing changed, and yet %q", got)
	}
}
