package run

import (
	"context"
	"fmt"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// A profile is recorded by a segment of its own: its worker measures more than
// is free, and none of that may reach the figures of the training or decide
// what becomes of it. A worker that cannot profile for want of memory, or fails
// at it, costs the profile and not the training.

// NoProfilesError says that an engine cannot record a profile.
type NoProfilesError struct{ Engine string }

func (e *NoProfilesError) Error() string {
	return fmt.Sprintf("the %s engine records no profiles", e.Engine)
}

// profileRecord says what became of a profile.
type profileRecord struct {
	Segment   int    `json:"segment"`
	Steps     int    `json:"steps"`
	Abandoned string `json:"abandoned,omitempty"` // why there is none, and none is tried for
}

// canProfile refuses a profile that the engine cannot record, before anything
// is begun.
func canProfile(ctx context.Context, p Plan) error {
	switch {
	case p.ProfileSteps < 0:
		return fmt.Errorf("profile %d steps: use 1 or more", p.ProfileSteps)
	case p.ProfileSteps == 0:
		return nil
	}
	can, err := p.Engine.Capabilities(ctx)
	if err != nil {
		return fmt.Errorf("ask %s what it is capable of: %w", p.Engine.Name(), err)
	}
	if !can.Profile {
		return &NoProfilesError{Engine: p.Engine.Name()}
	}
	return nil
}

// profiling reports whether the next segment is to record the profile.
func (t *training) profiling() bool { return t.spec.ProfileSteps > 0 && t.profile == nil }

// askProfile takes in that a resumption asks for a profile. One that is there
// stays; one that was given up is tried for again.
func (t *training) askProfile(past history) error {
	t.profile = past.profile
	steps := t.plan.ProfileSteps
	if steps == 0 {
		return nil
	}
	if t.profile != nil && t.profile.Abandoned == "" {
		return t.note(Note{Code: "profile.kept", Text: fmt.Sprintf("this run has its profile, of %d steps: no other is recorded", t.profile.Steps)})
	}
	t.profile, t.spec.ProfileSteps = nil, steps
	return nil
}

// profiled writes down that the profile is whole.
func (t *training) profiled(segment int, p trainer.Profiled) error {
	if t.profile != nil {
		return nil
	}
	if err := t.events.sync(); err != nil {
		return err
	}
	r := profileRecord{Segment: segment, Steps: p.Steps}
	if err := t.record(didProfile, r); err != nil {
		return err
	}
	t.profile = &r
	return nil
}

// afterProfile changes what is to follow a segment that was to record the
// profile: what went wrong there says nothing about the training without it.
func (t *training) afterProfile(d decision, r trainer.Result, asked bool, step int) (decision, error) {
	why := ""
	switch d.action {
	case interrupt, tryAgain:
		return d, nil
	case backOff, giveUp:
		why, d = "the worker "+ended(r), decision{action: goOn}
	case goOn, finish:
		why = "the worker ended without one"
		if asked {
			why = "its worker's memory came above the guard"
		}
	}
	if t.profile != nil {
		return d, nil
	}
	t.profile = &profileRecord{Segment: t.next - 1, Abandoned: why}
	if err := t.record(didProfile, *t.profile); err != nil {
		return d, err
	}
	text := "no profile: " + why
	if d.action == goOn {
		text += fmt.Sprintf("; the training goes on without one from step %d", step)
	}
	return d, t.note(Note{Code: "profile.given-up", Step: step, Text: text})
}

// end is the step at which the next segment ends. A profile has the steps that
// were asked for, rounded up to whole updates, unless the process is to be
// replaced sooner.
func (t *training) end(from int) int {
	end := segmentEnd(from, t.config)
	if t.profiling() {
		c := t.config
		c.Schedule.ReloadInterval = t.spec.ProfileSteps
		end = min(end, segmentEnd(from, c))
	}
	return end
}
