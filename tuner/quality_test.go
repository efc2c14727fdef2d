package tuner

import (
	"context"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// baseLosses are of batches that differ far more from each other than bits matter.
func baseLosses(bits, batches int) trainer.Eval {

	rng := rand.New(rand.NewPCG(1, 2))
	cost := map[int]float64{0: 0, 8: 0.0004, 4: 0.08}[bits]
	e := trainer.Eval{Batches: batches}
	var sum, tokens float64
	for range batches {
		n := 40 + rng.IntN(20)
		v := 2 + rng.NormFloat64() + cost*(1+0.1*rng.NormFloat64())
		e.Losses, e.Tokens = append(e.Losses, trainer.Float(v)), append(e.Tokens, n)
		sum, tokens = sum+v*float64(n), tokens+float64(n)
	}
	e.Loss = trainer.Float(sum / tokens)
	return e
}

func qualityStudy(m *machine) Study {
	s := study(m, 8e9)
	s.ValidRows, s.Device = 200, "cpu"
	s.Wishes.Budget = 10 * time.Minute
	return s
}

func TestFewerBitsAreHeldAgainstTheMost(t *testing.T) {
	m := laptop()
	m.base = baseLosses
	s := qualityStudy(m)
	s.ValidRows = 64 // fewer than 25 batches of 4
	r, err := s.Run(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Quality) != 3 || r.Quality[0].Bits != 0 || r.Quality[0].Cost.Known() {
		t.Fatalf("%+v", r.Quality)
	}
	for _, l := range r.Quality[1:] {
		if l.Batches < fewestBatches || l.Batches*4 > s.ValidRows {
			t.Errorf("%d batches of %d rows", l.Batches, s.ValidRows)
		}
		want := map[int]float64{8: 0.0004, 4: 0.08}[l.Bits]
		low, high := l.CostLow.Or(math.NaN()), l.CostHigh.Or(math.NaN())
		if !(low <= want && want <= high) || !(high-low < 0.5*want) {
			t.Errorf("%d bits cost %g to %g, truly %g", l.Bits, low, high, want)
		}
		if width := l.High.Or(0) - l.Low.Or(0); width < 0.3 {
			t.Errorf("%d bits: the loss itself is known to %g, and batches differ by 1", l.Bits, width)
		}
	}
	for _, c := range r.Choices {
		if c.Knob == "quantize" && !strings.Contains(c.Reason, "4 bits +0.0") {
			t.Errorf("the reason of quantize: %s", c.Reason)
		}
	}
}

func TestQualityIsLeftOutWithAReason(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*machine, *Study)
		says   string
	}{
		"no validation rows": {func(_ *machine, s *Study) { s.ValidRows = 0 }, "0 validation rows"},
		"no time":            {func(_ *machine, s *Study) { s.Wishes.Budget = 30 * time.Second }, "--budget"},
	} {
		t.Run(name, func(t *testing.T) {
			m := laptop()
			m.base = baseLosses
			s := qualityStudy(m)
			tc.change(m, &s)
			r, err := s.Run(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			found := false
			for _, n := range r.NotTried {
				found = found || strings.Contains(n.What, "fewer bits cost") && strings.Contains(n.Why, tc.says)
			}
			if !found || len(r.Quality) > 0 {
				t.Errorf("quality %+v, not tried %+v", r.Quality, r.NotTried)
			}
		})
	}
}

func TestQualityOfAnEngineThatTellsMeansAlone(t *testing.T) {
	m := laptop()
	m.base = func(bits, batches int) trainer.Eval {
		return trainer.Eval{Loss: trainer.Float(3 - float64(bits)/100), Batches: batches}
	}
	r, err := qualityStudy(m).Run(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range r.Quality {
		if l.Low.Known() || l.CostLow.Known() || l.Why == "" || !l.Loss.Known() {
			t.Errorf("%+v", l)
		}
	}
}

func TestAFixedQuantizationIsNotEvaluated(t *testing.T) {
	m := laptop()
	m.base = baseLosses
	s := qualityStudy(m)
	if err := s.Base.Set("quantize", "4", trainer.FromFlag); err != nil {
		t.Fatal(err)
	}
	r, err := s.Run(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Quality) > 0 {
		t.Errorf("there was nothing to choose, and yet: %+v", r.Quality)
	}
}
