package tuner

import (
	"sync"
	"time"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// Strain is how hard memory is to get on the machine, at one moment.
type Strain struct {
	SwapOutBytes trainer.Opt[int64] // swapped out since boot
	Pressure     trainer.Opt[int]   // levels above normal: 0 normal, 1 warning, 2 critical
	Unknown      string             // why one of both is not known
}

// strained is what became of it while a burst ran. It is kept with the burst.
type strained struct {
	Swapped trainer.Opt[int64] `json:"swapped_bytes,omitzero"`
	Before  trainer.Opt[int]   `json:"pressure_before,omitzero"`
	Worst   trainer.Opt[int]   `json:"pressure_worst,omitzero"`
	Unknown string             `json:"unknown,omitempty"`
}

const strainEvery = 500 * time.Millisecond

// watch reads the strain until the returned function is called, which says what
// became of it.
func watch(read func() Strain) func() strained {
	if read == nil {
		return func() strained { return strained{Unknown: "nobody looked"} }
	}
	before := read()
	out := strained{Before: before.Pressure, Worst: before.Pressure, Unknown: before.Unknown}
	look := func() {
		s := read()
		from, known := before.SwapOutBytes.Get()
		if to, ok := s.SwapOutBytes.Get(); ok && known {
			out.Swapped = trainer.Some(max(to-from, out.Swapped.Or(0)))
		}
		if level, ok := s.Pressure.Get(); ok && level >= out.Worst.Or(0) {
			out.Worst = trainer.Some(level)
		}
	}
	done := make(chan struct{})
	var wait sync.WaitGroup
	wait.Go(func() {
		tick := time.NewTicker(strainEvery)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				look()
			}
		}
	})
	return func() strained {
		close(done)
		wait.Wait()
		look()
		return out
	}
}

func pressureText(level int) string {
	switch level {
	case 0:
		return "normal"
	case 1:
		return "a warning"
	}
	return "critical"
}
