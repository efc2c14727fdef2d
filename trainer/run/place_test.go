package run

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestPlaceForTheAdapter(t *testing.T) {
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	at := func(names ...string) string { return filepath.Join(append([]string{root}, names...)...) }
	for _, dir := range []string{"model", "runs/r/checkpoints", "empty", "notes", "old", "work/below"} {
		if err := os.MkdirAll(at(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"model/config.json", "notes/mine.txt", "file", "old/adapters.safetensors", "old/adapter_config.json", "old/0000100_adapters.safetensors"} {
		if err := os.WriteFile(at(file), []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{"link": "old", "dangling": "nowhere", "detour": "empty"} {
		if err := os.Symlink(at(target), at(link)); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(at("work"))
	for _, tc := range []struct{ name, path, want string }{
		{"nothing there", at("new"), at("new")},
		{"nothing there, nor around it", at("a/b/c"), at("a/b/c")},
		{"an empty directory", at("empty"), at("empty")},
		{"an older adapter", at("old"), at("old")},
		{"a link to an adapter", at("link"), at("old")},
		{"behind a link", at("detour/new"), at("empty/new")},
		{"below the working directory", "adapters", at("work/adapters")},
		{"somebody's notes", at("notes"), ""},
		{"a file", at("file"), ""},
		{"below a file", at("file/adapter"), ""},
		{"a link to nothing", at("dangling"), ""},
		{"the model", at("model"), ""},
		{"below the model", at("model/adapter"), ""},
		{"in the run", at("runs/r/checkpoints"), ""},
		{"around the run", at("runs"), ""},
		{"the working directory", ".", ""},
		{"around everything", "/", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := placeFor(tc.path, at("model"), at("runs/r"), ".")
			if got != tc.want {
				t.Errorf("got %q, %v; want %q", got, err, tc.want)
			}
			var refused *PlaceError
			if tc.want == "" && !errors.As(err, &refused) {
				t.Errorf("refused with %v", err)
			}
		})
	}
}
