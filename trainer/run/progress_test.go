package run

import (
	"context"
	"math"
	"testing"
	"time"

	"github.com/mlxdyno/mlxdyno/trainer"
)

func TestMeter(t *testing.T) {
	m := NewMeter(trainer.Schedule{Steps: 100, ReloadInterval: 10})
	if p := m.Progress(); p.Steps != 100 || p.ETA.Known() || p.TokensPerSecond.Known() || p.Loss.Known() {
		t.Fatalf("before the first event: %+v", p)
	}
	// Two processes of ten steps: 3 s to the end of the first step, then 1 s a step of which 0.5 s are step and data.
	for segment := range 2 {
		m.Add(trainer.Event{Segment: segment, Payload: trainer.Hello{}})
		for i := range 10 {
			step := 10*segment + i + 1
			m.Add(trainer.Event{Segment: segment, Step: step, Elapsed: time.Duration(3+i) * time.Second,
				Payload: trainer.Step{Loss: trainer.Float(step), Tokens: 100, Seconds: 0.4, DataSeconds: 0.1}})
			if p := m.Progress(); step == 1 && p.ETA.Known() {
				t.Fatalf("an estimate after one step: %v", p.ETA)
			}
		}
	}
	m.Add(trainer.Event{Step: 20, Payload: trainer.Eval{Loss: 2}})
	p := m.Progress()
	if p.Step != 20 || p.Segment != 1 || p.Loss.Or(0) != 20 || p.ValLoss.Or(0) != 2 {
		t.Errorf("%+v", p)
	}
	if v := p.TokensPerSecond.Or(0); math.Abs(v-200) > 1e-6 {
		t.Errorf("%v tokens/s", v)
	}
	// 80 steps of 1 s, and 7 more beginnings of 3 s.
	if eta := p.ETA.Or(0); eta != 101*time.Second {
		t.Errorf("ETA %v", eta)
	}
}

func TestMeterFollowsTheSchedule(t *testing.T) {
	t.Parallel()
	p := plan(t, "batch-size", "6", "grad-checkpoint", "true")
	s := &sim{fate: func(j trainer.Job, step int) *trainer.Result {
		if j.Config.Plan.Batch > 3 && step == 4 || j.Config.Plan.Batch == 3 && step == 12 {
			return result(trainer.OOM)
		}
		return nil
	}}
	p.Policy.MaxRetries = -1
	shown := func() Progress {
		obs := &metered{m: NewMeter(p.Config.Config.Schedule)}
		p.Segment = func(c trainer.Config) { obs.m.Follow(c.Schedule) }
		if _, err := train(context.Background(), p, obs, s.run); err != nil {
			t.Fatal(err)
		}
		return obs.m.Progress()
	}
	if got := shown(); got.Step != 11 || got.Steps != 40 {
		t.Errorf("after a back-off: step %d/%d", got.Step, got.Steps)
	}
	p.Resume, s.fate = true, nil
	if got := shown(); got.Step != 40 || got.Steps != 40 {
		t.Errorf("after a resumption: step %d/%d", got.Step, got.Steps)
	}
}

// metered is an Observer that feeds a meter.
type metered struct{ m *Meter }

func (o *metered) Event(e trainer.Event) { o.m.Add(e) }
func (o *metered) Note(Note)             {}

func TestMeterTakesThePaceAnew(t *testing.T) {
	m := NewMeter(trainer.Schedule{Steps: 10})
	run := func(pace time.Duration) {
		m.Add(trainer.Event{Payload: trainer.Hello{}})
		for i := range 5 {
			m.Add(trainer.Event{Step: i + 1, Elapsed: time.Duration(i+1) * pace, Payload: trainer.Step{}})
		}
	}
	run(2 * time.Second)
	m.Follow(trainer.Schedule{Steps: 20})
	if p := m.Progress(); p.ETA.Known() {
		t.Errorf("%v at a pace that is not known yet", p.ETA)
	}
	run(time.Second)
	if eta := m.Progress().ETA.Or(0); eta != 15*time.Second {
		t.Errorf("ETA %v", eta)
	}
}

func TestSpeedFollowsTheLastSteps(t *testing.T) {
	var r rate
	for range 100 {
		r.add(trainer.Step{Tokens: 100, Seconds: 1}, brisk)
	}
	for range 60 {
		r.add(trainer.Step{Tokens: 100, Seconds: 2}, brisk)
	}
	if v, ok := r.perSecond(); !ok || v < 49 || v > 53 {
		t.Errorf("%v tokens/s", v)
	}
}
