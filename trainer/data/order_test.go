package data

import (
	"encoding/binary"
	"encoding/json"
	"hash/crc32"
	"slices"
	"strings"
	"testing"
)

// permutationSum is zlib.crc32(permutation.astype("<u4").tobytes()).
func permutationSum(p []int) uint32 {
	var b []byte
	for _, v := range p {
		b = binary.LittleEndian.AppendUint32(b, uint32(v))
	}
	return crc32.ChecksumIEEE(b)
}

// What numpy 2.4.6 drew, one permutation after the other.
func TestPermutationIsNumpys(t *testing.T) {
	for seed, want := range map[uint32]struct {
		first, second [10]int
		sums          [2]uint32 // of 1,000 and 65,537
		used          int       // afterwards
	}{
		0:          {[10]int{2, 8, 4, 9, 1, 6, 7, 3, 0, 5}, [10]int{3, 5, 1, 2, 9, 8, 0, 6, 7, 4}, [2]uint32{0xb51d5ce8, 0xd70f8e7f}, 326},
		1:          {[10]int{2, 3, 4, 9, 1, 6, 0, 7, 5, 8}, [10]int{1, 7, 3, 0, 8, 5, 9, 4, 2, 6}, [2]uint32{0x72287c8e, 0x766f4e92}, 110},
		1234567:    {[10]int{3, 9, 8, 1, 7, 0, 2, 5, 6, 4}, [10]int{8, 1, 4, 7, 6, 9, 5, 2, 0, 3}, [2]uint32{0x213776da, 0xc9812c68}, 328},
		4294967295: {[10]int{3, 8, 5, 6, 1, 9, 0, 4, 7, 2}, [10]int{2, 0, 3, 4, 1, 5, 9, 8, 7, 6}, [2]uint32{0x5d3e804f, 0x43841485}, 342},
	} {
		g := NewGenerator(seed)
		if n := len(g.Permutation(0)) + len(g.Permutation(1)); n != 1 || g.State() != NewGenerator(seed).State() {
			t.Errorf("seed %d: nothing to draw, and something was drawn", seed)
		}
		g.Permutation(2)
		if a, b := g.Permutation(10), g.Permutation(10); !slices.Equal(a, want.first[:]) || !slices.Equal(b, want.second[:]) {
			t.Errorf("seed %d: %v, %v", seed, a, b)
		}
		if a, b := permutationSum(g.Permutation(1000)), permutationSum(g.Permutation(65537)); [2]uint32{a, b} != want.sums {
			t.Errorf("seed %d: sums %#x, %#x", seed, a, b)
		}
		if g.state.used != want.used {
			t.Errorf("seed %d: %d words used, want %d", seed, g.state.used, want.used)
		}
	}
}

func TestGeneratorState(t *testing.T) {
	g := NewGenerator(3)
	g.Permutation(1000)
	saved := g.State()
	text, err := json.Marshal(saved)
	if err != nil || len(text) > 3400 {
		t.Fatalf("%d bytes, %v", len(text), err)
	}
	want := g.Permutation(1000)
	var read GeneratorState
	if err := json.Unmarshal(text, &read); err != nil || read != saved {
		t.Fatalf("not what was written (%v)", err)
	}
	for _, s := range []GeneratorState{saved, read} {
		other := NewGenerator(4)
		other.SetState(s)
		if !slices.Equal(other.Permutation(1000), want) || other.State() != g.State() {
			t.Error("a generator put there goes on otherwise")
		}
	}

	encode := func(v any) string {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	var raw []byte
	if err := json.Unmarshal(text, &raw); err != nil {
		t.Fatal(err)
	}
	unused, beyond, zero := saved, saved, GeneratorState{used: 1}
	unused.used, beyond.used = 0, twisterWords+1
	for name, bad := range map[string]string{
		"null":       "null",
		"number":     "1",
		"no base64":  strings.Replace(string(text), "A", "*", 1),
		"short":      string(text[:len(text)-5]) + `"`,
		"long":       encode(append(raw, 0)),
		"cut":        string(text[:len(text)-2]),
		"used 0":     encode(unused),
		"used 625":   encode(beyond),
		"zero words": encode(zero),
	} {
		got := saved
		if err := json.Unmarshal([]byte(bad), &got); err == nil || got != saved {
			t.Errorf("%s: error %v; altered: %t", name, err, got != saved)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("a generator took no state for a state")
		}
	}()
	g.SetState(GeneratorState{})
}

func FuzzGeneratorState(f *testing.F) {
	text, err := json.Marshal(NewGenerator(1).State())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`"AAAA"`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var s, again GeneratorState
		if json.Unmarshal(text, &s) != nil {
			return
		}
		b, err := json.Marshal(s)
		if err != nil || json.Unmarshal(b, &again) != nil || s != again {
			t.Fatalf("changed on its way (%v)", err)
		}
		g := NewGenerator(0)
		g.SetState(s)
		p := g.Permutation(700)
		slices.Sort(p)
		for i, v := range p {
			if i != v {
				t.Fatalf("%d at %d", v, i)
			}
		}
	})
}
