package main

import (
	"context"
	"fmt"
	"time"

	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/probe/patient"
	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/command"
)

// meter reads processes for package command, which reads none itself. How busy
// the GPU is takes a program on a Mac: it is asked so seldom that it takes a
// hundredth of the time, and no more where there is none.
type meter struct {
	gpuAt   time.Time
	gpuLess bool
}

var _ command.Meter = (*meter)(nil)

func (m *meter) gpu(u *command.Usage) {
	now := time.Now()
	if m.gpuLess || now.Before(m.gpuAt) {
		return
	}
	percent, ok := probe.GPUBusy().Get()
	if m.gpuLess = !ok && m.gpuAt.IsZero(); ok {
		u.GPUBusy = trainer.Some(percent)
	}
	m.gpuAt = time.Now().Add(100 * time.Since(now))
}

func (m *meter) Read(pids []int) command.Usage {
	var u command.Usage
	for _, pid := range pids {
		p := probe.UsageOf(pid)
		if p.Ended {
			continue
		}
		sum(&u.Footprint, p.Footprint)
		sum(&u.Resident, p.Resident)
		sum(&u.Threads, p.Threads)
		sum(&u.CPU, p.CPU)
	}
	m.gpu(&u)
	s := probe.StrainNow()
	if n, ok := s.SwapOutBytes.Get(); ok {
		u.SwapOut = trainer.Some(n)
	}
	u.Pressure = string(s.Level.Or(""))
	return u
}

func sum[T int | int64 | time.Duration](into *trainer.Opt[T], v probe.Value[T]) {
	if n, ok := v.Get(); ok {
		*into = trainer.Some(into.Or(0) + n)
	}
}

// oomKills counts what the kernel killed for want of memory.
func oomKills() trainer.Opt[int64] {
	if n, ok := probe.OOMKills().Get(); ok {
		return trainer.Some(n)
	}
	return trainer.Opt[int64]{}
}

// watchFor is how long a process is watched when nobody says.
const watchFor = 60 * time.Second

// watchProcess samples a process that is not ours, with what descends from it,
// until it ends or the time is over.
func (a *app) watchProcess(ctx context.Context, p *patientFlags, r *patient.Record) error {
	lasts := p.lasts
	if lasts <= 0 {
		lasts = watchFor
	}
	first := probe.UsageOf(p.pid)
	switch {
	case first.Ended:
		return &userError{Code: "patient.pid", Message: fmt.Sprintf("watch process %d: there is no such process", p.pid), Hint: "find it with: ps aux | grep python", Status: statusOurs}
	case !first.Footprint.Known() && !first.CPU.Known():
		return &userError{Code: "patient.pid", Message: fmt.Sprintf("watch process %d: %s", p.pid, first.Footprint.Reason()),
			Hint: "it belongs to another user: run mlxdyno as that user, or with sudo", Status: statusOurs}
	}
	name := first.Name.Or("")
	r.Source, r.Name, r.Adapter = patient.Process, fmt.Sprintf("%d (%s)", p.pid, name), patient.Adapter{Sure: string(command.Nobody), Why: "what it prints is not seen"}
	if p.pid == 1 {
		r.Notes = append(r.Notes, "process 1 is the first of the system or of its container, and everything else descends from it")
	}
	if !first.Footprint.Known() {
		r.Notes = append(r.Notes, "its memory cannot be read: "+first.Footprint.Reason())
	}
	a.progress("watching process %d (%s) for %s; Ctrl-C ends it and reports", p.pid, name, lasts)
	ctx, cancel := context.WithTimeout(ctx, lasts)
	defer cancel()
	began := time.Now()
	var m meter
	tick := time.NewTicker(sampleEvery(lasts))
	defer tick.Stop()
	for {
		now := probe.UsageOf(p.pid)
		if now.Ended || now.StartedAt.Or(0) != first.StartedAt.Or(0) {
			r.Notes = append(r.Notes, fmt.Sprintf("the process ended after %s", time.Since(began).Round(100*time.Millisecond)))
			return nil
		}
		pids, err := command.Family(p.pid)
		if err != nil || len(pids) == 0 || p.pid == 1 {
			pids = []int{p.pid}
		}
		r.Samples = append(r.Samples, sampleOf(command.Sample{At: time.Since(began), Processes: len(pids), Usage: m.Read(pids)}))
		if len(r.Samples) > maxWatched {
			r.Samples = thinned(r.Samples)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

const maxWatched = 20_000

// thinned keeps every second sample.
func thinned(s []patient.Sample) []patient.Sample {
	for i := range len(s) / 2 {
		s[i] = s[2*i]
	}
	return s[:len(s)/2]
}
