package leak

import (
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// sizes are those of a small model: two layers with adapters on two modules.
var sizes = Sizes{
	Gradients: []Size{{"0.q.lora_a", 4 * 8 * 640}, {"0.q.lora_b", 4 * 8 * 641}, {"0.k.lora_b", 4 * 8 * 161},
		{"1.q.lora_a", 4 * 8 * 640}, {"1.q.lora_b", 4 * 8 * 641}, {"1.k.lora_b", 4 * 8 * 161}},
	Moments:     2,
	Activations: []Size{{"layer 0", 7_654_400}, {"layer 1", 7_654_404}},
	Loss:        []Size{{"logits", 4 * 512 * 32_003}},
	Batch:       []Size{{"tokens", 4 * 515}},
	Others:      []Size{{"gradient of the output head", 4 * 640 * 32_003}},
	UpdateEvery: 4,
	Page:        16384,
}

const allOfThem = 2 * 4 * 8 * (640 + 641 + 161)

func exact(bytes float64) Rate {
	return Rate{BytesAStep: bytes, Low: bytes, High: bytes, IsExact: true}
}

func TestAttribute(t *testing.T) {
	cases := []struct {
		name   string
		rate   Rate
		first  string
		exact  bool
		rivals int
	}{
		{"one tensor", exact(4 * 8 * 161), "a gradient of 0.k.lora_b or of 1.k.lora_b", true, 1},
		{"all gradients", exact(allOfThem), "all gradients", true, 2}, // a moment is as large, and so is what the next test lists
		{"all optimizer state", exact(2 * allOfThem), "all optimizer state", true, 1},
		{"a layer", exact(7_654_404), "layer 1", true, 0},
		{"logits", exact(4 * 512 * 32_003), "logits", true, 0},
		{"a batch", exact(4 * 515), "tokens", true, 0},
		{"something else", exact(4 * 640 * 32_003), "gradient of the output head", true, 0},
		{"three of one", exact(3 * 4 * 512 * 32_003), "3 × logits", true, 0},
		{"once an update", exact(512 * 32_003), "logits every 4 steps", true, 0},
		{"two once an update", exact(2 * 512 * 32_003), "2 × logits every 4 steps", true, 0},
		{"whole pages", exact(32768), "a gradient of 0.q.lora_a or of 0.q.lora_b or of 1.q.lora_a or of 1.q.lora_b", true, 3},
		{"near", exact(4*512*32_003 + 3000), "logits", false, 0},
		{"noisy", Rate{BytesAStep: 6.5e7, Low: 6.4e7, High: 6.7e7}, "logits", false, 0},
		{"the interval decides", Rate{BytesAStep: 6.6e7, Low: 6.56e7, High: 6.64e7}, "", false, 0},
		{"an interval that makes no sense", Rate{BytesAStep: 4 * 515, Low: 9e9, High: 1}, "tokens", false, 0},
		{"of no known size", exact(12_345_678), "", false, 0},
		{"falls", exact(-5), "", false, 0},
		{"none", exact(0), "", false, 0},
		{"not a number", exact(math.NaN()), "", false, 0},
		{"endless", exact(math.Inf(1)), "", false, 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			all := Attribute(c.rate, sizes)
			if c.first == "" {
				if len(all) > 0 {
					t.Errorf("%v, want nothing", all)
				}
				return
			}
			if len(all) == 0 {
				t.Fatalf("nothing, want %q", c.first)
			}
			if a := all[0]; a.String() != c.first || a.IsExact != c.exact || a.Rivals != c.rivals {
				t.Errorf("%+v (%s), want %s, exact %v, %d rivals", a, a, c.first, c.exact, c.rivals)
			}
		})
	}
}

// Both are as large: neither may be kept back.
func TestAttributeListsRivals(t *testing.T) {
	var got []string
	for _, a := range Attribute(exact(allOfThem), sizes) {
		if a.IsExact {
			got = append(got, a.String())
		}
	}
	if d := cmp.Diff([]string{"all gradients", "one optimizer moment", "2 × all optimizer state every 4 steps"}, got); d != "" {
		t.Error(d)
	}
	wide := Attribute(Rate{BytesAStep: 20_480, Low: 15_000, High: 26_000}, sizes)
	if len(wide) < 3 || wide[0].Rivals < 4 || math.Abs(wide[0].RelativeError) > 0.01 {
		t.Errorf("a wide interval: %+v, want the nearest first and all others counted", wide)
	}
	// Exact beats near, however plain the near one is.
	s := Sizes{Loss: []Size{{"near", 1_000_001}}, Others: []Size{{"exact", 250_000}}}
	if got := Attribute(exact(1_000_000), s); len(got) != 2 || got[0].String() != "4 × exact" || got[1].String() != "near" {
		t.Errorf("%v, want the exact one first, then the near one", got)
	}
}

// From readings to a name: what is planted in an exact series is found to the
// byte and named, whatever it is; a size that nothing has is named by nothing
// that claims to be exact.
func TestPlantedLeaksAreNamed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := Sizes{Moments: 2, UpdateEvery: rapid.IntRange(1, 4).Draw(t, "period")}
		for range rapid.IntRange(1, 8).Draw(t, "tensors") {
			s.Gradients = append(s.Gradients, Size{rapid.StringMatching(`[a-z]{6}`).Draw(t, "name"), 4 * rapid.Int64Range(1, 1<<24).Draw(t, "elements")})
		}
		s.Loss = []Size{{"logits", 4 * rapid.Int64Range(1, 1<<28).Draw(t, "logits")}}
		kind, leaked := AllGradients, int64(0)
		name := ""
		switch rapid.IntRange(0, 2).Draw(t, "what") {
		case 0:
			for _, g := range s.Gradients {
				leaked += g.Bytes
			}
		case 1:
			kind, leaked, name = LossGraph, s.Loss[0].Bytes, "logits"
		case 2:
			g := rapid.SampledFrom(s.Gradients).Draw(t, "tensor")
			kind, leaked, name = OneGradient, g.Bytes, g.Name
		}
		multiple := rapid.Int64Range(1, maxMultiples).Draw(t, "multiple")
		every := rapid.SampledFrom([]int{1, s.UpdateEvery}).Draw(t, "every")
		pattern := make([]int64, s.UpdateEvery) // of one update
		for i := range pattern {
			if every == 1 || i == 0 {
				pattern[i] = multiple * leaked
			}
		}
		active := series(1<<34, append([]int64{1 << 30, 500, 0}, repeat(12*s.UpdateEvery, pattern...)...)...)
		v := Exact(active, s.UpdateEvery)
		want := float64(multiple*leaked) / float64(every)
		if v.State != Leaking || !v.IsExact || v.BytesAStep != want {
			t.Fatalf("%+v, want %v bytes a step", v, want)
		}
		if every > 1 && int(multiple)%every == 0 { // which is the same
			multiple, every = multiple/int64(every), 1
		}
		for _, a := range Attribute(v.Rate(), s) {
			if a.Kind == kind && a.IsExact && a.Multiple == int(multiple) && (a.EverySteps == every) && (name == "" || strings.Contains(a.String(), name)) {
				return
			}
		}
		t.Fatalf("%v bytes a step: %v, want %d × %s (%s)", want, Attribute(v.Rate(), s), multiple, kind, name)
	})
	rapid.Check(t, func(t *rapid.T) { // odd: no array of 4-byte elements
		odd := 2*rapid.Int64Range(0, 1<<32).Draw(t, "bytes") + 1
		for _, a := range Attribute(exact(float64(odd)), Sizes{Gradients: sizes.Gradients, Loss: sizes.Loss, Moments: 2}) {
			if a.IsExact {
				t.Fatalf("%d bytes are said to be %s", odd, a)
			}
		}
	})
}

func FuzzAttribute(f *testing.F) {
	f.Add(1e6, 1e5, 1e7, int64(4096), int64(1<<40), int64(-5), 2, 4)
	f.Add(math.NaN(), math.Inf(1), -1., int64(math.MaxInt64), int64(math.MaxInt64), int64(math.MinInt64), 1<<40, -3)
	f.Fuzz(func(t *testing.T, rate, low, high float64, page, a, b int64, moments, every int) {
		s := Sizes{Gradients: []Size{{"a", a}, {"b", b}}, Others: []Size{{"c", a ^ b}}, Moments: moments, Page: page, UpdateEvery: every}
		for _, r := range []Rate{{rate, low, high, false}, {rate, low, high, true}} {
			for _, x := range Attribute(r, s) {
				if x.String() == "" || x.Multiple < 1 || x.EverySteps < 1 || x.Rivals < 0 || x.Bytes <= 0 {
					t.Errorf("%+v", x)
				}
			}
		}
	})
}
