package main

import (
	"encoding/json"
	"testing"

	"github.com/mlxdyno/mlxdyno/report"
)

// TestMaxMemoryIsKept tunes under a cap that the default configuration exceeds and
// trains with the result (make bench-cap does so for 500 steps, with both engines).
func TestMaxMemoryIsKept(t *testing.T) {
	w, home := theWorld(), t.TempDir()
	if err := w.prepare(home); err != nil {
		t.Fatal(err)
	}
	cmd, out := w.mlxdyno(t, home, "bench", "--suite", "cap", "--engines", "native", "--caps", "80", "--steps", "40", "--json", "-q")
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var doc report.CapDocument
	if err := json.Unmarshal(out.Bytes(), &doc); err != nil || len(doc.Rows) != 1 {
		t.Fatalf("%v\n%s", err, out)
	}
	row := doc.Rows[0]
	if !row.Held || row.Trained.PeakAndCacheBytes > row.CapBytes || row.Trained.FootprintBytes > row.CapBytes {
		t.Errorf("%+v under a cap of %d with %+v", row.Trained, row.CapBytes, row.Config.Plan)
	}
}
