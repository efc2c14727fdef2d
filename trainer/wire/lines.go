package wire

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// MaxLine is the longest line, its newline included, that either side may send.
const MaxLine = 1 << 20

// LineError tells of a line that cannot be read. Reading may go on with the
// next line.
type LineError struct {
	Line   int    // counted from 1
	Reason string // what is wrong with it
	Start  string // how the line begins, quoted
	Torn   bool   // the input ended within the line
}

func (e *LineError) Error() string {
	return fmt.Sprintf("read line %d: %s: %s", e.Line, e.Reason, e.Start)
}

func lineError(n int, line []byte, format string, args ...any) *LineError {
	const shown = 80
	start := strconv.Quote(string(line[:min(len(line), shown)]))
	if len(line) > shown {
		start += "…"
	}
	return &LineError{Line: n, Reason: fmt.Sprintf(format, args...), Start: start}
}

// Lines splits an input into lines and never holds more than MaxLine bytes.
type Lines struct {
	in *bufio.Reader
	n  int
}

// NewLines returns a splitter of r.
func NewLines(r io.Reader) *Lines { return &Lines{in: bufio.NewReaderSize(r, 64<<10)} }

// Next returns the next line without its newline, valid until the next call.
// It returns io.EOF after the last line, *LineError for a line that is longer
// than MaxLine or has no newline, or the input's own error.
func (l *Lines) Next() ([]byte, error) {
	var line []byte // what did not fit into the reader's buffer
	for size := 0; ; {
		part, err := l.in.ReadSlice('\n')
		if size += len(part); size <= MaxLine {
			if line == nil && err == nil {
				l.n++
				return part[:len(part)-1], nil
			}
			line = append(line, part...)
		}
		switch {
		case err == nil && size > MaxLine:
			l.n++
			return nil, lineError(l.n, line, "%d bytes, more than the limit of %d", size, MaxLine)
		case err == nil:
			l.n++
			return line[:len(line)-1], nil
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && size > 0:
			l.n++
			torn := lineError(l.n, line, "the input ended after %d bytes of it", size)
			torn.Torn = true
			return nil, torn
		default:
			return nil, err
		}
	}
}
