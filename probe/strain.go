package probe

import "math"

// Strain is how hard memory is to get right now, read often while a training
// runs.
type Strain struct {
	SwapOutBytes Value[int64] // of the machine, since boot
	Level        Value[PressureLevel]
}

// StrainNow reads the machine's strain.
func StrainNow() Strain { return platformStrain() }

// GPUBusy is how busy the GPU is, in percent, by all programs together; unknown
// where there is none. It may take tens of milliseconds.
func GPUBusy() Value[int] { return platformBusy() }

// OOMKills counts the processes that the kernel has killed for want of memory:
// in our control group where that is counted, else on the whole machine. It is
// unknown on systems that do not count.
func OOMKills() Value[int64] { return platformKills() }

// Stalls, in percent of the last 10 seconds, that are told in macOS's words: of
// some task, and of all of them.
const (
	stallsWarn     = 5.0
	stallsCritical = 20.0
)

// stallLevel puts Linux's stalls into macOS's words.
func stallLevel(p Pressure) Value[PressureLevel] {
	some, ok := p.SomeAvg10.Get()
	if !ok {
		return Unknown[PressureLevel](p.SomeAvg10.Reason(), p.SomeAvg10.Source())
	}
	level := PressureNormal
	switch {
	case p.FullAvg10.Or(0) >= stallsCritical:
		level = PressureCritical
	case some >= stallsWarn:
		level = PressureWarn
	}
	return Known(level, p.SomeAvg10.Source())
}

func (p procfs) strain() Strain {
	var s Snapshot
	p.memory(&s)
	p.pressure(&s)
	return Strain{SwapOutBytes: s.Swap.OutBytes, Level: stallLevel(s.Pressure)}
}

// kills counts like memory.events or vmstat do.
func (p procfs) kills() Value[int64] {
	var s Snapshot
	p.cgroup(&s)
	p.pressure(&s)
	v := s.Pressure.OOMKills
	if s.Cgroup != nil && s.Cgroup.OOMKills.Known() {
		v = s.Cgroup.OOMKills
	}
	n, ok := v.Get()
	if !ok || n > math.MaxInt64 {
		return Unknown[int64](v.Reason(), v.Source())
	}
	return Known(int64(n), v.Source())
}
