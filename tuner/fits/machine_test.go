package fits

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestFindMachine(t *testing.T) {
	for _, tc := range []struct {
		text, want string
		usable     int64
		rate       bool
	}{
		{"M4 Max 64GB", "M4 Max 64GB", 48 << 30, true},
		{"apple m4 max, 64 gb", "M4 Max 64GB", 48 << 30, true},
		{"m1 16GB", "M1 16GB", (16 << 30) * 2 / 3, true},
		{"64GB", "64GB", 48 << 30, false},
		{"H200", "H200 141GB", 141e9 * 97 / 100, true},
	} {
		m, err := FindMachine(tc.text)
		if err != nil || m.Name != tc.want || m.UsableBytes != tc.usable || (m.Rate() != nil) != tc.rate || m.Source == "" {
			t.Errorf("%q: %+v, %v", tc.text, m, err)
		}
	}
	for text, hint := range map[string]string{
		"M9 Ultra 64GB": "M4 Max 36, 48, 64 or 128GB", "M4 Max": "it has 36, 48, 64 or 128GB", "M4 Max 65GB": "--machine 65GB",
		"": "known are", "manyGB": "64GB", "0GB": "64GB", "-4GB": "64GB", "GB": "64GB",
	} {
		_, err := FindMachine(text)
		var unknown *MachineError
		if !errors.As(err, &unknown) || !strings.Contains(unknown.Hint, hint) {
			t.Errorf("%q: %v, hint %q, want %q in it", text, err, unknown.Hint, hint)
		}
	}
}

func TestChip(t *testing.T) {
	if m, ok := Chip("Apple M3 Ultra"); !ok || m.BandwidthBytes != 819e9 {
		t.Errorf("%+v, %v", m, ok)
	}
	if _, ok := Chip("AMD EPYC"); ok {
		t.Error("a chip is known that is not in the table")
	}
}

// FuzzFindMachine: whatever is written, it is found whole or refused with advice.
func FuzzFindMachine(f *testing.F) {
	for _, s := range append(KnownMachines(), "64GB", "apple m4 max, 64 gb", "H200", "99999999999999999999GB", "  ", "gb gb") {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		m, err := FindMachine(s)
		var unknown *MachineError
		switch {
		case errors.As(err, &unknown):
			if unknown.Hint == "" || unknown.Text == "" {
				t.Errorf("%q is refused without advice", s)
			}
		case err != nil:
			t.Errorf("%q: %v", s, err)
		default:
			again, err := FindMachine(m.Name)
			if err != nil || again != m || m.UsableBytes <= 0 || m.UsableBytes > m.MemoryBytes {
				t.Errorf("%q: %+v; by its own name %+v, %v", s, m, again, err)
			}
		}
	})
}

func TestKindsAreWhole(t *testing.T) {
	for _, k := range kinds {
		if len(k.gigabytes) == 0 || !slices.IsSorted(k.gigabytes) || k.bandwidth <= 0 || (k.cores == 0 || k.clock == 0) == (k.teraflops == 0) {
			t.Errorf("%+v", k)
		}
	}
}
