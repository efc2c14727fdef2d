package compare

import (
	"math"
	"slices"

	"golang.org/x/perf/benchmath"

	"github.com/mlxdyno/mlxdyno/trainer"
)

const confidence = 0.95

// summarize is benchstat's summary of measurements whose distribution is not known:
// the median, and the interval that order statistics give.
func summarize(values []float64) Summary {
	out := Summary{Values: slices.Clone(values)}
	if len(values) == 0 {
		return out
	}
	s := benchmath.AssumeNothing.Summary(benchmath.NewSample(slices.Clone(values), &benchmath.DefaultThresholds), confidence)
	out.Median = trainer.Some(s.Center)
	if !math.IsInf(s.Lo, 0) && !math.IsInf(s.Hi, 0) {
		out.Low, out.High = trainer.Some(s.Lo), trainer.Some(s.Hi)
	}
	return out
}

// ratioOf holds a against b: the U test of Mann and Whitney on their values, and the
// estimate that belongs to it (Hodges and Lehmann, 1963): the median of the ratios
// of all pairs, with the interval of those ratios that the test does not reject.
func ratioOf(a, b []float64) Ratio {
	out := Ratio{}
	if len(a) == 0 || len(b) == 0 {
		return out
	}
	c := benchmath.AssumeNothing.Compare(
		benchmath.NewSample(slices.Clone(a), &benchmath.DefaultThresholds), benchmath.NewSample(slices.Clone(b), &benchmath.DefaultThresholds))
	if !math.IsNaN(c.P) {
		out.P = trainer.Some(c.P)
	}
	logs := make([]float64, 0, len(a)*len(b))
	for _, x := range a {
		for _, y := range b {
			logs = append(logs, math.Log(x/y))
		}
	}
	slices.Sort(logs)
	out.Value = trainer.Some(math.Exp(median(logs)))
	k, below := 0, 0.0
	for u := nullU(len(a), len(b)); k < len(logs)/2; k++ {
		if below += u[k]; 2*below > 1-confidence {
			break
		}
	}
	if k > 0 {
		out.Low, out.High = trainer.Some(math.Exp(logs[k-1])), trainer.Some(math.Exp(logs[len(logs)-k]))
	}
	return out
}

// nullU is the distribution of Mann and Whitney's U for samples of n and m without
// ties that are of one distribution: the largest of all values is in one of both.
func nullU(n, m int) []float64 {
	row := make([][]float64, m+1) // by j, for the i of the loop
	for i := range n + 1 {
		for j := range m + 1 {
			p := make([]float64, i*j+1)
			if i == 0 || j == 0 {
				p[0] = 1
				row[j] = p
				continue
			}
			share := float64(i) / float64(i+j)
			for u, v := range row[j] { // i-1 and j; the largest is of the first and beats all j
				p[u+j] += share * v
			}
			for u, v := range row[j-1] { // i and j-1
				p[u] += (1 - share) * v
			}
			row[j] = p
		}
	}
	return row[m]
}

// narrow reports whether an interval tells the ratio to within precise.
func (r Ratio) narrow() bool {
	low, ok := r.Low.Get()
	return ok && r.High.Or(0)/low <= (1+precise)*(1+precise)
}
