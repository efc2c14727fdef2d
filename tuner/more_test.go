package tuner

import (
	"context"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/mlxdyno/mlxdyno/probe/budget"
	"github.com/mlxdyno/mlxdyno/trainer"
)

func TestMoreMemoryIsNeverSlower(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := anyMachine(t)
		limit := rapid.Int64Range(500<<20, 2<<30).Draw(t, "limit")
		moreIsNeverSlower(t, m, limit, limit+rapid.Int64Range(1<<20, 4<<30).Draw(t, "more"))
	})
}

// As on machines whose memory is what formulas say, part by part up to a factor, which
// is what real ones were found to be like.
func TestMoreMemoryIsNeverSlowerByFormulas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := anyMachine(t)
		m.formulas = new([budget.Parts]float64)
		for p := range budget.PartGradients {
			m.formulas[p] = rapid.Float64Range(0.6, 1.7).Draw(t, "factor")
		}
		m.formulas[budget.PartFewScores] = m.formulas[budget.PartBlockScores] * rapid.Float64Range(0.8, 1.2).Draw(t, "few")
		need := func(batch int, checkpointing bool) float64 { // of the whole process
			c := study(m, 0).Base.Config
			c.Plan.Checkpointing = checkpointing
			return m.peak(c, trainer.Shape{Batch: batch, Width: int(slices.Max(m.lengths))}) + float64(m.host)
		}
		least, most := need(1, true), need(8, false)
		share := rapid.Float64Range(0, 1)
		limit := int64(least + share.Draw(t, "limit")*(most-least))
		moreIsNeverSlower(t, m, limit, limit+1+int64(share.Draw(t, "more")*(most-least)))
	})
}

func moreIsNeverSlower(t interface {
	Fatal(...any)
	Fatalf(string, ...any)
}, m *machine, limit, more int64) {
	m.noise = 0 // the machine's, not the search's
	at := func(limit int64) (float64, *Report) {
		m.kill = float64(limit)
		s := study(m, limit)
		s.Wishes.Budget = 4 * DefaultBudget // what time leaves untried is named
		r, err := s.Run(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if r.Verdict == Impossible || r.Config.Model.Quantize != 0 {
			return 0, r
		}
		v, _, _ := m.truth(r.Config, s.Prompts)
		return v, r
	}
	with, a := at(limit)
	without, b := at(more)
	if with > 0 && (without == 0 || without > with*1.051) { // ties within 5 % go to less memory
		t.Fatalf("%.4g s with %d bytes, %.4g s with %d\n%+v\n%+v", with, limit, without, more, a.Config.Plan, b.Config.Plan)
	}
}

// What more memory would bring comes true with it, and without a faster one nothing is
// said.
func TestMoreMemoryIsForeseen(t *testing.T) {
	m := laptop()
	m.t0, m.noise = 0.1, 0 // larger batches pay
	at := func(limit int64) *Report {
		m.kill = float64(limit)
		r, err := study(m, limit).Run(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if r.Verdict != Confirmed {
			t.Fatalf("%d bytes: %s %s", limit, r.Verdict, r.Problem)
		}
		return r
	}
	short := at(600 << 20)
	if short.More == nil || short.More.LimitBytes <= 600<<20 || short.More.Speedup <= 1 || short.More.Candidate.Fits {
		t.Fatalf("with 600 MiB %+v", short.More)
	}
	enough := at(short.More.LimitBytes * 101 / 100)
	v, _, _ := m.truth(short.Config, study(m, 0).Prompts)
	w, _, _ := m.truth(enough.Config, study(m, 0).Prompts)
	if got := v / w; math.Abs(got/short.More.Speedup-1) > 0.06 {
		t.Errorf("%.3g times as fast was foreseen of %v, %.3g came of %+v", short.More.Speedup, short.More.Candidate.Point, got, enough.Config.Plan)
	}
	if plenty := at(64 << 30); plenty.More != nil {
		t.Errorf("with plenty %+v", plenty.More)
	}
}

// What time leaves untried, although it is predicted to be faster, is in the report.
func TestWhatTimeLeavesIsNamed(t *testing.T) {
	for budget, want := range map[time.Duration]bool{DefaultBudget * 3 / 4: true, 4 * DefaultBudget: false} {
		m := laptop()
		m.noise = 0
		m.alpha = [2]float64{50e3, 50e3 * 0.2425}
		m.mu = [2]float64{27.5, 27.5 * 0.3}
		m.t0, m.recompute = 0.3, 1.1425
		m.lengths, _ = docstrings(250, 6)
		limit := 524288097 + m.grows()
		m.kill = float64(limit)
		s := study(m, limit)
		s.Wishes.Budget = budget
		r, err := s.Run(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		named := slices.ContainsFunc(r.NotTried, func(n NotTried) bool {
			return strings.Contains(n.Why, "faster than what was chosen") && strings.Contains(n.Why, "--budget")
		})
		if r.Verdict != Confirmed || named != want {
			t.Errorf("within %s: %s, named %t: %v", budget, r.Verdict, named, r.NotTried)
		}
	}
}

// On these machines, found among some ten thousand random ones each, searches ended
// with something slower, or with nothing, where there was more memory: what fits was
// taken not to, or what makes room was not looked at.
func TestMoreMemoryIsNeverSlowerByName(t *testing.T) {
	for name, tt := range map[string]struct {
		alpha, kept, mu, t0, recompute float64
		rows                           int
		text                           uint64
		limit, more                    int64
	}{
		"near ties used up the tries":                        {57974.155, 0.462994, 112.067, 0.00115101, 1.18602, 97, 444, 524369744, 525473378},
		"arithmetic is five times too high":                  {55495.945, 0.224144, 0.416321, 0.280419, 1.54641, 300, 1291, 524343359, 529155041},
		"calibrated on small shapes only":                    {103741.5625, 0.482532, 114.875, 0.3, 1.10739, 102, 43975082030992434, 524288520, 525337133},
		"checkpointing seemed to make no room":               {159787.891, 0.2, 5.6035, 0.0280181, 1.11788, 216, 718079, 524288077, 686209552},
		"fits, but not for sure":                             {50000, 0.713039, 500, 0, 1.46756, 39, 6, 524288000, 525337712},
		"nothing fits for sure":                              {236125.126, 0.224523, 0, 0, 1.40814, 147, 1550, 524288000, 525337649},
		"checkpointing seemed to make no room for eight":     {85474.773, 0.403412, 8.53258, 0.0365635, 1, 214, 8063, 524288237, 525336936},
		"hardly likely to fit, and two fifths faster":        {106606, 0.446799, 0, 0.158001, 1.16307, 260, 159243744251951, 524288001, 525336578},
		"a sixth faster, if it fits":                         {369649.5, 0.201462, 0, 0, 1.20444, 47, 14637621590, 524353842, 525402419},
		"a longer row with fewer positions is no deadly one": {52732.43, 0.59375, 277.996, 0.000244141, 1.22083, 144, 2845, 524289607, 525338284},
		"the first try dies":                                 {99994.184974, 0.343471, 276.768, 0.3, 1.5, 72, 17064, 524288001, 525336577},
		"formulas say four times too much":                   {103928.621825, 0.293003, 0.322652, 0, 1.24133, 136, 6541626, 524288483, 535942375},
		"formulas say too much of the widest":                {100681.628956, 0.2, 208.203, 0, 1.6, 166, 452258177421, 526043277, 527091865},
	} {
		t.Run(name, func(t *testing.T) {
			m := laptop()
			m.alpha = [2]float64{tt.alpha, tt.alpha * tt.kept}
			m.mu = [2]float64{tt.mu, tt.mu * 0.3}
			m.t0, m.recompute = tt.t0, tt.recompute
			m.lengths, _ = docstrings(tt.rows, tt.text)
			grows := m.grows() // that was not left free when they were found
			moreIsNeverSlower(t, m, tt.limit+grows, tt.more+grows)
		})
	}
}

// Against a start of other quality the winner is also held as if the start had the
// winner's bits, rank and length; of a start that has them nothing more is said.
func TestStartAtTheSameQuality(t *testing.T) {
	m := laptop()
	m.t0, m.noise = 0.1, 0 // larger batches pay
	s := study(m, 64<<30)
	s.Wishes.Ranks = []int{32}
	r, err := s.Run(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	alike := s.Base.Config.WithRank(32)
	alike.Data.MaxSeqLength = r.Config.Data.MaxSeqLength
	was, _, _ := m.truth(alike, s.Prompts)
	now, _, _ := m.truth(r.Config, s.Prompts)
	if got := r.Start.SpeedupAlike.Or(0); math.Abs(got/(was/now)-1) > 0.05 || !(got > 1.05) {
		t.Errorf("%g times as fast as the defaults at rank 32, true %g", got, was/now)
	}
	s.Base.Config = r.Config
	s.Base.Config.Plan.Batch, s.Base.Config.Plan.Accumulation = 1, 4
	if r, err = s.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	if !r.Start.Speedup.Known() || r.Start.SpeedupAlike.Known() {
		t.Errorf("against a start at the same quality: %+v", r.Start)
	}
}
