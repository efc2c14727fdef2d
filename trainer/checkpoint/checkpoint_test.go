package checkpoint

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// save writes a whole checkpoint below root.
func save(t testing.TB, root string, step int, files map[string]string) string {
	t.Helper()
	dir := filepath.Join(root, Name(step))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	m := Manifest{Schema: Schema, Step: step, ConfigKey: "k", Engine: "test"}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256([]byte(content))
		m.Files = append(m.Files, File{Name: name, Bytes: int64(len(content)), SHA256: hex.EncodeToString(sum[:])})
	}
	writeManifest(t, dir, m)
	return dir
}

func writeManifest(t testing.TB, dir string, m Manifest) {
	t.Helper()
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, ManifestName), b, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestVerify(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(t *testing.T, dir string)
		want  string // in the problem; empty for a good checkpoint
	}{
		{"whole", func(*testing.T, string) {}, ""},
		{"extra file", func(t *testing.T, dir string) { write(t, dir, "notes.txt", "mine") }, ""},
		{"no manifest", func(t *testing.T, dir string) { remove(t, dir, ManifestName) }, "manifest.json"},
		{"manifest cut", func(t *testing.T, dir string) { truncate(t, dir, ManifestName, 20) }, "read manifest"},
		{"file missing", func(t *testing.T, dir string) { remove(t, dir, "a") }, "a: open"},
		{"file cut", func(t *testing.T, dir string) { truncate(t, dir, "a", 2) }, "a: 2 bytes instead of 5"},
		{"bit turned", func(t *testing.T, dir string) { write(t, dir, "a", "helln") }, "content is not what was saved"},
		{"other step", func(t *testing.T, dir string) {
			m, err := Read(dir)
			if err != nil {
				t.Fatal(err)
			}
			m.Step++
			writeManifest(t, dir, m)
		}, "its manifest is of step 8"},
		{"file is a folder", func(t *testing.T, dir string) {
			remove(t, dir, "a")
			if err := os.Mkdir(filepath.Join(dir, "a"), 0o755); err != nil {
				t.Fatal(err)
			}
		}, "not a regular file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := save(t, t.TempDir(), 7, map[string]string{"a": "hello", "b": ""})
			tt.spoil(t, dir)
			m, err := Verify(dir)
			if tt.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				if m.Step != 7 || m.Bytes() != 5 {
					t.Errorf("manifest: step %d, %d bytes", m.Step, m.Bytes())
				}
				return
			}
			var d *DamagedError
			if !errors.As(err, &d) || !strings.Contains(d.Problem, tt.want) {
				t.Errorf("error %v does not say %q", err, tt.want)
			}
		})
	}
}

func TestNewestPassesOverDamage(t *testing.T) {
	root := t.TempDir()
	for _, step := range []int{5, 10, 15} {
		save(t, root, step, map[string]string{"a": "hello"})
	}
	truncate(t, filepath.Join(root, Name(15)), "a", 1)
	ref, bad, err := Newest(root)
	if err != nil || ref == nil || ref.Step != 10 {
		t.Fatalf("newest is %v, %v", ref, err)
	}
	if len(bad) != 1 || filepath.Base(bad[0].Dir) != Name(15) {
		t.Fatalf("damaged: %v", bad)
	}
	for range 2 { // a second time under the same name too
		if _, err := SetAside(bad[0].Dir); err != nil {
			t.Fatal(err)
		}
		save(t, root, 15, map[string]string{"a": "again"})
	}
	if ref, bad, err = Newest(root); err != nil || ref.Step != 15 || len(bad) != 0 {
		t.Fatalf("after setting aside: %v, %v, %v", ref, bad, err)
	}
}

func TestNewestOfNothing(t *testing.T) {
	ref, bad, err := Newest(filepath.Join(t.TempDir(), "none"))
	if ref != nil || bad != nil || err != nil {
		t.Fatalf("got %v, %v, %v", ref, bad, err)
	}
}

func TestRetainAndSweep(t *testing.T) {
	root := t.TempDir()
	for _, step := range []int{2, 9, 10, 100, 12345678} {
		save(t, root, step, map[string]string{"a": "x"})
	}
	for _, name := range []string{".tmp-0000200", removing + "0000001", "notes"} {
		if err := os.Mkdir(filepath.Join(root, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := Retain(root, 3); err != nil {
		t.Fatal(err)
	}
	if err := Sweep(root); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if got := strings.Join(names, " "); got != "0000010 0000100 12345678 notes" {
		t.Errorf("left: %s", got)
	}
}

func FuzzParse(f *testing.F) {
	dir := save(f, f.TempDir(), 3, map[string]string{"adapters.safetensors": "x"})
	good, err := os.ReadFile(filepath.Join(dir, ManifestName))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"schema":"mlxdyno/checkpoint/1","step":1,"files":[{"name":"../x","bytes":1,"sha256":""}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Parse(b)
		if err != nil {
			return
		}
		for _, file := range m.Files {
			if path := filepath.Join("/root", file.Name); filepath.Dir(path) != "/root" {
				t.Errorf("%q leaves the checkpoint", file.Name)
			}
		}
		again, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		second, err := Parse(again)
		if err != nil {
			t.Fatalf("own form is refused: %v", err)
		}
		if third, _ := json.Marshal(second); !bytes.Equal(again, third) {
			t.Errorf("%s became %s", again, third)
		}
	})
}

func write(t *testing.T, dir, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, dir, name string) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}

func truncate(t *testing.T, dir, name string, size int64) {
	t.Helper()
	if err := os.Truncate(filepath.Join(dir, name), size); err != nil {
		t.Fatal(err)
	}
}
