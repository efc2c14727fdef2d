package report

import (
	"io"
	"os"
	"regexp"
	"strings"

	"github.com/fatih/color"
	"golang.org/x/term"
)

// Widths between which text is laid out.
const (
	narrowest = 80
	widest    = 120
	usual     = 100 // when nobody says how wide it is
)

// Style says how text looks on one stream.
type Style struct {
	Color   bool
	ASCII   bool // nothing outside ASCII
	Verbose bool // what is otherwise folded too
	Width   int  // columns; 0 is 100; kept within 80 and 120
}

// StyleFor decides the style of stream w. colour is auto, always or never; auto
// colours a terminal unless NO_COLOR is set or the terminal is dumb. getenv is
// os.Getenv but in tests.
func StyleFor(w io.Writer, colour string, verbose bool, getenv func(string) string) Style {
	s := Style{Verbose: verbose, ASCII: !speaksUTF8(getenv), Width: usual}
	f, ok := w.(*os.File)
	terminal := ok && term.IsTerminal(int(f.Fd()))
	if terminal {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 0 {
			s.Width = width
		}
	}
	switch colour {
	case "always":
		s.Color = true
	case "never":
	default:
		s.Color = terminal && getenv("NO_COLOR") == "" && getenv("TERM") != "dumb"
	}
	return s
}

// speaksUTF8 reads the locale as the C library does: the first that is set of
// LC_ALL, LC_CTYPE and LANG.
func speaksUTF8(getenv func(string) string) bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := strings.ToLower(getenv(name)); v != "" {
			return strings.Contains(v, "utf-8") || strings.Contains(v, "utf8")
		}
	}
	return false
}

func (s Style) width() int {
	if s.Width == 0 {
		return usual
	}
	return min(max(s.Width, narrowest), widest)
}

// tone is a meaning that colour carries in addition to words.
type tone int

const (
	plain tone = iota
	bad
	caution
	fine
	note
	faint
	strong
)

var attributes = map[tone][]color.Attribute{
	bad:     {color.FgRed, color.Bold},
	caution: {color.FgYellow},
	fine:    {color.FgGreen},
	note:    {color.FgCyan},
	faint:   {color.Faint},
	strong:  {color.Bold},
}

// paint colours text, which must be on one line.
func (s Style) paint(t tone, text string) string {
	if !s.Color || t == plain || text == "" {
		return text
	}
	c := color.New(attributes[t]...)
	c.EnableColor() // the stream decides, not the process
	return c.Sprint(text)
}

// inASCII spells what this package prints outside ASCII.
var inASCII = strings.NewReplacer(
	"±", "+/-", "−", "-", "–", "-", "—", "-", "…", "...", "·", "-", "×", "x", "→", "->", "≤", "<=", "≥", ">=", "≈", "~",
	"✓", "+", "✗", "x", "•", "*", "√", "sqrt ", "²", "^2", "³", "^3", "µ", "u", "│", "|", "“", `"`, "”", `"`, "’", "'",
)

// escape finds what terminals take as commands: colours, cursor moves, titles.
var escape = regexp.MustCompile("\x1b(\\[[0-?]*[ -/]*[@-~]|\\][^\x07\x1b]*(\x07|\x1b\\\\)?)")

// clean makes text from anywhere fit to print: no control characters but line
// breaks, and in ASCII nothing else.
func (s Style) clean(text string) string {
	text = escape.ReplaceAllString(strings.ToValidUTF8(text, "?"), "")
	text = strings.Map(func(r rune) rune {
		switch {
		case r == '\n':
			return r
		case r == '\t', r == noBreak:
			return ' '
		case r < ' ', r >= 0x7f && r < 0xa0, r >= 0x200b && r <= 0x200f, r >= 0x2028 && r <= 0x202e, r >= 0x2060 && r <= 0x206f, r == 0xfeff:
			return -1
		}
		return r
	}, text)
	if !s.ASCII {
		return text
	}
	return strings.Map(func(r rune) rune {
		if r >= 0x80 {
			return '?'
		}
		return r
	}, inASCII.Replace(text))
}
