package leak

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// run is a training of n steps without a leak, in bytes; change plants one.
func run(n int, change func(r *Readings)) Readings {
	rng := rng()
	noise := ar1(rng, n, 0.5, 5e6)
	r := Readings{Period: 1, Active: make([]int64, n), Cache: make([]int64, n), Footprint: make([]int64, n), Traces: make([]int64, n)}
	for i := range n {
		r.Active[i], r.Cache[i], r.Traces[i] = 8e9, 1e9+int64(3e6*rng.NormFloat64()), 2
		r.Footprint[i] = 3e8 + int64(noise[i])
	}
	if change != nil {
		change(&r)
	}
	if !r.Apart {
		for i := range n {
			r.Footprint[i] += r.Active[i] + r.Cache[i]
		}
	}
	return r
}

func rise(y []int64, step int64) {
	for i := range y {
		y[i] += step * int64(i)
	}
}

// cycling are shapes of data that come in turns.
func cycling(n, shapes int) []float64 {
	return add(make([]float64, n), func(i int) float64 { return float64(64 * (1 + i%shapes)) })
}

func TestCauses(t *testing.T) {
	const n = 600
	all := func(s State) map[Cause]State {
		return map[Cause]State{LiveArrays: s, AllocatorPool: s, HostOrDriver: s, CompileCache: s}
	}
	with := func(c Cause, s State) map[Cause]State {
		m := all(None)
		m[c] = s
		return m
	}
	both := with(HostOrDriver, Leaking)
	both[CompileCache] = Leaking
	cases := []struct {
		name   string
		change func(r *Readings)
		want   map[Cause]State
		says   string // about the cause that is found
	}{
		{"healthy", nil, all(None), ""},
		{"arrays are held", func(r *Readings) { rise(r.Active, 4096) }, with(LiveArrays, Leaking), "exactly 4096 bytes"},
		{"arrays are held once an update", func(r *Readings) {
			r.Period = 4
			for i := range r.Active {
				r.Active[i] += 800*int64(i/4) + 1000*int64(i%4)
			}
		}, with(LiveArrays, Leaking), "exactly 800 bytes"},
		{"active wavers", func(r *Readings) {
			for i, v := range ar1(rng(), n, 0.3, 1e8) {
				r.Active[i] += int64(v)
			}
		}, all(None), ""},
		{"active wavers and grows", func(r *Readings) {
			for i, v := range ar1(rng(), n, 0.3, 1e8) {
				r.Active[i] += int64(v) + 1e7*int64(i)
			}
		}, with(LiveArrays, Leaking), "steadily"},
		{"active follows shapes and grows", func(r *Readings) {
			r.Shapes = cycling(n, 7)
			for i := range r.Active {
				r.Active[i] += int64(1e5*r.Shapes[i]) + 1e6*int64(i)
			}
			r.Tokens = r.Shapes
		}, with(LiveArrays, Leaking), "steadily"},
		{"pool grows", func(r *Readings) { rise(r.Cache, 2e6) }, with(AllocatorPool, Leaking), "steadily"},
		{"host grows", func(r *Readings) { rise(r.Footprint, 2e6) }, with(HostOrDriver, Leaking), "steadily"},
		{"host grows apart from MLX", func(r *Readings) { r.Apart = true; rise(r.Footprint, 2e6) }, with(HostOrDriver, Leaking), "steadily"},
		{"every step is compiled", func(r *Readings) { rise(r.Traces, 1) }, with(CompileCache, Leaking), "compile"},
		{"every step is compiled, and takes memory", func(r *Readings) { rise(r.Traces, 1); rise(r.Footprint, 2e6) }, both, "compile"},
		{"known shapes are compiled again", func(r *Readings) {
			r.Shapes = cycling(n, 20)
			for i := range r.Traces {
				r.Traces[i] = int64(min(i+1, 20) + i/4)
			}
		}, with(CompileCache, Leaking), "had been compiled before"},
		{"each shape is compiled once", func(r *Readings) {
			r.Shapes = cycling(n, 20)
			for i := range r.Traces {
				r.Traces[i] = int64(min(i+1, 20))
			}
		}, all(None), ""},
		{"shapes keep coming, as many as planned", func(r *Readings) {
			r.ShapesPlanned = 1000
			r.Shapes = cycling(n, n)
			rise(r.Traces, 1)
		}, all(None), ""},
		{"shapes come ever more seldom", func(r *Readings) {
			for i := range r.Traces {
				r.Traces[i] = []int64{0, 30, 50, 56}[3*i/n+min(i%200, 1)]
			}
		}, with(CompileCache, Inconclusive), "may end"},
		{"traces fall", func(r *Readings) { rise(r.Traces, -1) }, with(CompileCache, Inconclusive), "fell"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := run(n, c.change)
			got := Causes(r)
			if len(got) != len(c.want) {
				t.Errorf("%d causes judged, want %d", len(got), len(c.want))
			}
			for _, j := range got {
				if j.State != c.want[j.Cause] {
					t.Errorf("%s: %+v, want %s", j.Cause, j, c.want[j.Cause])
				}
				if j.State != None && !strings.Contains(j.Reason, c.says) && j.Cause != HostOrDriver {
					t.Errorf("%s: %q does not say %q", j.Cause, j.Reason, c.says)
				}
				if (j.State == Leaking) != (j.Rate.BytesAStep > 0) {
					t.Errorf("%s: %s at %v a step", j.Cause, j.State, j.Rate.BytesAStep)
				}
				if c.want[HostOrDriver] == Leaking && c.want[CompileCache] == Leaking && j.Cause == HostOrDriver && !strings.Contains(j.Reason, "2e+06 bytes each") {
					t.Errorf("%q does not say what a compiled step takes", j.Reason)
				}
			}
		})
	}
}

func TestCausesShort(t *testing.T) {
	if got := Causes(Readings{}); len(got) != 0 {
		t.Errorf("nothing was read: %+v", got)
	}
	for _, j := range Causes(run(8, nil)) {
		if j.State != Inconclusive || j.More <= 0 && j.Cause != LiveArrays {
			t.Errorf("8 steps: %+v, want inconclusive", j)
		}
	}
	// What is too short is left out, and the rest that needs it too.
	r := run(300, nil)
	r.Active = r.Active[:5]
	if got := Causes(r); len(got) != 2 || got[0].Cause != AllocatorPool || got[1].Cause != CompileCache {
		t.Errorf("without active memory: %+v, want the pool and the compile cache alone", got)
	}
	// Bytes are exact long before statistics are.
	for _, j := range Causes(run(20, func(r *Readings) { rise(r.Active, 64) })) {
		if want := map[bool]State{true: Leaking, false: Inconclusive}[j.Cause == LiveArrays]; j.State != want && j.Cause != CompileCache {
			t.Errorf("20 steps: %+v, want %s", j, want)
		}
	}
}

// Data with a number of shapes, each compiled when it first comes, is never a
// leak of compiled steps; and the rate that is stated holds.
func TestCompileCacheFalseAlarms(t *testing.T) {
	trials := 300
	if *full {
		trials = *seriesOfEach
	}
	for _, shapes := range []int{5, 50, 100, 300, 1000} {
		rng := rand.New(rand.NewPCG(1, uint64(shapes)))
		alarms := 0
		for range trials {
			n := int(logUniform(rng, 60, 1000))
			r := Readings{Traces: make([]int64, n)}
			seen, weight := map[int]bool{}, make([]float64, shapes) // common shapes and rare ones
			for i := range weight {
				weight[i] = rng.Float64()
			}
			for i := range n {
				k := rng.IntN(shapes)
				for rng.Float64() > weight[k] {
					k = rng.IntN(shapes)
				}
				seen[k] = true
				r.Traces[i] = int64(len(seen))
			}
			if len(seen) < shapes*2/3 { // still most are new: they do keep coming
				continue
			}
			if j := Causes(r); j[0].State == Leaking {
				alarms++
			}
		}
		if *full {
			fmt.Printf("| compile cache, %d shapes | %.2f %% |\n", shapes, 100*float64(alarms)/float64(trials))
		}
		if 100*alarms > trials {
			t.Errorf("%d shapes: %d of %d runs were called leaks", shapes, alarms, trials)
		}
	}
}
