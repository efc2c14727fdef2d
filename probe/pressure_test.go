package probe

import (
	"reflect"
	"testing"
)

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
