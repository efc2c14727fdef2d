package install

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func goodStamp(t testing.TB) *stamp {
	t.Helper()
	hash, err := recipe(hostKind())
	if err != nil {
		t.Fatal(err)
	}
	return &stamp{
		Schema: stampSchema, Kind: hostKind(), Recipe: hash, Root: "/e", Files: []string{"/e/libmlx"},
		Env: Env{Home: "/h", Python: "/e/bin/python", Backend: hostKind(), Managed: true},
	}
}

func TestDecodeStamp(t *testing.T) {
	change := func(edit func(*stamp)) string {
		s := goodStamp(t)
		edit(s)
		text, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	good := change(func(*stamp) {})
	cases := []struct {
		name, text string
		want       State
	}{
		{"whole", good, Ready},
		{"empty", "", Broken},
		{"torn", good[:len(good)/2], Broken},
		{"null", "null", Stale},
		{"not an object", "[1]", Broken},
		{"binary", "\x00\xff", Broken},
		{"two of them", good + good, Broken},
		{"too long", good + strings.Repeat(" ", maxStamp), Broken},
		{"later format", `{"schema":"mlxdyno/environment/2","whatever":[]}`, Stale},
		{"unknown field", `{"extra":1,` + good[1:], Broken},
		{"relative interpreter", change(func(s *stamp) { s.Env.Python = "python" }), Broken},
		{"no files", change(func(s *stamp) { s.Files = nil }), Broken},
		{"no such kind", change(func(s *stamp) { s.Kind = "tpu" }), Broken},
		{"kind and backend differ", change(func(s *stamp) { s.Env.Backend = CUDA }), Broken},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if _, err := decodeStamp([]byte(c.text)); stateOf(err) != c.want {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

func FuzzDecodeStamp(f *testing.F) {
	good, err := json.Marshal(goodStamp(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := decodeStamp(data)
		if err != nil {
			var not *NotReadyError
			if !errors.As(err, &not) || not.Reason == "" || not.Fix == "" {
				t.Fatalf("an error that tells nothing: %#v", err)
			}
			return
		}
		text, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		again, err := decodeStamp(text)
		if diff := cmp.Diff(s, again); err != nil || diff != "" {
			t.Fatalf("does not survive being written: %v %s", err, diff)
		}
	})
}

func TestFindWithoutAUsableHome(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, home := range []string{filepath.Join(dir, "none"), file} {
		if _, err := Find(home); stateOf(err) != Missing {
			t.Errorf("%s: %v", home, err)
		}
	}
}

func TestHome(t *testing.T) {
	t.Setenv("MLXDYNO_HOME", "/somewhere/else")
	if got, err := Home(); got != "/somewhere/else" || err != nil {
		t.Errorf("named: %q, %v", got, err)
	}
	t.Setenv("MLXDYNO_HOME", "")
	t.Setenv("HOME", "/users/ann")
	t.Setenv("XDG_DATA_HOME", "relative")
	want := "/users/ann/.local/share/mlxdyno"
	if hostKind() == Metal {
		want = "/users/ann/Library/Application Support/mlxdyno"
	}
	if got, err := Home(); got != want || err != nil {
		t.Errorf("default: %q, %v", got, err)
	}
	t.Setenv("XDG_DATA_HOME", "/data")
	if hostKind() != Metal {
		want = "/data/mlxdyno"
	}
	if got, err := Home(); got != want || err != nil {
		t.Errorf("with XDG_DATA_HOME: %q, %v", got, err)
	}
}

func TestRemoveOnlyWhatIsOurs(t *testing.T) {
	home := filepath.Join(t.TempDir(), "odd [name]*")
	foreign := filepath.Join(home, environmentsName, "bin")
	if err := os.MkdirAll(foreign, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(foreign, "python"), nil, 0o755); err != nil {
		t.Fatal(err)
	}
	keep, err := newEnvironment(home)
	if err != nil {
		t.Fatal(err)
	}
	other, err := newEnvironment(home)
	if err != nil {
		t.Fatal(err)
	}
	if n := removeEnvironments(home, keep); n != 1 {
		t.Errorf("removed %d, want 1", n)
	}
	removeEnvironment(foreign)
	for path, want := range map[string]bool{keep: true, other: false, filepath.Join(foreign, "python"): true} {
		if _, err := os.Stat(path); (err == nil) != want {
			t.Errorf("%s there: %v, want %v", path, err == nil, want)
		}
	}
}

func TestShellWord(t *testing.T) {
	for path, want := range map[string]string{
		"/home/a-b_c/v1.2": "/home/a-b_c/v1.2", "/my envs/x": "'/my envs/x'", "~/it's": `'~/it'\''s'`,
	} {
		if got := shellWord(path); got != want {
			t.Errorf("%s: %s", path, got)
		}
	}
}

// Every command begins with Find.
func BenchmarkFind(b *testing.B) {
	home, err := Home()
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := Find(home); err != nil {
			b.Fatal(err)
		}
	}
}
