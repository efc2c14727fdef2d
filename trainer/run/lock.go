package run

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// leftoverPatience is how long a worker whose parent was killed may take to
// notice and leave: it ends by itself within max(10 s, 3 × step).
const leftoverPatience = 30 * time.Second

const lockPoll = 20 * time.Millisecond

// BusyError says that somebody else is at work in a run directory.
type BusyError struct {
	Dir string
	PID int // of the supervising process; 0 when only a worker without its parent is left
}

func (e *BusyError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("a worker whose mlxdyno is gone still runs in %s: wait for it to end, or end it", e.Dir)
	}
	return fmt.Sprintf("another mlxdyno (pid %d) trains in %s: wait for it, stop it with Ctrl-C there, or choose another directory", e.PID, e.Dir)
}

// lock is an advisory lock on an open file. Workers inherit the file and with
// it the lock, so that it is free only when parent and worker are both gone.
type lock struct{ file *os.File }

// acquire takes the lock of a run. Held by a living mlxdyno it is a BusyError
// at once; a worker that a killed parent left behind is waited for.
func acquire(ctx context.Context, dir, path string) (*lock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock run: %w", err)
	}
	deadline := time.NewTimer(leftoverPatience)
	defer deadline.Stop()
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fmt.Errorf("lock run: %w", err)
		}
		if pid := holder(path); pid != 0 {
			f.Close()
			return nil, &BusyError{Dir: dir, PID: pid}
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, context.Cause(ctx)
		case <-deadline.C:
			f.Close()
			return nil, &BusyError{Dir: dir}
		case <-time.After(lockPoll):
		}
	}
	l := &lock{file: f}
	if err := l.sign(strconv.Itoa(os.Getpid()) + "\n"); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock run: %w", err)
	}
	return l, nil
}

func (l *lock) sign(text string) error {
	if err := l.file.Truncate(0); err != nil {
		return err
	}
	_, err := l.file.WriteAt([]byte(text), 0)
	return err
}

// release takes the name off the lock and closes it; a worker that still has
// it keeps it.
func (l *lock) release() error {
	return errors.Join(l.sign(""), l.file.Close())
}

// running reports whether a living mlxdyno holds the lock.
func running(path string) (bool, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look at lock: %w", err)
	}
	defer f.Close()
	err = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return holder(path) != 0, nil
	}
	if err != nil {
		return false, fmt.Errorf("look at lock: %w", err)
	}
	return false, nil // closing gives the shared lock back
}

// holder returns the process that signed the lock if it lives, else 0.
func holder(path string) int {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid <= 0 {
		return 0
	}
	if err := unix.Kill(pid, 0); err != nil && !errors.Is(err, unix.EPERM) {
		return 0
	}
	return pid
}
