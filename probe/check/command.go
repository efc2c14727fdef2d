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
	return "--" + k.Name + " " + trainer.CommandLine(value)
}

// megabytes renders a limit as a flag's value, rounded down.
func megabytes(bytes int64) string { return strconv.FormatInt(bytes/1e6, 10) + "MB" }

// megabytesBinary renders bytes as sysctl's megabytes of 2²⁰.
func megabytesBinary(bytes int64) string { return strconv.FormatInt(bytes>>20, 10) }
