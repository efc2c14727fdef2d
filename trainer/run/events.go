package run

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/wire"
)

// eventLog appends events to a file. Each is written at once, and they are
// synced with every checkpoint: a power cut may cost those since the last one.
type eventLog struct {
	file *os.File
	out  *wire.Writer
}

// openEvents cuts a torn last line off, so that the next event does not become
// part of it.
func openEvents(path string) (*eventLog, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open events: %w", err)
	}
	end, err := endOfLines(f)
	if err == nil {
		err = f.Truncate(end)
	}
	if err == nil {
		_, err = f.Seek(end, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open events: %w", err)
	}
	return &eventLog{file: f, out: wire.NewWriter(f)}, nil
}

// endOfLines returns the offset behind the last newline of f.
func endOfLines(f *os.File) (int64, error) {
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, err
	}
	buf := make([]byte, 64<<10)
	for end > 0 {
		n := min(end, int64(len(buf)))
		if _, err := f.ReadAt(buf[:n], end-n); err != nil {
			return 0, err
		}
		for i := n - 1; i >= 0; i-- {
			if buf[i] == '\n' {
				return end - n + i + 1, nil
			}
		}
		end -= n
	}
	return 0, nil
}

func (l *eventLog) add(e trainer.Event) error {
	if err := l.out.Write(e); err != nil {
		return fmt.Errorf("write events: %w", err)
	}
	return nil
}

func (l *eventLog) sync() error {
	if err := l.file.Sync(); err != nil {
		return fmt.Errorf("write events: %w", err)
	}
	return nil
}

func (l *eventLog) close() error { return l.file.Close() }

// readEvents hands over every event that can be read and counts the lines that
// cannot. No file means no events.
func readEvents(path string, each func(trainer.Event)) (bad int, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read events: %w", err)
	}
	defer f.Close()
	r := wire.NewReader(f)
	for {
		e, err := r.Next()
		var line *wire.LineError
		switch {
		case err == nil:
			each(e)
		case errors.Is(err, io.EOF):
			return bad, nil
		case errors.As(err, &line):
			bad++
		default:
			return bad, fmt.Errorf("read events: %w", err)
		}
	}
}
