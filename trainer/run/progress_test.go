package run

import (
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
