package install

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func fakeOptions(t *testing.T, play string) Options {
	return Options{Home: filepath.Join(t.TempDir(), "ho me"), Backend: hostKind(), Python: fakePython(t, play)}
}

func TestEnsureThenFind(t *testing.T) {
	o := fakeOptions(t, "well")
	if _, err := Find(o.Home); stateOf(err) != Missing {
		t.Fatalf("Find before any set-up: %v", err)
	}
	var stages []string
	packages := 0
	o.Progress = func(p Progress) {
		if p.Total == 0 {
			stages = append(stages, p.Stage)
		} else if p.Done > p.Total || p.Done < packages {
			t.Errorf("package %d of %d after %d", p.Done, p.Total, packages)
		} else {
			packages = p.Done
		}
	}
	made, report, err := Ensure(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{StagePython, StageCompiler, StageVenv, StagePackages, StageBLAS, StageBinding, StageSelfTest}
	if hostKind() != CPU {
		want = slices.Delete(want, 4, 5)
	}
	if diff := cmp.Diff(want, stages); diff != "" {
		t.Errorf("stages: %s", diff)
	}
	if packages != len(pinned()) {
		t.Errorf("saw %d packages, want %d", packages, len(pinned()))
	}
	if report.UpToDate || report.State != Ready || len(report.Stages) != len(want) || report.SelfTest == nil {
		t.Errorf("report: %+v", report)
	}
	if !made.Managed || made.Backend != hostKind() || made.Versions["mlx"] != "0.32.4" || made.Home != o.Home {
		t.Errorf("environment: %+v", made)
	}
	if !strings.HasPrefix(made.Shim, environments(o.Home)[0]+"/") || !filepath.IsAbs(made.Shim) {
		t.Errorf("shim %q is not in the environment", made.Shim)
	}
	if (made.BLASLibrary != "") != (hostKind() == CPU) {
		t.Errorf("BLAS library %q", made.BLASLibrary)
	}
	found, err := Find(o.Home)
	if diff := cmp.Diff(made, found); err != nil || diff != "" {
		t.Errorf("Find: %v %s", err, diff)
	}

	// The second run finds everything done: with the interpreter out of the
	// way it could do nothing else.
	before := snapshot(t, o.Home)
	if err := os.WriteFile(o.Python, []byte("#!/bin/sh\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	again, report, err := Ensure(t.Context(), o)
	if diff := cmp.Diff(made, again); err != nil || !report.UpToDate || len(report.Stages) != 0 || diff != "" {
		t.Errorf("second run: %v %+v %s", err, report, diff)
	}
	if diff := cmp.Diff(before, snapshot(t, o.Home)); diff != "" {
		t.Errorf("the second run changed files: %s", diff)
	}
}

// snapshot is what a directory holds.
func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil {
			files[path] = fmt.Sprint(info.Mode(), info.Size(), info.ModTime())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestEnsureFailures(t *testing.T) {
	cases := []struct {
		name, play string
		want       Code
		linuxCPU   bool // a failure that only a Linux CPU set-up can have
	}{
		{name: "Python too old", play: "old", want: NoPython},
		{name: "Python does not run", play: "mute", want: NoPython},
		{name: "Python without ensurepip", play: "no-ensurepip", want: NoVenv},
		{name: "registry out of reach", play: "offline", want: RegistryOutOfReach},
		{name: "disk full in pip", play: "enospc", want: DiskFull},
		{name: "compiler fails", play: "bad-compiler", want: CompileFailed, linuxCPU: true},
		{name: "compiler too old", play: "old-compiler", want: CompilerTooOld},
		{name: "compiler without a library", play: "no-headers", want: NoCompiler},
		{name: "no command line tools", play: "no-tools", want: NoCompiler},
		{name: "binding does not compile", play: "bad-binding", want: CompileFailed},
		{name: "binding does not link", play: "no-symbol", want: BrokenMLX},
		{name: "disk full in the compiler", play: "full-compiler", want: DiskFull},
		{name: "binding does not load", play: "unbound", want: SelfTestFailed},
		{name: "self-test killed", play: "crash", want: SelfTestFailed},
		{name: "self-test ends early", play: "quits", want: SelfTestFailed},
		{name: "self-test finds an error", play: "miscomputes", want: SelfTestFailed},
		{name: "quarantine", play: "quarantined", want: Quarantined},
	}
	for _, c := range cases {
		if c.linuxCPU && hostKind() != CPU {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			o := fakeOptions(t, c.play)
			_, report, err := Ensure(t.Context(), o)
			var told *Error
			if !errors.As(err, &told) || told.Code != c.want || told.Fix == "" || told.Text == "" {
				t.Fatalf("got %#v, want %s", err, c.want)
			}
			if report.Log == "" || report.State == Ready {
				t.Errorf("report: %+v", report)
			}
			if _, err := Find(o.Home); stateOf(err) != Missing {
				t.Errorf("Find after the failure: %v", err)
			}
			if left, _ := os.ReadDir(filepath.Join(o.Home, environmentsName)); len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
			// The cause removed, the next run succeeds.
			o.Python = fakePython(t, "well")
			if _, _, err := Ensure(t.Context(), o); err != nil {
				t.Errorf("the run after it: %v", err)
			}
		})
	}
}

func TestFailureKeepsWhatWasThere(t *testing.T) {
	o := fakeOptions(t, "well")
	made, _, err := Ensure(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	o.Force, o.Python = true, fakePython(t, "offline")
	if _, _, err := Ensure(t.Context(), o); codeOf(err) != RegistryOutOfReach {
		t.Fatalf("offline: %v", err)
	}
	found, err := Find(o.Home)
	if diff := cmp.Diff(made, found); err != nil || diff != "" {
		t.Errorf("Find: %v %s", err, diff)
	}
	o.Python = fakePython(t, "well")
	anew, report, err := Ensure(t.Context(), o)
	if err != nil || report.UpToDate || anew.Python == made.Python {
		t.Errorf("forced: %v %+v", err, report)
	}
	if _, err := os.Stat(made.Python); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the replaced environment is still there: %v", err)
	}
	if third, _, err := Ensure(t.Context(), o); err != nil || third.Python == anew.Python {
		t.Errorf("forced again: %v", err)
	}
}

func TestEnsureRepairs(t *testing.T) {
	cases := []struct {
		name  string
		spoil func(home string, e Env) error
		want  State
	}{
		{"stamp gone", func(home string, e Env) error { return os.Remove(filepath.Join(home, stampName)) }, Missing},
		{"stamp torn", func(home string, e Env) error { return os.Truncate(filepath.Join(home, stampName), 100) }, Broken},
		{"stamp empty", func(home string, e Env) error { return os.Truncate(filepath.Join(home, stampName), 0) }, Broken},
		{"interpreter gone", func(home string, e Env) error { return os.Remove(e.Python) }, Broken},
		{"libmlx gone", func(home string, e Env) error { return os.RemoveAll(e.MLX) }, Broken},
		{"package upgraded by hand", func(home string, e Env) error {
			record := filepath.Join(filepath.Dir(e.MLX), "mlx-0.32.4.dist-info")
			return os.Rename(record, strings.Replace(record, "0.32.4", "0.99.0", 1))
		}, Broken},
		{"other recipe", func(home string, e Env) error {
			s, err := readStamp(home)
			if err != nil {
				return err
			}
			s.Recipe = "another"
			return s.write(home)
		}, Stale},
		{"other format", func(home string, e Env) error {
			return os.WriteFile(filepath.Join(home, stampName), []byte(`{"schema":"mlxdyno/environment/999","new":1}`), 0o644)
		}, Stale},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			o := fakeOptions(t, "well")
			made, _, err := Ensure(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.spoil(o.Home, made); err != nil {
				t.Fatal(err)
			}
			check := o
			check.Check = true
			before := snapshot(t, o.Home)
			_, report, err := Ensure(t.Context(), check)
			var not *NotReadyError
			if !errors.As(err, &not) || not.State != c.want || not.Fix == "" || report.State != c.want {
				t.Errorf("check: %v, %+v", err, report)
			}
			if diff := cmp.Diff(before, snapshot(t, o.Home)); diff != "" {
				t.Errorf("the check changed files: %s", diff)
			}
			if _, report, err = Ensure(t.Context(), o); err != nil || report.UpToDate || report.Before == "" {
				t.Errorf("repair: %v, %+v", err, report)
			}
			if left := environments(o.Home); len(left) != 1 {
				t.Errorf("environments: %v", left)
			}
			if _, err := Find(o.Home); err != nil {
				t.Errorf("Find: %v", err)
			}
		})
	}
}

func TestHomeNotWritable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, home := range []string{file, filepath.Join(file, "home")} {
		o := fakeOptions(t, "well")
		o.Home = home
		if _, _, err := Ensure(t.Context(), o); codeOf(err) != Unwritable {
			t.Errorf("%s: %v", home, err)
		}
	}
}

func TestWrongOptions(t *testing.T) {
	foreign := Metal
	if hostKind() == Metal {
		foreign = CPU
	}
	for name, o := range map[string]Options{
		"no such backend":   {Backend: "tpu"},
		"foreign backend":   {Backend: foreign},
		"venv and backend":  {Venv: "x", Backend: hostKind()},
		"venv and a Python": {Venv: "x", Python: "python3"},
	} {
		o.Home = t.TempDir()
		if _, _, err := Ensure(t.Context(), o); codeOf(err) != Unsupported {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// waitingPip makes a pip that installs until it is told to finish. started
// blocks until it runs and returns its process; gone blocks until it and its
// child have ended.
func waitingPip(t *testing.T) (started func() int, release, gone func()) {
	t.Helper()
	alive := filepath.Join(t.TempDir(), "alive")
	if err := syscall.Mkfifo(alive, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("INSTALL_TEST_ALIVE", alive)
	var in *bufio.Reader
	started = func() int {
		file, err := os.Open(alive)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { file.Close() })
		in = bufio.NewReader(file)
		line, err := in.ReadString('\n')
		pid, convErr := strconv.Atoi(strings.TrimSpace(line))
		if err != nil || convErr != nil {
			t.Fatal(line, err, convErr)
		}
		return pid
	}
	release = func() {
		if err := os.WriteFile(alive+".release", nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	gone = func() {
		if _, err := in.ReadString('\n'); err == nil {
			t.Fatal("the fake said more than its number")
		}
	}
	return started, release, gone
}

func TestCancelEndsPipAndItsChildren(t *testing.T) {
	started, _, gone := waitingPip(t)
	o := fakeOptions(t, "waits")
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() {
		_, _, err := Ensure(ctx, o)
		result <- err
	}()
	started()
	cancel()
	err := <-result
	if codeOf(err) != Interrupted || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	gone()
	if left := environments(o.Home); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	o.Python = fakePython(t, "well")
	if _, _, err := Ensure(t.Context(), o); err != nil {
		t.Errorf("the run after it: %v", err)
	}
}

func TestKilledHalfWay(t *testing.T) {
	started, release, gone := waitingPip(t)
	o := fakeOptions(t, "waits")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), helperVariable+"="+o.Home, "INSTALL_TEST_PYTHON="+o.Python)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	started()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if _, err := Find(o.Home); stateOf(err) != Missing || !strings.Contains(err.Error(), "not finished") {
		t.Errorf("Find: %v", err)
	}
	// pip has outlived its parent and goes on writing: it does not matter.
	o.Python = fakePython(t, "well")
	_, report, err := Ensure(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Notes) == 0 || !strings.Contains(report.Notes[0], "interrupted") {
		t.Errorf("notes: %q", report.Notes)
	}
	release()
	gone()
	o.Force = true
	made, _, err := Ensure(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	left := environments(o.Home)
	if len(left) != 1 || !strings.HasPrefix(made.Python, left[0]) {
		t.Errorf("environments: %v", left)
	}
}

func TestTwoAtOnce(t *testing.T) {
	started, release, _ := waitingPip(t)
	o := fakeOptions(t, "waits")
	type outcome struct {
		report Report
		err    error
	}
	run := func(o Options) chan outcome {
		done := make(chan outcome, 1)
		go func() {
			_, report, err := Ensure(t.Context(), o)
			done <- outcome{report, err}
		}()
		return done
	}
	first := run(o)
	started()
	_, _, err := Ensure(t.Context(), o)
	if codeOf(err) != Busy || !strings.Contains(err.Error(), strconv.Itoa(os.Getpid())) {
		t.Errorf("the second: %v", err)
	}
	waits := make(chan bool, 1)
	third := o
	third.Wait = true
	third.Progress = func(p Progress) { waits <- p.Stage == StageWait }
	waiting := run(third)
	if !<-waits {
		t.Error("the third does not say that it waits")
	}
	release()
	if got := <-first; got.err != nil || got.report.UpToDate {
		t.Errorf("the first: %+v", got)
	}
	if got := <-waiting; got.err != nil || !got.report.UpToDate {
		t.Errorf("the third: %+v", got)
	}

	// Waiting ends with the context, too.
	blocked := (&setup{o: o})
	unlock, err := blocked.lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	ctx, cancel := context.WithCancel(t.Context())
	third.Force = true
	third.Progress = func(Progress) { cancel() }
	if _, _, err := Ensure(ctx, third); codeOf(err) != Interrupted {
		t.Errorf("a cancelled wait: %v", err)
	}
}
