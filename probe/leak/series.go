package leak

import (
	"math"
	"slices"
)

// Series is what Noise judges: one reading after each step, oldest first.
type Series struct {
	// Values are bytes. A reading that is NaN or infinite is missing.
	Values []float64

	// Tokens and Shapes explain readings: how many tokens each step had, and how
	// large its shape was. Growth that follows the tokens, or the largest shape so
	// far, is no leak. Either may be nil; one of another length is ignored.
	Tokens []float64
	Shapes []float64

	// Control are readings of the same program over steps without updates; nil
	// when there are none.
	Control []float64

	Plan Plan
}

// Plan says what growth would harm. The zero Plan knows nothing: any growth
// that is sure counts then.
type Plan struct {
	Steps    int     // steps of the training
	Headroom float64 // bytes that are left
}

// harmShare of the headroom, over the whole training, is what growth may take.
const harmShare = 0.02

// harmful is the least slope that counts; 0 when every one does.
func (p Plan) harmful() float64 {
	if p.Steps <= 0 || !(p.Headroom > 0) || math.IsInf(p.Headroom, 0) {
		return 0
	}
	return harmShare * p.Headroom / float64(p.Steps)
}

const (
	maxCells   = 1000 // longer series are averaged down to at most so many cells
	maxMissing = 0.10 // of the readings
)

// cells are a series made ready: gaps filled, averaged, centered and scaled to
// ±1, so that no arithmetic on it overflows.
type cells struct {
	y     []float64
	x     [][]float64 // covariates, each centered and scaled alike
	width int         // samples a cell
	scale float64     // what 1 stands for
}

// prepare makes cells of a series. ok is false when too many readings are
// missing.
func (s Series) prepare() (c cells, ok bool) {
	n := len(s.Values)
	y, missing := filled(s.Values)
	if n == 0 || float64(missing) > maxMissing*float64(n) {
		return c, false
	}
	c.width = (n + maxCells - 1) / maxCells
	c.y, c.scale = scaled(averaged(scaledOnly(y), c.width))
	c.scale *= largest(y)
	for _, x := range s.covariates() {
		x, _ = scaled(averaged(scaledOnly(x), c.width))
		c.x = append(c.x, x)
	}
	return c, true
}

// covariates are the tokens of a step and the largest shape so far, as far as
// they are known.
func (s Series) covariates() [][]float64 {
	n := len(s.Values)
	var out [][]float64
	shapes := s.Shapes
	if len(s.Tokens) == n {
		if t, missing := filled(s.Tokens); missing == 0 {
			out = append(out, t)
		}
		if len(shapes) != n {
			shapes = s.Tokens
		}
	}
	if len(shapes) == n {
		if x, missing := filled(shapes); missing == 0 {
			x = slices.Clone(x)
			for i := 1; i < n; i++ {
				x[i] = max(x[i], x[i-1])
			}
			out = append(out, x)
		}
	}
	return out
}

// since is the series from a sample on. What is largest so far counts from the
// beginning.
func (s Series) since(at int) Series {
	x := s.covariates()
	out := Series{Values: s.Values[at:], Control: s.Control, Plan: s.Plan}
	if len(s.Tokens) == len(s.Values) {
		out.Tokens = s.Tokens[at:]
	}
	if len(x) > 0 && len(x[len(x)-1]) == len(s.Values) {
		out.Shapes = x[len(x)-1][at:]
	}
	return out
}

// filled replaces what is missing by what lies between its neighbours.
func filled(y []float64) (out []float64, missing int) {
	out = slices.Clone(y)
	last := -1 // the last reading that is there
	for i, v := range y {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			missing++
			continue
		}
		for j := last + 1; j < i; j++ {
			out[j] = v
			if last >= 0 {
				w := float64(j-last) / float64(i-last)
				out[j] = (1-w)*y[last] + w*v
			}
		}
		last = i
	}
	for j := last + 1; last >= 0 && j < len(y); j++ {
		out[j] = y[last]
	}
	return out, missing
}

func largest(y []float64) float64 {
	var m float64
	for _, v := range y {
		m = max(m, math.Abs(v))
	}
	return m
}

// scaledOnly brings all values into ±1.
func scaledOnly(y []float64) []float64 {
	m := largest(y)
	out := make([]float64, len(y))
	if m > 0 {
		for i, v := range y {
			out[i] = v / m
		}
	}
	return out
}

// scaled centers at the median and brings the largest deviation to 1. The scale
// is 0 for equal values.
func scaled(y []float64) (out []float64, scale float64) {
	center := middle(y)
	out = make([]float64, len(y))
	for i, v := range y {
		out[i] = v - center
	}
	if scale = largest(out); scale > 0 {
		for i := range out {
			out[i] /= scale
		}
	}
	return out, scale
}

// averaged takes the mean of every width values; a rest that fills no cell at
// the beginning is left out.
func averaged(y []float64, width int) []float64 {
	if width <= 1 {
		return y
	}
	y = y[len(y)%width:]
	out := make([]float64, len(y)/width)
	for i := range out {
		out[i] = mean(y[i*width : (i+1)*width])
	}
	return out
}
