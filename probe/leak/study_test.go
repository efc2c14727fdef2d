package leak

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// ar1 makes fluctuation of variance sigma² in which each sample remembers the
// last with weight phi.
func ar1(rng *rand.Rand, n int, phi, sigma float64) []float64 {
	y := make([]float64, n)
	v := rng.NormFloat64() * sigma
	for i := range y {
		v = phi*v + math.Sqrt(1-phi*phi)*sigma*rng.NormFloat64()
		y[i] = v
	}
	return y
}

// logUniform is between from and to, small ones as likely as large ones.
func logUniform(rng *rand.Rand, from, to float64) float64 {
	return from * math.Pow(to/from, rng.Float64())
}

// lengths are of texts: most short, some long, none longer than the longest
// that is trained.
func lengths(rng *rand.Rand, n int) []float64 {
	out := make([]float64, n)
	for i := range out {
		out[i] = min(2048, math.Exp(5.5+0.7*rng.NormFloat64()))
	}
	return out
}

// kind makes series without a leak, of fluctuation with variance 1.
type kind struct {
	name string
	make func(rng *rand.Rand, n int) Series
}

func add(y []float64, f func(i int) float64) []float64 {
	for i := range y {
		y[i] += f(i)
	}
	return y
}

var kinds = []kind{
	{"white noise", func(rng *rand.Rand, n int) Series { return Series{Values: ar1(rng, n, 0, 1)} }},
	{"AR(1) 0.7", func(rng *rand.Rand, n int) Series { return Series{Values: ar1(rng, n, 0.7, 1)} }},
	{"AR(1) 0.9", func(rng *rand.Rand, n int) Series { return Series{Values: ar1(rng, n, 0.9, 1)} }},
	{"random walk", func(rng *rand.Rand, n int) Series {
		at := 0.
		return Series{Values: add(make([]float64, n), func(int) float64 { at += rng.NormFloat64(); return at })}
	}},
	{"heavy tails", func(rng *rand.Rand, n int) Series {
		return Series{Values: add(ar1(rng, n, 0.5, 1), func(int) float64 { return math.Pow(rng.NormFloat64(), 3) })}
	}},
	{"slow under white", func(rng *rand.Rand, n int) Series { // a long memory that the first correlation does not show
		slow := ar1(rng, n, 0.9, 0.7)
		return Series{Values: add(ar1(rng, n, 0, 0.7), func(i int) float64 { return slow[i] })}
	}},
	{"warm-up", func(rng *rand.Rand, n int) Series {
		size, tau := logUniform(rng, 1, 300), logUniform(rng, 3, float64(n)/2)
		return Series{Values: add(ar1(rng, n, 0.7*rng.Float64(), 1), func(i int) float64 { return size * (1 - math.Exp(-float64(i)/tau)) })}
	}},
	{"ratchet", func(rng *rand.Rand, n int) Series { // follows the longest text so far, which nobody tells
		size, x, top := logUniform(rng, 0.5, 100)/300, lengths(rng, n), 0.
		return Series{Values: add(ar1(rng, n, 0.7*rng.Float64(), 1), func(i int) float64 { top = max(top, x[i]); return size * top })}
	}},
	{"many ratchets", func(rng *rand.Rand, n int) Series { // as a cache of many sizes
		var tops [40]float64
		size := logUniform(rng, 0.05, 20)
		return Series{Values: add(ar1(rng, n, 0.7*rng.Float64(), 1), func(int) (sum float64) {
			for k := range tops {
				tops[k] = max(tops[k], rng.ExpFloat64())
				sum += size * tops[k]
			}
			return sum
		})}
	}},
	{"ratchet, no fluctuation", func(rng *rand.Rand, n int) Series {
		x, top := lengths(rng, n), 0.
		return Series{Values: add(make([]float64, n), func(i int) float64 { top = max(top, x[i]); return math.Floor(top / 64) })}
	}},
	{"jumps", func(rng *rand.Rand, n int) Series { // up to three, anywhere, of any size
		at, size := [3]int{}, [3]float64{}
		scale := logUniform(rng, 0.5, 100)
		for k := range 1 + rng.IntN(3) {
			at[k], size[k] = rng.IntN(n), scale*rng.ExpFloat64()
		}
		return Series{Values: add(ar1(rng, n, 0.7*rng.Float64(), 1), func(i int) (sum float64) {
			for k := range at {
				if i >= at[k] {
					sum += size[k]
				}
			}
			return sum
		})}
	}},
	{"even jumps", func(rng *rand.Rand, n int) Series { // three, spaced so that they look most like a slope
		size := logUniform(rng, 0.5, 5)
		var at [3]int
		for k, share := range []float64{0.47, 0.74, 0.90} {
			at[k] = int((share + 0.07*(rng.Float64()-0.5)) * float64(n))
		}
		return Series{Values: add(ar1(rng, n, 0.7*rng.Float64(), 1), func(i int) (sum float64) {
			for _, a := range at {
				if i >= a {
					sum += size
				}
			}
			return sum
		})}
	}},
	{"lengths that drift", func(rng *rand.Rand, n int) Series {
		x := lengths(rng, n)
		drift, weight := rng.Float64()*3/float64(n), logUniform(rng, 0.5, 100)/300
		for i := range x {
			x[i] *= 1 + drift*float64(i)
		}
		return Series{Tokens: x, Values: add(ar1(rng, n, 0.7, 1), func(i int) float64 { return weight * x[i] })}
	}},
	{"ratchet of known shapes", func(rng *rand.Rand, n int) Series {
		size, x, top := logUniform(rng, 0.5, 100)/300, lengths(rng, n), 0.
		drift := rng.Float64() * 3 / float64(n)
		for i := range x {
			x[i] *= 1 + drift*float64(i)
		}
		return Series{Tokens: x, Shapes: x, Values: add(ar1(rng, n, 0.7*rng.Float64(), 1), func(i int) float64 { top = max(top, x[i]); return size * top })}
	}},
}

var seriesOfEach = flag.Int("leak.series", 2000, "series of each kind and length")
var full = flag.Bool("leak.full", false, "all series of the study, as in docs/leaks.md: takes long")

// tally is what the study counts of one kind and length.
type tally struct {
	series       int
	leaks        int // false verdicts
	inconclusive int
	known        int // series that say what they would have shown
	found        int // of these: a slope of twice that, planted
	faint        int // of these: a slope of just that, planted
	rises        []float64
}

// study judges series of one kind, as they are and with slopes planted.
func study(k kind, series int, length func(*rand.Rand) int) (out tally) {
	seed := uint64(0)
	for _, c := range k.name {
		seed = 31*seed + uint64(c)
	}
	rng := rand.New(rand.NewPCG(seed, 7))
	for range series {
		s := k.make(rng, length(rng))
		t := Noise(s)
		out.series++
		switch t.State {
		case Leaking:
			out.leaks++
		case Inconclusive:
			out.inconclusive++
		}
		if t.Detectable == 0 {
			continue
		}
		out.known++
		out.rises = append(out.rises, t.Detectable*float64(len(s.Values)))
		if Noise(planted(s, 2*t.Detectable)).State == Leaking {
			out.found++
		}
		if Noise(planted(s, t.Detectable)).State == Leaking {
			out.faint++
		}
	}
	slices.Sort(out.rises)
	return out
}

func planted(s Series, slope float64) Series {
	s.Values = add(slices.Clone(s.Values), func(i int) float64 { return slope * float64(i) })
	return s
}

func (c tally) check(t *testing.T) {
	t.Helper()
	if 100*c.leaks > c.series {
		t.Errorf("%d of %d series without a leak were called leaks, want at most 1 %%", c.leaks, c.series)
	}
	if 100*c.found < 99*c.known {
		t.Errorf("%d of %d slopes of twice the detectable size were found, want 99 %%", c.found, c.known)
	}
}

// The whole study with -leak.full (make leak-study), a sample of it otherwise.
func TestStudy(t *testing.T) {
	series := *seriesOfEach
	lengths := []int{200, 300, 500, 1000, 2000, 0}
	if !*full {
		series, lengths = 60, []int{200, 0}
	}
	for _, k := range kinds {
		for _, n := range lengths {
			name, length := fmt.Sprint(n), func(*rand.Rand) int { return n }
			if n == 0 { // any
				name, length = "any", func(rng *rand.Rand) int { return int(logUniform(rng, MinSamples, 3000)) }
				if !*full {
					length = func(rng *rand.Rand) int { return int(logUniform(rng, MinSamples, 600)) }
				}
			}
			t.Run(k.name+"/"+name, func(t *testing.T) {
				c := study(k, series, length)
				c.check(t)
				if *full {
					rise := "–"
					if len(c.rises) > c.series/2 {
						rise = fmt.Sprintf("%.0f", c.rises[len(c.rises)/2])
					}
					fmt.Printf("| %s | %s | %.2f %% | %.0f %% | %s | %.0f %% | %.1f %% |\n", k.name, name, 100*float64(c.leaks)/float64(c.series),
						100*float64(c.inconclusive)/float64(c.series), rise, 100*float64(c.faint)/float64(max(c.known, 1)), 100*float64(c.found)/float64(max(c.known, 1)))
				}
			})
		}
	}
}
