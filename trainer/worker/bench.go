package worker

import (
	"context"
	"errors"
	"fmt"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// maxBurstEvents bounds what a burst may hold in memory.
const maxBurstEvents = 200_000

// Bench runs bursts: jobs whose events are wanted all together.
type Bench struct {
	Engine  trainer.Engine
	Options Options
}

// Burst runs job in a process of its own and adds up what it said. When ctx is
// cancelled the burst ends early, with Outcome Stopped. One that is stopped because
// it takes more than job.MaxPeakBytes ends with Outcome OOM.
func (b Bench) Burst(ctx context.Context, job trainer.Job) (trainer.Burst, error) {
	p, err := b.Engine.Process(job)
	if err != nil {
		return trainer.Burst{}, fmt.Errorf("prepare burst: %w", err)
	}
	var events []trainer.Event
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var over int64
	result, err := Run(ctx, p, job, b.Options, func(e trainer.Event) error {
		if s, ok := e.Payload.(trainer.Step); ok && job.MaxPeakBytes > 0 && over == 0 && s.Memory.Peak.Or(0) > job.MaxPeakBytes {
			over = s.Memory.Peak.Or(0)
			stop()
		}
		if len(events) == maxBurstEvents {
			return errors.New("a burst of so many events does not fit in memory: give it fewer steps")
		}
		events = append(events, e)
		return nil
	})
	if err != nil {
		return trainer.Burst{}, fmt.Errorf("run burst: %w", err)
	}
	if over > 0 && result.Outcome == trainer.Stopped {
		result.Outcome = trainer.OOM
		result.Evidence = append(result.Evidence, trainer.Evidence{Name: "peak memory", Source: "the step",
			Observed: fmt.Sprintf("%s, more than the %s that it may take", trainer.FormatBytes(over), trainer.FormatBytes(job.MaxPeakBytes))})
	}
	return trainer.Burst{Job: job, Result: result, Summary: trainer.Summarize(events)}, nil
}
