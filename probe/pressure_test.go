package probe

import (
	"reflect"
	"runtime"
	"testing"
)

func TestReadVitalsReadsWhatASnapshotReads(t *testing.T) {
	whole, quick := Collect(t.Context(), Request{}).Vitals(), ReadVitals(t.Context())
	if whole.Swap.OutBytes.Known() != quick.Swap.OutBytes.Known() || whole.Swap.TotalBytes != quick.Swap.TotalBytes ||
		whole.Thermal.Known() != quick.Thermal.Known() || whole.Pressure.SomeAvg10.Known() != quick.Pressure.SomeAvg10.Known() {
		t.Errorf("read alone %+v, in the snapshot %+v", quick, whole)
	}
	if runtime.GOOS == "linux" && !quick.Swap.UsedBytes.Known() {
		t.Errorf("swap is unknown: %s", quick.Swap.UsedBytes.Reason())
	}
}

// The quick reading is the same as the snapshot's.
func TestReadPressureReadsWhatASnapshotReads(t *testing.T) {
	whole, quick := Collect(t.Context(), Request{}).Pressure, ReadPressure(t.Context())
	for i := range reflect.TypeFor[Pressure]().NumField() {
		name := reflect.TypeFor[Pressure]().Field(i).Name
		known := func(p Pressure) bool {
			return reflect.ValueOf(p).Field(i).Interface().(interface{ Known() bool }).Known()
		}
		if known(whole) != known(quick) {
			t.Errorf("%s: known in the snapshot %v, read alone %v", name, known(whole), known(quick))
		}
	}
}
