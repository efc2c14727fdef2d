package report

import (
	"fmt"
	"io"
	"strings"

	"github.com/mlxdyno/mlxdyno/probe/check"
)

// Checks writes all stories as a page of Markdown.
func Checks(w io.Writer, stories []check.Explanation) error {
	var b strings.Builder
	b.WriteString("# What the doctor checks\n\n" +
		"Made from the same stories as `mlxdyno doctor explain CODE`, by `make docs`; edit those in `probe/check`.\n\n" +
		"A check that is required makes the diagnosis fail, others warn. One whose cause has been found already is not judged, so that only roots show.\n" +
		"A finding is *proven* when a burst in which its cause was taken away had the symptom no more; the checks for which the doctor can do that say so.\n\n" +
		"| code | about | required | can be proven |\n|---|---|---|---|\n")
	tick := map[bool]string{true: "yes"}
	for _, s := range stories {
		fmt.Fprintf(&b, "| [%s](#%s) | %s | %s | %s |\n", s.Code, anchor(s.Code), s.Title, tick[s.Required], tick[s.Provable])
	}
	for _, s := range stories {
		fmt.Fprintf(&b, "\n## %s\n\n**%s.** %s\n\n*How it is checked.* %s\n\n*What to do.* %s\n", s.Code, s.Title, s.Means, s.How, s.Do)
		if len(s.DependsOn) > 0 {
			fmt.Fprintf(&b, "\nNot judged when one of these explains it: %s.\n", strings.Join(s.DependsOn, ", "))
		}
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write page: %w", err)
	}
	return nil
}

// anchor is how a renderer of Markdown names a heading.
func anchor(code string) string { return strings.ReplaceAll(code, ".", "") }
