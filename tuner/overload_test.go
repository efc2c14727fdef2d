package tuner

import (
	"context"
	"math"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// overloaded are ways in which other programs take the machine away.
var overloaded = map[string]func(calls int, rng *rand.Rand) float64{
	"slow from the start":         func(int, *rand.Rand) float64 { return 20 },
	"slow from the confirmation":  func(calls int, _ *rand.Rand) float64 { return map[bool]float64{true: 1, false: 60}[calls <= 2] },
	"slow and jittery":            func(_ int, rng *rand.Rand) float64 { return 10 * math.Exp(rng.NormFloat64()) },
	"stands still for a while":    func(calls int, rng *rand.Rand) float64 { return 1 + 400*math.Floor(rng.Float64()+0.1) },
	"slower than it can be timed": func(int, *rand.Rand) float64 { return 1000 },
}

func TestOverload(t *testing.T) {
	for name, busy := range overloaded {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := laptop()
			m.busy = busy
			s := study(m, 8<<30)
			r, err := s.Run(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%s after %d bursts and %.0f s: %s (%s)", r.Verdict, len(r.Bursts), r.Seconds, r.Problem, r.Hint)
			keptItsBudget(t, r)
			if strings.Contains(name, "jittery") && r.Expected.TokensError < 0.2 {
				t.Errorf("%s ± %.0f %% on a machine like that", r.Verdict, 100*r.Expected.TokensError)
			}
			if strings.Contains(r.Problem, "fits") {
				t.Errorf("every configuration fits, and it says %q", r.Problem)
			}
			if r.Verdict == Impossible {
				t.Fatalf("bursts measured something, and yet there is no result: %s", r.Problem)
			}
			if r.Verdict == Unconfirmed && (r.Problem == "" || !strings.Contains(r.Hint, "--budget")) {
				t.Errorf("unconfirmed, and it says %q and %q", r.Problem, r.Hint)
			}
			if err := r.Config.Validate(); err != nil {
				t.Error(err)
			}
			if _, _, peak := m.truth(r.Config, s.Prompts); peak > float64(8<<30) {
				t.Errorf("it takes %.3g bytes", peak)
			}
		})
	}
}

// keptItsBudget: nothing is started when the time is over, so only the last
// burst can reach beyond its end.
func keptItsBudget(t interface {
	Helper()
	Errorf(string, ...any)
}, r *Report) {
	t.Helper()
	budget := r.Wishes.Budget.Seconds()
	spent := 0.0
	for i, b := range r.Bursts {
		if spent >= budget {
			t.Errorf("burst %d of %d, to %s, began after %.0f s of %.0f", i+1, len(r.Bursts), b.Purpose, spent, budget)
		}
		spent += b.Seconds
	}
}

// The budget is a promise on any machine.
func TestBudgetIsKept(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := anyMachine(t)
		factor, jitter := rapid.Float64Range(1, 100).Draw(t, "factor"), rapid.Float64Range(0, 1.5).Draw(t, "jitter")
		from := rapid.IntRange(1, 6).Draw(t, "from")
		m.busy = func(calls int, rng *rand.Rand) float64 {
			if calls < from {
				return 1
			}
			return factor * math.Exp(jitter*rng.NormFloat64())
		}
		limit := rapid.Int64Range(400<<20, 8<<30).Draw(t, "limit")
		m.kill = float64(limit)
		s := study(m, limit)
		s.Wishes.Budget = time.Duration(rapid.IntRange(5, 300).Draw(t, "budget")) * time.Second
		s.Wishes.Prefer = rapid.SampledFrom([]Preference{Speed, Memory, Quality}).Draw(t, "prefer")
		r, err := s.Run(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		keptItsBudget(t, r)
		if r.Verdict != Confirmed && r.Problem == "" {
			t.Fatalf("%s, and no word why", r.Verdict)
		}
	})
}

// What a burst did not come to in its time, it is given more time for.
func TestCutBurstsAreRunAgainWithMoreTime(t *testing.T) {
	m := gpu()
	m.brief = func(trainer.Config) bool { return true }
	s := study(m, 8<<30)
	s.Journal = filepath.Join(t.TempDir(), "journal.jsonl")
	for _, tt := range []struct {
		name   string
		budget time.Duration
		run    bool
	}{{"first", DefaultBudget, true}, {"the same time", DefaultBudget, false}, {"a little more", DefaultBudget * 11 / 10, false}, {"more", 8 * DefaultBudget, true}, {"more, again", 8 * DefaultBudget, false}} {
		s.Wishes.Budget = tt.budget
		r, err := s.Run(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if (r.Processes > 0) != tt.run {
			t.Errorf("%s: %d processes", tt.name, r.Processes)
		}
		m.brief = nil
	}
}
