package tuner

import (
	"context"
	"testing"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/data"
)

func TestValidationTakesTime(t *testing.T) {
	tests := []struct {
		name                               string
		steps, every, batches, batch, rows int
		valid                              string
		want                               int
		known                              bool
	}{
		{"before, between and after", 100, 40, 5, 4, 0, "valid", 4 * 5, true},
		{"the last is one of the regular", 100, 50, 5, 4, 0, "valid", 3 * 5, true},
		{"none between", 10, 200, 5, 4, 0, "valid", 2 * 5, true},
		{"a small split", 100, 50, 25, 4, 11, "valid", 3 * 2, true},
		{"a split below one batch", 100, 50, 25, 4, 3, "valid", 3 * 1, true},
		{"a large split", 100, 50, 25, 4, 1000, "valid", 3 * 25, true},
		{"the whole split", 100, 50, -1, 4, 11, "valid", 3 * 2, true},
		{"the whole of a split of unknown size", 100, 50, -1, 4, 0, "valid", 0, false},
		{"not wanted", 100, 50, 0, 4, 11, "valid", 0, true},
		{"no split", 100, 50, 25, 4, 0, "", 0, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := &run{Study: Study{ValidRows: tt.rows, Tokens: trainer.TokenFiles{Valid: tt.valid}}}
			c := trainer.DefaultConfig()
			c.Plan.Batch, c.Schedule.Steps, c.Schedule.EvalEvery, c.Schedule.ValBatches = tt.batch, tt.steps, tt.every, tt.batches
			if got, known := r.validation(c); got != tt.want || known != tt.known {
				t.Errorf("%d batches, %t; want %d, %t", got, known, tt.want, tt.known)
			}
		})
	}
}

// What the study calls supervised is what the data says of itself.
func TestSupervisedTokensAreCountedOnce(t *testing.T) {
	s := study(laptop(), 8<<30)
	r, err := s.Run(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	c := r.Config
	split := data.Split{Lengths: s.Lengths, Prompts: s.Prompts}
	if want := split.Stats(data.BatchingOf(c, "cpu")).Supervised; r.Data.Supervised != want {
		t.Errorf("%d supervised tokens, the split has %d", r.Data.Supervised, want)
	}
	p, err := s.prepare()
	if err != nil {
		t.Fatal(err)
	}
	const limit = 129
	if got, want := p.epoch(1, limit).Useful, split.Stats(data.Batching{Batch: 1, MaxSeqLength: limit, Grouped: true}).Supervised; got != want {
		t.Errorf("%d supervised tokens in an epoch of single rows, the split has %d", got, want)
	}
}

// The peaks of accumulating steps at one shape differ, so the promise is wider.
func TestPromiseOfAccumulationIsWider(t *testing.T) {
	for accumulation, want := range map[string]float64{"1": minPeakError, "2": accumulated} {
		s := study(laptop(), 1<<40)
		for knob, value := range map[string]string{"batch-size": "2", "grad-accumulation-steps": accumulation} {
			if err := s.Base.Set(knob, value, trainer.FromFlag); err != nil {
				t.Fatal(err)
			}
		}
		r, err := s.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if r.Expected.PeakError < want {
			t.Errorf("accumulation %s: ±%.3f, want at least ±%.3f", accumulation, r.Expected.PeakError, want)
		}
	}
}
