package report

import (
	"bytes"
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode"

	"github.com/olekukonko/tablewriter"
	"github.com/olekukonko/tablewriter/pkg/twwidth"
	"github.com/olekukonko/tablewriter/renderer"
	"github.com/olekukonko/tablewriter/tw"
)

// page is a text being laid out.
type page struct {
	Style
	b   bytes.Buffer
	err error
}

// flush writes the page to w, without blanks at the ends of lines, and with
// single empty lines only, none of them at the start or the end.
func (p *page) flush(w io.Writer) error {
	if p.err != nil {
		return fmt.Errorf("lay out report: %w", p.err)
	}
	text := trailing.ReplaceAllString(p.b.String(), "$1")
	text = strings.Trim(emptyLines.ReplaceAllString(text, "\n\n"), "\n")
	_, err := io.WriteString(w, text+"\n")
	if err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

// trailing finds blanks before the end of a line, and the colour codes that may
// stand among them, which are kept.
var trailing = regexp.MustCompile(`(?m)[ ]+((?:\x1b\[[0-9;]*m)*)[ ]*$`)

var emptyLines = regexp.MustCompile(`\n{3,}`)

// gap makes an empty line.
func (p *page) gap() { p.b.WriteByte('\n') }

// heading starts a section.
func (p *page) heading(format string, args ...any) {
	p.gap()
	for _, line := range p.wrap(fmt.Sprintf(format, args...), p.width()) {
		fmt.Fprintln(&p.b, p.paint(strong, line))
	}
}

// text writes a paragraph, indented by so many columns.
func (p *page) text(indent int, t tone, text string) {
	p.hanging(strings.Repeat(" ", indent), t, text)
}

// hanging writes a paragraph whose first line starts with lead and whose others
// are indented as far.
func (p *page) hanging(lead string, t tone, text string) {
	p.marked(lead, plain, t, text)
}

// marked is hanging with a colour for lead.
func (p *page) marked(lead string, leadTone, t tone, text string) {
	lead = p.clean(lead)
	indent := twwidth.Width(lead)
	for i, line := range p.wrap(text, max(p.width()-indent, 20)) {
		if i == 0 {
			p.b.WriteString(p.paint(leadTone, lead))
		} else {
			p.b.WriteString(strings.Repeat(" ", indent))
		}
		fmt.Fprintln(&p.b, p.paint(t, line))
	}
}

// verbatim writes a command line or a log, never wrapped, so that it can be
// copied.
func (p *page) verbatim(lead string, t tone, text string) {
	for line := range strings.Lines(p.clean(strings.TrimRight(text, "\n"))) {
		fmt.Fprintln(&p.b, p.clean(lead)+p.paint(t, strings.TrimRight(line, "\n")))
	}
}

// noBreak is a blank at which no line ends.
const noBreak = '\u00a0'

// unit finds numbers before their unit, which stay together.
var unit = regexp.MustCompile(`(\d|±|×|\bx|\+/-) ([kMGT]?B|%|µ?s|us|ms|min|h|d|tok/s|×|x|\d+(\.\d+)?)( |$|[,;.)])`)

// wrap breaks clean text into lines of at most width columns, at blanks where
// it can. It returns at least one line.
func (p *page) wrap(text string, width int) []string {
	var lines []string
	for par := range strings.SplitSeq(strings.TrimSpace(p.clean(text)), "\n") {
		line := ""
		par = unit.ReplaceAllString(unit.ReplaceAllString(par, "$1\u00a0$2$4"), "$1\u00a0$2$4") // twice: matches overlap
		for word := range strings.FieldsFuncSeq(par, func(r rune) bool { return r != noBreak && unicode.IsSpace(r) }) {
			for twwidth.Width(word) > width { // a path, say: cut where it must be
				if line != "" {
					lines, line = append(lines, line), ""
				}
				head := cut(word, width)
				lines, word = append(lines, head), word[len(head):]
			}
			switch {
			case line == "":
				line = word
			case twwidth.Width(line)+1+twwidth.Width(word) <= width:
				line += " " + word
			default:
				lines, line = append(lines, line), word
			}
		}
		lines = append(lines, line)
	}
	for i := range lines {
		lines[i] = strings.ReplaceAll(lines[i], string(noBreak), " ")
	}
	return lines
}

// cut returns the longest start of s that is at most width columns, and at
// least one character.
func cut(s string, width int) string {
	used := 0
	for i, r := range s {
		used += twwidth.Width(string(r))
		if used > width && i > 0 {
			return s[:i]
		}
	}
	return s
}

// column is one of a table.
type column struct {
	title string
	right bool // numbers
}

// cell is one of a table's; its tone colours all of it.
type cell struct {
	text string
	tone tone
}

func cells(texts ...string) []cell {
	row := make([]cell, len(texts))
	for i, s := range texts {
		row[i].text = s
	}
	return row
}

const (
	tableIndent   = 2
	columnGap     = 2
	smallestWidth = 5 // below which a column is not squeezed
)

// table lays rows out under titles. Columns in which nothing is known are left
// out, and the widest ones are wrapped until all fit the page.
func (p *page) table(columns []column, rows [][]cell) {
	columns, rows = withoutUnknown(columns, rows)
	if len(rows) == 0 || len(columns) == 0 {
		return
	}
	widths := p.columnWidths(columns, rows)
	align := make([]tw.Align, len(columns))
	header := make([]string, len(columns))
	titled := false
	for i, c := range columns {
		align[i] = tw.AlignLeft
		if c.right {
			align[i] = tw.AlignRight
		}
		header[i] = p.wrapCell(cell{c.title, faint}, widths[i])
		titled = titled || c.title != ""
	}
	section := func() tw.CellConfig {
		return tw.CellConfig{
			Formatting: tw.CellFormatting{AutoWrap: tw.WrapNone, AutoFormat: tw.Off},
			Alignment:  tw.CellAlignment{PerColumn: align},
			Padding:    tw.CellPadding{Global: tw.Padding{Left: "", Right: strings.Repeat(" ", columnGap), Overwrite: true}},
		}
	}
	var b bytes.Buffer
	t := tablewriter.NewTable(&b,
		tablewriter.WithConfig(tablewriter.Config{Header: section(), Row: section(),
			Behavior: tw.Behavior{TrimSpace: tw.Off, TrimLine: tw.Off, Header: tw.Control{Hide: tw.Off}}}),
		tablewriter.WithRenderer(renderer.NewBlueprint(tw.Rendition{
			Borders:  tw.BorderNone,
			Symbols:  tw.NewSymbols(tw.StyleASCII),
			Settings: tw.Settings{Lines: tw.LinesNone, Separators: tw.SeparatorsNone},
		})))
	if titled {
		t.Header(header)
	}
	for _, row := range rows {
		out := make([]string, len(columns))
		for i := range columns {
			out[i] = p.wrapCell(row[i], widths[i])
		}
		if err := t.Append(out); err != nil {
			p.err = err
		}
	}
	if err := t.Render(); err != nil {
		p.err = err
	}
	for line := range strings.Lines(b.String()) {
		p.b.WriteString(strings.Repeat(" ", tableIndent) + line)
	}
}

// wrapCell breaks a cell into lines and colours each.
func (p *page) wrapCell(c cell, width int) string {
	lines := p.wrap(c.text, width)
	for i := range lines {
		lines[i] = p.paint(c.tone, lines[i])
	}
	return strings.Join(lines, "\n")
}

// columnWidths starts from what each column would like and takes from the
// widest until the table fits.
func (p *page) columnWidths(columns []column, rows [][]cell) []int {
	widths := make([]int, len(columns))
	total := tableIndent + columnGap*(len(columns)-1)
	for i, c := range columns {
		widths[i] = twwidth.Width(p.clean(c.title))
		for _, row := range rows {
			for line := range strings.SplitSeq(p.clean(row[i].text), "\n") {
				widths[i] = max(widths[i], twwidth.Width(strings.TrimSpace(line)))
			}
		}
		widths[i] = max(widths[i], 1)
		total += widths[i]
	}
	for ; total > p.width(); total-- {
		at := 0
		for i := range widths {
			if widths[i] > widths[at] {
				at = i
			}
		}
		if widths[at] <= smallestWidth {
			break
		}
		widths[at]--
	}
	return widths
}

func withoutUnknown(columns []column, rows [][]cell) ([]column, [][]cell) {
	var keep []int
	for i := range columns {
		for _, row := range rows {
			if s := strings.TrimSpace(row[i].text); s != "" && s != dash {
				keep = append(keep, i)
				break
			}
		}
	}
	outColumns := make([]column, len(keep))
	outRows := make([][]cell, len(rows))
	for j, i := range keep {
		outColumns[j] = columns[i]
	}
	for r, row := range rows {
		outRows[r] = make([]cell, len(keep))
		for j, i := range keep {
			outRows[r][j] = row[i]
		}
	}
	return outColumns, outRows
}
