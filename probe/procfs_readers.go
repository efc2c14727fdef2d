package probe

import (
	"context"
	"runtime"
)

// linuxReaders are the readers of a Linux machine, over its files and its
// tools.
func linuxReaders(p procfs, run runner, r Request) []reader {
	return []reader{
		{
			read: func(_ context.Context, s *Snapshot) {
				p.host(s)
				s.Host.Cores = Known(runtime.NumCPU(), "scheduler affinity")
			},
			fills: func(s *Snapshot) []any {
				h := &s.Host
				return []any{&h.OSVersion, &h.Kernel, &h.Chip, &h.HardwareModel, &h.Cores, &h.UptimeSeconds, &h.Load1}
			},
		},
		{
			read:  func(_ context.Context, s *Snapshot) { p.memory(s) },
			fills: func(s *Snapshot) []any { return []any{&s.Memory, &s.Swap} },
		},
		{
			read:  func(_ context.Context, s *Snapshot) { p.pressure(s) },
			fills: func(s *Snapshot) []any { return []any{&s.Pressure} },
		},
		{
			read:  func(_ context.Context, s *Snapshot) { p.cgroup(s) },
			fills: func(s *Snapshot) []any { return []any{&s.Cgroup} },
		},
		{
			read:  func(_ context.Context, s *Snapshot) { s.Processes = p.processes(r.TopProcesses) },
			fills: func(s *Snapshot) []any { return []any{&s.Processes} },
		},
		{
			read: func(ctx context.Context, s *Snapshot) {
				if s.GPU.Kind != "cuda" {
					return
				}
				if p.nvml != nil {
					if r, err := p.nvml(); err == nil {
						decodeNVML(r, s)
						return
					}
				}
				readNVIDIA(ctx, run, &s.GPU)
			},
			fills: func(s *Snapshot) []any { return []any{&s.GPU, &s.Host.Thermal} },
			limit: slowTimeout,
		},
	}
}
