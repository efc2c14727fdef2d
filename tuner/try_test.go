package tuner

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// ways are what an engine offers beside keep=products.
func ways(c trainer.Config) (out []trainer.Turn) {
	for _, t := range []trainer.Turn{{Knob: "loss-positions", Value: "all"}, {Knob: "keep", Value: "results"}, {Knob: "keep", Value: "products"}} {
		if k, _ := trainer.FindKnob(t.Knob); k.Get(&c) != t.Value {
			out = append(out, t)
		}
	}
	return out
}

// What is tried is taken where it is faster, or as fast in less memory, and nowhere
// else; and the promise is of what was taken.
func TestTry(t *testing.T) {
	turn := func(everywhere, results, products [2]float64) func(trainer.Plan) (float64, float64) {
		return func(p trainer.Plan) (time, stage float64) {
			time, stage = 1, 1
			apply := func(is bool, f [2]float64) {
				if is {
					time, stage = time*f[0], stage*f[1]
				}
			}
			apply(p.LossPositions == trainer.LossAll, everywhere)
			apply(p.Keep == trainer.KeepResults, results)
			apply(p.Keep == trainer.KeepProducts, products)
			return time, stage
		}
	}
	same, slow := [2]float64{1, 1}, [2]float64{1.3, 1}
	tests := []struct {
		name   string
		wishes []string
		limit  int64
		turned func(trainer.Plan) (float64, float64)
		set    string
		taken  string // loss-positions and keep of the result
		tried  int
		lacks  string // what is named as not tried
	}{
		{"nothing is asked for", nil, 64 << 30, turn([2]float64{0.5, 1}, same, same), "", "auto auto", 0, ""},
		{"nothing is better", []string{"all"}, 64 << 30, turn(slow, slow, same), "", "auto auto", 3, ""},
		{"one is faster", []string{"all"}, 64 << 30, turn([2]float64{0.8, 1.1}, slow, same), "", "all auto", 3, ""},
		{"two are faster", []string{"all"}, 64 << 30, turn([2]float64{0.8, 1}, [2]float64{0.7, 1}, same), "", "all results", 2, ""},
		{"one is smaller and as fast", []string{"keep"}, 64 << 30, turn(same, slow, [2]float64{1, 0.6}), "", "auto products", 2, ""},
		{"one is smaller and slower", []string{"keep"}, 64 << 30, turn(same, slow, [2]float64{1.2, 0.6}), "", "auto auto", 2, ""},
		{"the faster one does not fit", []string{"loss-positions"}, 800 << 20, turn([2]float64{0.5, 40}, same, same), "", "auto auto", 1, ""},
		{"what is set stays", []string{"keep"}, 64 << 30, turn(same, [2]float64{0.5, 1}, same), "products", "auto products", 0, "keep"},
		{"there is nothing of it", []string{"matmul"}, 64 << 30, turn(same, same, same), "", "auto auto", 0, "matmul"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := laptop()
			m.noise, m.turned = 0.002, tt.turned
			s := study(m, tt.limit)
			m.kill = float64(tt.limit)
			s.Wishes.Try, s.Otherwise, s.Wishes.Budget = tt.wishes, ways, 4*DefaultBudget
			if tt.set != "" {
				if err := s.Base.Set("keep", tt.set, trainer.FromFlag); err != nil {
					t.Fatal(err)
				}
			}
			r, err := s.Run(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			if r.Verdict != Confirmed {
				t.Fatalf("%s: %s", r.Verdict, r.Problem)
			}
			value := func(knob string) string { k, _ := trainer.FindKnob(knob); return k.Get(&r.Config) }
			if got := value("loss-positions") + " " + value("keep"); got != tt.taken || len(r.Tried) != tt.tried {
				t.Errorf("%s after %+v, want %s after %d", got, r.Tried, tt.taken, tt.tried)
			}
			if lacks := fmt.Sprint(r.NotTried); tt.lacks != "" && !strings.Contains(lacks, "{"+tt.lacks+" ") {
				t.Errorf("%s is not named: %s", tt.lacks, lacks)
			}
			_, rate, peak := m.truth(r.Config, s.Prompts)
			if e := r.Expected; math.Abs(e.TokensPerSecond.Or(0)/rate-1) > 0.05 || math.Abs(float64(e.PeakBytes.Or(0))/peak-1) > 0.05 {
				t.Errorf("promised %v tok/s and %v bytes, true %.4g and %.4g", e.TokensPerSecond, e.PeakBytes, rate, peak)
			}
			_, before, _ := m.truth(s.Base.Config, s.Prompts)
			if got := r.Start.Speedup.Or(0); math.Abs(got/(rate/before)-1) > 0.1 {
				t.Errorf("said to be %.3g times as fast as at first, it is %.3g", got, rate/before)
			}
		})
	}
}

func TestTryIsRefused(t *testing.T) {
	for _, tt := range []struct {
		try       []string
		otherwise func(trainer.Config) []trainer.Turn
	}{{[]string{"no-such-knob"}, ways}, {[]string{TryAll}, nil}} {
		s := study(laptop(), 64<<30)
		s.Wishes.Try, s.Otherwise = tt.try, tt.otherwise
		var wish *WishError
		if _, err := s.Run(context.Background()); !errors.As(err, &wish) || wish.Hint() == "" {
			t.Errorf("try %v: %v", tt.try, err)
		}
	}
}
