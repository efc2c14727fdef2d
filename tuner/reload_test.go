package tuner

import (
	"context"
	"math"
	"slices"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// TestReloadIntervalIsAsGoodAsAny simulates a training step by step with every
// interval there is: that of the formulas stays under the limit, and the whole
// training is within 5 % of the best that does.
func TestReloadIntervalIsAsGoodAsAny(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		multiple := rapid.SampledFrom([]int{1, 1, 2, 3, 8}).Draw(t, "steps of an update")
		steps := multiple * rapid.IntRange(1, 400/multiple).Draw(t, "updates")
		// Bytes are whole, seconds are milliseconds: the simulation is exact.
		leak := rapid.Int64Range(1, 5000).Draw(t, "leak")
		headroom := rapid.Int64Range(0, 2*leak*int64(steps)).Draw(t, "headroom")
		step := rapid.Int64Range(5, 5000).Draw(t, "step")
		reload := rapid.Int64Range(0, 60000).Draw(t, "reload")
		slowdown := rapid.OneOf(rapid.Just[int64](0), rapid.Int64Range(1, 200)).Draw(t, "slowdown")
		simulate := func(interval int) (total, highest int64) {
			lost, slower := int64(0), int64(0)
			for i := range steps {
				if interval > 0 && i > 0 && i%interval == 0 {
					total += reload
					lost, slower = 0, 0
				}
				total += step + slower
				lost, slower = lost+leak, slower+slowdown
				highest = max(highest, lost)
			}
			return total, highest
		}
		best, any := int64(0), false
		for n := multiple; n < steps+multiple; n += multiple {
			if total, highest := simulate(n); highest <= headroom && (!any || total < best) {
				best, any = total, true
			}
		}
		g := growth{bytesAStep: float64(leak), headroom: headroom, slowdown: float64(slowdown), reload: float64(reload), steps: steps, multiple: multiple}
		n, ok := g.interval()
		if ok != any {
			t.Fatalf("says %t, trying all says %t", ok, any)
		}
		if !ok {
			return
		}
		total, highest := simulate(n)
		if n%multiple != 0 || highest > headroom {
			t.Fatalf("interval %d in updates of %d: %d bytes are lost, and %d may be", n, multiple, highest, headroom)
		}
		if float64(total) > 1.05*float64(best) {
			t.Fatalf("interval %d takes %d ms, the best one %d ms", n, total, best)
		}
	})
}

func TestReloadIntervalByName(t *testing.T) {
	base := growth{bytesAStep: 10, headroom: 600, reload: 5, steps: 100, multiple: 1}
	for name, tt := range map[string]struct {
		change func(*growth)
		want   int
		ok     bool
	}{
		"two processes share the steps evenly": {func(*growth) {}, 50, true},
		"whole updates":                        {func(g *growth) { g.multiple = 8 }, 56, true},
		"everything fits":                      {func(g *growth) { g.headroom = 1000 }, 0, true},
		"no leak and no slowdown":              {func(g *growth) { g.bytesAStep = 0 }, 0, true},
		"not one step":                         {func(g *growth) { g.headroom = 9 }, 0, false},
		"not one update":                       {func(g *growth) { g.headroom, g.multiple = 79, 8 }, 0, false},
		"slower and slower: √(2·5/0.1) = 10":   {func(g *growth) { g.slowdown = 0.1 }, 10, true},
		"slower, and room for less":            {func(g *growth) { g.slowdown, g.headroom = 0.1, 50 }, 5, true},
	} {
		g := base
		tt.change(&g)
		if n, ok := g.interval(); n != tt.want || ok != tt.ok {
			t.Errorf("%s: %d, %t; want %d, %t", name, n, ok, tt.want, tt.ok)
		}
	}
}

// TestPlantedLeakStaysUnderTheLimit runs whole studies of simulated machines that
// leak, and then every interval there is: that of the study stays under the limit
// at the widest batch, and the training takes at most 5 % longer than with the
// best one that does.
func TestPlantedLeakStaysUnderTheLimit(t *testing.T) {
	replaced := 0
	rapid.Check(t, func(t *rapid.T) {
		m := laptop()
		m.noise = 0
		m.leak = rapid.Int64Range(256<<10, 8<<20).Draw(t, "leak")
		m.t0 = rapid.Float64Range(0.01, 1).Draw(t, "t0")
		s := study(m, rapid.Int64Range(700<<20, 1500<<20).Draw(t, "limit"))
		for knob, value := range map[string]string{"iters": strconv.Itoa(rapid.IntRange(200, 2000).Draw(t, "iters")), "batch-size": "2", "grad-accumulation-steps": "1"} {
			if err := s.Base.Set(knob, value, trainer.FromFlag); err != nil {
				t.Fatal(err)
			}
		}
		r, err := s.Run(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		seen := slices.ContainsFunc(r.Gates, func(g Gate) bool { return g.Name == gateLeak && g.Observed.Known() })
		if r.Verdict != Confirmed || !seen { // a machine too slow for its budget says that the leak is not known
			return
		}
		c := r.Config
		run, err := s.prepare()
		if err != nil {
			t.Fatal(err)
		}
		widest := run.epoch(c.Plan.Batch, c.Data.MaxSeqLength).Widest
		fresh := m.peak(c, widest) + float64(m.host) + 1<<20 // and its cache
		most := func(interval int) float64 { return fresh + float64(m.leak)*float64(interval) }
		total := func(interval int) float64 {
			steps := float64(c.Schedule.Steps)
			return steps*m.seconds(c, widest) + math.Ceil(steps/float64(interval)-1)*2.5
		}
		interval := c.Schedule.ReloadInterval
		if interval == 0 {
			interval = c.Schedule.Steps
		} else {
			replaced++
		}
		if most(interval) > float64(s.Limit.Bytes) {
			t.Fatalf("%.0f bytes after %d steps, of %d that are allowed", most(interval), interval, s.Limit.Bytes)
		}
		best := math.Inf(1)
		for n := 1; n <= c.Schedule.Steps; n++ {
			if most(n)+float64(m.grows()) <= float64(s.Limit.Bytes) { // room for what real processes grow by stays free
				best = math.Min(best, total(n))
			}
		}
		if total(interval) > 1.05*best {
			t.Fatalf("%.1f s with a new process every %d steps, %.1f s with the best interval", total(interval), interval, best)
		}
	})
	if replaced == 0 {
		t.Errorf("%d studies replaced a process", replaced)
	}
}

// A candidate that is faster by itself, but leaves a leak so little room that
// processes are replaced all the time, gives way to one that takes less memory.
func TestReloadsCountInTheChoice(t *testing.T) {
	m := laptop()
	m.noise, m.t0 = 0, 0.015625
	for _, tt := range []struct {
		leak          int64
		checkpointing bool
	}{{0, false}, {285304, true}} {
		m.leak = tt.leak
		s := study(m, 734120464+m.grows())
		for knob, value := range map[string]string{"iters": "204", "batch-size": "2", "grad-accumulation-steps": "1"} {
			if err := s.Base.Set(knob, value, trainer.FromFlag); err != nil {
				t.Fatal(err)
			}
		}
		r, err := s.Run(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if got := r.Config.Plan.Checkpointing; r.Verdict != Confirmed || got != tt.checkpointing || r.Config.Schedule.ReloadInterval != 0 {
			t.Errorf("%d bytes a step: %s with checkpointing %t, a new process every %d steps", tt.leak, r.Verdict, got, r.Config.Schedule.ReloadInterval)
		}
	}
}
