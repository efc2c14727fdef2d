package run

import (
	"fmt"
	"time"

	"github.com/mlxdyno/mlxdyno/trainer"
)

const (
	// reliefSteps is how many steps a fresh process must last below the guard
	// for reloading to be worth it.
	reliefSteps = 5
	// driftSteps is how many timed steps the speed is judged on: batches differ
	// in length, and so do their speeds.
	driftSteps = 100
	// sampleEvery spaces readings of the machine's pressure.
	sampleEvery = time.Second
)

// watch looks at the steps of a training for memory above the guard and for
// figures outside the promise. It is fed events and has no clock of its own.
type watch struct {
	guardBytes int64
	sample     func() MemoryPressure
	expected   *trainer.Expected

	profile    bool // this segment records the profile: it is slower and larger than was promised
	futile     bool // reloading brought no relief: the guard is off
	asked      bool // this segment has been asked to end
	fresh      int  // steps of this segment
	sampled    time.Duration
	meter      rate
	timed      int
	notedPeak  bool
	notedSpeed bool
}

// segment starts a new worker process.
func (w *watch) segment(profile bool) {
	w.fresh, w.asked, w.sampled, w.profile = 0, false, -sampleEvery, profile
}

// step takes one step in. It returns what there is to note, and whether the
// worker should be reloaded.
func (w *watch) step(e trainer.Event, s trainer.Step) (notes []Note, reload bool) {
	w.fresh++
	if over := w.over(e, s); over != "" && !w.futile && !w.asked {
		switch {
		case w.fresh < reliefSteps:
			w.futile = true
			notes = append(notes, Note{Code: "guard.futile", Step: e.Step, Text: over +
				fmt.Sprintf(", %d steps into a fresh process: reloading does not help and is given up; a smaller batch or length would", w.fresh)})
		default:
			reload, w.asked = true, true
			notes = append(notes, Note{Code: "guard.reload", Step: e.Step, Text: over + ": the worker saves its state and is started afresh"})
		}
	}
	return append(notes, w.drift(e, s)...), reload
}

// over says in words what is above the guard, or nothing.
func (w *watch) over(e trainer.Event, s trainer.Step) string {
	if used, ok := inUse(s.Memory); ok && w.guardBytes > 0 && used > w.guardBytes {
		return fmt.Sprintf("the worker's memory is %s, above the guard of %s", trainer.FormatBytes(used), trainer.FormatBytes(w.guardBytes))
	}
	if w.sample == nil || e.Elapsed-w.sampled < sampleEvery {
		return ""
	}
	w.sampled = e.Elapsed
	if p := w.sample(); p.Critical {
		return "the machine's memory pressure is critical (" + p.Text + ")"
	}
	return ""
}

// inUse is the larger of the footprint and MLX's own bytes; each misses what
// the other sees.
func inUse(m trainer.Memory) (int64, bool) {
	own, known := m.Active.Get()
	own += m.Cache.Or(0)
	print, ok := m.Footprint.Get()
	return max(own, print), known || ok
}

// drift compares with the promise; each figure is noted once.
func (w *watch) drift(e trainer.Event, s trainer.Step) (notes []Note) {
	if w.expected == nil || w.profile {
		return nil
	}
	want, ok := w.expected.PeakBytes.Get()
	peak, seen := s.Memory.Peak.Get()
	if ok && seen && !w.notedPeak && float64(peak) > float64(want)*(1+w.expected.PeakError) {
		w.notedPeak = true
		notes = append(notes, Note{Code: "drift.peak", Step: e.Step, Text: fmt.Sprintf(
			"peak memory is %s, above the %s ±%.0f %% that was promised", trainer.FormatBytes(peak), trainer.FormatBytes(want), 100*w.expected.PeakError)})
	}
	if w.fresh == 1 { // pays for tracing and first allocation
		return notes
	}
	w.timed++
	w.meter.add(s, steady)
	speed, known := w.expected.TokensPerSecond.Get()
	if !known || w.notedSpeed || w.timed < driftSteps {
		return notes
	}
	if now, ok := w.meter.perSecond(); ok && now < speed*(1-w.expected.TokensError) {
		w.notedSpeed = true
		notes = append(notes, Note{Code: "drift.speed", Step: e.Step, Text: fmt.Sprintf(
			"speed is %.4g tokens/s, below the %.4g −%.0f %% that was promised", now, speed, 100*w.expected.TokensError)})
	}
	return notes
}
