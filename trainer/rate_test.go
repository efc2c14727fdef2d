package trainer

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

// TestLearningRate holds the rate to values that mlx_lm.tuner.utils.build_schedule
// gave for the same arguments.
func TestLearningRate(t *testing.T) {
	tests := []struct {
		name     string
		schedule LRSchedule
		warmup   int
		end      float64
		want     map[int]float64
	}{
		{"constant", ConstantRate, 0, 0, map[int]float64{0: 1e-3, 9: 1e-3}},
		{"zero value", "", 0, 0, map[int]float64{0: 1e-3, 9: 1e-3}},
		{"cosine", CosineRate, 0, 0, map[int]float64{0: 0.001, 1: 0.0009755283, 3: 0.0007938927, 4: 0.0006545085, 5: 0.0005, 6: 0.0003454915, 9: 2.44717e-05}},
		{"cosine to an end", CosineRate, 0, 0.0001, map[int]float64{0: 0.0009999999, 1: 0.0009779754, 3: 0.0008145033, 4: 0.0006890576, 5: 0.0005499999, 6: 0.0004109423, 9: 0.0001220245}},
		{"cosine after a warm-up", CosineRate, 4, 0.0001, map[int]float64{0: 0, 1: 0.00025, 3: 0.00075, 4: 0.001, 5: 0.0009999999, 6: 0.0009397115, 9: 0.000325}},
		{"linear", LinearRate, 0, 0.0001, map[int]float64{0: 0.001, 1: 0.0009100001, 3: 0.00073, 4: 0.00064, 5: 0.0005500001, 6: 0.00046, 9: 0.00019}},
		{"linear after a warm-up", LinearRate, 4, 0, map[int]float64{0: 0, 1: 0.00025, 3: 0.00075, 4: 0.001, 5: 0.001, 6: 0.0008333334, 9: 0.0003333334}},
		{"constant after a warm-up", ConstantRate, 4, 0, map[int]float64{0: 0, 1: 0.00025, 3: 0.00075, 4: 0.001, 5: 0.001, 6: 0.001, 9: 0.001}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := DefaultConfig()
			c.Schedule.Steps, c.Plan.Accumulation = 21, 2 // the last step completes no update
			c.Quality.LearningRate, c.Quality.LRSchedule, c.Quality.Warmup, c.Quality.LREnd = 1e-3, tt.schedule, tt.warmup, tt.end
			for update, want := range tt.want {
				if got := c.LearningRate(update); math.Abs(got-want) > 1e-6*1e-3 {
					t.Errorf("update %d: %g, want %g", update, got, want)
				}
			}
		})
	}
}

func TestLearningRateStaysBetweenItsEnds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := validConfig(t)
		q := c.Quality
		for _, update := range []int{0, q.Warmup, q.Warmup + 1, c.Updates() / 2, c.Updates() - 1, c.Updates() + 9} {
			rate := c.LearningRate(update)
			low := q.LearningRate
			if q.LRSchedule.Decays() {
				low = min(low, q.LREnd)
			}
			if update < q.Warmup {
				low = 0
			}
			most := max(q.LearningRate, q.LREnd)
			if slack := 1e-9 * most; rate < low-slack || rate > most+slack {
				t.Fatalf("update %d of %d: %g is not in [%g, %g]", update, c.Updates(), rate, low, most)
			}
		}
		if full := c.LearningRate(q.Warmup); math.Abs(full-q.LearningRate) > 1e-9*q.LearningRate {
			t.Fatalf("warmed up the rate is %g, not %g", full, q.LearningRate)
		}
	})
}
