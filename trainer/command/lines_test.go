package command

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"
)

// split returns the lines of text, drawn over ones marked with ~.
func split(r io.Reader) ([]string, LineStats, error) {
	l := NewLines(r)
	var out []string
	for {
		line, err := l.Next()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return out, l.Stats(), err
		}
		text := fmt.Sprintf("%d %s", line.Number, line.Text)
		if line.Redraw {
			text = "~" + text
		}
		out = append(out, text)
	}
}

func TestLines(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		{"plain", "a\nb\n", "1 a|2 b"},
		{"no newline at the end", "a\nb", "1 a|2 b"},
		{"empty lines count", "\n\na\n", "3 a"},
		{"carriage returns before newlines", "a\r\nb\r\r\n", "1 a|2 b"},
		{"a progress bar", "\r 1%\r 2%\r\ndone\n", "~1  1%|1  2%|2 done"},
		{"colours", "\x1b[1;32mgreen\x1b[0m and \x1b[38;5;244mgrey\x1b[m\n", "1 green and grey"},
		{"erased and gone up", "bar\r\x1b[2K\x1b[1A\x1b[2Kloss 1\n", "~1 bar|1 loss 1"},
		{"erased to the end only", "a\x1b[K b\n", "1 a b"},
		{"backspaces", "1%\b\b2%\n", "~1 1%|1 2%"},
		{"a title", "\x1b]0;training\x07a\n\x1b]0;b\x1b\\c\n", "1 a|2 c"},
		{"a title without an end", "\x1b]0;training\na\n", "1 0;training|2 a"},
		{"a broken sequence", "a\x1b[12\nb\n", "1 a|2 b"},
		{"an escape at the end", "a\x1b[", "1 a"},
		{"an escape before an escape", "\x1b\x1b[31ma\n", "1 a"},
		{"a charset", "\x1b(Ba\n", "1 a"},
		{"an endless sequence", "\x1b[" + strings.Repeat("1", 70) + "m\n", "1 " + strings.Repeat("1", 64) + "11111m"},
		{"a tab and a bell", "a\tb\x07\n", "1 a\tb"},
		{"no UTF-8", "a\xffb\n", "1 a\uFFFDb"},
		{"zero bytes", "a\x00b\nc\n", "2 c"},
		{"spaces at the end", "a  \t\n   \n", "1 a"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, r := range []io.Reader{strings.NewReader(tc.text), iotest.OneByteReader(strings.NewReader(tc.text)), iotest.DataErrReader(strings.NewReader(tc.text))} {
				got, _, err := split(r)
				if err != nil || strings.Join(got, "|") != tc.want {
					t.Errorf("got %q, %v; want %q", strings.Join(got, "|"), err, tc.want)
				}
			}
		})
	}
}

func TestLongLinesAreSkipped(t *testing.T) {
	kept := strings.Repeat("x", MaxLine)
	got, stats, err := split(strings.NewReader("a\n" + kept + "\n" + kept + "y\nb\n" + kept + "z"))
	if err != nil || len(got) != 3 || got[0] != "1 a" || got[1] != "2 "+kept || got[2] != "4 b" {
		t.Errorf("%d lines, %v", len(got), err)
	}
	if stats.TooLong != 2 || stats.Lines != 4 {
		t.Errorf("%+v", stats)
	}
}

func TestAReadersErrorIsPassedOn(t *testing.T) {
	broken := errors.New("broken")
	got, _, err := split(io.MultiReader(strings.NewReader("a\nb"), iotest.ErrReader(broken)))
	if !errors.Is(err, broken) || len(got) != 1 {
		t.Errorf("got %q, %v", got, err)
	}
}

func FuzzLines(f *testing.F) {
	f.Add([]byte("a\r\x1b[2K\x1b[1Ab\n\x1b]0;t\x07c\xff\x00\n"), 3)
	f.Add([]byte("\x1b[31m\x1b(B\r\n\x1bPq\x1b\\"), 1)
	f.Fuzz(func(t *testing.T, text []byte, chunk int) {
		whole, stats, err := split(strings.NewReader(string(text)))
		if err != nil {
			t.Fatal(err)
		}
		parts, again, err := split(&chunks{text, max(1, chunk%7)})
		if err != nil || strings.Join(whole, "\n") != strings.Join(parts, "\n") || stats != again {
			t.Fatalf("in parts %q %+v, whole %q %+v (%v)", parts, again, whole, stats, err)
		}
		for _, l := range whole {
			if !utf8.ValidString(l) || strings.ContainsAny(l, "\n\r\x1b\x00\b") {
				t.Fatalf("line %q", l)
			}
		}
	})
}

// chunks reads n bytes at a time.
type chunks struct {
	b []byte
	n int
}

func (c *chunks) Read(b []byte) (int, error) {
	if len(c.b) == 0 {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), c.n)], c.b)
	c.b = c.b[n:]
	return n, nil
}
