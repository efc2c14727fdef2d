package check

import (
	"strconv"
	"strings"

	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/trainer"
)

// size is evidence in bytes; Expected carries its own unit.
func size(name string, bytes int64, expected, source string) probe.Evidence {
	number, unit, _ := strings.Cut(trainer.FormatBytes(bytes), " ")
	return probe.Evidence{Name: name, Observed: number, Unit: unit, Expected: expected, Source: source}
}

func count[T int | int32 | int64 | uint64](name string, n T, unit, expected, source string) probe.Evidence {
	return probe.Evidence{Name: name, Observed: strconv.FormatInt(int64(n), 10), Unit: unit, Expected: expected, Source: source}
}

func share(name string, v float64, expected, source string) probe.Evidence {
	number, unit, _ := strings.Cut(percent(v), " ")
	return probe.Evidence{Name: name, Observed: number, Unit: unit, Expected: expected, Source: source}
}

func said(name, observed, expected, source string) probe.Evidence {
	return probe.Evidence{Name: name, Observed: observed, Expected: expected, Source: source}
}

func number(name string, v float64, unit, expected, source string) probe.Evidence {
	return probe.Evidence{Name: name, Observed: strconv.FormatFloat(v, 'g', 4, 64), Unit: unit, Expected: expected, Source: source}
}
