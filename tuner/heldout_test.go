package tuner

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/tuner/predict"
)

// What is held out was not calibrated with, every rank has its share, and cut off
// in the middle it goes on without a burst twice.
func TestHoldOut(t *testing.T) {
	const n = 14
	m := laptop()
	s := study(m, 8<<30)
	s.Wishes.Ranks = []int{32, 48, 64}
	s.Journal = filepath.Join(t.TempDir(), "journal")
	cut := errors.New("cut off")
	m.onCall = func(n int) error {
		if n == 6 {
			return cut
		}
		return nil
	}
	if _, _, err := s.HoldOut(context.Background(), n); !errors.Is(err, cut) {
		t.Fatalf("ended with %v", err)
	}
	m.onCall = nil
	all, again, err := s.HoldOut(context.Background(), n)
	if err != nil {
		t.Fatal(err)
	}
	for job, times := range m.ran {
		if times != 1 {
			t.Errorf("run %d times: %.200s", times, job)
		}
	}
	if len(again) == 0 {
		t.Error("nothing was timed again")
	}
	calibrated := map[trainer.Shape]bool{}
	r, err := s.prepare()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.bursts.open(context.Background(), s.Journal); err != nil {
		t.Fatal(err)
	}
	defer r.bursts.close()
	r.Wishes.Prefer = Quality
	r.space = r.axes.space(r.axes.bits[0])
	if err := r.calibrate(context.Background()); err != nil {
		t.Fatal(err)
	}
	for _, sample := range r.samples {
		calibrated[sample.Shape] = true
	}
	count := map[predict.Condition]int{}
	for _, h := range all {
		count[h.Condition]++
		if calibrated[h.Shape] {
			t.Errorf("%+v took part in the fit", h.Shape)
		}
		if h.AboveBound() || h.PeakBytes == 0 || h.Measured == 0 {
			t.Errorf("%+v", h)
		}
	}
	for _, gc := range []bool{false, true} {
		sum := 0
		for _, rank := range []int{32, 48, 64} {
			of := count[predict.Condition{Rank: rank, Checkpointing: gc}]
			if sum += of; of < n/3 {
				t.Errorf("rank %d, checkpointing %t: %d shapes", rank, gc, of)
			}
		}
		if sum != n {
			t.Errorf("%d shapes, want %d", sum, n)
		}
	}
}

// Where every process takes another time than calibration's did, constants that are
// measured in turns with what is held out are right all the same.
func TestSideBySide(t *testing.T) {
	m := laptop()
	m.noise = 0
	m.busy = func(calls int, _ *rand.Rand) float64 {
		if calls <= 3 { // which calibrate
			return 1
		}
		return 1.2 + 0.3*float64((calls-4)/4) // two ranks with and without checkpointing make a round
	}
	s := study(m, 8<<30)
	s.Wishes.Ranks = []int{32, 64}
	all, again, err := s.HoldOut(context.Background(), 14)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range all {
		if len(h.Beside) != truthRounds {
			t.Errorf("%+v of %+v: %d rounds", h.Shape, h.Condition, len(h.Beside))
		}
		for i, b := range h.Beside {
			if e := b.Predicted/b.Measured - 1; math.Abs(e) > 0.03 {
				t.Errorf("%+v of %+v: %+.3f off side by side in round %d", h.Shape, h.Condition, e, i)
			}
		}
		if e, ok := h.TimeError(); !ok || e > -0.1 {
			t.Errorf("%+v of %+v: %+.3f off as calibrated", h.Shape, h.Condition, e)
		}
	}
	if a := AccuracyOf(all, again); a.Beside.Median > 0.02 || a.Time.Median < 0.1 || a.Again.Median < 0.1 {
		t.Errorf("%.3f off, %.3f side by side, %.3f from one time to the next", a.Time.Median, a.Beside.Median, a.Again.Median)
	}
}

func TestAccuracy(t *testing.T) {
	of := func(predicted, upper, measured, seconds, took float64) HeldOut {
		h := HeldOut{Peak: predict.Estimate{Value: predicted, Upper: upper}, PeakBytes: int64(measured), Seconds: predict.Estimate{Value: seconds}, Measured: took}
		if took > 0 {
			h.Beside = []Beside{{seconds, took}, {1.1 * seconds, took}, {9 * seconds, took}}
		}
		return h
	}
	got := AccuracyOf([]HeldOut{of(101, 110, 100, 1, 1), of(97, 99, 100, 1.5, 1), of(100, 100, 100, 1, 0), of(110, 120, 100, 0.5, 1)}, []Repeat{{Seconds: 0.9, Measured: 1}})
	want := Accuracy{Predictions: 4, PeakMedian: 0.02, PeakP95: 0.1, PeakWorst: 0.1, PeakBias: 0.005, Above: 1,
		Time: &Errors{0.5, 0.5, 0}, Beside: &Errors{0.45, 0.65, 0.1}, Again: &Errors{0.1, 0.1, -0.1}}
	if d := cmp.Diff(want, got, cmp.Comparer(func(a, b float64) bool { return a-b < 1e-9 && b-a < 1e-9 })); d != "" {
		t.Error(d)
	}
	if zero := AccuracyOf(nil, nil); zero != (Accuracy{}) {
		t.Errorf("of nothing %+v", zero)
	}
}
