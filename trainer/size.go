package trainer

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Limit is a memory limit in bytes, or not set, which leaves the engine's own
// default. Zero bytes is a real limit: a cache limit of 0 means no cache.
type Limit struct {
	Bytes int64
	IsSet bool
}

// LimitOf returns a limit of n bytes.
func LimitOf(n int64) Limit { return Limit{Bytes: n, IsSet: true} }

func (l Limit) String() string {
	if !l.IsSet {
		return "default"
	}
	return FormatBytes(l.Bytes)
}

func (l Limit) MarshalJSON() ([]byte, error) {
	if !l.IsSet {
		return []byte("null"), nil
	}
	return json.Marshal(l.Bytes)
}

func (l *Limit) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		*l = Limit{}
		return nil
	}
	l.IsSet = true
	return json.Unmarshal(b, &l.Bytes)
}

// ParseLimit reads "default" or a size.
func ParseLimit(s string) (Limit, error) {
	if s == "default" || s == "" {
		return Limit{}, nil
	}
	n, err := ParseBytes(s)
	if err != nil {
		return Limit{}, err
	}
	return LimitOf(n), nil
}

var byteUnits = []struct {
	suffix string
	scale  float64
}{
	{"tib", 1 << 40}, {"gib", 1 << 30}, {"mib", 1 << 20}, {"kib", 1 << 10},
	{"tb", 1e12}, {"gb", 1e9}, {"mb", 1e6}, {"kb", 1e3},
	{"t", 1e12}, {"g", 1e9}, {"m", 1e6}, {"k", 1e3}, {"b", 1},
}

// ParseBytes reads a size such as "12GB", "11.5GiB", "900 MB" or "1048576".
// GB is 10⁹ bytes, as MLX and mlx-lm print it; GiB is 2³⁰.
func ParseBytes(s string) (int64, error) {
	text := strings.ToLower(strings.TrimSpace(s))
	scale := 1.0
	for _, u := range byteUnits {
		if rest, ok := strings.CutSuffix(text, u.suffix); ok {
			text, scale = strings.TrimSpace(rest), u.scale
			break
		}
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
		return 0, fmt.Errorf("size %q: want a number with an optional unit, such as 12GB, 900MB or 11.5GiB", s)
	}
	if v < 0 {
		return 0, fmt.Errorf("size %q: must not be negative", s)
	}
	if v *= scale; v >= math.MaxInt64 {
		return 0, fmt.Errorf("size %q: too large", s)
	}
	return int64(math.Round(v)), nil
}

// FormatBytes renders n in decimal units (1 GB = 10⁹ bytes), the unit in which
// MLX and mlx-lm speak.
func FormatBytes(n int64) string {
	if n < 0 {
		return "-" + FormatBytes(-max(n, -math.MaxInt64)) // the lowest has no opposite
	}
	v := float64(n)
	switch {
	case n < 1000:
		return strconv.FormatInt(n, 10) + " B"
	case v < 999.5e3:
		return threeDigits(v/1e3) + " kB"
	case v < 999.5e6:
		return threeDigits(v/1e6) + " MB"
	case v < 999.5e9:
		return threeDigits(v/1e9) + " GB"
	}
	return threeDigits(v/1e12) + " TB"
}

func threeDigits(v float64) string {
	switch {
	case v < 9.995:
		return strconv.FormatFloat(v, 'f', 2, 64)
	case v < 99.95:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 0, 64)
}

// FormatDuration renders d to the second, as flags take it: 45s, 1m15s, 5m.
func FormatDuration(d time.Duration) string {
	text := d.Round(time.Second).String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// Count renders a number of things: 1 row, 2 rows.
func Count(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}
