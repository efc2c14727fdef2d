package probe

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// runner runs a program and returns what it printed.
type runner func(ctx context.Context, name string, args ...string) (string, error)

// apple is what a Mac is read through. vm and thermal may be nil: programs
// tell what they would, or nothing does.
type apple struct {
	get       sysctl
	run       runner
	processes func() (own []Process, others bool) // of this user, the largest first; whether others' were left out
	vm        func() ([]byte, error)              // host_statistics64
	thermal   func() (uint64, error)              // com.apple.system.thermalpressurelevel
	top       int                                 // processes to list
	slow      bool                                // also ask what takes its time
}

// readers are the readers of a Mac.
func (a apple) readers() []reader {
	get, run := a.get, a.run
	return []reader{
		{
			read: func(_ context.Context, s *Snapshot) { get.host(s, s.At); get.memory(s); get.gpu(s) },
			fills: func(s *Snapshot) []any {
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
			read: a.pages,
			fills: func(s *Snapshot) []any {
				return []any{&s.Memory.AvailableBytes, &s.Memory.WiredBytes, &s.Memory.CompressedBytes, &s.Swap.InBytes, &s.Swap.OutBytes}
			},
		},
		{
			read: func(ctx context.Context, s *Snapshot) {
				s.Host.PowerMode = printed(ctx, run, parsePowerMode, "/usr/bin/pmset", "-g")
			},
			fills: func(s *Snapshot) []any { return []any{&s.Host.PowerMode} },
		},
		{
			read: func(ctx context.Context, s *Snapshot) {
				s.GPU.UtilizationPercent = busyOf(ctx, run)
			},
			fills: func(s *Snapshot) []any { return []any{&s.GPU.UtilizationPercent} },
		},
		{
			read: func(ctx context.Context, s *Snapshot) {
				s.GPU.ResourcesInUse = printed(ctx, run, parseClassCount, "/usr/sbin/ioclasscount", "AGXResource")
			},
			fills: func(s *Snapshot) []any { return []any{&s.GPU.ResourcesInUse} },
		},
		{
			read:  func(ctx context.Context, s *Snapshot) { s.Host.Thermal = a.heat(ctx) },
			fills: func(s *Snapshot) []any { return []any{&s.Host.Thermal} },
		},
		{
			read:  func(ctx context.Context, s *Snapshot) { s.Processes = a.largest(ctx) },
			fills: func(s *Snapshot) []any { return []any{&s.Processes} },
			limit: slowTimeout,
		},
	}
}

// pages fills what counts pages: from the kernel or, where its struct is not
// the known one, from vm_stat.
func (a apple) pages(ctx context.Context, s *Snapshot) {
	if a.vm != nil {
		if raw, err := a.vm(); err == nil {
			total, page := a.get.number("hw.memsize").Or(0), a.get.number("hw.pagesize").Or(0)
			if decodeVMStatistics(raw, total, page, s) == nil {
				return
			}
		}
	}
	text, err := a.run(ctx, "/usr/bin/vm_stat")
	if err != nil {
		explainAll(err.Error(), &s.Memory, &s.Swap)
		return
	}
	decodeVMStat(text, s)
}

// heat reads the thermal pressure, which no documented call tells; pmset knows
// only that the processor was slowed down.
func (a apple) heat(ctx context.Context) Value[Thermal] {
	if a.thermal != nil {
		if level, err := a.thermal(); err == nil {
			return decodeThermal(level)
		}
	}
	return printed(ctx, a.run, parseThermal, "/usr/bin/pmset", "-g", "therm")
}

// largest lists the largest processes. The kernel tells the memory of this
// user's only; top, which may, tells that of the others.
func (a apple) largest(ctx context.Context) []Process {
	all, others := a.processes()
	if a.slow && others {
		ctx, cancel := context.WithTimeout(ctx, slowTimeout*3/4) // what is known must not get lost
		defer cancel()
		if text, err := a.run(ctx, "/usr/bin/top", "-l", "1", "-stats", "pid,mem,command"); err == nil {
			for _, p := range parseTop(text) {
				if !slices.ContainsFunc(all, func(q Process) bool { return q.PID == p.PID }) {
					all = append(all, p)
				}
			}
		}
	}
	return largest(all, a.top, func(q Process) int64 { return q.FootprintBytes.Or(0) })
}

// busyOf asks the registry how busy the GPU is.
func busyOf(ctx context.Context, run runner) Value[int] {
	return printed(ctx, run, parseUtilization, "/usr/sbin/ioreg", "-r", "-d1", "-c", "AGXAccelerator")
}

// printed reads a value from what a program prints.
func printed[T any](ctx context.Context, run runner, parse func(string) Value[T], name string, args ...string) Value[T] {
	text, err := run(ctx, name, args...)
	if err != nil {
		return Unknown[T](err.Error(), strings.Join(append([]string{name}, args...), " "))
	}
	return parse(text)
}

// decodeThermal takes the level of the system's notification.
func decodeThermal(level uint64) Value[Thermal] {
	const source = "com.apple.system.thermalpressurelevel"
	levels := []Thermal{ThermalNominal, ThermalModerate, ThermalHeavy, ThermalTrapping, ThermalSleeping}
	if level >= uint64(len(levels)) {
		return Unknown[Thermal](fmt.Sprintf("is %d, not 0 to %d", level, len(levels)-1), source)
	}
	return Known(levels[level], source)
}
