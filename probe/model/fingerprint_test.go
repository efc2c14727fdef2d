package model

import (
	"os"
	"path/filepath"
	"testing"
)

func TestFingerprintTellsFineTunesApart(t *testing.T) {
	print := func(weights []byte) string {
		t.Helper()
		f := &Facts{Path: t.TempDir(), Key: "same", Files: []File{{Name: "model.safetensors", Bytes: int64(len(weights))}}}
		if err := os.WriteFile(filepath.Join(f.Path, "model.safetensors"), weights, 0o644); err != nil {
			t.Fatal(err)
		}
		got, err := f.Fingerprint()
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	base := make([]byte, 1<<20)
	tuned := make([]byte, 1<<20)
	for i := range tuned {
		tuned[i] = byte(i * 7)
	}
	if print(base) == print(tuned) {
		t.Error("other weights, same fingerprint")
	}
	if again := make([]byte, 1<<20); print(base) != print(again) {
		t.Error("the same weights elsewhere have another fingerprint")
	}
	for _, n := range []int{0, 1, fingerBytes, fingerBytes + 1} {
		if len(print(make([]byte, n))) != 16 {
			t.Errorf("%d bytes have no fingerprint", n)
		}
	}
	if _, err := (&Facts{Path: t.TempDir(), Files: []File{{Name: "gone"}}}).Fingerprint(); err == nil {
		t.Error("a file that is gone is no error")
	}
}
