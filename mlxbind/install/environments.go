package install

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/gofrs/flock"
)

const (
	environmentsName = "env"              // under Home, one directory a set-up
	markerName       = ".mlxdyno-managed" // in each; what lacks it is not ours to remove
	markerText       = "mlxdyno made this directory and removes it.\n"
	lockName         = "setup.lock"
)

// newEnvironment makes an empty directory for a virtual environment.
func newEnvironment(home string) (string, error) {
	parent := filepath.Join(home, environmentsName)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return "", err
	}
	root, err := os.MkdirTemp(parent, time.Now().Format("20060102-"))
	if err != nil {
		return "", err
	}
	if err := os.Chmod(root, 0o755); err != nil {
		return "", err
	}
	return root, os.WriteFile(filepath.Join(root, markerName), []byte(markerText), 0o644)
}

// environments lists the directories that newEnvironment made in home.
func environments(home string) []string {
	found, _ := filepath.Glob(filepath.Join(escapeGlob(home), environmentsName, "*", markerName))
	for i := range found {
		found[i] = filepath.Dir(found[i])
	}
	return found
}

func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// removeEnvironments removes all but keep, as far as it can, and returns how
// many there were. A directory that a dying process still writes into stays
// for the next time.
func removeEnvironments(home, keep string) int {
	n := 0
	kept, _ := os.Stat(keep)
	for _, root := range environments(home) {
		// The same directory may have two names.
		if info, err := os.Stat(root); err == nil && kept != nil && os.SameFile(info, kept) {
			continue
		}
		removeEnvironment(root)
		n++
	}
	return n
}

// removeEnvironment removes a directory that newEnvironment made, its marker
// last, so that one that was interrupted goes on the next time.
func removeEnvironment(root string) {
	entries, err := os.ReadDir(root)
	if _, none := os.Stat(filepath.Join(root, markerName)); err != nil || none != nil {
		_ = os.Remove(root) // if it is empty
		return
	}
	for _, entry := range entries {
		if entry.Name() != markerName {
			if os.RemoveAll(filepath.Join(root, entry.Name())) != nil {
				return
			}
		}
	}
	_ = os.RemoveAll(root)
}

// lock keeps other set-ups out of the home until unlock is called. The system
// drops it when this process ends, however that happens.
func (s *setup) lock(ctx context.Context) (unlock func(), err error) {
	path := filepath.Join(s.o.Home, lockName)
	lock := flock.New(path)
	got, err := lock.TryLock()
	if err != nil {
		if told := (*Error)(nil); errors.As(explainWrite(s.o.Home, err), &told) {
			return nil, told
		}
		return nil, &Error{Code: Unwritable, Text: path + " cannot be locked", Fix: "set MLXDYNO_HOME to a directory on a local disk", Err: err}
	}
	if !got {
		holder := "another process"
		if pid, err := os.ReadFile(path); err == nil {
			if n, err := strconv.Atoi(strings.TrimSpace(string(pid))); err == nil {
				holder = fmt.Sprintf("process %d", n)
			}
		}
		if !s.o.Wait {
			return nil, &Error{Code: Busy, Text: fmt.Sprintf("another set-up of %s is running (%s)", s.o.Home, holder), Fix: "wait until it has finished, or run mlxdyno setup --wait"}
		}
		s.progress(Progress{Stage: StageWait, Item: holder})
		began := time.Now()
		if got, err = lock.TryLockContext(ctx, 100*time.Millisecond); !got {
			return nil, errors.Join(fmt.Errorf("wait for the set-up of %s", holder), err)
		}
		s.report.Stages = append(s.report.Stages, Stage{StageWait, time.Since(began).Seconds(), holder})
	}
	// The same inode, so the lock stays. That others can read who holds it is
	// a courtesy: a full disk must not stop the set-up here.
	_ = os.WriteFile(path, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o644)
	return func() { _ = lock.Unlock() }, nil
}
