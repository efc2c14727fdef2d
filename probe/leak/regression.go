package leak

import "slices"

// regression removes what covariates explain of a series, beside a straight
// line. What it learns, it learns from the judged part alone.
type regression struct {
	apart [][]float64 // covariates without their own line, orthogonal to each other; 0 before the judged part
	whole [][]float64 // the same combinations of the covariates as they are
	norm  []float64

	// inseparable says that a covariate is a straight line itself.
	inseparable bool
}

const nothing = 1e-9 // of a covariate's variance: rounding

func newRegression(covariates [][]float64, from int) *regression {
	r := &regression{}
	for _, c := range covariates {
		whole, apart := slices.Clone(c), slices.Clone(c)
		before := deviation(c[from:])
		clear(apart[:from])
		withoutLine(apart[from:])
		line := dot(apart, apart) <= nothing*before
		for k := range r.apart {
			b := dot(apart, r.apart[k]) / r.norm[k]
			subtract(apart, r.apart[k], b)
			subtract(whole, r.whole[k], b)
		}
		switch norm := dot(apart, apart); {
		case before <= nothing: // equal values, as covariates are scaled to 1
		case norm > nothing*before:
			r.apart, r.whole, r.norm = append(r.apart, apart), append(r.whole, whole), append(r.norm, norm)
		case line:
			r.inseparable = true
		}
	}
	return r
}

// adjust takes away in place what covariates explain.
func (r *regression) adjust(y []float64) {
	for k := range r.apart {
		subtract(y, r.whole[k], dot(y, r.apart[k])/r.norm[k])
	}
}

// withoutLine takes away the straight line that fits best.
func withoutLine(y []float64) {
	center, m := float64(len(y)-1)/2, mean(y)
	var xy, xx float64
	for i, v := range y {
		x := float64(i) - center
		xy += x * (v - m)
		xx += x * x
	}
	if xx == 0 {
		return
	}
	for i := range y {
		y[i] -= m + xy/xx*(float64(i)-center)
	}
}

// deviation is the sum of squares about the mean.
func deviation(y []float64) float64 {
	m := mean(y)
	var sum float64
	for _, v := range y {
		sum += (v - m) * (v - m)
	}
	return sum
}

func dot(a, b []float64) float64 {
	var sum float64
	for i, v := range a {
		sum += v * b[i]
	}
	return sum
}

func subtract(y, x []float64, times float64) {
	for i, v := range x {
		y[i] -= times * v
	}
}

func mean(y []float64) float64 {
	var sum float64
	for _, v := range y {
		sum += v
	}
	return sum / float64(len(y))
}

func middle(y []float64) float64 {
	s := slices.Clone(y)
	slices.Sort(s)
	return sortedMiddle(s)
}

func sortedMiddle(s []float64) float64 {
	if len(s)%2 == 1 {
		return s[len(s)/2]
	}
	return s[len(s)/2-1]/2 + s[len(s)/2]/2
}
