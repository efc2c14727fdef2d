package command

import (
	"fmt"
	"os"
	"strings"
)

// transcript keeps the beginning and the end of what a patient prints in a file.
type transcript struct {
	file   *os.File // nil when no file is wanted
	head   int64    // bytes that still go straight into the file
	limit  int      // of tail
	tail   []byte
	missed int64 // bytes between head and tail
	err    error // the first of the file
}

const maxTail = 4 << 20

func openTranscript(path string, limit int64) (*transcript, error) {
	if path == "" {
		return &transcript{}, nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open the patient's log: %w", err)
	}
	tail := min(limit/2, maxTail)
	return &transcript{file: f, head: limit - tail, limit: int(tail)}, nil
}

// Write takes everything: a patient must not be held up because its log cannot
// grow.
func (t *transcript) Write(p []byte) (int, error) {
	n := len(p)
	if t.file == nil {
		return n, nil
	}
	if first := p[:min(int64(n), t.head)]; len(first) > 0 {
		if t.err == nil {
			_, t.err = t.file.Write(first)
		}
		t.head -= int64(len(first))
		p = p[len(first):]
	}
	t.tail = append(t.tail, p...)
	if extra := len(t.tail) - t.limit; extra > 0 && len(t.tail) > 2*t.limit {
		t.drop(extra)
	}
	return n, nil
}

func (t *transcript) drop(n int) {
	t.missed += int64(n)
	t.tail = append(t.tail[:0], t.tail[n:]...)
}

func (t *transcript) close() error {
	if t.file == nil {
		return nil
	}
	if extra := len(t.tail) - t.limit; extra > 0 {
		t.drop(extra)
	}
	if t.missed > 0 && t.err == nil {
		_, t.err = fmt.Fprintf(t.file, "\n[mlxdyno: %d bytes are left out here]\n", t.missed)
	}
	if t.err == nil {
		_, t.err = t.file.Write(t.tail)
	}
	if err := t.file.Close(); t.err == nil {
		t.err = err
	}
	return t.err
}

const lastLines = 40

// ending keeps the last lines that a person would have seen.
type ending struct {
	lines  []string
	redraw bool // the last one is drawn over by the next
}

func (e *ending) add(l Line) {
	const longest = 2 << 10
	text := l.Text
	if len(text) > longest {
		text = strings.ToValidUTF8(text[:longest], "") + "…"
	}
	switch {
	case e.redraw && len(e.lines) > 0:
		e.lines[len(e.lines)-1] = text
	case len(e.lines) == lastLines:
		copy(e.lines, e.lines[1:])
		e.lines[lastLines-1] = text
	default:
		e.lines = append(e.lines, text)
	}
	e.redraw = l.Redraw
}

func (e *ending) String() string { return strings.Join(e.lines, "\n") }
