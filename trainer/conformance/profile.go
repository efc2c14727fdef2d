package conformance

import (
	"math"
	"slices"
	"testing"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// profile: an engine that profiles learns the same while it does, says phases
// with every step and the rest before the checkpoint, and what it says adds up.
// One that does not refuses to.
func (s suite) profile(t *testing.T) {
	t.Parallel()
	j := s.job()
	j.UntilStep, j.Config.Schedule.Steps, j.Dir = 4, 4, t.TempDir()
	can, err := s.engine.Capabilities(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !can.Profile {
		j.Mode = trainer.Profile
		if _, err := s.engine.Process(j); err == nil {
			t.Error("an engine that knows no profile starts one")
		}
		return
	}
	_, want := s.finish(t, j)
	j.Dir, j.Mode = t.TempDir(), trainer.Profile
	var steps, phases, spans, helds int
	var took, clock, said float64
	var peak, held int64
	var end *trainer.Profiled
	var last trainer.Kind
	r, got := s.run(t, t.Context(), j, func(e trainer.Event) {
		switch p := e.Payload.(type) {
		case trainer.Step:
			steps, took, peak = steps+1, took+p.Seconds+p.DataSeconds, max(peak, p.Memory.Peak.Or(0))
		case trainer.Phases:
			phases++
			for _, v := range p.Seconds {
				clock += v
			}
			if last != trainer.KindStep {
				t.Errorf("phases behind a %s", last)
			}
		case trainer.Span:
			spans, said = spans+1, said+p.Seconds
		case trainer.Held:
			helds, held = helds+1, held+p.Bytes
		case trainer.Profiled:
			end = &p
		case trainer.Checkpoint:
			if e.Step == j.UntilStep && end == nil {
				t.Error("a checkpoint before the end of the profile")
			}
		}
		last = e.Payload.Kind()
	})
	if r.Outcome != trainer.Finished || end == nil {
		t.Fatalf("%s: %+v, profile %+v\n%s", r.Outcome, r.Failure, end, r.LogTail)
	}
	if !slices.Equal(losses(got), losses(want)) {
		t.Errorf("losses %v instead of %v", losses(got), losses(want))
	}
	if phases != steps || end.Steps != steps || end.Spans != spans || end.Helds != helds {
		t.Errorf("%d steps, %d phases, %d spans, %d helds: %+v", steps, phases, spans, helds, *end)
	}
	for what, v := range map[string]float64{"spans": said, "phases": clock, "the profile": end.Seconds} {
		if !(math.Abs(v-took) <= 0.02*took) {
			t.Errorf("%s add up to %g s of %g", what, v, took)
		}
	}
	if held != end.PeakBytes || end.PeakBytes != peak {
		t.Errorf("held %d of %d bytes at the peak, steps had %d", held, end.PeakBytes, peak)
	}
}
