package command

import (
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// number reads what trainers print for a number: 1.5, 1e-5, 12,345, nan, -inf.
func number(s string) (float64, bool) {
	s = strings.TrimSpace(s)
	if strings.IndexByte(s, ',') > 0 {
		if !grouped(s) {
			return 0, false
		}
		s = strings.ReplaceAll(s, ",", "")
	}
	if s == "" || strings.ContainsAny(s, "xX_pP") { // Go's own literals, which no trainer means
		return 0, false
	}
	v, err := strconv.ParseFloat(s, 64)
	if err != nil && !math.IsInf(v, 0) {
		return 0, false
	}
	return v, true
}

// grouped reports whether the commas of s separate thousands.
func grouped(s string) bool {
	whole, _, _ := strings.Cut(s, ".")
	for i, part := range strings.Split(whole, ",") {
		part = strings.TrimLeft(part, "+-")
		if i > 0 && len(part) != 3 || i == 0 && (len(part) == 0 || len(part) > 3) {
			return false
		}
	}
	return true
}

func optFloat(s string) trainer.Opt[trainer.Float] {
	if v, ok := number(s); ok {
		return trainer.Some(trainer.Float(v))
	}
	return trainer.Opt[trainer.Float]{}
}

// optRate reads a number that only means something when it is finite and not
// negative.
func optRate(s string) trainer.Opt[float64] {
	if v, ok := number(s); ok && v >= 0 && !math.IsInf(v, 0) {
		return trainer.Some(v)
	}
	return trainer.Opt[float64]{}
}

// maxCount bounds counts so that sums of them cannot overflow.
const maxCount = 1 << 53

func optCount(s string) trainer.Opt[int64] {
	if v, ok := number(s); ok && v >= 0 && v <= maxCount && v == math.Trunc(v) {
		return trainer.Some(int64(v))
	}
	return trainer.Opt[int64]{}
}

func optStep(s string) trainer.Opt[int] {
	if n, ok := optCount(s).Get(); ok {
		return trainer.Some(int(n))
	}
	return trainer.Opt[int]{}
}

// units are those of memory, by their lower-case name.
func unitBytes(unit string) (scale, binary float64, ok bool) {
	switch strings.ToLower(unit) {
	case "b", "byte", "bytes":
		return 1, 1, true
	case "k", "kb":
		return 1e3, 1 << 10, true
	case "m", "mb":
		return 1e6, 1 << 20, true
	case "g", "gb":
		return 1e9, 1 << 30, true
	case "t", "tb":
		return 1e12, 1 << 40, true
	case "kib":
		return 1 << 10, 1 << 10, true
	case "mib":
		return 1 << 20, 1 << 20, true
	case "gib":
		return 1 << 30, 1 << 30, true
	case "tib":
		return 1 << 40, 1 << 40, true
	}
	return 0, 0, false
}

// memory reads a number with its unit. exact says that the trainer's source
// shows the decimal unit to be meant.
func memory(kind MemoryKind, value, unit string, exact bool) (Memory, bool) {
	v, ok := number(value)
	if !ok || math.IsNaN(v) || math.IsInf(v, 0) || v < 0 {
		return Memory{}, false
	}
	m := Memory{Kind: kind, Value: v, Unit: unit}
	scale, binary, ok := unitBytes(unit)
	if !ok {
		return m, unit == ""
	}
	if v*binary > maxCount {
		return Memory{}, false
	}
	m.Bytes = trainer.Some(int64(math.Round(v * scale)))
	if scale != binary && !exact {
		m.Binary = trainer.Some(int64(math.Round(v * binary)))
	}
	m.Resolution = scale * lastDigit(value)
	return m, true
}

// lastDigit is the value of a one in the last place of a printed number.
func lastDigit(s string) float64 {
	if strings.ContainsAny(s, "eE") {
		return 0
	}
	_, digits, _ := strings.Cut(strings.TrimSpace(s), ".")
	return math.Pow10(-min(len(digits), 300))
}

// clock reads 12s, 1m, 1h2m, 2d, 00:12, 01:02:03 and 12.5s.
func clock(s string) (Clock, bool) {
	s = strings.TrimSpace(s)
	if strings.Contains(s, ":") {
		return clockOfColons(s)
	}
	var c Clock
	for s != "" {
		end := strings.IndexFunc(s, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
		if end <= 0 {
			return Clock{}, false
		}
		v, ok := number(s[:end])
		digits := s[:end]
		s = s[end:]
		end = strings.IndexFunc(s, func(r rune) bool { return r >= '0' && r <= '9' })
		if end < 0 {
			end = len(s)
		}
		unit, known := timeUnit(strings.TrimSpace(s[:end]))
		s = s[end:]
		if !ok || !known || v*float64(unit) > float64(maxClock) {
			return Clock{}, false
		}
		c.Time += time.Duration(v * float64(unit))
		c.Resolution = time.Duration(float64(unit) * lastDigit(digits))
	}
	return c, c.Resolution > 0 && c.Time <= maxClock
}

const maxClock = 10 * 365 * 24 * time.Hour

func clockOfColons(s string) (Clock, bool) {
	parts := strings.Split(s, ":")
	if len(parts) < 2 || len(parts) > 4 {
		return Clock{}, false
	}
	scales := []time.Duration{24 * time.Hour, time.Hour, time.Minute, time.Second}[4-len(parts):]
	c := Clock{Resolution: time.Second}
	for i, p := range parts {
		v, ok := number(p)
		if !ok || v < 0 || !(v*float64(scales[i]) <= float64(maxClock)) {
			return Clock{}, false
		}
		c.Time += time.Duration(v * float64(scales[i]))
	}
	return c, c.Time <= maxClock
}

func timeUnit(s string) (time.Duration, bool) {
	switch strings.ToLower(s) {
	case "ms":
		return time.Millisecond, true
	case "s", "sec", "secs", "second", "seconds":
		return time.Second, true
	case "m", "min", "mins", "minute", "minutes":
		return time.Minute, true
	case "h", "hr", "hrs", "hour", "hours":
		return time.Hour, true
	case "d", "day", "days":
		return 24 * time.Hour, true
	case "w", "week", "weeks":
		return 7 * 24 * time.Hour, true
	}
	return 0, false
}

// seconds is a clock of a number of seconds.
func clockOfSeconds(v float64) trainer.Opt[Clock] {
	if v < 0 || !(v <= maxClock.Seconds()) {
		return trainer.Opt[Clock]{}
	}
	return trainer.Some(Clock{Time: time.Duration(v * float64(time.Second)), Resolution: time.Millisecond})
}
