package command

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// MaxLine is the longest line that is kept. Longer ones are skipped and counted.
const MaxLine = 1 << 20

// Line is what a person would have seen on one line of a terminal.
type Line struct {
	Text   string // valid UTF-8 without control codes and spaces at its end; never empty
	Number int64  // of the line of the input, from 1
	Redraw bool   // drawn over by what comes next, as progress bars are

	// Of a patient that runs: when the line came, by our clock, and what the
	// system charged its processes with by then. Absent in a log.
	At        trainer.Opt[time.Duration]
	Footprint trainer.Opt[int64] // bytes
}

// LineStats count what went by.
type LineStats struct {
	Bytes   int64
	Lines   int64 // newlines
	TooLong int64 // lines that were skipped for their length
	Invalid int64 // lines with bytes that are no UTF-8
	Binary  int64 // lines with zero bytes, which are skipped
}

// Lines splits what a terminal would get into lines. It takes escape sequences
// out, ends a line wherever the cursor goes back, and holds at most MaxLine bytes.
type Lines struct {
	r     io.Reader
	buf   []byte // of r, not yet split
	pos   int
	err   error // of r, once buf is used up
	stats LineStats

	line    []byte
	long    bool // the line has become too long
	zero    bool // it has a zero byte
	pending Line
	ready   bool

	state  escape
	params []byte // of the escape sequence
}

// escape is where in an escape sequence the splitter is.
type escape uint8

const (
	ground   escape = iota
	returned        // after a carriage return, which a newline may follow
	escaped         // after ESC
	charset         // after ESC and an intermediate byte: one more
	control         // in a control sequence, ESC [
	text            // in a string such as a window title, ESC ]
	textEsc         // at ESC within one
	maxParam = 64   // bytes of a control sequence; more is not one
	maxTitle = 4096 // bytes of a string; a longer one is taken as text again
)

// NewLines splits r.
func NewLines(r io.Reader) *Lines { return &Lines{r: r, buf: make([]byte, 0, 64<<10)} }

// Stats returns the counts so far.
func (l *Lines) Stats() LineStats { return l.stats }

// Next returns the next line that is not empty, or the reader's error. At
// io.EOF what stands on the last line has been returned.
func (l *Lines) Next() (Line, error) {
	for {
		for l.pos < len(l.buf) {
			l.pos += l.take(l.buf[l.pos:])
			if l.ready {
				l.ready = false
				return l.pending, nil
			}
		}
		if l.err != nil {
			if errors.Is(l.err, io.EOF) && l.end(false) {
				l.ready = false
				return l.pending, nil
			}
			return Line{}, l.err
		}
		n, err := l.r.Read(l.buf[:cap(l.buf)])
		l.buf, l.pos, l.err = l.buf[:n], 0, err
		l.stats.Bytes += int64(n)
	}
}

// Resume lets reading go on after an error of the reader that was not its last.
func (l *Lines) Resume() { l.err = nil }

// Drop forgets a line that was begun, for an input that starts anew.
func (l *Lines) Drop() {
	l.line, l.long, l.zero, l.state = l.line[:0], false, false, ground
}

// take consumes bytes of b, none only when its state changes, and stops after a
// line's end.
func (l *Lines) take(b []byte) int {
	if l.state == ground {
		n := plain(b)
		l.add(b[:n])
		if n > 0 {
			return n
		}
	}
	c := b[0]
	switch l.state {
	case ground:
		if c == 0 { // a file with holes has many
			l.zero = true
			return len(b) - len(bytes.TrimLeft(b, "\x00"))
		}
		l.special(c)
	case returned:
		switch c {
		case '\r':
		case '\n':
			l.state = ground
			l.special(c)
		default:
			l.state = ground
			l.end(true)
			return 0
		}
	case escaped:
		l.params = l.params[:0]
		switch {
		case c == '[':
			l.state = control
		case c == ']' || c == 'P' || c == '_' || c == '^' || c == 'X':
			l.state = text
		case c >= 0x20 && c <= 0x2f:
			l.state = charset
		default:
			l.state = ground
			if c < 0x20 {
				l.special(c)
			}
		}
	case charset:
		l.state = ground
		if c < 0x20 {
			l.special(c)
		}
	case control:
		l.inControl(c)
	case text:
		switch l.params = append(l.params, c); {
		case c == 0x07:
			l.state = ground
		case c == 0x1b:
			l.state = textEsc
		case c == '\n' || len(l.params) > maxTitle:
			l.giveUp()
		}
	case textEsc:
		l.state = ground
		if c != '\\' {
			l.state = escaped
			return l.take(b)
		}
	}
	return 1
}

// plain is the length of the text that b begins with.
func plain(b []byte) int {
	for i, c := range b {
		if c < 0x20 && c != '\t' || c == 0x7f {
			return i
		}
	}
	return len(b)
}

func (l *Lines) special(c byte) {
	switch c {
	case '\n':
		l.end(false)
		l.stats.Lines++
	case '\r':
		l.state = returned
	case '\b':
		l.end(true)
	case 0x1b:
		l.state = escaped
	}
}

func (l *Lines) inControl(c byte) {
	switch {
	case c >= 0x40 && c <= 0x7e:
		l.state = ground
		back := strings.IndexByte("ABEFGHJSTf", c) >= 0 // the cursor goes elsewhere, or the screen is cleared
		wiped := c == 'K' && len(l.params) > 0 && l.params[0] != '0'
		if back || wiped {
			l.end(true)
		}
	case c < 0x20: // a broken sequence; what follows counts
		l.state = ground
		l.special(c)
	case len(l.params) >= maxParam:
		l.giveUp()
	default:
		l.params = append(l.params, c)
	}
}

// giveUp takes what looked like an escape sequence as text after all.
func (l *Lines) giveUp() {
	held := l.params
	l.params, l.state = nil, ground
	newline := len(held) > 0 && held[len(held)-1] == '\n'
	if newline {
		held = held[:len(held)-1]
	}
	for _, c := range held {
		if c >= 0x20 {
			l.add([]byte{c})
		}
	}
	if newline {
		l.special('\n')
	}
}

func (l *Lines) add(b []byte) {
	if l.long || len(l.line)+len(b) > MaxLine {
		l.long, l.line = true, l.line[:0]
		return
	}
	l.line = append(l.line, b...)
}

// end ends a line and reports whether there is something on it.
func (l *Lines) end(redraw bool) bool {
	line, long, zero := l.line, l.long, l.zero
	l.line, l.long, l.zero = l.line[:0], false, false
	switch {
	case long:
		l.stats.TooLong++
		return false
	case zero:
		l.stats.Binary++
		return false
	}
	line = bytes.TrimRight(line, " \t")
	if len(line) == 0 {
		return false
	}
	s := string(line)
	if !utf8.ValidString(s) {
		l.stats.Invalid++
		s = strings.ToValidUTF8(s, "\uFFFD")
	}
	l.pending, l.ready = Line{Text: s, Number: l.stats.Lines + 1, Redraw: redraw}, true
	return true
}
