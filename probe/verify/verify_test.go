package verify

import (
	"math"
	"strings"
	"testing"

	"github.com/mlxdyno/mlxdyno/trainer"
)

func good() Side {
	return Side{PeakBytes: trainer.Some[int64](8e9), LimitBytes: trainer.Some[int64](10e9), TokensPerSecond: trainer.Some(1000.0),
		Pressed: trainer.Some(false), Died: trainer.Some(false), LeakBytesAStep: trainer.Some(0.0)}
}

func TestCompare(t *testing.T) {
	for _, tc := range []struct {
		name     string
		after    func(*Side)
		question string
		want     Verdict
		says     string
	}{
		{"all as before", func(*Side) {}, "", Pass, ""},
		{"above the limit", func(s *Side) { s.PeakBytes = trainer.Some[int64](11e9) }, "limit", Fail, "11.0 GB of 10.0 GB"},
		{"at the limit", func(s *Side) { s.PeakBytes = trainer.Some[int64](10e9) }, "limit", Pass, ""},
		{"no limit", func(s *Side) { s.LimitBytes = trainer.Opt[int64]{} }, "limit", Open, "8.00 GB"},
		{"a little slower", func(s *Side) { s.TokensPerSecond = trainer.Some(951.0) }, "speed", Pass, "-4.9 %"},
		{"slower", func(s *Side) { s.TokensPerSecond = trainer.Some(949.0) }, "speed", Fail, "-5.1 %"},
		{"faster", func(s *Side) { s.TokensPerSecond = trainer.Some(2000.0) }, "speed", Pass, "+100.0 %"},
		{"no speed", func(s *Side) { s.TokensPerSecond = trainer.Opt[float64]{} }, "speed", Open, "unknown"},
		{"nonsense", func(s *Side) { s.TokensPerSecond = trainer.Some(math.NaN()) }, "speed", Open, ""},
		{"pressed", func(s *Side) { s.Pressed, s.Pressure = trainer.Some(true), "2.00 GB swapped out" }, "pressure", Fail, "2.00 GB"},
		{"not looked at", func(s *Side) { s.Pressed = trainer.Opt[bool]{} }, "pressure", Open, "unknown"},
		{"died", func(s *Side) { s.Died = trainer.Some(true) }, "oom", Fail, "ran out of memory"},
		{"leaks", func(s *Side) { s.LeakBytesAStep = trainer.Some(4096.0) }, "leak", Fail, "4.10 kB a step"},
		{"leak unknown", func(s *Side) { s.LeakBytesAStep, s.LeakUnknown = trainer.Opt[float64]{}, "too few steps" }, "leak", Open, "too few steps"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			after := good()
			tc.after(&after)
			c := Compare(good(), after)
			if c.Passed != (tc.want != Fail) || len(c.Answers) != 5 {
				t.Errorf("passed %v: %+v", c.Passed, c.Answers)
			}
			for _, a := range c.Answers {
				want := Pass
				if a.Question == tc.question {
					want = tc.want
					if !strings.Contains(a.After, tc.says) {
						t.Errorf("%q lacks %q", a.After, tc.says)
					}
				}
				if a.Verdict != want || a.Before == "" || a.After == "" || a.Needed == "" {
					t.Errorf("%+v, want %s", a, want)
				}
			}
		})
	}
	if c := Compare(Side{}, Side{}); !c.Passed || c.Answers[0].Verdict != Open {
		t.Errorf("nothing known: %+v", c)
	}
}
