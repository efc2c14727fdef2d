package command

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// child is a started patient with our end of what it prints to.
type child struct {
	cmd    *exec.Cmd
	began  time.Time
	screen *screen
	tree   *tree
	exited chan struct{} // closed when it has been reaped
	note   string        // why it has no terminal, if it should have one
}

// markerName is the variable by which processes that left a patient's session
// are known again.
const markerName = "MLXDYNO_PATIENT"

// start starts argv in a session of its own. Trainers hide progress or hold
// lines back where they print to no terminal, so that it gets one; a system that
// has none to give is no reason not to run it.
func start(argv []string, o Options) (*child, error) {
	if len(argv) == 0 || argv[0] == "" {
		return nil, errors.New("start patient: no command")
	}
	marker := markerName + "=" + rand.Text()
	env := o.Env
	if env == nil {
		env = os.Environ()
	}
	c := &child{exited: make(chan struct{}), cmd: exec.Command(argv[0], argv[1:]...)}
	c.cmd.Dir, c.cmd.Env = o.Dir, append(env[:len(env):len(env)], marker)
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	ours, theirs, err := c.terminal(o)
	if err != nil || o.Pipes {
		if err != nil {
			c.note = fmt.Sprintf("no terminal could be had (%v): it prints into a pipe, where trainers may hide progress", err)
		}
		if ours, theirs, err = c.pipe(); err != nil {
			return nil, fmt.Errorf("start patient: %w", err)
		}
	}
	defer theirs.Close()
	c.began = time.Now()
	if err := c.cmd.Start(); err != nil {
		ours.Close()
		return nil, fmt.Errorf("start patient %s: %w", argv[0], reasonOf(err, o.Dir))
	}
	c.screen = &screen{f: ours}
	c.tree = newTree(c.cmd.Process.Pid, marker)
	go func() {
		defer close(c.exited)
		c.cmd.Wait() //nolint:errcheck // ProcessState tells more
	}()
	return c, nil
}

func (c *child) terminal(o Options) (ours, theirs *os.File, err error) {
	if o.Pipes {
		return nil, nil, nil
	}
	ours, theirs, err = pty.Open()
	if err != nil {
		return nil, nil, err
	}
	if err := pty.Setsize(ours, &pty.Winsize{Cols: o.Columns, Rows: o.Rows}); err != nil {
		ours.Close()
		theirs.Close()
		return nil, nil, err
	}
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = theirs, theirs, theirs
	c.cmd.SysProcAttr.Setctty = true // of descriptor 0
	return ours, theirs, nil
}

func (c *child) pipe() (ours, theirs *os.File, err error) {
	if ours, theirs, err = os.Pipe(); err != nil {
		return nil, nil, err
	}
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = nil, theirs, theirs
	c.cmd.SysProcAttr.Setctty = false
	c.cmd.Env = append(c.cmd.Env, "PYTHONUNBUFFERED=1") // or lines come when thousands are full
	return ours, theirs, nil
}

// reasonOf finds the reason behind a start that failed, which the system words
// alike for a missing program and a missing directory.
func reasonOf(err error, dir string) error {
	if dir != "" && errors.Is(err, fs.ErrNotExist) {
		if _, dirErr := os.Stat(dir); dirErr != nil {
			return fmt.Errorf("its working directory is missing: %w", dirErr)
		}
	}
	return err
}

// screen reads what a patient prints. It never waits for longer than a glance,
// so that its end does not depend on processes that left the patient's session
// and still hold its terminal. A terminal's descriptor cannot be waited for by
// Go's poller on every system; select works on all.
type screen struct {
	f     *os.File
	ended atomic.Bool // everybody is gone: what is there is all
}

const glance = 50 * time.Millisecond

func (s *screen) Read(b []byte) (int, error) {
	fd := int(s.f.Fd())
	for {
		var set unix.FdSet
		set.Set(fd)
		ended := s.ended.Load()
		wait := unix.NsecToTimeval(glance.Nanoseconds())
		n, err := unix.Select(fd+1, &set, nil, nil, &wait)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return 0, fmt.Errorf("read what the patient prints: %w", err)
		case n > 0:
			return s.take(fd, b)
		case ended:
			return 0, io.EOF
		}
	}
}

func (s *screen) take(fd int, b []byte) (int, error) {
	for {
		n, err := unix.Read(fd, b)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EIO), err == nil && n == 0: // Linux says EIO when nobody holds the terminal
			return 0, io.EOF
		case err != nil:
			return 0, fmt.Errorf("read what the patient prints: %w", err)
		}
		return n, nil
	}
}
