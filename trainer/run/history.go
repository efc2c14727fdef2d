package run

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/journal"
)

// Transitions in the journal.
const (
	didCreate  = "created"
	didResume  = "resumed"
	didStart   = "segment started"
	didProfile = "profile"
	didSave    = "checkpoint"
	didEnd     = "segment ended"
	didBackOff = "backed off"
	didNote    = "note"
	didFinish  = "finished"
)

type createRecord struct {
	ConfigKey string `json:"config_key"`
}

type resumeRecord struct {
	FromStep int            `json:"from_step"`
	Config   trainer.Config `json:"config"`            // in force from here
	Profile  int            `json:"profile,omitempty"` // steps of which a profile was asked for anew
}

type startRecord struct {
	Segment   int                    `json:"segment"`
	From      *trainer.CheckpointRef `json:"from,omitempty"`
	UntilStep int                    `json:"until_step"`
	ConfigKey string                 `json:"config_key"`
	Profile   bool                   `json:"profile,omitempty"`
}

type endRecord struct {
	Segment int            `json:"segment"`
	Reason  string         `json:"reason,omitempty"`
	Result  trainer.Result `json:"result"`
}

type finishRecord struct {
	State   State    `json:"state"`
	Adapter string   `json:"adapter,omitempty"`
	Failure *Failure `json:"failure,omitempty"`
}

// history is a journal read back.
type history struct {
	config   trainer.Config // in force
	segments []Segment
	backOffs []BackOff
	notes    []Note
	profile  *profileRecord // nil until it is recorded or given up
	finish   *finishRecord  // nil unless it is the last word
	last     time.Time      // of the newest record
}

// nextSegment is the number for the next worker process.
func (h history) nextSegment() int { return len(h.segments) }

func readHistory(dir string, spec Spec) (history, error) {
	h := history{config: spec.Config}
	err := journal.Read(filepath.Join(dir, journalName), func(r journal.Record) error {
		if err := h.apply(r.Kind, r.At, r.Data); err != nil {
			return fmt.Errorf("%q record: %w", r.Kind, err)
		}
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) { // cut short between run.json and the first record
		return h, nil
	}
	if err != nil {
		return history{}, fmt.Errorf("read journal: %w", err)
	}
	return h, nil
}

// apply takes one record in; kinds of a newer version are passed over.
func (h *history) apply(kind string, at time.Time, data json.RawMessage) error {
	h.last = at
	switch kind {
	case didResume:
		var r resumeRecord
		if err := json.Unmarshal(data, &r); err != nil {
			return err
		}
		h.config, h.finish = r.Config, nil
		if r.Profile > 0 && h.profile != nil && h.profile.Abandoned != "" {
			h.profile = nil
		}
	case didStart:
		var r startRecord
		if err := json.Unmarshal(data, &r); err != nil {
			return err
		}
		if r.Segment != len(h.segments) {
			return fmt.Errorf("segment %d follows %d others", r.Segment, len(h.segments))
		}
		s := Segment{Number: r.Segment, Started: at, ConfigKey: r.ConfigKey, UntilStep: r.UntilStep, Profile: r.Profile}
		if r.From != nil {
			s.FromStep = r.From.Step
		}
		s.LastStep = s.FromStep
		h.segments = append(h.segments, s)
	case didEnd:
		var r endRecord
		if err := json.Unmarshal(data, &r); err != nil {
			return err
		}
		if r.Segment < 0 || r.Segment >= len(h.segments) {
			return fmt.Errorf("segment %d ended and never started", r.Segment)
		}
		h.segments[r.Segment].end(r)
	case didProfile:
		var r profileRecord
		if err := json.Unmarshal(data, &r); err != nil {
			return err
		}
		if r.Segment < 0 || r.Segment >= len(h.segments) {
			return fmt.Errorf("segment %d has a profile and never started", r.Segment)
		}
		h.profile = &r
	case didBackOff:
		var b BackOff
		if err := json.Unmarshal(data, &b); err != nil {
			return err
		}
		b.At = at
		h.config = b.Config
		h.backOffs = append(h.backOffs, b)
	case didNote:
		var n Note
		if err := json.Unmarshal(data, &n); err != nil {
			return err
		}
		h.notes = append(h.notes, n)
	case didFinish:
		var f finishRecord
		if err := json.Unmarshal(data, &f); err != nil {
			return err
		}
		h.finish = &f
	}
	return nil
}

func (s *Segment) end(r endRecord) {
	s.Outcome, s.Reason = r.Result.Outcome, r.Reason
	s.SuspectOOM, s.Evidence, s.Failure = r.Result.SuspectedOOM, r.Result.Evidence, r.Result.Failure
	s.ExitCode, s.Signal = r.Result.ExitCode, r.Result.Signal
	if !s.Outcome.Good() {
		s.LogTail = r.Result.LogTail
	}
	s.Seconds = trainer.Some(r.Result.Elapsed.Seconds())
	s.LastStep = max(s.FromStep, r.Result.LastStep)
}
