package data_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/mlxdyno/mlxdyno/trainer/data"
)

// What was tokenized before is found without an interpreter, and what was not is
// left alone.
func TestCacheOnly(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "train.jsonl", `{"text":"one"}`+"\n"+`{"text":"two"}`+"\n")
	o := options(t)
	o.CacheDir = filepath.Join(o.CacheDir, "not", "there")
	spec := data.Spec{Path: dir, Model: modelDir(t)}
	cached := o
	cached.CacheOnly, cached.Python = true, "/no/such/python"
	if _, err := data.Prepare(context.Background(), cached, spec); !errors.Is(err, data.ErrNotCached) {
		t.Fatalf("error %v", err)
	}
	if _, err := os.Stat(o.CacheDir); err == nil {
		t.Error("looking made a cache")
	}
	want, err := data.Prepare(context.Background(), o, spec)
	if err != nil {
		t.Fatal(err)
	}
	got, err := data.Prepare(context.Background(), cached, spec)
	if err != nil || got.Key != want.Key || got.Train.Path != want.Train.Path {
		t.Errorf("%+v, %v", got, err)
	}
	write(t, dir, "train.jsonl", `{"text":"three"}`+"\n")
	if _, err := data.Prepare(context.Background(), cached, spec); !errors.Is(err, data.ErrNotCached) {
		t.Errorf("of another text: error %v", err)
	}
}
