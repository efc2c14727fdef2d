package report

import (
	"bytes"
	"testing"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/tuner/fits"
)

func TestFits(t *testing.T) {
	place := func(batch, length int, most bool) fits.Place {
		return fits.Place{Batch: batch, Length: length, AtMost: most, PeakBytes: 20e9, BoundBytes: 26e9, SecondsA1000Tokens: trainer.Some(4.25), SecondsError: trainer.Some(0.4)}
	}
	condition := func(rank int, gc bool, longest, largest fits.Place) fits.Condition {
		return fits.Condition{Rank: rank, Checkpointing: gc, Basis: fits.Published, Longest: []fits.Place{longest}, Largest: []fits.Place{largest}}
	}
	r := fits.Report{
		Schema: fits.Schema, Machine: "M4 Max 64GB", Limit: fits.Limit{Bytes: 51e9, Source: "the working set"}, Stored: 16,
		Basis: fits.Basis{Kind: fits.Published, Text: "arithmetic", TimeSource: "estimate"},
		Most:  fits.Most{Length: 4096, Batch: 512, Why: "the positions that the model takes"},
		Conditions: []fits.Condition{
			condition(8, false, place(4, 0, false), place(0, 512, false)), condition(8, true, place(4, 4096, true), place(33, 512, false)),
			condition(64, false, place(4, 0, false), place(0, 512, false)), condition(64, true, place(4, 4064, false), place(31, 512, false)),
		},
		Rows: &fits.Summary{Rows: 400, Tokens: 100000, P99: 440, Max: 449},
		Training: []fits.Training{{Rank: 8, Batch: 4, Steps: 100, Widest: trainer.Shape{Batch: 4, Width: 449}, PeakBytes: 60e9, BoundBytes: 70e9,
			EpochSeconds: trainer.Some(425.0), TrainingSeconds: trainer.Some(850.0), SecondsError: trainer.Some(0.4)}},
		NotKnown: []string{"nothing else"},
	}
	var b bytes.Buffer
	if err := Fits(&b, r, Style{Width: 100}, "mlxdyno tune"); err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/fits.txt", b.String())
	b.Reset()
	if err := JSON(&b, r); err != nil {
		t.Fatal(err)
	}
	if err := Validate("fits", b.Bytes()); err != nil {
		t.Error(err)
	}
}

func TestFastestTraining(t *testing.T) {
	one := func(bits, batch int, fit bool, took float64) fits.Training {
		t := fits.Training{Bits: bits, Rank: 8, Batch: batch, Fits: fit}
		if took > 0 {
			t.TrainingSeconds = trainer.Some(took)
		}
		return t
	}
	got := fastest([]fits.Training{
		one(0, 1, true, 9), one(8, 1, true, 0), one(4, 1, false, 3),
		one(0, 2, true, 7), one(8, 2, true, 0), one(4, 2, false, 2),
		one(0, 4, false, 5), one(8, 4, false, 0), one(4, 4, false, 1),
		{Bits: 0, Rank: 64, Batch: 1, Fits: true, TrainingSeconds: trainer.Some(1.0)},
	})
	want := map[int]int{0: 2, 8: 2, 4: 1}
	if len(got) != len(want) {
		t.Fatalf("%+v", got)
	}
	for _, tr := range got {
		if want[tr.Bits] != tr.Batch {
			t.Errorf("%d bits: batch %d, want %d", tr.Bits, tr.Batch, want[tr.Bits])
		}
	}
}
