package run

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/mlxdyno/mlxdyno/trainer"
)

func TestWhatAProfileAddsUpTo(t *testing.T) {
	t.Parallel()
	p := plan(t)
	p.ProfileSteps = 4
	r, _ := must(t, context.Background(), p, &sim{})
	got := *r.Profile
	want := Profile{Steps: 4, Seconds: 0.8, ModelledSeconds: 0.4, Tokens: 30, Positions: 40, Supervised: 10, UsefulShare: trainer.Some(0.75), SupervisedShare: trainer.Some(0.25),
		TFLOPAStep: trainer.Some(0.004), GFLOPS: trainer.Some(20.0), CeilingGFLOPS: trainer.Some(trainer.Float(100)), CeilingShare: trainer.Some(0.2),
		Phases: []Part{
			{Name: "forward", Seconds: 0.4, Share: 0.5, ClockSeconds: trainer.Some(0.4), Calls: 4, GFLOP: trainer.Some(8.0), CeilingShare: trainer.Some(0.2)},
			{Name: "backward", Seconds: 0.4, Share: 0.5, ModelledSeconds: 0.4, ClockSeconds: trainer.Some(0.4), Calls: 4, GFLOP: trainer.Some(8.0), CeilingShare: trainer.Some(0.2)}},
		Blocks:    []Part{{Name: "block 0", Seconds: 0.8, Share: 1, ModelledSeconds: 0.4, Calls: 8, GFLOP: trainer.Some(16.0), CeilingShare: trainer.Some(0.2)}},
		Layers:    []Part{{Name: "mlp.up_proj", Seconds: 0.8, Share: 1, ModelledSeconds: 0.4, Calls: 8, GFLOP: trainer.Some(16.0), CeilingShare: trainer.Some(0.2)}},
		Ops:       []Part{{Name: "Matmul", Seconds: 0.8, Share: 1, ModelledSeconds: 0.4, Calls: 8, GFLOP: trainer.Some(16.0), CeilingShare: trainer.Some(0.2)}},
		PeakBytes: 200, ModelledPeakBytes: 50, Held: []HeldPart{{Name: "weights", Bytes: 150, Share: 0.75}, {Name: "activations", Bytes: 50, Share: 0.25, ModelledBytes: 50}}}
	opts := cmp.Options{cmpopts.EquateApprox(1e-9, 0), cmpopts.IgnoreFields(Profile{}, "Spans", "Helds"),
		cmp.Transformer("opt", func(o trainer.Opt[float64]) float64 { return o.Or(-1) }), cmp.Transformer("bytes", func(o trainer.Opt[int64]) int64 { return o.Or(-1) }),
		cmp.Transformer("float", func(o trainer.Opt[trainer.Float]) float64 { return float64(o.Or(-1)) })}
	if d := cmp.Diff(want, got, opts); d != "" {
		t.Error(d)
	}
	// The wait for data is a share of every step that counts.
	if got, want := r.Totals.DataShare.Or(0), 20*0.02/(20*0.02+4*0.2+16*0.08); math.Abs(got-want) > 1e-9 {
		t.Errorf("waits for data %v, want %v", got, want)
	}
}

// Blocks come in the order of the model, what is in none is named by what it
// is in, and only the ten longest layers are named.
func TestPartsOfAProfile(t *testing.T) {
	t.Parallel()
	said := &profileSum{end: &trainer.Profiled{Steps: 1}}
	for _, path := range [][]string{{"optimizer"}, {"forward", "head", "", "Matmul"}, {"forward", "block 10", "a", "Add"}, {"loss", "", "", "LogSumExp"}, {"forward", "block 2", "", "Add"}, {"forward", "embedding", "", "Gather"}, {}} {
		said.spans = append(said.spans, trainer.Span{Path: path, Seconds: float64(1 + len(path))})
	}
	for i := range 12 {
		said.spans = append(said.spans, trainer.Span{Path: []string{"data", "", "x" + string(rune('a'+i))}, Seconds: 0.1})
	}
	p := newProfile(said, Segment{})
	names := func(parts []Part) string {
		var out []string
		for _, p := range parts {
			out = append(out, p.Name)
		}
		return strings.Join(out, " ")
	}
	for what, pair := range map[string][2]string{
		"phases": {names(p.Phases), "data forward loss optimizer unnamed"},
		"blocks": {names(p.Blocks), "embedding block 2 block 10 head"},
		"layers": {names(p.Layers), "a block embedding head loss optimizer unnamed xa xb xc"},
		"ops":    {names(p.Ops), "Add Gather LogSumExp Matmul optimizer unnamed xa xb xc xd"},
	} {
		if d := cmp.Diff(pair[1], pair[0]); d != "" {
			t.Errorf("%s: %s", what, d)
		}
	}
}

// A profile whose parts were torn out of the events says how many are missing.
func TestAProfileWithHoles(t *testing.T) {
	t.Parallel()
	p := plan(t)
	p.ProfileSteps = 3
	must(t, context.Background(), p, &sim{})
	path := filepath.Join(p.Dir, eventsName)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(b), `"kind":"span"`, `"kind":"spam"`, 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	r, err := Load(p.Dir)
	if err != nil || r.Profile == nil || r.Profile.Missing != 1 || len(r.Warnings) != 1 || r.Warnings[0].Code != "profile.incomplete" {
		t.Errorf("%+v, %+v, %v", r.Profile, r.Warnings, err)
	}
}

// Whatever a worker says, its profile adds up and can be written.
func TestAnyProfile(t *testing.T) {
	t.Parallel()
	number := rapid.OneOf(rapid.Float64Range(0, 10), rapid.SampledFrom([]float64{-1, 1e300, math.NaN(), math.Inf(1), 0, 9e8}))
	count := rapid.OneOf(rapid.Int64Range(0, 100), rapid.SampledFrom([]int64{-1, math.MaxInt64, math.MinInt64}))
	path := rapid.SliceOfN(rapid.SampledFrom([]string{"", "forward", "block 1", "block x", "a", "\x00"}), 0, 6)
	rapid.Check(t, func(t *rapid.T) {
		said := &profileSum{end: &trainer.Profiled{Steps: int(count.Draw(t, "steps")), Tokens: count.Draw(t, "tokens"), Positions: count.Draw(t, "positions"),
			CeilingGFLOPS: trainer.Some(trainer.Float(number.Draw(t, "ceiling"))), Spans: int(count.Draw(t, "spans"))}}
		for range rapid.IntRange(0, 6).Draw(t, "n") {
			said.add(trainer.Span{Path: path.Draw(t, "path"), Seconds: number.Draw(t, "s"), Calls: count.Draw(t, "calls"), GFLOP: trainer.Some(trainer.Float(number.Draw(t, "g"))),
				Bytes: trainer.Some(count.Draw(t, "b")), Modelled: rapid.Bool().Draw(t, "m")})
			said.add(trainer.Held{Path: path.Draw(t, "path"), Bytes: count.Draw(t, "held")})
			said.add(trainer.Phases{Seconds: map[string]float64{"forward": number.Draw(t, "clock")}})
		}
		p := newProfile(said, Segment{})
		if _, err := json.Marshal(p); err != nil {
			t.Fatal(err)
		}
		sum := 0.0
		for _, part := range p.Phases {
			sum += part.Seconds
		}
		if math.Abs(sum-p.Seconds) > 1e-6*max(1, p.Seconds) {
			t.Fatalf("phases are %v s of %v", sum, p.Seconds)
		}
	})
}
