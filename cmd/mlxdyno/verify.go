package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/probe/diagnose"
	"github.com/mlxdyno/mlxdyno/probe/leak"
	"github.com/mlxdyno/mlxdyno/probe/verify"
	"github.com/mlxdyno/mlxdyno/report"
	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/run"
)

// verify compares two documents or runs and ends with status 1 when the second
// fails a question.
func (a *app) verify(before, after string) error {
	var sides [2]verify.Side
	for i, name := range []string{before, after} {
		s, err := sideOf(name)
		if err != nil {
			return err
		}
		sides[i] = s
	}
	c := verify.Compare(sides[0], sides[1])
	if err := a.print(c, func() error { return report.Verify(a.stdout, c, a.style()) }); err != nil {
		return err
	}
	if !c.Passed {
		return reported{statusSubject}
	}
	return nil
}

// maxDocument bounds what is read of a JSON document.
const maxDocument = 256 << 20

// sideOf reads one side: a JSON document of doctor, train or a chain of them,
// or a run.
func sideOf(name string) (verify.Side, error) {
	info, err := os.Stat(name)
	if err != nil || info.IsDir() {
		dir, err := findRun(name)
		if err != nil {
			return verify.Side{}, err
		}
		r, err := run.Load(dir)
		if err != nil {
			return verify.Side{}, err
		}
		return trainingSide(name, r), nil
	}
	s, err := documentSide(name)
	if err != nil {
		return s, &userError{Code: "verify", Message: fmt.Sprintf("%s: %v", name, err), Hint: "give what mlxdyno doctor --json or mlxdyno train --json printed, or a run", Status: statusOurs}
	}
	return s, nil
}

func documentSide(name string) (verify.Side, error) {
	file, err := os.Open(name)
	if err != nil {
		return verify.Side{}, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxDocument+1))
	if err != nil {
		return verify.Side{}, err
	}
	if len(text) > maxDocument {
		return verify.Side{}, errors.New("larger than any document of mlxdyno's")
	}
	var head struct {
		Schema string `json:"schema"`
	}
	if err := json.Unmarshal(text, &head); err != nil {
		return verify.Side{}, fmt.Errorf("not a JSON document: %w", err)
	}
	var (
		d diagnose.Report
		t run.Report
		c report.Chain
	)
	switch head.Schema {
	case diagnose.Schema:
		err = json.Unmarshal(text, &d)
		return diagnosisSide(name, d), err
	case run.Schema:
		err = json.Unmarshal(text, &t)
		return trainingSide(name, t), err
	case report.ChainSchema:
		if err := json.Unmarshal(text, &c); err != nil {
			return verify.Side{}, err
		}
		switch {
		case c.Train != nil:
			return trainingSide(name, *c.Train), nil
		case c.Doctor != nil:
			return diagnosisSide(name, *c.Doctor), nil
		}
		return verify.Side{}, errors.New("the chain came to no diagnosis")
	}
	return verify.Side{}, fmt.Errorf("the document is %q, neither a diagnosis nor a training", head.Schema)
}

// diagnosisSide is what a diagnosis measured.
func diagnosisSide(name string, d diagnose.Report) verify.Side {
	s := verify.Side{Name: name, Kind: "doctor"}
	if b := d.Budget; b != nil {
		s.PeakBytes, s.LimitBytes = b.Peak.Measured, b.Limit.Bytes
	}
	speed := d.Data
	if speed == nil {
		speed = d.Probe
	}
	if speed != nil {
		s.TokensPerSecond = speed.TokensPerSecond
	}
	for _, f := range []*diagnose.Figures{d.Probe, d.Data} {
		if f == nil {
			continue
		}
		died := f.Outcome == trainer.OOM || s.Died.Or(false)
		s.Died = trainer.Some(died)
		if peak, ok := f.PeakBytes.Get(); ok && peak > s.PeakBytes.Or(0) {
			s.PeakBytes = trainer.Some(peak)
		}
	}
	if outcome := slices.IndexFunc(d.Findings, func(f probe.Finding) bool {
		return f.Code == "burst.outcome" && strings.Contains(f.Title, "out of memory")
	}); outcome >= 0 {
		s.Died = trainer.Some(true)
	}
	for _, f := range slices.Concat(d.Passes, d.Findings) {
		if f.Code != "memory.pressure" && f.Code != "memory.swap" && f.Code != "burst.swapping" {
			continue
		}
		switch f.Severity {
		case probe.Pass:
			s.Pressed = trainer.Some(s.Pressed.Or(false))
		case probe.Warn, probe.Fail:
			s.Pressed, s.Pressure = trainer.Some(true), f.Title
		}
	}
	if v := d.Leak; v != nil {
		switch v.State {
		case leak.None:
			s.LeakBytesAStep = trainer.Some(0.0)
		case leak.Leaking:
			s.LeakBytesAStep = trainer.Some(v.BytesAStep)
		default:
			s.LeakUnknown = v.Reason
		}
	}
	return s
}

// trainingSide is what a training went through.
func trainingSide(name string, r run.Report) verify.Side {
	s := verify.Side{Name: name, Kind: "train", PeakBytes: r.Figures.PeakBytes, TokensPerSecond: r.Figures.TokensPerSecond,
		LeakUnknown: "a training's steps have many shapes; mlxdyno doctor judges leaks"}
	if l := r.Config.Plan.MemoryLimit; l.IsSet {
		s.LimitBytes = trainer.Some(l.Bytes)
	} else if n, ok := r.Identity.Device.WorkingSetBytes.Get(); ok {
		s.LimitBytes = trainer.Some(n)
	}
	for _, g := range r.Segments {
		s.Died = trainer.Some(s.Died.Or(false) || g.Outcome == trainer.OOM || g.SuspectOOM)
	}
	for _, n := range r.Notes {
		if strings.HasPrefix(n.Code, "guard.") {
			s.Pressed, s.Pressure = trainer.Some(true), n.Text
		}
	}
	return s
}
