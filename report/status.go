package report

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/mlxdyno/mlxdyno/trainer/run"
	"github.com/olekukonko/tablewriter/pkg/twwidth"
)

// StatusLine says in one line where a training stands. What does not fit into
// width columns is left out, the least important first; width 0 is no limit.
func StatusLine(r run.Progress, s Style, width int) string {
	parts := []string{fmt.Sprintf("step %s/%s", grouped(int64(r.Step)), grouped(int64(r.Steps)))}
	add := func(format string, known bool, text string) {
		if known {
			parts = append(parts, fmt.Sprintf(format, text))
		}
	}
	add("loss %s", r.Loss.Known(), loss(float64(r.Loss.Or(0))))
	add("%s tok/s", r.TokensPerSecond.Known(), optNumber(r.TokensPerSecond))
	add("%s left", r.ETA.Known(), span(r.ETA.Or(0)))
	memory := r.Memory.Peak
	if !memory.Known() {
		memory = r.Memory.Active
	}
	add("peak %s", memory.Known(), optBytes(memory))
	add("val %s", r.ValLoss.Known(), loss(float64(r.ValLoss.Or(0))))
	add("process %s", r.Segment > 0, fmt.Sprint(r.Segment+1))
	for n := len(parts); ; n-- {
		line := s.clean(strings.Join(parts[:n], " · "))
		if width <= 0 || twwidth.Width(line) <= width {
			return line
		}
		if n == 1 {
			return cut(line, width)
		}
	}
}

const (
	redraw = 100 * time.Millisecond // on a terminal
	repeat = 10 * time.Second       // elsewhere
)

// Status keeps a person informed on a stream while a training runs: one line,
// rewritten, on a terminal; elsewhere a line every ten seconds or ten percent.
type Status struct {
	w        io.Writer
	style    Style
	terminal bool
	now      func() time.Time
	last     time.Time // of the last line
	tenth    int       // tenths of the training at the last line
	drawn    bool      // a line is on the terminal
}

// NewStatus returns a status on w. now is time.Now but in tests.
func NewStatus(w io.Writer, s Style, terminal bool, now func() time.Time) *Status {
	return &Status{w: w, style: s, terminal: terminal, now: now}
}

// Show brings the line up to date, unless it did so a moment ago.
func (s *Status) Show(r run.Progress) {
	now := s.now()
	if s.terminal {
		if s.drawn && now.Sub(s.last) < redraw && r.Step < r.Steps {
			return
		}
		s.last, s.drawn = now, true
		fmt.Fprint(s.w, "\r\x1b[K"+StatusLine(r, s.style, s.style.width()-1))
		return
	}
	tenth := 0
	if r.Steps > 0 {
		tenth = 10 * r.Step / r.Steps
	}
	if !s.last.IsZero() && tenth == s.tenth && now.Sub(s.last) < repeat {
		return
	}
	s.last, s.tenth = now, tenth
	fmt.Fprintln(s.w, StatusLine(r, s.style, 0))
}

// Say writes a line of its own above the status.
func (s *Status) Say(text string) {
	if s.drawn {
		fmt.Fprint(s.w, "\r\x1b[K")
		s.drawn = false
	}
	fmt.Fprintln(s.w, s.style.clean(text))
}

// Done leaves the last line standing and ends it.
func (s *Status) Done() {
	if s.drawn {
		fmt.Fprintln(s.w)
		s.drawn = false
	}
}
