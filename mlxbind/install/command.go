package install

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// command is a child process: a leader of its own process group, so that all
// it starts ends with it.
type command struct {
	argv   []string
	env    []string
	dir    string
	stdout io.Writer // may equal log
	log    io.Writer // gets standard error, and standard output if stdout is nil
	extra  *os.File  // the child's descriptor 3
}

// failure is a child that ended badly, with the end of what it said.
type failure struct {
	name string
	said string
	err  error
}

func (f *failure) Error() string {
	if f.said == "" {
		return fmt.Sprintf("%s: %v", f.name, f.err)
	}
	return fmt.Sprintf("%s: %v: %s", f.name, f.err, f.said)
}

func (f *failure) Unwrap() error { return f.err }

// runCommand runs c to its end. When ctx ends, the group gets SIGINT, at which
// pip and compilers remove their temporary files, and SIGKILL after a while.
func runCommand(ctx context.Context, c command) error {
	said := &tail{limit: 1500}
	var stderr io.Writer = said
	if c.log != nil {
		stderr = io.MultiWriter(said, c.log)
	}
	cmd := exec.CommandContext(ctx, c.argv[0], c.argv[1:]...)
	cmd.Env, cmd.Dir = c.env, c.dir
	cmd.Stderr = stderr
	cmd.Stdout = c.stdout
	if c.stdout == nil {
		cmd.Stdout = stderr // the same value: one pipe, order kept
	}
	if c.extra != nil {
		cmd.ExtraFiles = []*os.File{c.extra}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
	cmd.WaitDelay = 3 * time.Second
	err := cmd.Run()
	if cmd.Process != nil && ctx.Err() != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // those of the group that SIGINT did not end
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", c.argv[0], ctx.Err())
	}
	if err != nil {
		return &failure{c.argv[0], said.String(), err}
	}
	return nil
}

// quietly writes what it can: a log that runs full must not stop the program
// that is logged, which has its own say on a full disk.
type quietly struct{ w io.Writer }

func (q quietly) Write(p []byte) (int, error) {
	_, _ = q.w.Write(p)
	return len(p), nil
}

// tail keeps the last bytes written to it.
type tail struct {
	limit int
	buf   []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - t.limit; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(p), nil
}

func (t *tail) String() string { return strings.TrimSpace(string(t.buf)) }

// lines calls each for every whole line written to it.
type lines struct {
	each func(string)
	rest []byte
}

func (l *lines) Write(p []byte) (int, error) {
	l.rest = append(l.rest, p...)
	for {
		end := bytes.IndexByte(l.rest, '\n')
		if end < 0 {
			break
		}
		l.each(strings.TrimRight(string(l.rest[:end]), "\r"))
		l.rest = l.rest[end+1:]
	}
	if len(l.rest) > 1<<16 { // not a line that anyone wants
		l.rest = l.rest[:0]
	}
	return len(p), nil
}
