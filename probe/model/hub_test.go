package model

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestResolve(t *testing.T) {
	root := t.TempDir()
	t.Setenv("HF_HUB_CACHE", root)
	write := func(path, text string) {
		t.Helper()
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("models--org--whole/refs/main", "abc\n")
	write("models--org--whole/snapshots/abc/config.json", "{}")
	write("models--org--half/refs/main", "def")

	here := t.TempDir()
	for _, tc := range []struct{ name, ask, want, hint string }{
		{"a directory is itself", here, here, ""},
		{"a downloaded hub name", "org/whole", filepath.Join(root, "models--org--whole/snapshots/abc"), ""},
		{"half a download", "org/half", "", "hf download org/half"},
		{"never downloaded", "org/never", "", "hf download org/never"},
		{"a path that is not there is left to Read", "/no/such/dir", "/no/such/dir", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := Resolve(tc.ask)
			if got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
			var e *Error
			if tc.hint != "" && (!errors.As(err, &e) || !strings.Contains(e.Hint, tc.hint)) {
				t.Errorf("error %v has not the hint %q", err, tc.hint)
			}
			if tc.hint == "" && err != nil {
				t.Error(err)
			}
		})
	}
}
