package report

import (
	"io"

	"github.com/mlxdyno/mlxdyno/probe/verify"
)

// Verify writes for a person whether a cure worked.
func Verify(w io.Writer, c verify.Comparison, s Style) error {
	p := &page{Style: s}
	word, t := "holds", fine
	if !c.Passed {
		word, t = "does not hold", bad
	}
	p.marked("mlxdyno report: ", strong, t, "what came after "+word)
	p.gap()
	p.table([]column{{}, {}}, [][]cell{{{"before", faint}, {joined(" · ", c.Before.Name, c.Before.Kind), plain}}, {{"after", faint}, {joined(" · ", c.After.Name, c.After.Kind), plain}}})
	p.gap()
	var rows [][]cell
	for _, a := range c.Answers {
		word, t := string(a.Verdict), note
		switch a.Verdict {
		case verify.Pass:
			word, t = "✓ pass", fine
		case verify.Fail:
			word, t = "✗ fail", bad
		case verify.Open:
			word = "? not known"
		}
		rows = append(rows, []cell{{text: a.Question}, {text: a.Before}, {text: a.After}, {a.Needed, faint}, {word, t}})
	}
	p.table([]column{{title: "question"}, {title: "before"}, {title: "after"}, {title: "needed"}, {title: "verdict"}}, rows)
	return p.flush(w)
}
