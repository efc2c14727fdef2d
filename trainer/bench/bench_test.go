package bench

import (
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/worker/fake"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) {
	fake.Main()
	os.Exit(m.Run())
}

func contestant(name string, c fake.Cost) Contestant {
	return Contestant{Name: name, Engine: fake.Engine(fake.Script{Cost: c}),
		Job: trainer.Job{Config: trainer.DefaultConfig(), Mode: trainer.Normal, Shapes: []trainer.Shape{{Batch: 2, Width: 33, Steps: 7}}}}
}

func TestCompareTellsWhichIsFaster(t *testing.T) {
	a := contestant("a", fake.Cost{StepSeconds: 0.5, Bytes: 100, PositionBytes: 10})
	b := contestant("b", fake.Cost{StepSeconds: 1.5, Bytes: 100, PositionBytes: 20})
	var order []string
	third := contestant("c", fake.Cost{StepSeconds: 0.75, Bytes: 100})
	c, err := Compare(t.Context(), []Contestant{a, third, b}, Options{Rounds: 2, Warmup: 3, Progress: func(_, _ int, name string) { order = append(order, name) }})
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(order, ""); got != "acbbcaacbbca" {
		t.Errorf("order %s", got)
	}
	if r := c[0].Ratio; r == nil || r.Speed < 2.9 || r.Speed > 3.1 || r.Low.Or(9) > r.Speed || r.High.Or(0) < r.Speed || r.Rounds != 2 {
		t.Errorf("ratio %+v, want 3", r)
	}
	if r := c[1].Ratio; r == nil || r.Speed < 1.9 || r.Speed > 2.1 || c[2].Ratio != nil {
		t.Errorf("ratios %+v and %+v, want 2 and none", r, c[2].Ratio)
	}
	if c[0].PeakBytes != 100+64*10 || c[2].PeakBytes != 100+64*20 || len(c[0].Runs) != 4 {
		t.Errorf("%+v", c)
	}
	if got, want := c[0].TokensPerSecond, 64/0.5; math.Abs(got/want-1) > 0.05 {
		t.Errorf("%g tokens/s, want %g", got, want)
	}
}

func TestCompareReportsWhatFails(t *testing.T) {
	good := contestant("good", fake.Cost{StepSeconds: 0.1})
	bad := contestant("bad", fake.Cost{})
	bad.Engine = fake.Engine(fake.Script{Behaviour: fake.Crash, At: 2})
	if _, err := Compare(t.Context(), []Contestant{good, bad}, Options{Rounds: 2, Warmup: 1}); err == nil || !strings.Contains(err.Error(), "bad") {
		t.Errorf("got %v", err)
	}
	if c, err := Compare(t.Context(), []Contestant{good, good}, Options{Rounds: 1}); err != nil || c[0].Ratio.Low.Known() {
		t.Errorf("one round has no interval: %+v, %v", c, err)
	}
	if _, err := Compare(t.Context(), []Contestant{good, good}, Options{}); err == nil {
		t.Error("no round is a comparison")
	}
	if _, err := Compare(t.Context(), []Contestant{good, good}, Options{Rounds: 2, Warmup: 7}); err == nil || !strings.Contains(err.Error(), "warm-up") {
		t.Errorf("nothing but warm-up: %v", err)
	}
}

func TestRatioOf(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		logs := rapid.SliceOfN(rapid.Float64Range(-2, 2), 2, 12).Draw(t, "logs")
		r := ratioOf(logs)
		if !(r.Low.Or(math.Inf(1)) <= r.Speed && r.Speed <= r.High.Or(0)) {
			t.Fatalf("%+v", r)
		}
		if lo, hi := math.Exp(slices.Min(logs)), math.Exp(slices.Max(logs)); r.Speed < lo*(1-1e-9) || r.Speed > hi*(1+1e-9) {
			t.Fatalf("%g is not between %g and %g", r.Speed, lo, hi)
		}
		for i := range logs {
			logs[i] = -logs[i]
		}
		if back := ratioOf(logs); math.Abs(back.Speed*r.Speed-1) > 1e-9 || math.Abs(back.Low.Or(0)*r.High.Or(0)-1) > 1e-9 {
			t.Fatalf("the other way round: %+v and %+v", r, back)
		}
	})
}
