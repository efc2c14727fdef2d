package probe

import (
	"context"
	"strings"
)

// runner runs a program and returns what it printed.
type runner func(ctx context.Context, name string, args ...string) (string, error)

// appleReaders are the readers of a Mac, over its sysctl values, its tools and
// its processes.
func appleReaders(get sysctl, run runner, processes func() []Process) []reader {
	return []reader{
		{
			func(_ context.Context, s *Snapshot) { get.host(s, s.At); get.memory(s); get.gpu(s) },
			func(s *Snapshot) []any {
				return []any{
					&s.Host.OSVersion, &s.Host.Kernel, &s.Host.Chip, &s.Host.HardwareModel, &s.Host.Cores,
					&s.Host.PerformanceCores, &s.Host.UptimeSeconds, &s.Host.Load1,
					&s.Memory.TotalBytes, &s.Memory.PageBytes, &s.Memory.FreePercent,
					&s.Swap.TotalBytes, &s.Swap.UsedBytes, &s.Pressure.Level,
					&s.GPU.Name, &s.GPU.WiredLimitBytes, &s.GPU.ResourceLimit,
				}
			},
		},
		{
			func(ctx context.Context, s *Snapshot) {
				if text, err := run(ctx, "/usr/bin/vm_stat"); err != nil {
					explainAll(err.Error(), &s.Memory, &s.Swap)
				} else {
					decodeVMStat(text, s)
				}
			},
			func(s *Snapshot) []any {
				return []any{&s.Memory.AvailableBytes, &s.Memory.WiredBytes, &s.Memory.CompressedBytes, &s.Swap.InBytes, &s.Swap.OutBytes}
			},
		},
		{
			func(ctx context.Context, s *Snapshot) {
				s.Host.PowerMode = printed(ctx, run, parsePowerMode, "/usr/bin/pmset", "-g")
			},
			func(s *Snapshot) []any { return []any{&s.Host.PowerMode} },
		},
		{
			func(ctx context.Context, s *Snapshot) {
				s.GPU.UtilizationPercent = printed(ctx, run, parseUtilization, "/usr/sbin/ioreg", "-r", "-d1", "-c", "AGXAccelerator")
			},
			func(s *Snapshot) []any { return []any{&s.GPU.UtilizationPercent} },
		},
		{
			func(_ context.Context, s *Snapshot) { s.Processes = processes() },
			func(s *Snapshot) []any { return []any{&s.Processes} },
		},
	}
}

// printed reads a value from what a program prints.
func printed[T any](ctx context.Context, run runner, parse func(string) Value[T], name string, args ...string) Value[T] {
	text, err := run(ctx, name, args...)
	if err != nil {
		return Unknown[T](err.Error(), strings.Join(append([]string{name}, args...), " "))
	}
	return parse(text)
}
