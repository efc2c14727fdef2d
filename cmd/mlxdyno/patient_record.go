package main

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	"github.com/mlxdyno/mlxdyno/probe/patient"
	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/command"
)

// addObservations puts what a patient printed into a record. Several logs of
// one training meet step by step.
func addObservations(r *patient.Record, o command.Observations) {
	r.Every = max(r.Every, o.Every)
	r.Restarts = max(r.Restarts, o.Restarts)
	if n, ok := o.Steps.Get(); ok && n >= r.Steps.Or(0) {
		r.Steps = o.Steps
	}
	for name, value := range o.Settings {
		if r.Settings == nil {
			r.Settings = map[string]string{}
		}
		r.Settings[name] = value
	}
	for kind, m := range o.Told {
		if r.Told == nil {
			r.Told = map[string]patient.Amount{}
		}
		if a, ok := amountOf(m); ok {
			r.Told[string(kind)] = a
		}
	}
	for _, n := range o.Notices {
		r.Notices = append(r.Notices, patient.Notice{Level: string(n.Level), Code: n.Code, Text: n.Text, Step: n.Step, Times: n.Times})
	}
	if o.Unkept > 0 {
		r.Notes = append(r.Notes, fmt.Sprintf("%d more notices are not kept", o.Unkept))
	}
	alone := len(r.Points) == 0
	for _, p := range o.Points {
		addPoint(r, pointOf(p), alone)
	}
	if !alone {
		slices.SortStableFunc(r.Points, func(a, b patient.Point) int { return cmp.Compare(a.Step, b.Step) })
	}
}

// addPoint adds a point, to that of the same step when there are several logs.
func addPoint(r *patient.Record, p patient.Point, alone bool) {
	if alone {
		r.Points = append(r.Points, p)
		return
	}
	i := slices.IndexFunc(r.Points, func(q patient.Point) bool { return q.Step == p.Step })
	if i < 0 {
		r.Points = append(r.Points, p)
		return
	}
	q := &r.Points[i]
	keep(&q.At, p.At)
	keep(&q.Loss, p.Loss)
	keep(&q.StepsPerSecond, p.StepsPerSecond)
	keep(&q.TokensPerSecond, p.TokensPerSecond)
	keep(&q.TrainedTokens, p.TrainedTokens)
	keep(&q.Positions, p.Positions)
	q.SpeedDigits = max(q.SpeedDigits, p.SpeedDigits)
	if c, ok := p.Elapsed.Get(); ok && (!q.Elapsed.Known() || c.Resolution < q.Elapsed.Or(patient.Clock{}).Resolution) {
		q.Elapsed = p.Elapsed
	}
	for kind, a := range p.Memory {
		if q.Memory == nil {
			q.Memory = map[string]patient.Amount{}
		}
		if before, ok := q.Memory[kind]; !ok || a.Resolution < before.Resolution {
			q.Memory[kind] = a
		}
	}
}

// keep takes a value where there was none.
func keep[T any](into *trainer.Opt[T], v trainer.Opt[T]) {
	if !into.Known() {
		*into = v
	}
}

// oneDecimal is what a speed of which a doubt says so is known to.
const oneDecimal = 0.1

func pointOf(p command.Point) patient.Point {
	out := patient.Point{Step: p.Step, At: p.At, Loss: p.Loss, StepsPerSecond: p.StepsPerSecond, TokensPerSecond: p.TokensPerSecond,
		TrainedTokens: p.TrainedTokens, Positions: p.Positions}
	if c, ok := p.Elapsed.Get(); ok {
		out.Elapsed = trainer.Some(patient.Clock{Time: c.Time, Resolution: c.Resolution})
	}
	if (command.Reading{Doubts: p.Doubts}).Doubtful(command.FieldStepsPerSecond) != "" {
		out.SpeedDigits = oneDecimal
	}
	for kind, m := range p.Memory {
		a, ok := amountOf(m)
		if !ok {
			continue
		}
		if out.Memory == nil {
			out.Memory = map[string]patient.Amount{}
		}
		out.Memory[string(kind)] = a
	}
	return out
}

func amountOf(m command.Memory) (patient.Amount, bool) {
	bytes, ok := m.Bytes.Get()
	if !ok {
		return patient.Amount{}, false
	}
	text := strconv.FormatFloat(m.Value, 'f', -1, 64)
	if m.Unit != "" {
		text += " " + m.Unit
	}
	a := patient.Amount{Bytes: bytes, Binary: m.Binary.Or(bytes), Resolution: m.Resolution, Printed: text}
	if a.Resolution == 0 && m.Unit == "B" {
		a.Resolution = 1
	}
	return a, true
}

// addDetected keeps the surest of the adapters that read a training's logs.
func addDetected(r *patient.Record, d command.Detected) {
	order := []string{"", string(command.Nobody), string(command.Guessed), string(command.Likely), string(command.Certain), string(command.Chosen)}
	if slices.Index(order, string(d.Sure)) > slices.Index(order, r.Adapter.Sure) {
		r.Adapter = patient.Adapter{Name: d.Name, Sure: string(d.Sure), Why: d.Why, Caveats: d.Caveats}
	}
}

func addResult(r *patient.Record, seen command.Report) {
	v := seen.Result
	r.Outcome, r.ExitCode, r.Signal, r.Failure, r.Evidence, r.LastLines = v.Outcome, v.ExitCode, v.Signal, v.Failure, v.Evidence, v.LogTail
	r.EndedFor, r.Left = string(seen.EndedFor), seen.Left
	r.Notes = append(r.Notes, seen.Notes...)
	if seen.Left > 0 {
		r.Notes = append(r.Notes, fmt.Sprintf("it left %d processes behind, which were ended", seen.Left))
	}
}

func sampleOf(s command.Sample) patient.Sample {
	return patient.Sample{At: s.At, Step: s.Step, Processes: s.Processes, Footprint: s.Footprint, Resident: s.Resident,
		Threads: s.Threads, CPU: s.CPU, GPUBusy: s.GPUBusy, SwapOut: s.SwapOut, Pressure: s.Pressure}
}
