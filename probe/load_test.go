package probe

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"github.com/mlxdyno/mlxdyno/probe/model"
)

func TestSnapshotRoundTrip(t *testing.T) {
	s := Collect(t.Context(), Request{Home: t.TempDir(), TopProcesses: 2, Install: Install{State: "ready", Versions: map[string]string{"mlx": "0.32.4"}}})
	s.Model = &ModelState{Path: "m", Facts: &model.Facts{Arch: "llama", Layers: 2, Quant: &model.Quant{Bits: 4}, Tensors: []model.Tensor{{Name: "a", DType: "U32", Shape: []int{1, 2}, Bits: 4, GroupSize: 64}}}}
	s.Data = &DataState{Path: "d", Rows: map[string]int{"train": 3}, Lengths: &LengthStats{Rows: 3, PaddingShare: 0.25}}
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	back, err := LoadSnapshot(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	inReport, err := LoadSnapshot(strings.NewReader(`{"schema":"mlxdyno/doctor/1","findings":[],"snapshot":` + string(text) + `}`))
	if err != nil {
		t.Fatal(err)
	}
	opts := cmp.Options{compareValue[string](), compareValue[int](), compareValue[int64](), compareValue[uint64](), compareValue[float64](), compareValue[PowerMode](), compareValue[PressureLevel](), compareValue[Thermal]()}
	for name, got := range map[string]Snapshot{"alone": back, "in a report": inReport} {
		if diff := cmp.Diff(s, got, opts); diff != "" {
			t.Errorf("snapshot changed %s (-before +after):\n%s", name, diff)
		}
	}
}

func compareValue[T comparable]() cmp.Option {
	return cmp.Comparer(func(a, b Value[T]) bool { return a == b })
}

func TestLoadSnapshotErrors(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		{"nothing", " \n", "the file is empty"},
		{"not JSON", "total: 3", "not a JSON document"},
		{"another document", `{"schema":"mlxdyno/tune/1"}`, `the document is "mlxdyno/tune/1" and holds no snapshot`},
		{"a report with something else as its snapshot", `{"schema":"mlxdyno/doctor/1","snapshot":[]}`, "not a JSON document"},
		{"a report with a snapshot of another version", `{"schema":"mlxdyno/doctor/1","snapshot":{"schema":"mlxdyno/snapshot/7"}}`, "schema mlxdyno/snapshot/7"},
		{"no schema", `{}`, "names no schema"},
		{"another version", `{"schema":"mlxdyno/snapshot/2"}`, "this version reads mlxdyno/snapshot/1"},
		{"two documents", `{"schema":"mlxdyno/snapshot/1"} {}`, "not a JSON document"},
		{"a wrong type", `{"schema":"mlxdyno/snapshot/1","memory":{"total_bytes":{"value":"much"}}}`, "not a valid snapshot"},
		{"known and unknown at once", `{"schema":"mlxdyno/snapshot/1","memory":{"total_bytes":{"value":1,"unknown":"x"}}}`, "known and unknown at once"},
		{"no system", `{"schema":"mlxdyno/snapshot/1"}`, "host.os is missing"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := LoadSnapshot(strings.NewReader(tc.text))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("error %v, want %q", err, tc.want)
			}
			if !strings.Contains(err.Error(), "mlxdyno doctor --snapshot-out") {
				t.Errorf("error %v says not what to do", err)
			}
		})
	}
	if _, err := LoadSnapshot(iotest.ErrReader(os.ErrClosed)); err == nil || !strings.Contains(err.Error(), "file already closed") {
		t.Errorf("a reader's error: %v", err)
	}
}

func FuzzLoadSnapshot(f *testing.F) {
	saved, err := filepath.Glob("testdata/snapshots/*.json")
	if err != nil || len(saved) == 0 {
		f.Fatal("no snapshots to start from")
	}
	for _, path := range saved {
		text, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := LoadSnapshot(bytes.NewReader(text))
		if err != nil {
			return
		}
		again, err := json.Marshal(s)
		if err != nil {
			t.Fatalf("what was read does not marshal: %v", err)
		}
		if _, err := LoadSnapshot(bytes.NewReader(again)); err != nil {
			t.Fatalf("what was written is not read: %v", err)
		}
	})
}
