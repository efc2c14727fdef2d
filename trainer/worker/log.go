package worker

import (
	"fmt"
	"os"
	"strings"
)

const (
	tailBytes = 64 << 10
	tailLines = 40
)

// logbook keeps what a worker prints: all of it, up to a limit, in a file, and
// the end of it in memory.
type logbook struct {
	file *os.File // nil when no file is wanted
	left int64    // bytes that still go into the file
	end  []byte
	err  error // the first error of the file
}

func openLog(path string, limit int64) (*logbook, error) {
	if path == "" {
		return &logbook{}, nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open worker log: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open worker log: %w", err)
	}
	return &logbook{file: f, left: limit - info.Size()}, nil
}

// Write takes everything: a worker must not fail because its log cannot grow.
func (l *logbook) Write(p []byte) (int, error) {
	l.end = append(l.end, p...)
	if len(l.end) > 2*tailBytes {
		l.end = append(l.end[:0], l.end[len(l.end)-tailBytes:]...)
	}
	if l.file == nil || l.err != nil || l.left < 0 {
		return len(p), nil
	}
	keep := p[:min(int64(len(p)), l.left)]
	if _, l.err = l.file.Write(keep); l.err != nil {
		return len(p), nil
	}
	if l.left -= int64(len(p)); l.left < 0 {
		_, l.err = l.file.WriteString("\n[mlxdyno: the log has reached its limit and is cut here]\n")
	}
	return len(p), nil
}

func (l *logbook) close() {
	if l.file != nil {
		l.file.Close()
	}
}

// tail returns the last lines, whole ones as far as they are known.
func (l *logbook) tail() string {
	end := l.end
	if len(end) > tailBytes {
		end = end[len(end)-tailBytes:]
	}
	text := strings.ToValidUTF8(strings.TrimRight(string(end), "\n"), "\uFFFD")
	lines := strings.Split(text, "\n")
	return strings.Join(lines[max(0, len(lines)-tailLines):], "\n")
}
