package check

import (
	"slices"
	"strconv"
	"strings"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// Change turns one knob in a proposed command.
type Change struct{ Knob, Value string }

// Command renders a command line that repeats the settings that someone chose
// and turns some knobs besides. Values that equal a default are left out.
func Command(words string, s trainer.Settings, changes ...Change) string {
	parts := []string{"mlxdyno", words}
	for _, k := range trainer.Knobs {
		i := slices.IndexFunc(changes, func(c Change) bool { return c.Knob == k.Name })
		switch {
		case i >= 0:
			parts = append(parts, option(k, changes[i].Value))
		case s.Origin(k.Name) != trainer.FromDefault:
			parts = append(parts, option(k, k.Get(&s.Config)))
		}
	}
	return strings.Join(parts, " ")
}

func option(k trainer.Knob, value string) string {
	if k.IsSwitch {
		return "--" + k.Name + "=" + value
	}
	return "--" + k.Name + " " + quote(value)
}

// quote makes a value one word of a shell. What is not known to be harmless is
// quoted: a shell may expand a tilde, for one.
func quote(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_@%+=:,./-", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// megabytes renders a limit as a flag's value, rounded down.
func megabytes(bytes int64) string { return strconv.FormatInt(bytes/1e6, 10) + "MB" }

// megabytesBinary renders bytes as sysctl's megabytes of 2²⁰.
func megabytesBinary(bytes int64) string { return strconv.FormatInt(bytes>>20, 10) }
