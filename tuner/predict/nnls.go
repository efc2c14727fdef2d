package predict

import (
	"math"

	"gonum.org/v1/gonum/mat"
)

// nnls returns the x ≥ 0 that minimizes |A·x − y|², and whether there is one
// to find. Rows of A are observations.
//
// The minimum is the unconstrained least squares solution over the coefficients
// that are not zero in it, so with the three coefficients that a fit here has,
// trying every set of them is exact and needs no iteration. Sets whose columns
// cannot be told apart are passed over.
func nnls(a [][]float64, y []float64) (x []float64, ok bool) {
	if len(a) == 0 {
		return nil, false
	}
	n := len(a[0])
	best := math.Inf(1)
	for set := 1; set < 1<<n; set++ {
		try, ok := leastSquares(a, y, set)
		if !ok {
			continue
		}
		// A smaller set wins a draw: fewer constants explain as much.
		if r := residual(a, y, try); r < best*(1-1e-12) {
			best, x = r, try
		}
	}
	return x, x != nil
}

// leastSquares solves for the columns in set, scaled to like size, and reports
// whether the solution is unique and not negative.
func leastSquares(a [][]float64, y []float64, set int) ([]float64, bool) {
	n := len(a[0])
	var columns []int
	var scale []float64
	for j := range n {
		if set&(1<<j) == 0 {
			continue
		}
		norm := 0.0
		for i := range a {
			norm = math.Hypot(norm, a[i][j])
		}
		if norm == 0 {
			return nil, false
		}
		columns, scale = append(columns, j), append(scale, norm)
	}
	if len(a) < len(columns) {
		return nil, false
	}
	m := mat.NewDense(len(a), len(columns), nil)
	for i := range a {
		for k, j := range columns {
			m.Set(i, k, a[i][j]/scale[k])
		}
	}
	var qr mat.QR
	qr.Factorize(m)
	var solved mat.VecDense
	if qr.Cond() > 1e7 || qr.SolveVecTo(&solved, false, mat.NewVecDense(len(y), append([]float64(nil), y...))) != nil {
		return nil, false
	}
	x := make([]float64, n)
	for k, j := range columns {
		if x[j] = solved.AtVec(k) / scale[k]; !(x[j] >= 0) {
			return nil, false
		}
	}
	return x, true
}

func residual(a [][]float64, y, x []float64) float64 {
	var sum float64
	for i := range a {
		d := y[i]
		for j := range x {
			d -= a[i][j] * x[j]
		}
		sum += d * d
	}
	return sum
}
