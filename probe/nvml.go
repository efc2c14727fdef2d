package probe

import (
	"fmt"
	"math"
)

// nvmlReading is what NVIDIA's library says of the first GPU, as it says it.
type nvmlReading struct {
	Name, Driver string
	Total, Used  uint64 // bytes
	Busy         uint32 // percent
	BusyKnown    bool
	Reasons      uint64 // why clocks are held down, one bit each
	ReasonsKnown bool
}

// Bits of nvmlReading.Reasons.
const (
	nvmlSoftwareThermal = 1 << 5
	nvmlHardwareThermal = 1 << 6
)

// decodeNVML puts a reading into a snapshot's terms.
func decodeNVML(r nvmlReading, s *Snapshot) {
	const source = "nvml"
	g := &s.GPU
	text := func(t string) Value[string] {
		if t == "" {
			return Unknown[string]("the driver does not say", source)
		}
		return Known(t, source)
	}
	bytes := func(n uint64) Value[int64] {
		if n > math.MaxInt64 {
			return Unknown[int64]("is impossibly large", source)
		}
		return Known(int64(n), source)
	}
	g.Name, g.DriverVersion = text(r.Name), text(r.Driver)
	g.MemoryBytes, g.UsedBytes = bytes(r.Total), bytes(r.Used)
	switch {
	case !r.BusyKnown:
		g.UtilizationPercent = Unknown[int]("the driver does not say", source)
	case r.Busy > 100:
		g.UtilizationPercent = Unknown[int](fmt.Sprintf("is %d, which is no percentage", r.Busy), source)
	default:
		g.UtilizationPercent = Known(int(r.Busy), source)
	}
	switch {
	case !r.ReasonsKnown:
		s.Host.Thermal = Unknown[Thermal]("the driver does not say why clocks are held down", source)
	case r.Reasons&(nvmlSoftwareThermal|nvmlHardwareThermal) != 0:
		s.Host.Thermal = Known(ThermalHeavy, source+" throttle reasons")
	default:
		s.Host.Thermal = Known(ThermalNominal, source+" throttle reasons")
	}
}
