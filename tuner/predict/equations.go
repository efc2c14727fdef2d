package predict

import (
	"math"

	"gonum.org/v1/gonum/mat"

	"github.com/mlxdyno/mlxdyno/probe/budget"
)

// equations are what samples and expectations say of factors, in units of one
// standard deviation: least squares with a prior (ridge regression), so that
// there is always one solution.
type equations struct {
	before factors                             // expected
	sure   [budget.Parts][budget.Parts]float64 // inverse of the covariance of what is expected
	normal [budget.Parts][budget.Parts]float64
	right  factors
	free   [budget.Parts]bool // not held at 0 by the last solution
}

// covariance is that of factors.
type covariance [budget.Parts][budget.Parts]float64

func newEquations(before factors) *equations {
	e := &equations{before: before}
	typical := 0.0 // what the others are off together, the rest that no formula knows may be too
	for p := range before {
		typical = math.Max(typical, before[p])
	}
	for p := range before {
		deviation := factorError * before[p]
		if before[p] == 0 {
			deviation = factorError * typical
		}
		e.sure[p][p] = 1 / (deviation * deviation)
	}
	e.alike(budget.PartBlockScores, budget.PartFewScores, alike*typical)
	return e
}

// alike says by how much two factors are expected to differ: one standard deviation.
func (e *equations) alike(p, q budget.Part, deviation float64) {
	sure := 1 / (deviation * deviation)
	e.sure[p][p], e.sure[q][q] = e.sure[p][p]+sure, e.sure[q][q]+sure
	e.sure[p][q], e.sure[q][p] = -sure, -sure
}

// add takes in a sample at which s was the highest stage.
func (e *equations) add(s budget.Stage, m measured) {
	weight := 1 / (peakGuess * m.scale)
	for i, a := range s.Parts {
		if a == 0 {
			continue
		}
		for j, b := range s.Parts {
			e.normal[i][j] += a * b * weight * weight
		}
		e.right[i] += a * (m.over - s.Fixed) * weight * weight
	}
}

// solve finds the factors, none of them negative, by the active set method of
// Lawson and Hanson (1974).
func (e *equations) solve() factors {
	var x factors
	for range 3 * int(budget.Parts) {
		enter, steepest := -1, 1e-9
		for p := range x {
			if e.free[p] {
				continue
			}
			// Per own scale, so that parts compare.
			if g := e.gradient(x, p) / math.Sqrt(e.normal[p][p]+e.sure[p][p]); g > steepest {
				enter, steepest = p, g
			}
		}
		if enter < 0 {
			break
		}
		e.free[enter] = true
		for {
			next := e.unbounded()
			share, out := 1.0, -1
			for p := range x {
				if e.free[p] && next[p] <= 0 && x[p]-next[p] > 0 {
					if s := x[p] / (x[p] - next[p]); s < share {
						share, out = s, p
					}
				}
			}
			for p := range x {
				if e.free[p] {
					x[p] += share * (next[p] - x[p])
				}
			}
			if out < 0 {
				break
			}
			x[out], e.free[out] = 0, false
		}
	}
	return x
}

func (e *equations) gradient(x factors, p int) float64 {
	g := e.right[p]
	for j := range x {
		g += e.sure[p][j]*(e.before[j]-x[j]) - e.normal[p][j]*x[j]
	}
	return g
}

// unbounded solves for the free factors alone.
func (e *equations) unbounded() factors {
	var x factors
	at := e.freeParts()
	a, b := mat.NewSymDense(len(at), nil), mat.NewVecDense(len(at), nil)
	for i, p := range at {
		for j := i; j < len(at); j++ {
			a.SetSym(i, j, e.normal[p][at[j]]+e.sure[p][at[j]])
		}
		right := e.right[p]
		for j, expected := range e.before {
			right += e.sure[p][j] * expected
		}
		b.SetVec(i, right)
	}
	var c mat.Cholesky
	var solved mat.VecDense
	if !c.Factorize(a) || c.SolveVecTo(&solved, b) != nil && solved.IsEmpty() {
		return x
	}
	for i, p := range at {
		x[p] = solved.AtVec(i)
	}
	return x
}

func (e *equations) freeParts() []int {
	var at []int
	for p, free := range e.free {
		if free {
			at = append(at, p)
		}
	}
	return at
}

// used is how many factors the samples were spent on: the trace of the matrix
// that makes fitted values of measured ones, rounded.
func (e *equations) used() int {
	c := e.covariance(peakGuess)
	var sum float64
	for i := range e.normal {
		for j := range e.normal {
			sum += c[i][j] * e.normal[j][i]
		}
	}
	return int(math.Round(sum))
}

// covariance of the factors when samples are off by sigma; 0 for those that are
// held at 0.
func (e *equations) covariance(sigma float64) (out covariance) {
	at := e.freeParts()
	if len(at) == 0 {
		return out
	}
	scale := peakGuess / sigma * peakGuess / sigma
	a := mat.NewSymDense(len(at), nil)
	for i, p := range at {
		for j := i; j < len(at); j++ {
			a.SetSym(i, j, scale*e.normal[p][at[j]]+e.sure[p][at[j]])
		}
	}
	var c mat.Cholesky
	var inverse mat.SymDense
	if !c.Factorize(a) || c.InverseTo(&inverse) != nil && inverse.IsEmpty() {
		return out
	}
	for i, p := range at {
		for j, q := range at {
			out[p][q] = inverse.At(i, j)
		}
	}
	return out
}
