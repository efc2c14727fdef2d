package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// dash stands for what is not known.
const dash = "–"

// known renders v if there is one.
func known[T any](v trainer.Opt[T], render func(T) string) string {
	if x, ok := v.Get(); ok {
		return render(x)
	}
	return dash
}

func optBytes(v trainer.Opt[int64]) string    { return known(v, trainer.FormatBytes) }
func optNumber(v trainer.Opt[float64]) string { return known(v, number) }
func optSeconds(v trainer.Opt[float64]) string {
	return known(v, seconds)
}
func optLoss(v trainer.Opt[float64]) string { return known(v, loss) }

func loss(v float64) string {
	return finite(v, func() string { return strconv.FormatFloat(v, 'f', 3, 64) })
}

// number renders v with three significant digits, or whole when it has more,
// digits grouped.
func number(v float64) string {
	return finite(v, func() string {
		a := math.Abs(v)
		switch {
		case a >= 1e15:
			return strconv.FormatFloat(v, 'g', 3, 64)
		case a >= 99.95:
			return grouped(int64(math.Round(v)))
		case a >= 9.995:
			return strconv.FormatFloat(v, 'f', 1, 64)
		case a >= 0.9995:
			return strconv.FormatFloat(v, 'f', 2, 64)
		}
		return strconv.FormatFloat(v, 'g', 3, 64)
	})
}

// grouped renders a whole number with commas.
func grouped(n int64) string {
	s := strconv.FormatInt(n, 10)
	sign := ""
	if rest, ok := strings.CutPrefix(s, "-"); ok {
		sign, s = "-", rest
	}
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return sign + s
}

// count renders a number of things: 1 step, 1,200 steps.
func count(n int, thing string) string {
	if n != 1 {
		thing += "s"
		if base, ok := strings.CutSuffix(thing, "ss"); ok && strings.HasSuffix(base, "e") {
			thing = base + "sses" // process
		}
	}
	return grouped(int64(n)) + " " + thing
}

// percent renders a share; change the same with a sign.
func percent(v float64) string {
	return finite(v, func() string { return digits(100*v) + " %" })
}

func change(v float64) string {
	return finite(v, func() string {
		s := digits(100 * math.Abs(v))
		switch {
		case s == "0.0":
			return "±0 %"
		case v < 0:
			return "−" + s + " %"
		}
		return "+" + s + " %"
	})
}

func digits(v float64) string {
	if math.Abs(v) >= 99.95 {
		return grouped(int64(math.Round(math.Min(math.Max(v, -1e15), 1e15))))
	}
	return strconv.FormatFloat(v, 'f', 1, 64)
}

// within renders the error that was stated with a figure: ± 3.0 %.
func within(share float64) string {
	if !(share > 0) {
		return ""
	}
	return "± " + percent(share)
}

func finite(v float64, render func() string) string {
	switch {
	case math.IsNaN(v):
		return "NaN"
	case math.IsInf(v, 1):
		return "infinite"
	case math.IsInf(v, -1):
		return "−infinite"
	}
	return render()
}

// seconds renders a duration in the two units that matter.
func seconds(v float64) string {
	return finite(v, func() string {
		if v < 0 {
			return "−" + seconds(-v)
		}
		if v >= 365*86400 {
			return "over a year"
		}
		whole := int64(math.Round(v))
		switch {
		case v == 0:
			return "0 s"
		case v < 1e-3:
			return strconv.FormatFloat(v*1e6, 'f', 0, 64) + " µs"
		case v < 0.9995:
			return strconv.FormatFloat(v*1e3, 'g', 3, 64) + " ms"
		case v < 59.95:
			return strconv.FormatFloat(v, 'f', 1, 64) + " s"
		case whole < 3600:
			return fmt.Sprintf("%d min %02d s", whole/60, whole%60)
		case whole < 86400:
			return fmt.Sprintf("%d h %02d min", whole/3600, whole%3600/60)
		}
		return fmt.Sprintf("%d d %02d h", whole/86400, whole%86400/3600)
	})
}

func moment(t time.Time) string {
	if t.IsZero() {
		return dash
	}
	return t.Format("2006-01-02 15:04")
}

// shape renders rows × width.
func shape(s trainer.Shape) string { return fmt.Sprintf("%d × %d", s.Batch, s.Width) }

// joined puts the parts that are not empty in a row.
func joined(separator string, parts ...string) string {
	var keep []string
	for _, s := range parts {
		if strings.TrimSpace(s) != "" {
			keep = append(keep, s)
		}
	}
	return strings.Join(keep, separator)
}

func yes(v bool) string {
	if v {
		return "yes"
	}
	return "no"
}
