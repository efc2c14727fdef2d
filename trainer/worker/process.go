package worker

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// process is a started worker with our ends of its pipes.
type process struct {
	cmd     *exec.Cmd
	began   time.Time
	events  *outlet
	input   *inlet
	log     *logbook
	printed *outlet
	logged  chan struct{} // closed when the log is complete
	exited  chan struct{} // closed when the process is reaped and its group killed
}

// start starts p with an empty input.
func start(p trainer.Process, o Options) (*process, error) {
	if len(p.Argv) == 0 {
		return nil, errors.New("start worker: no command")
	}
	log, err := openLog(o.LogPath, o.LogLimit)
	if err != nil {
		return nil, err
	}
	w := &process{log: log, logged: make(chan struct{}), exited: make(chan struct{})}
	var ours, theirs []*os.File
	pipe := func() (r, w *os.File) {
		if err == nil {
			r, w, err = os.Pipe()
		}
		return r, w
	}
	inR, inW := pipe()
	eventsR, eventsW := pipe()
	printedR, printedW := pipe()
	ours, theirs = []*os.File{inW, eventsR, printedR}, []*os.File{inR, eventsW, printedW}
	if err == nil {
		w.cmd = exec.Command(p.Argv[0], p.Argv[1:]...)
		w.cmd.Env, w.cmd.Dir = p.Env, p.Dir
		w.cmd.Stdin, w.cmd.Stdout, w.cmd.Stderr = inR, printedW, printedW
		w.cmd.ExtraFiles = []*os.File{eventsW}
		if o.Lock != nil {
			w.cmd.ExtraFiles = append(w.cmd.ExtraFiles, o.Lock)
		}
		w.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		w.began = time.Now()
		err = w.cmd.Start()
	}
	closeAll(theirs)
	if err != nil {
		closeAll(ours)
		log.close()
		return nil, fmt.Errorf("start worker %s: %w", p.Argv[0], explain(err, p))
	}
	w.input, w.events, w.printed = newInlet(inW), &outlet{f: eventsR}, &outlet{f: printedR}
	go func() {
		defer close(w.logged)
		io.Copy(log, w.printed) //nolint:errcheck // a log is kept as far as it can be read
	}()
	go func() {
		defer close(w.exited)
		w.cmd.Wait() //nolint:errcheck // ProcessState tells more
		w.signal(syscall.SIGKILL)
	}()
	return w, nil
}

// explain finds the reason behind an error of starting p, which the system
// words alike for a missing program, interpreter and directory.
func explain(err error, p trainer.Process) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if p.Dir != "" {
		if _, dirErr := os.Stat(p.Dir); dirErr != nil {
			return fmt.Errorf("its working directory is missing: %w", dirErr)
		}
	}
	if info, statErr := os.Lstat(p.Argv[0]); statErr == nil {
		if info.Mode()&fs.ModeSymlink != 0 {
			return fmt.Errorf("it links to a file that is missing: %w", err)
		}
		return fmt.Errorf("the interpreter named in its first line is missing: %w", err)
	}
	return err
}

// signal sends s to the worker's process group. A group that is gone is no error.
func (w *process) signal(s syscall.Signal) {
	syscall.Kill(-w.cmd.Process.Pid, s) //nolint:errcheck // ESRCH means that nobody is left
}

// finish collects what the ended worker left in its pipes.
func (w *process) finish(listened <-chan struct{}) {
	w.input.close()
	w.events.finish()
	w.printed.finish()
	<-listened
	<-w.logged
	w.abandon()
}

// abandon lets go of a worker, ended or not.
func (w *process) abandon() {
	w.input.close()
	w.events.f.Close()
	w.printed.f.Close()
	<-w.logged
	w.log.close()
}

func closeAll(files []*os.File) {
	for _, f := range files {
		if f != nil {
			f.Close()
		}
	}
}

// inlet writes to a worker's standard input without ever waiting for it.
type inlet struct {
	w     *os.File
	lines chan []byte
	once  sync.Once
}

// newInlet takes up to two lines: a job and a stop.
func newInlet(w *os.File) *inlet {
	in := &inlet{w: w, lines: make(chan []byte, 2)}
	go func() {
		for line := range in.lines {
			in.w.Write(line) //nolint:errcheck // a worker that does not listen is known by its events
		}
	}()
	return in
}

func (in *inlet) send(line []byte) { in.lines <- line }

func (in *inlet) close() {
	in.once.Do(func() {
		close(in.lines)
		in.w.Close() // ends a write that the worker does not take
	})
}

// outlet reads a pipe to which a worker writes. Its end does not depend on that
// of processes which left the worker's group and still hold the pipe.
type outlet struct {
	f       *os.File
	ended   atomic.Bool
	drained int // bytes read after finish; used by the reader only
}

const (
	drainWait  = time.Second // for bytes of a worker that has ended, which are there already
	drainBytes = 1 << 20     // the most that a pipe holds
)

func (o *outlet) Read(b []byte) (int, error) {
	for {
		ended := o.ended.Load()
		if ended {
			if o.drained >= drainBytes {
				return 0, io.EOF
			}
			o.f.SetReadDeadline(time.Now().Add(drainWait)) //nolint:errcheck // pipes have deadlines
		}
		n, err := o.f.Read(b)
		if ended {
			o.drained += n
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
		if ended {
			return n, io.EOF
		}
	}
}

// finish tells the reader that the worker has ended.
func (o *outlet) finish() {
	o.ended.Store(true)
	o.f.SetReadDeadline(time.Now().Add(drainWait)) //nolint:errcheck // pipes have deadlines
}
