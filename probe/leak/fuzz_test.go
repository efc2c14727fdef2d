package leak

import (
	"encoding/binary"
	"math"
	"testing"
)

// numbers reads a series from bytes: any 8 are a number, so that all kinds of
// it come, and a first byte repeats it, so that it is long enough.
func numbers(data []byte) []float64 {
	var out []float64
	for i := 1; i+8 <= len(data); i += 8 {
		out = append(out, math.Float64frombits(binary.LittleEndian.Uint64(data[i:])))
	}
	if len(data) > 0 {
		for n := len(out); n > 0 && len(out) < 4*int(data[0]); {
			out = append(out, out[len(out)-n])
		}
	}
	return out
}

func encoded(repeat byte, values ...float64) []byte {
	out := []byte{repeat}
	for _, v := range values {
		out = binary.LittleEndian.AppendUint64(out, math.Float64bits(v))
	}
	return out
}

func seeds(f *testing.F, more func(data []byte)) {
	for _, values := range [][]float64{
		{}, {0}, {-1}, {1, 2, 3}, {math.NaN()}, {math.Inf(1), math.Inf(-1), 1}, {math.MaxFloat64, -math.MaxFloat64},
		{5e-324, 0}, {1e300, 1e-300, 7}, {1, math.NaN(), 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, {1 << 62, 1<<62 + 512},
	} {
		for _, repeat := range []byte{0, 60, 255} {
			more(encoded(repeat, values...))
		}
	}
}

func FuzzNoise(f *testing.F) {
	seeds(f, func(data []byte) { f.Add(data, data, 1e9, 1000) })
	f.Fuzz(func(t *testing.T, data, other []byte, headroom float64, steps int) {
		y, x := numbers(data), numbers(other)
		s := Series{Values: y, Tokens: x, Shapes: x, Control: x, Plan: Plan{Steps: steps, Headroom: headroom}}
		v := Noise(s)
		for _, f := range []float64{v.Slope, v.Low, v.High, v.Detectable} {
			if math.IsNaN(f) || math.IsInf(f, 0) {
				t.Errorf("%+v is not finite", v)
			}
		}
		if v.Reason == "" || v.More < 0 || v.Detectable < 0 || v.State != Inconclusive && len(y) < MinSamples ||
			v.State == Leaking && !(v.Low > 0) {
			t.Errorf("%+v makes no sense", v)
		}
		for _, c := range Changes(s) {
			if c.At <= 0 || c.At >= len(y) {
				t.Errorf("%+v is not within %d samples", c, len(y))
			}
		}
		v.Rate().Exhausts(int64(steps))
		var w Watch
		for _, r := range y {
			if d := w.Add(r); d != nil && (d.From > d.At || d.At >= len(y)) {
				t.Fatalf("%+v within %d readings", d, len(y))
			}
		}
	})
}

func FuzzCauses(f *testing.F) {
	seeds(f, func(data []byte) { f.Add(data, data, 1, false) })
	f.Fuzz(func(t *testing.T, data, other []byte, period int, apart bool) {
		whole := func(y []float64) []int64 {
			out := make([]int64, len(y))
			for i, v := range y {
				out[i] = int64(math.Float64bits(v))
			}
			return out
		}
		y, x := numbers(data), numbers(other)
		v := Exact(whole(y), period)
		if v.Reason == "" || math.IsNaN(v.BytesAStep) || (v.State == Leaking) != (v.BytesAStep > 0) {
			t.Errorf("%+v makes no sense", v)
		}
		r := Readings{Active: whole(y), Cache: whole(x), Footprint: whole(y), Traces: whole(x), Tokens: x, Shapes: y, Period: period, Apart: apart}
		for _, j := range Causes(r) {
			if j.Reason == "" || j.More < 0 || j.State == Leaking && !(j.Rate.BytesAStep > 0) {
				t.Errorf("%+v makes no sense", j)
			}
		}
	})
}
