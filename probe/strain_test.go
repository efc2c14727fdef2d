package probe

import (
	"testing"
	"testing/fstest"
)

func TestStrain(t *testing.T) {
	for name, c := range map[string]struct{ psi, level string }{
		"calm":       {"some avg10=0.50 avg60=0.00 avg300=0.00 total=1\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=1\n", "normal"},
		"waits":      {"some avg10=6.00 avg60=0.00 avg300=0.00 total=1\nfull avg10=1.00 avg60=0.00 avg300=0.00 total=1\n", "warn"},
		"stands":     {"some avg10=60.00 avg60=0.00 avg300=0.00 total=1\nfull avg10=40.00 avg60=0.00 avg300=0.00 total=1\n", "critical"},
		"not a word": {"", "has no some"},
	} {
		root := fstest.MapFS{"proc/pressure/memory": {Data: []byte(c.psi)}, "proc/vmstat": {Data: []byte("pswpin 1\npswpout 3\n")}}
		s := procfs{root: root, pageBytes: 4096}.strain()
		if s.SwapOutBytes.Or(0) != 3*4096 {
			t.Errorf("%s: %s swapped out", name, show(s.SwapOutBytes))
		}
		if got := show(s.Level); got != c.level && c.psi != "" || s.Level.Known() != (c.psi != "") {
			t.Errorf("%s: %s, want %s", name, got, c.level)
		}
	}
}
