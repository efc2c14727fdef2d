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
			func(_ context.Context, s *Snapshot) {
				p.host(s)
				s.Host.Cores = Known(runtime.NumCPU(), "scheduler affinity")
			},
			func(s *Snapshot) []any { return []any{&s.Host} },
		},
		{
			func(_ context.Context, s *Snapshot) { p.memory(s) },
			func(s *Snapshot) []any { return []any{&s.Memory, &s.Swap} },
		},
		{
			func(_ context.Context, s *Snapshot) { p.pressure(s) },
			func(s *Snapshot) []any { return []any{&s.Pressure} },
		},
		{
			func(_ context.Context, s *Snapshot) { p.cgroup(s) },
			func(s *Snapshot) []any { return []any{&s.Cgroup} },
		},
		{
			func(_ context.Context, s *Snapshot) { s.Processes = p.processes(r.TopProcesses) },
			func(s *Snapshot) []any { return []any{&s.Processes} },
		},
		{
			func(ctx context.Context, s *Snapshot) {
				if s.GPU.Kind == "cuda" {
					readNVIDIA(ctx, run, &s.GPU)
				}
			},
			func(s *Snapshot) []any { return []any{&s.GPU} },
		},
	}
}
