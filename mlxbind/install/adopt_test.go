package install

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// ownVenv makes what a user may have: an environment with MLX that is not
// ours. The fake interpreter in it then behaves as play says.
func ownVenv(t *testing.T, play string) string {
	t.Helper()
	made, _, err := Ensure(t.Context(), fakeOptions(t, "well"))
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(t.TempDir(), "own")
	if err := os.Rename(filepath.Dir(filepath.Dir(made.Python)), root); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(root, markerName)); err != nil {
		t.Fatal(err)
	}
	writeFake(t, filepath.Join(root, "bin"), "python", play)
	return root
}

func TestAdopt(t *testing.T) {
	o := fakeOptions(t, "well")
	managed, _, err := Ensure(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	own := ownVenv(t, "well")
	before := snapshot(t, own)
	adopt := Options{Home: o.Home, Venv: own}
	got, report, err := Ensure(t.Context(), adopt)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(got.Shim, filepath.Join(o.Home, shimsName)+"/") {
		t.Errorf("the shim is at %q", got.Shim)
	}
	if got.Managed || got.Python != filepath.Join(own, "bin", "python") || got.Versions["mlx"] != "0.32.4" || got.Backend != hostKind() {
		t.Errorf("adopted: %+v", got)
	}
	if slow := strings.Contains(strings.Join(report.Notes, "\n"), "slower"); slow != (hostKind() == CPU) {
		t.Errorf("notes: %q", report.Notes)
	}
	if diff := cmp.Diff(before, snapshot(t, own)); diff != "" {
		t.Errorf("the user's environment changed: %s", diff)
	}
	if _, err := os.Stat(managed.Python); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the managed environment is still there: %v", err)
	}
	found, err := Find(o.Home)
	if diff := cmp.Diff(got, found); err != nil || diff != "" {
		t.Errorf("Find: %v %s", err, diff)
	}
	// Asked for again, or for whatever there is, it is what there is.
	for _, again := range []Options{adopt, {Home: o.Home}} {
		if _, report, err := Ensure(t.Context(), again); err != nil || !report.UpToDate {
			t.Errorf("again: %v %+v", err, report)
		}
	}
	// Being forced compiles anew.
	old := time.Now().Add(-time.Hour).Truncate(time.Second)
	if err := os.Chtimes(got.Shim, old, old); err != nil {
		t.Fatal(err)
	}
	forced := adopt
	forced.Force = true
	if e, _, err := Ensure(t.Context(), forced); err != nil || e.Shim != got.Shim {
		t.Errorf("forced: %+v, %v", e, err)
	}
	if info, err := os.Stat(got.Shim); err != nil || info.ModTime().Equal(old) {
		t.Errorf("the shim was not made anew: %v", err)
	}
	// A package that changed makes it unknown, and the fix says so.
	record := filepath.Join(filepath.Dir(got.MLX), "mlx-0.32.4.dist-info")
	if err := os.Rename(record, strings.Replace(record, "0.32.4", "0.33.0", 1)); err != nil {
		t.Fatal(err)
	}
	var not *NotReadyError
	if _, err := Find(o.Home); !errors.As(err, &not) || not.State != Broken || !strings.Contains(not.Fix, "--venv "+own) {
		t.Errorf("Find after an upgrade: %#v", err)
	}
	// Asking for a Python or a backend leads back to a managed one.
	back, _, err := Ensure(t.Context(), o)
	if err != nil || !back.Managed {
		t.Errorf("back: %+v, %v", back, err)
	}
	if _, err := os.Stat(got.Python); err != nil {
		t.Errorf("the user's environment is gone: %v", err)
	}
}

// The oldest Python that will do, and one that is newer than what managed
// environments are made of: there the self-test decides.
func TestAdoptTakesAnyPythonThatRunsMLXLM(t *testing.T) {
	for _, play := range []string{"python3.11", "python3.15"} {
		home := t.TempDir()
		if _, _, err := Ensure(t.Context(), Options{Home: home, Venv: ownVenv(t, play)}); err != nil {
			t.Errorf("%s: %v", play, err)
		}
	}
}

func TestAdoptRefuses(t *testing.T) {
	cases := []struct {
		name, play string
		want       Code
		text       string
	}{
		{"MLX too old", "old-mlx", Unsupported, "mlx 0.31.1 is too old"},
		{"no mlx-lm", "no-mlx-lm", Unsupported, "mlx-lm is not installed"},
		{"MLX without its core", "no-mlx-core", BrokenMLX, "is not whole"},
		{"MLX with headers of another", "new-mlx", BrokenMLX, "mlx 0.33.0 is installed with the headers of 0.32.4"},
		{"Python too old", "old", Unsupported, "3.9.1 is too old"},
		{"Python too old for mlx-lm", "python3.10", Unsupported, "Python 3.10.1 is too old: mlx-lm 0.32.0 needs 3.11"},
		{"Python does not run", "mute", NoPython, "does not answer"},
		{"crash", "crash", SelfTestFailed, "killed"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			home := t.TempDir()
			_, _, err := Ensure(t.Context(), Options{Home: home, Venv: ownVenv(t, c.play)})
			if codeOf(err) != c.want || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %v", err)
			}
			if _, err := Find(home); stateOf(err) != Missing {
				t.Errorf("Find: %v", err)
			}
		})
	}
	if _, _, err := Ensure(t.Context(), Options{Home: t.TempDir(), Venv: t.TempDir()}); codeOf(err) != NoPython {
		t.Errorf("an empty directory: %v", err)
	}
}
