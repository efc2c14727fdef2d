package report

import (
	"math"
	"testing"

	"github.com/mlxdyno/mlxdyno/trainer"
)

var nan = math.NaN()

func TestFormats(t *testing.T) {
	for _, c := range []struct{ name, got, want string }{
		{"zero seconds", seconds(0), "0 s"},
		{"microseconds", seconds(12e-6), "12 µs"},
		{"milliseconds", seconds(0.0123), "12.3 ms"},
		{"almost a second", seconds(0.9999), "1.0 s"},
		{"seconds", seconds(59.94), "59.9 s"},
		{"a minute", seconds(59.96), "1 min 00 s"},
		{"minutes", seconds(250), "4 min 10 s"},
		{"an hour, rounded up", seconds(3599.9), "1 h 00 min"},
		{"hours", seconds(7500), "2 h 05 min"},
		{"days", seconds(3*86400 + 4*3600), "3 d 04 h"},
		{"for ever", seconds(math.Inf(1)), "infinite"},
		{"very long", seconds(1e300), "over a year"},
		{"negative", seconds(-2), "−2.0 s"},
		{"small number", number(0.00123), "0.00123"},
		{"number below ten", number(9.996), "10.0"},
		{"number", number(1270), "1,270"},
		{"large number", number(-1234567.8), "-1,234,568"},
		{"huge number", number(1e300), "1e+300"},
		{"not a number", number(nan), "NaN"},
		{"no change", change(-0.0001), "±0 %"},
		{"fall", change(-0.2126), "−21.3 %"},
		{"rise", change(12.5), "+1,250 %"},
		{"endless change", change(math.Inf(-1)), "−infinite"},
		{"unknown", optBytes(trainer.Opt[int64]{}), "–"},
		{"zero is not unknown", optBytes(trainer.Some[int64](0)), "0 B"},
		{"one step", count(1, "step"), "1 step"},
		{"steps", count(1200, "step"), "1,200 steps"},
		{"no stated error", within(0), ""},
		{"stated error", within(0.03), "± 3.0 %"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.got != c.want {
				t.Errorf("got %q, want %q", c.got, c.want)
			}
		})
	}
}
